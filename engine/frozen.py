"""How do parameters not learn for a while?  They require no gradient, and those that did do so again behind it."""

from collections.abc import Iterable

from torch import Tensor


def freeze(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Let parameters require no gradient, and have none; give those that did require one."""
    frozen = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
        parameter.grad = None  # an optimizer moves what has one
    return frozen


def unfreeze(frozen: list[Tensor]) -> None:
    """Let them require gradients again; the list is empty then."""
    while frozen:
        frozen.pop().requires_grad_(True)
