"""Truncated back-propagation through time: a sequence is trained on chunk by chunk, each with a step of its own."""

from enum import Enum

import torch
from attrs import evolve
from torch import Tensor, nn

from engine import Action, Callback, Engine, Run, State, loss_from, output_from
from states import TRAINING, Event, Guard, Transition, Trigger


CHUNK = 5


class Bptt(Enum):
    """The words of this machine that others do not have."""

    CHUNK = "chunk"  # a state: is there another chunk of this sequence?
    CHUNK_READY = "chunk_ready"
    SEQUENCE_SPENT = "sequence_spent"
    STOP_SEQUENCE = "stop_sequence"  # a guard: leave the rest of this sequence


BEGIN = TRAINING.row(State.BATCH)
# What ended a batch leads to its next chunk; the batch ends when its sequence is spent.
ENDING = (
    TRAINING.row(State.LOSS, Trigger.LOSS_READY, Guard.SKIP_BACKWARD),
    TRAINING.row(State.BACKWARD, Trigger.GRADS_READY, Guard.ACCUMULATE),
    TRAINING.row(State.STEP, Trigger.WEIGHTS_MOVED, Guard.SKIP_ZERO_GRAD),
    TRAINING.row(State.ZERO_GRAD, Trigger.GRADS_CLEARED),
)
MACHINE = TRAINING.replace(
    {
        BEGIN: (
            evolve(BEGIN, dest=Bptt.CHUNK, heard=()),
            Transition(Bptt.CHUNK, Bptt.CHUNK_READY, Bptt.STOP_SEQUENCE, State.EPOCH, (Event.BATCH_END,)),
            Transition(Bptt.CHUNK, Bptt.CHUNK_READY, None, State.FORWARD, BEGIN.heard),
            Transition(Bptt.CHUNK, Bptt.SEQUENCE_SPENT, None, State.EPOCH, (Event.BATCH_END,)),
        ),
        **{row: evolve(row, dest=Bptt.CHUNK, heard=()) for row in ENDING},
    },
    name="chunk by chunk",
)


class Chunks(Callback):
    """Cuts the sequence in hand, and carries the hidden state from chunk to chunk, without its graph."""

    def __init__(self) -> None:
        self.start, self.hidden = 0, torch.zeros(())

    def on_batch_begin(self, run: Run) -> None:
        """A new sequence: shape (time, batch, features)."""
        self.start, self.hidden = -CHUNK, torch.zeros(1, run.inputs.shape[1], 8)

    def cut(self, run: Run) -> Enum:
        """The action of CHUNK."""
        self.start += CHUNK
        return Bptt.CHUNK_READY if self.start < len(run.inputs) else Bptt.SEQUENCE_SPENT

    def forward(self, run: Run) -> Tensor:
        """The output of this chunk."""
        chunk = run.inputs[self.start : self.start + CHUNK]
        output, hidden = run.model["gru"](chunk, self.hidden)
        self.hidden = hidden.detach()
        scores: Tensor = run.model["head"](output)
        return scores

    def loss(self, run: Run) -> Tensor:
        """The loss of this chunk."""
        return nn.functional.mse_loss(run.output, run.targets[self.start : self.start + CHUNK])


def data() -> list[tuple[Tensor, Tensor]]:
    """Four batches of sequences of 18 steps; the target is the running mean."""
    chance = torch.Generator().manual_seed(1)
    steps = torch.arange(1, 19).view(-1, 1, 1)
    return [(x, x.cumsum(0) / steps) for x in torch.randn(4, 18, 6, 1, generator=chance)]


def factory() -> tuple[Engine, dict[str, object]]:
    """The engine with what it trains on."""
    torch.manual_seed(0)
    model, chunks = nn.ModuleDict({"gru": nn.GRU(1, 8), "head": nn.Linear(8, 1)}), Chunks()
    actions = {
        Bptt.CHUNK: Action(chunks.cut, reports=(Bptt.CHUNK_READY, Bptt.SEQUENCE_SPENT)),
        State.FORWARD: output_from(chunks.forward),
        State.LOSS: loss_from(chunks.loss),
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    engine = Engine(model, optimizer=optimizer, callbacks=[chunks], machine=MACHINE, actions=actions)
    return engine, {"train_loader": data(), "epochs": 5}


def main() -> Engine:
    """Train."""
    engine, given = factory()
    run = engine.fit(**given)  # type: ignore[arg-type]  # what the factory gives is what fit takes
    print(f"{run.batches_done} sequences, {run.updates} steps; loss {run.metrics['train_loss']:.4f}")
    return engine


if __name__ == "__main__":
    main()
