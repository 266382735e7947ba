"""Does a loop of the user's own go on with what callbacks made of its output and loss?  Each is watched in the graph.

# Theory of operation
#
# The user's code computes the loss and holds it in a name of its own.  If a callback puts another tensor into
# `run.loss`, the code has to go on with that one; if it does not, the gradients are those of the old one, and nobody
# sees it.  A hook on the new tensor is called when gradients are computed through it: that it was not called is known
# before the optimizer moves.
"""

from attrs import define, field
from torch import Tensor


@define(eq=False)
class Replaced:
    """The tensors that callbacks put in place of those that were reported, and whether gradients came through them.

    Example:
        >>> import torch
        >>> replaced, weight = Replaced(), torch.ones((), requires_grad=True)
        >>> replaced.watch("loss", weight * 2)
        >>> weight.mul(3).backward()  # of another loss
        >>> replaced.passed_over()
        'loss'
    """

    # By name: whether gradients came through.
    _seen: dict[str, bool] = field(factory=dict)

    def watch(self, name: str, value: object) -> None:
        """Look after a tensor from now on; what is no tensor, or needs no gradient, cannot be looked after."""
        self._seen.pop(name, None)
        if isinstance(value, Tensor) and value.requires_grad:
            self._seen[name] = False

            def note(gradient: Tensor) -> None:
                del gradient
                self._seen[name] = True

            value.register_hook(note)  # type: ignore[no-untyped-call]  # torch gives it no types

    def passed_over(self) -> str | None:
        """The name of the first through which no gradients came."""
        return next((name for name, seen in self._seen.items() if not seen), None)
