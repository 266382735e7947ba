"""When are two values the same?  Where they are bit for bit: each is kept as text, or as the bytes of a tensor."""

import ctypes
import math
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from hashlib import blake2b
from typing import Any

import torch
from attrs import evolve, field, frozen
from torch import Tensor

from states.errors import shown, typed
from states.names import name_of


# Tensors with more numbers than this are kept as a digest, and in a light snapshot not at all.
WHOLE, LIGHT = 4096, 64
# A container with more entries than this, or deeper than that, is compared by its type and length.
ENTRIES, DEEP = 1000, 6
# How much of a value is shown, in characters.
LINE = 120
# What is said of a field that only one of two snapshots has.
MISSING = "not there"


@frozen
class Kept:
    """A tensor or an array as it was: its bytes, or their digest where they are many."""

    kind: str
    shape: tuple[int, ...]
    raw: bytes
    whole: bool = True
    dtype: torch.dtype | None = field(default=None, eq=False)

    def items(self) -> list[Any]:
        """Its numbers, if they can be told."""
        if self.dtype is None or not self.whole or not self.raw:
            return []
        numbers: list[Any] = torch.frombuffer(bytearray(self.raw), dtype=self.dtype).tolist()
        return numbers

    def __str__(self) -> str:
        items = self.items()
        if len(items) == 1:
            return repr(items[0])
        return shown(items) if items else f"{self.kind} {self.shape} with the digest {self.raw.hex()[:8]}"


# What is compared: a text, or what was kept of a tensor.
Value = str | Kept


@frozen
class Difference:
    """One field that differs, with its two values in words."""

    field: str
    one: str
    other: str

    def __str__(self) -> str:
        return f"{self.field} is {self.one} in one and {self.other} in the other"


def leaves(name: str, value: object, *, full: bool, depth: int = 0) -> Iterator[tuple[str, Value]]:
    """The values that a field comes to, each with its own name.

    Example:
        >>> dict(leaves("seen", {"a": [1, 0.5]}, full=True))
        {"seen['a'][0]": '1', "seen['a'][1]": '0.5'}
    """
    if isinstance(value, Enum):
        yield name, name_of(value)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield name, repr(value)
    elif isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "tobytes")):
        yield name, _kept(value, full=full)
    elif not isinstance(value, Mapping | list | tuple | deque | set | frozenset):
        yield name, typed(value)
    elif len(value) > ENTRIES or depth > DEEP:
        yield name, f"{typed(value)} of {len(value)}"
    elif isinstance(value, set | frozenset):
        yield name, f"{{{', '.join(sorted(map(repr, value)))}}}"
    else:
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(f"{name}[{key!r}]", inner, full=full, depth=depth + 1)


def difference(name: str, one: Value, other: Value) -> Difference:
    """Two values of a field that are not the same; of a tensor, the first number that differs."""
    if isinstance(one, Kept) and isinstance(other, Kept) and (one.kind, one.shape) == (other.kind, other.shape):
        for index, (mine, yours) in enumerate(zip(one.items(), other.items(), strict=False)):
            if repr(mine) != repr(yours):
                place = torch.unravel_index(torch.tensor(index), one.shape) if one.shape else ()
                return Difference(f"{name}{[int(at) for at in place] or ''}", repr(mine), repr(yours))
    return Difference(name, _shown(one), _shown(other))


def raw_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor as they lie in memory."""
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return ctypes.string_at(flat.data_ptr(), flat.nbytes) if flat.nbytes else b""


def _kept(value: Any, *, full: bool) -> Value:  # noqa: ANN401  # an array of a library that need not be there
    many = math.prod(value.shape)
    if not isinstance(value, Tensor):
        kept = Kept(str(value.dtype), tuple(value.shape), value.tobytes())
    elif value.layout is not torch.strided or value.is_meta or value.is_quantized or (many > LIGHT and not full):
        return f"{typed(value)} of {tuple(value.shape)}"
    else:
        kept = Kept(str(value.dtype), tuple(value.shape), raw_bytes(value), dtype=value.dtype)
    return kept if many <= WHOLE else evolve(kept, raw=blake2b(kept.raw, digest_size=16).digest(), whole=False)


def _shown(value: Value) -> str:
    """A value for people, cut where it gets long."""
    text = str(value)
    return text if len(text) <= LINE else f"{text[: LINE - 4]} ..."
