"""How does the user's own code take a run forward?  It reports what happened; the table decides what is next.

# Theory of operation
#
# The user's code does the work of some states and reports it; all others are the engine's: it does them as soon as the
# run comes to them.  So a run stands still in two kinds of places: where the user's code is to report, and where a
# state asks whether to stop, which is asked when the code goes on.  A batch that was drawn is a third: the guards of
# BATCH have let it pass, and its row is taken with the next report, so that the code may still skip it.
"""

import warnings
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any

from attrs import define

from engine.errors import BatchRefused, LoaderRefused
from engine.outcome import SKIPPED, Tally
from engine.ownloop.between import ahead
from engine.ownloop.brought import NOTHING, check_brought, usual
from engine.ownloop.outoforder import nothing_to_skip, out_of_order, passed_over, skips_batch, unscaled, window_cleared
from engine.ownloop.replaced import Replaced
from engine.run import gradients, release
from engine.running.fitting import Given
from engine.running.link import LinkedGroup, LinkedRow, reached
from engine.running.steps import SteppedRun
from engine.running.straight import Straight
from states import State, Transition, Trigger
from states.names import is_stop, name_of
from states.scaled import UNSCALING


# The states whose work a plain script has in it, or that its loops stand for; all others are the engine's.
PLAIN = frozenset(
    {State.IDLE, State.TRAIN, State.FETCH, State.FORWARD, State.LOSS, State.BACKWARD, State.STEP, State.CLOSE}
)

# Looked at in every batch, so bound once: a member reached through its class costs a call in Python 3.11.
_CLOSE = State.CLOSE
_BATCH_READY = Trigger.BATCH_READY
_OUTPUT_READY = Trigger.OUTPUT_READY
_LOSS_READY = Trigger.LOSS_READY
_GRADS_READY = Trigger.GRADS_READY
_BEFORE_GRADS = (_OUTPUT_READY, _LOSS_READY)

NO_GRADIENTS = (
    "grads_ready was reported, and no parameter of the optimizer has a gradient: was loss.backward() called, "
    "and does the optimizer hold the parameters that are trained?"
)


@define(eq=False, kw_only=True, repr=False)
class ReportedRun(SteppedRun):
    """A run that goes on by what the user's code reports."""

    # What the user gave in place of the engine's own actions.
    given: Given
    # Where a skip of the user's code is counted.
    tally: Callable[[Enum, str, Transition], Tally]
    # Whether gradients were looked for when they were reported: a script that forgets them does so in every batch.
    computed: bool = False
    # What callbacks put in place of what was reported of this batch.
    replaced: Replaced | None = None

    def report(
        self,
        trigger: Enum,
        *,
        inputs: Any = NOTHING,  # noqa: ANN401  # a batch may be anything
        targets: Any = NOTHING,  # noqa: ANN401  # as above
        output: Any = NOTHING,  # noqa: ANN401  # whatever the model gives
        loss: Any = NOTHING,  # noqa: ANN401  # checked: a tensor
    ) -> Enum:
        """Say what just happened; hear what that means.

        What is heard first is heard, the guards are asked, a row is taken; then the engine does what is its own, up to
        where your code is to act again.

        Args:
            trigger: What happened: one of those that the state takes.
            inputs: The batch, with *batch ready*; as they should be, on the device.
            targets: Its targets, if it has some.
            output: What the model gave, with *output ready*.
            loss: The loss tensor, of shape (), with *loss ready*.

        Returns:
            The state that the run is in then: what your code is to do now.  After *grads ready*, `State.STEP` where the
            optimizer is to step; another one where a guard had it otherwise (`skip_step`, `accumulate`).

        Raises:
            OutOfOrder: the state does not take this trigger; or gradients are reported that were not computed from what
                a callback made of `run.output` or `run.loss`; or those of an open window are gone.  Nothing was
                changed, nobody was called.
            ArgumentRefused: what the trigger brings is missing, or what was given does not belong to it; likewise.
            EngineBusy: from inside a callback, guard or action of this run.
            Exception: whatever a callback or guard raises; the run has died of it.

        Cost: one to three microseconds, and what is heard.
        """
        quick = self.quick
        if quick is not None and quick.trigger is trigger and usual(trigger, inputs, targets, output, loss):
            return self._go_straight(quick, output, loss)
        group = self._due(trigger)
        odd = not self.computed or self.replaced or (self.window and trigger in _BEFORE_GRADS)
        if odd or not usual(trigger, inputs, targets, output, loss):
            check_brought(trigger, {"inputs": inputs, "targets": targets, "output": output, "loss": loss})
            self._check_gradients(trigger)
            self._check_loader(trigger)
        self._move(partial(self._hear_of, trigger, group, inputs=inputs, targets=targets, output=output, loss=loss))
        return self.state

    def skip(
        self,
        guard: Enum | str | None = None,
        *,
        output: Any = NOTHING,  # noqa: ANN401  # as in report
        loss: Any = NOTHING,  # noqa: ANN401  # as in report
    ) -> Enum:
        """Report what the state waits for, and answer its skip guard with yes, as a callback could.

        With a batch in hand, before its output is reported, it is `skip_batch`; where the loss is to be reported,
        `skip_backward` (`run.skip(loss=loss)`); where the gradients are, `skip_step`.  No other guard is asked.

        Args:
            guard: Which one, where it is not the state's only `skip_...`: `run.skip("accumulate")`.
            output: As in `report`.
            loss: As in `report`.

        Returns:
            The state that the run is in then.

        Raises:
            OutOfOrder: nothing can be skipped where the run is; nothing was changed.
        """
        self._check_free()
        group, row = self._skipping(guard)
        if group.trigger is None and (output is not NOTHING or loss is not NOTHING):
            raise skips_batch(self, "loss" if output is NOTHING else "output")
        check_brought(group.trigger, {"output": output, "loss": loss}, "skip")
        self._move(partial(self._skip, group, row, output, loss))
        return self.state

    def _check_gradients(self, trigger: Enum) -> None:
        """Refuse gradients that are not those of `run.loss`, and a window without any; say once if there are none."""
        if self.optimizer is None or trigger not in {*_BEFORE_GRADS, _GRADS_READY}:
            return
        if trigger is _GRADS_READY and self._unscales_itself():
            raise unscaled(self)
        there = next(gradients(self), None) is not None
        if trigger is _GRADS_READY:
            if self.replaced is not None and (name := self.replaced.passed_over()):
                raise passed_over(self, name)
            if not there and not self.computed:
                warnings.warn(NO_GRADIENTS, stacklevel=3)
            self.computed, self.replaced = True, None
        elif self.window and not there:
            raise window_cleared(self)

    def _unscales_itself(self) -> bool:
        """Whether the engine unscales gradients: then the user's code cannot compute them."""
        states = () if self.scaler is None or self.computed else reached(self.linked.start)
        return any(at.state in UNSCALING and not at.waits for at in states)

    def _check_loader(self, trigger: Enum) -> None:
        """Refuse a validation that has nothing to run on."""
        if trigger is Trigger.VALIDATION_DUE and self.valid_loader is None and self._validates_itself():
            raise LoaderRefused(
                f"{name_of(trigger)} was reported in {self.where}, and the run has no validation loader",
                allowed="a loader to validate on",
                instead="write run.validate(loader), or give engine.start a valid_loader; or report no_validation",
            )

    def _validates_itself(self) -> bool:
        """Whether the engine's own validation comes next, whatever a guard that skips would answer."""
        rows = next((group.choices for group in self.here.groups if group.trigger is Trigger.VALIDATION_DUE), ())
        skipped = any((guard := row.transition.guard) is not None and not is_stop(guard) for row in rows)
        dest = rows[-1].dest if rows and not skipped else self.here
        return dest.state in self.machine.holds and not dest.waits and dest.state not in self.given

    def _watch(self, output: Any, loss: Any) -> None:  # noqa: ANN401  # as in report
        """Look after what a callback put in place of what was reported."""
        self.replaced = self.replaced or Replaced()
        if output is not NOTHING and self.output is not output:
            self.replaced.watch("output", self.output)
        if loss is not NOTHING and self.loss is not loss:
            self.replaced.watch("loss", self.loss)

    def _due(self, trigger: Enum) -> LinkedGroup | None:
        """The rows for a report, where the run stands; `None` if guards are to be asked first, which may lead there."""
        runs = self.turns.runs
        if self.moving or not runs or runs[-1] is not self:
            self._check_free()
        start = self.here if self.decided is None else self.decided.dest
        if start.action is not None:
            for group in start.groups:
                if group.trigger is trigger:
                    return group
        mine = start.waits and start.action is not None
        if not mine and any(group.trigger is trigger for state in ahead(start) for group in state.groups):
            return None
        raise out_of_order(self, trigger)

    def _come_to(self, group: LinkedGroup | None, trigger: Enum) -> LinkedGroup | None:
        """Go on to where a report is taken; `None` if a guard that is asked on the way leads elsewhere."""
        if self.decided is not None:
            self._go_on(self.decided)
        if group is not None:
            return group
        self._act()
        while not self.here.waits:
            self._act()
        for there in self.here.groups:
            if there.trigger is trigger:
                return there
        self._settle()
        return None

    def _hear_of(
        self,
        trigger: Enum,
        group: LinkedGroup | None,
        *,
        inputs: Any,  # noqa: ANN401  # as in report
        targets: Any,  # noqa: ANN401  # as in report
        output: Any,  # noqa: ANN401  # as in report
        loss: Any,  # noqa: ANN401  # as in report
    ) -> None:
        """A report that was looked at: what follows from it, up to where the user's code is to act again."""
        if group is None or self.decided is not None:
            group = self._come_to(group, trigger)
        if group is not None:
            self._keep(inputs, targets, output, loss)
            row = self._follow(group)
            self._look_after(output, loss)
            self._settle(row)

    def _skip(self, group: LinkedGroup, row: LinkedRow, output: Any, loss: Any) -> None:  # noqa: ANN401  # as in report
        """What is reported, with the yes of the user's code."""
        self._keep(NOTHING, NOTHING, output, loss)
        for happening in group.first:
            happening.do(self)
        assert row.transition.guard is not None, "a row that skips is guarded"
        tally = self.tally(row.transition.guard, SKIPPED, row.transition)
        tally.note(row.transition, self.epoch, self.batch_index, self.updates)
        self._settle(self._take(row))

    def _go_straight(self, quick: Straight, output: Any, loss: Any) -> Enum:  # noqa: ANN401  # as in report
        """A report as it comes in nearly every batch: nothing is decided, and all was looked at before.

        It is `_hear_of` with its calls written out, since four of these come in each batch.
        """
        if self.moving or self.turns.runs[-1] is not self:
            raise self._busy()
        self.moving = True
        try:
            if output is not NOTHING:
                self.output = output
            if loss is not NOTHING:
                self.loss = loss
            self.decided = None
            quick.do(self)
            self.here, self.quick = quick.dest, quick.next
            if quick.heard:
                self._look_after(output, loss)
            if not quick.dest.waits:
                self._settle()
        except BaseException as error:
            self._die(error)
            raise
        finally:
            self.moving = False
        return self.state

    def _look_after(self, output: Any, loss: Any) -> None:  # noqa: ANN401  # as in report
        """Notice what a callback put in place of what was reported: the next reports are looked at."""
        if (self.output is not output and output is not NOTHING) or (self.loss is not loss and loss is not NOTHING):
            self.quick = None
            self._watch(output, loss)

    def _follow(self, group: LinkedGroup) -> LinkedRow | None:
        """Take the row that follows a report, or all rows up to the next decision; gives the one that was chosen."""
        if group.straight is None:
            return self._choose(group)
        self.quick = None
        group.straight.do(self)
        self.here = group.straight.dest
        return None

    def _keep(self, inputs: Any, targets: Any, output: Any, loss: Any) -> None:  # noqa: ANN401  # as in report
        """Take over what was reported; let go of the last batch, as CLOSE does."""
        if self.state is _CLOSE:
            release(self)
        if inputs is not NOTHING:
            self.inputs, self.targets = inputs, None if targets is NOTHING else targets
        if output is not NOTHING:
            self.output, self.replaced = output, None
        if loss is not NOTHING:
            self.loss = loss

    def _settle(self, row: LinkedRow | None = None) -> None:
        """Do what is the engine's, up to where the user's code is to act; *row* was taken last."""
        drawn = row is not None and row.transition.trigger is _BATCH_READY
        while not self.here.waits and self.decided is None:
            if drawn and self.here.action is None:
                self._offer()
            else:
                self._act()

    def _offer(self) -> None:
        """Ask whether to skip a batch that was just drawn; where it is not, the user's code still may."""
        for row in self.here.groups[0].choices:  # the one that breaks the loop is chosen
            if row.ask is None or row.ask.do(self):
                break
        if row.transition.guard is None and row.dest.waits and row.dest.action is not None:
            self._decided_on(row)
        else:
            self._take(row)

    def _decided_on(self, row: LinkedRow) -> None:
        """A batch is offered; its next report may go straight if those of a batch before were looked at."""
        self.decided, self.replaced = row, None
        self.quick = row.offered if self.computed and not self.window else None

    def _go_on(self, row: LinkedRow) -> None:
        """Take the row that a batch was offered on: what is heard on it comes after the user's forward."""
        before = self.inputs, self.targets
        self._take(row)
        if self.inputs is not before[0] or self.targets is not before[1]:
            raise BatchRefused(
                f"a callback changed run.inputs or run.targets in {self.where}, when the output was there already",
                allowed="other inputs from forward_begin, where your loop says when that is",
                instead="write run.advance() before your forward, and use run.inputs; or change them in batch_begin",
            )

    def _skipping(self, guard: Enum | str | None) -> tuple[LinkedGroup, LinkedRow]:
        """The row that skips where the run stands, with the group that it is in."""
        name = name_of(guard) if isinstance(guard, Enum) else guard
        found = [
            (group, row)
            for group in self.here.groups
            for row in group.rows
            if (asked := row.transition.guard) is not None and not is_stop(asked)
            if (name_of(asked) == name if name is not None else _meant(asked, group))
        ]
        if len(found) != 1:
            raise nothing_to_skip(self, name)
        return found[0]


def _meant(guard: Enum, group: LinkedGroup) -> bool:
    """Whether a skip without a name is by this guard: not so behind a step, where it would keep the gradients."""
    return name_of(guard).startswith("skip_") and group.trigger is not Trigger.WEIGHTS_MOVED
