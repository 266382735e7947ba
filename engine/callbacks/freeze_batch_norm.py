"""How do batch norms keep the statistics that they have, while the rest of the model trains?"""

from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from engine.errors import ArgumentRefused
from engine.frozen import freeze, unfreeze
from engine.listeners import Callback
from engine.run import Run
from states.errors import shown, typed


if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.utils.hooks import RemovableHandle


class FreezeBatchNorm(Callback):
    """Keep all batch norms in evaluation mode while the model trains: they use their running statistics, and keep them.

    Each is looked at just before it runs, so whoever calls `model.train()` in the middle, as a loop of one's own does,
    does not unfreeze them.  The engine puts each module's mode back after the run.  Sync batch norms are among them;
    instance, layer and group norms keep no batch statistics, and are not.

    Args:
        train_affine: Whether their weights and biases learn.  If not, they require no gradient during the run.

    Raises:
        ArgumentRefused: *train_affine* is no bool.

    Cost per batch: a hook of each batch norm, which looks at its mode.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from engine import Engine
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, nn.MSELoss(), sgd, callbacks=[FreezeBatchNorm()])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))])
        >>> model[1].running_mean
        tensor([0., 0., 0.])
    """

    order = -60
    in_trials = True

    def __init__(self, *, train_affine: bool = True) -> None:
        if not isinstance(train_affine, bool):
            raise ArgumentRefused(
                f"train_affine is {shown(train_affine)}, {typed(train_affine)}",
                allowed="True, False",
                instead="leave it out to let weights and biases learn",
            )
        self.train_affine = train_affine
        self._norms: list[_BatchNorm] = []
        self._frozen: list[Tensor] = []
        self._hooks: list[RemovableHandle] = []

    def on_train_begin(self, run: Run) -> None:
        """Find the batch norms, and freeze them."""
        self._norms = [module for module in run.model.modules() if isinstance(module, _BatchNorm)]
        for norm in self._norms:
            # Before all other hooks: they see the mode in which it runs.
            self._hooks.append(norm.register_forward_pre_hook(_to_evaluation, prepend=True))
        self._freeze()

    def on_epoch_begin(self, run: Run) -> None:
        """Freeze what somebody else has unfrozen since."""
        del run
        self._freeze()

    def on_forward_begin(self, run: Run) -> None:
        """See that they are in evaluation mode; what torch has compiled before need not look for hooks."""
        del run
        for norm in self._norms:
            _to_evaluation(norm, ())

    def on_train_end(self, run: Run) -> None:
        """Take the hooks away, and let weights and biases learn again that did before."""
        del run
        for hook in self._hooks:
            hook.remove()
        unfreeze(self._frozen)
        self._norms, self._hooks = [], []

    def _freeze(self) -> None:
        for norm in self._norms:
            norm.eval()
            if not self.train_affine:
                self._frozen += freeze(norm.parameters())


def _to_evaluation(norm: "Module", inputs: object) -> None:
    """Put a batch norm into evaluation mode, if it is not."""
    del inputs
    if norm.training:
        norm.eval()
