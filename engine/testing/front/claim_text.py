"""What does a text claim?  A claim as it is written in a test, read without running anything else."""

import ast
from collections.abc import Callable

from engine.errors import ArgumentRefused
from states.claims import Claim, ClaimRefused, Each, at_most_once, before, each, never


FORMS = (
    'before("a", "b"), never("a", between=("b", "c")), at_most_once("a", within="batch"), '
    'each("a").followed_by("b", "c"), each("a").followed_later_by("b")'
)


def claim_of(text: str) -> Claim:
    """The claim that a text is.

    Raises:
        ArgumentRefused: it is none.

    Example:
        >>> claim_of('each("backward_end").followed_by("step_begin", "batch_end")')
        each('backward_end').followed_by('step_begin', 'batch_end')
        >>> claim_of('open("notes.txt")')
        Traceback (most recent call last):
            ...
        engine.errors.ArgumentRefused: 'open("notes.txt")' is no claim: open(...) is none
          allowed:  before("a", "b"), never("a", between=("b", "c")), at_most_once("a", within="batch"), ...
          instead:  name events in quotes, and nothing else
    """
    try:
        return _whole(_made(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, TypeError, ValueError, ClaimRefused) as error:
        why = "it is no Python" if isinstance(error, SyntaxError) else str(error)
        what = f"{text!r} is no claim: {why}"
        raise ArgumentRefused(what, allowed=FORMS, instead="name events in quotes, and nothing else") from None


def _whole(made: Claim | Each) -> Claim:
    if isinstance(made, Each):
        raise TypeError(f"say what each {made.word} is followed by")
    return made


def _made(node: ast.expr) -> Claim | Each:
    """What a call makes; only calls that make claims are carried out."""
    match node:
        case ast.Call(func=ast.Name(id="before")):
            return _called(before, node)
        case ast.Call(func=ast.Name(id="never")):
            return _called(never, node)
        case ast.Call(func=ast.Name(id="at_most_once")):
            return _called(at_most_once, node)
        case ast.Call(func=ast.Name(id="each")):
            return _called(each, node)
        case ast.Call(func=ast.Attribute(value=inner, attr="followed_by" | "followed_later_by" as name)):
            begun = _made(inner)
            if isinstance(begun, Each):
                return _called(begun.followed_by if name == "followed_by" else begun.followed_later_by, node)
        case _:
            pass
    raise TypeError(f"{ast.unparse(node.func)}(...) is none" if isinstance(node, ast.Call) else "it is no call")


def _called(maker: Callable[..., Claim | Each], node: ast.Call) -> Claim | Each:
    named = {str(one.arg): _pair(one.value) if one.arg == "between" else _word(one.value) for one in node.keywords}
    return maker(*map(_word, node.args), **named)


def _word(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise TypeError(f"{ast.unparse(node)} is no event in quotes")


def _pair(node: ast.expr) -> tuple[str, str]:
    match node:
        case ast.Tuple(elts=[first, second]):
            return _word(first), _word(second)
        case _:
            raise TypeError(f"{ast.unparse(node)} is no pair of events in quotes")
