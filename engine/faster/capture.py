"""How is a whole step one replay?  All from forward to zero_grad, recorded once for each shape of a batch.

# Theory of operation
#
# The order is what it was: FORWARD replays the whole step, and the states behind it only report.  So nobody may hear or
# answer anything in between: that is refused before the first batch.  The engine's own Metrics and Recorder hear
# `loss_end`: the loss is ready by then.
#
# A batch of a new shape is worked on without a recording three times, on a stream of its own, as torch asks: these are
# steps like any other.  Then the step is recorded, which computes nothing, and replayed from there on.  Gradients are
# `None` when a recording begins and when it ends, so a replay writes them anew and nobody has to clear them.
#
# A recording keeps what it met as it was: modes, which parameters want gradients and where they lie, the numbers of the
# optimizer.  All that is compared before each batch; where something differs, everything is recorded anew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from enum import Enum
from functools import partial
from typing import Any

from attrs import define, evolve, field, frozen
from torch import Tensor, nn, optim
from torch.utils._pytree import tree_leaves, tree_map_only

from engine.actions import Action
from engine.errors import ArgumentRefused, BatchRefused, OptimizerRefused
from engine.faster.cuda import Cuda
from engine.run import Do, Run, gradients, held
from states import State, Trigger
from states.errors import typed


# The states of a step, as `captured` demands them of the table before the first batch.
INSIDE = (State.FORWARD, State.LOSS, State.BACKWARD, State.AVERAGE, State.STEP, State.ZERO_GRAD)
# How many shapes are recorded; batches of any other are worked on without.
SHAPES = 4
# How often a step is taken before it is recorded.
WARM = 3

Shape = tuple[object, ...]


def capturing(actions: Mapping[Enum, Action], cuda: Cuda) -> dict[Enum, Action]:
    """What is done in the states of a step instead of these actions; a machine without one is refused in `captured`."""
    if not actions.keys() >= {*INSIDE}:
        return {}
    # A window of one batch needs no mean.
    step = Capturing(cuda, tuple(actions[state].do for state in INSIDE if state is not State.AVERAGE))
    captured: dict[Enum, Action] = {}
    for state in INSIDE:
        (trigger,) = actions[state].reports
        captured[state] = evolve(actions[state], do=partial(_report, trigger), note="done in forward")
    captured[State.FORWARD] = evolve(actions[State.FORWARD], do=step.forward, note="all up to zero_grad")
    return captured


def _report(trigger: Enum, _: Run) -> Enum:
    """All is done already."""
    return trigger


@frozen(eq=False)
class Recording:
    """A recorded step: where it reads a batch, and what each replay fills anew."""

    inputs: Tensor
    targets: Tensor
    output: Any
    loss: Tensor
    replay: Callable[[], None]

    def play(self, run: Run) -> None:
        """The step of the batch in hand.  Output and loss are copies: the next replay writes into its own."""
        self.inputs.copy_(run.inputs)
        self.targets.copy_(run.targets)
        self.replay()
        run.output, run.loss = tree_map_only(Tensor, Tensor.clone, self.output), self.loss.clone()


@define(eq=False)
class Capturing:
    """The action of FORWARD that takes the whole step.

    Cost per batch: copies of inputs, targets, output and loss on the device, one replay, and a look at each module and
    parameter.
    """

    cuda: Cuda
    # What is done in a step.
    does: Sequence[Do]
    # For each shape that was met, at most `SHAPES`: how many steps it has taken without a recording.
    _met: dict[Shape, int] = field(factory=dict)
    _recordings: dict[Shape, Recording] = field(factory=dict)
    # What the recordings keep as it was when they were made.
    _kept: list[object] | None = None
    # Where the first steps of a shape are taken, and its recording is made.
    _stream: Any = None

    def forward(self, run: Run) -> Enum:
        """The whole step, replayed where it can be."""
        shape = _shape(run)
        if self._kept is not None:
            _check_gradients(run)
            if not _same_things(self._kept, _things(run)):
                self._forget()
        if shape not in self._recordings and self._met.get(shape) == WARM:
            self._recordings[shape] = self._recorded(run)
        if shape in self._recordings:
            self._recordings[shape].play(run)
        else:
            self._first(run, shape)
        if self._kept is None:  # not before: the first step makes the optimizer's state
            self._kept = _things(run)
        return Trigger.OUTPUT_READY

    def _first(self, run: Run, shape: Shape) -> None:
        """A step without a recording: one of the first of its shape, or of a shape too many.

        All are taken on one stream, and what they leave has no graph, like what a replay leaves: as long as a graph is
        kept, torch adds gradients up on the stream where it was made, and fails to record that from the default one.
        """
        self._stream = self._stream or self.cuda.stream(run.device, "capture")
        try:
            self.cuda.beside(self._stream, partial(self._step, run))
        finally:  # who looks at the weights after a failure looks from the current stream
            self.cuda.join(self._stream)
            run.output, run.loss = tree_map_only(Tensor, Tensor.detach, (run.output, run.loss))
        if shape in self._met or len(self._met) < SHAPES:
            self._met[shape] = self._met.get(shape, 0) + 1

    def _step(self, run: Run) -> None:
        for do in self.does:
            do(run)

    def _recorded(self, run: Run) -> Recording:
        staged = copy(run)
        staged.inputs, staged.targets = run.inputs.clone(), run.targets.clone()

        def step() -> tuple[Any, Tensor]:
            self._step(staged)
            _check_output(run, staged.output)
            return tree_map_only(Tensor, Tensor.detach, staged.output), staged.loss.detach()

        try:
            (output, loss), replay = self.cuda.recorded(self._stream, step)
        except BaseException:
            self._forget()
            assert run.optimizer is not None, "checked before the first batch"
            for parameter in (*run.model.parameters(), *held(run.optimizer)):  # their gradients were never computed
                parameter.grad = None
            raise
        return Recording(staged.inputs, staged.targets, output, loss, replay)

    def _forget(self) -> None:
        """Begin anew, as in a new run."""
        self._met.clear()
        self._recordings.clear()
        self._kept = None


def _things(run: Run) -> list[object]:
    """What a recording keeps as it was: modules, modes, hooks, tensors and where they lie, the optimizer's numbers."""
    assert isinstance(run.optimizer, optim.Optimizer), "checked before the first batch"
    modules = [*run.model.modules(), *(run.loss_fn.modules() if isinstance(run.loss_fn, nn.Module) else ())]
    tensors = [tensor for module in modules for tensor in (*module._parameters.values(), *module._buffers.values())]  # noqa: SLF001  # each module's own, once
    tensors += [*held(run.optimizer), *(value for state in run.optimizer.state.values() for value in state.values())]
    numbers = [value for group in run.optimizer.param_groups for name, value in group.items() if name != "params"]
    return [
        run.loss_fn,
        run.optimizer,
        *modules,
        *[module.training for module in modules],
        *[hook for hooks in _hooks(modules, run.optimizer) for hook in (hooks or {}).values()],
        *tensors,
        *[tensor.data_ptr() for tensor in tensors if isinstance(tensor, Tensor)],
        *[tensor.requires_grad for tensor in tensors if isinstance(tensor, Tensor)],
        *numbers,
    ]


def _hooks(modules: Sequence[nn.Module], optimizer: optim.Optimizer) -> Iterator[Mapping[int, object] | None]:
    """All hooks that run in a step."""
    names = [f"_{when}_hooks" for when in ("forward_pre", "forward", "backward_pre", "backward")]  # torch has no others
    yield from (getattr(module, name) for module in modules for name in names)
    for parameter in held(optimizer):
        yield from (parameter._backward_hooks, parameter._post_accumulate_grad_hooks)  # noqa: SLF001  # as above
    yield from (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)  # noqa: SLF001  # as above


def _check_output(run: Run, output: object) -> None:
    """Refuse an output of which no copies could be handed out."""
    odd = [leaf for leaf in tree_leaves(output) if not isinstance(leaf, Tensor | int | float | str | None)]
    if odd:
        raise ArgumentRefused(
            f"the model gives {typed(odd[0])} in {run.where}, and capture is True",
            allowed="tensors and numbers, in tuples, lists and dicts",
            instead="let the model give those, register the class with torch's pytree, or leave capture out",
        )


def _check_gradients(run: Run) -> None:
    """Refuse gradients of something else: a replay would neither add to them nor clear them."""
    if any(True for _ in gradients(run)):
        raise OptimizerRefused(
            f"there are gradients before the step in {run.where}, and capture is True",
            allowed="no gradients between two steps",
            instead="clear what a callback computes (optimizer.zero_grad()), or leave capture out",
        )


def _same_things(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(map(_same, some, others))


def _same(one: object, other: object) -> bool:
    """Whether two values are one thing; numbers and the like, whether they are equal.  A tensor is not read."""
    return one is other or (isinstance(one, int | float | str | tuple) and type(one) is type(other) and one == other)


def _shape(run: Run) -> Shape:
    """What a recording of a batch depends on."""
    shape: list[object] = []
    for name, value in (("inputs", run.inputs), ("targets", run.targets)):
        if not isinstance(value, Tensor) or value.requires_grad:
            raise _no_tensor(run, name, value)
        shape += (value.shape, value.dtype, value.stride())
    return tuple(shape)


def _no_tensor(run: Run, name: str, value: object) -> BatchRefused:
    given = "a tensor that requires a gradient" if isinstance(value, Tensor) else typed(value)
    return BatchRefused(
        f"run.{name} is {given} in {run.where}, and capture is True",
        allowed="tensors that require no gradient",
        instead="let the loader give pairs of tensors, or leave capture out",
    )
