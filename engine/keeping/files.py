"""How is a checkpoint written whole or not at all, and read only where it is whole?"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from engine.errors import ArgumentRefused
from states.errors import shown, typed


# Of the layout of the file; another layout gets another number.
FORMAT = 1
# What a file may raise that is damaged, or holds code: all but what says that it cannot be opened.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    UnpicklingError,
    ValueError,
)


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint: when this returns it is on the disk; whenever it dies, the file is the old or the new one.

    It is written beside its place, as `.<name>.tmp`, and put there when all of it is on the disk.  What was written by
    halves is taken away again; after a SIGKILL it stays, until the same file is written the next time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened; here the new name is not on the disk before this
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU.  Runs no code from the file, and compares its checksums, as torch does not.

    Raises:
        ArgumentRefused: it is no checkpoint of ours, or it is damaged.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            if damaged is None:
                file.seek(0)
                content = torch.load(file, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            raise _no_checkpoint(path, f"is damaged, or no checkpoint: {typed(error)}") from error
    if damaged is not None:
        raise _no_checkpoint(path, f"is damaged: the checksum of {damaged} is another one")
    if isinstance(content, dict) and "format" not in content:
        raise _of_others(path, content)
    given = content.get("format") if isinstance(content, dict) else None
    if given != FORMAT:
        raise _no_checkpoint(path, f"has the format {shown(given)}, and this version reads {FORMAT}")
    return content  # type: ignore[no-any-return]  # a dict, as its format says


def _of_others(path: str | PathLike[str], content: Mapping[Any, object]) -> ArgumentRefused:
    """The error for what was saved by others than `Checkpoint`: mostly the weights of a model, alone or with more."""
    weights = bool(content) and all(isinstance(value, Tensor) for value in content.values())
    held = "the weights of a model alone, its state_dict()" if weights else f"a dict with {shown([*content])}"
    which = "" if weights else "[...]"
    return ArgumentRefused(
        f"{os.fspath(path)} is no checkpoint: it has {held}",
        allowed="a file that Checkpoint has written, with all that a training needs to go on",
        instead=f'for the weights alone: model.load_state_dict(torch.load(path, map_location="cpu"){which})',
    )


def _no_checkpoint(path: str | PathLike[str], why: str) -> ArgumentRefused:
    return ArgumentRefused(
        f"{os.fspath(path)} {why}",
        allowed="a file that Checkpoint has written",
        instead="load an older one; Checkpoint(keep=2, monitor=...) keeps several",
    )
