"""Which parts of a model do not learn, and until when?"""

from torch import Tensor, nn

from engine.check import check_count
from engine.errors import ArgumentRefused, hint
from engine.frozen import freeze, unfreeze
from engine.listeners import Callback
from engine.run import Run
from states.errors import shown, typed


class Freeze(Callback):
    """Let the parameters of some parts of the model be as they are, until an epoch begins or for the whole run.

    They require no gradient meanwhile (`requires_grad` is false), so no optimizer moves them, by momentum or weight
    decay neither.  What was frozen before stays so; what this has frozen is put back when its time is over and at the
    latest at `train_end`.  Several of these unfreeze a model part by part.  Running statistics of batch norms are no
    parameters: see `FreezeBatchNorm`.

    Args:
        *parts: Submodules of the model, or their names in `model.named_modules()`: `"0"`, `"encoder.layers.1"` ...
        until: The epoch, counted from 0, that begins with all of them learning; `None` is never.  A run that starts
            there or later freezes nothing.

    Raises:
        ArgumentRefused: no part is given, or what is no name and no module; *until* is no whole number from 1 on; at
            `train_begin`, a part that the model does not have.

    Cost per batch: nothing; torch saves the gradients of what is frozen.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Freeze("0", until=1)])
        >>> before = model[0].weight.clone()
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))], epochs=1)
        >>> torch.equal(model[0].weight, before)
        True
    """

    order = -60
    in_trials = True

    def __init__(self, *parts: str | nn.Module, until: int | None = None) -> None:
        for part in parts or (None,):
            if not isinstance(part, str | nn.Module):
                raise ArgumentRefused(
                    "Freeze was given no part" if part is None else f"a part is {shown(part)}, {typed(part)}",
                    allowed="submodules of the model, or their names",
                    instead='write for example Freeze("0", until=3), with a name from model.named_modules()',
                )
        check_count("until", until, least=1, may_be_none=True)
        self.parts, self.until = parts, until
        self._frozen: list[Tensor] = []

    def on_train_begin(self, run: Run) -> None:
        """Refuse what the model does not have; freeze."""
        self._modules(run.model)
        self._freeze_or_not(run)

    def on_epoch_begin(self, run: Run) -> None:
        """Unfreeze if it is time; freeze what somebody else has unfrozen since."""
        self._freeze_or_not(run)

    def on_train_end(self, run: Run) -> None:
        """Put back."""
        del run
        unfreeze(self._frozen)

    def _freeze_or_not(self, run: Run) -> None:
        if self.until is not None and run.epoch >= self.until:
            unfreeze(self._frozen)
            return
        for module in self._modules(run.model):
            self._frozen += freeze(module.parameters())

    def _modules(self, model: nn.Module) -> list[nn.Module]:
        named = dict(model.named_modules(remove_duplicate=False))
        modules = [named.get(part) if isinstance(part, str) else part for part in self.parts]
        for part, module in zip(self.parts, modules, strict=True):
            if module is None or module not in named.values():
                raise _no_part(part, [name for name in named if name])
        return [module for module in modules if module is not None]


def _no_part(part: str | nn.Module, names: list[str]) -> ArgumentRefused:
    return ArgumentRefused(
        f"Freeze was given {shown(part)}, and the model has no such part",
        allowed=", ".join(names) or "nothing: the model has no submodules",
        instead=hint(part, names) if isinstance(part, str) else "give a submodule of the very model, or its name",
    )
