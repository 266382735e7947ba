"""Knowledge distillation: a student learns from labels and from a teacher; two models, a batch that is a dict."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine import Engine, Run, State, loss_from, output_from


def forward(run: Run) -> dict[str, Tensor]:
    """Both models see the same pixels; the teacher learns nothing."""
    pixels = run.inputs["pixels"]
    with torch.no_grad():
        taught = run.model["teacher"](pixels)
    return {"student": run.model["student"](pixels), "teacher": taught}


def loss(run: Run) -> Tensor:
    """Half from the labels, half from the teacher (Hinton, Vinyals and Dean, arXiv:1503.02531, at temperature 2)."""
    student, teacher = run.output["student"], run.output["teacher"]
    soft = functional.kl_div((student / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="batchmean") * 4
    return (functional.cross_entropy(student, run.inputs["label"]) + soft) / 2


def data() -> list[dict[str, Tensor]]:
    """Six batches; the label is the largest of three pixels."""
    chance = torch.Generator().manual_seed(1)
    return [{"pixels": x, "label": x[:, :3].argmax(1)} for x in torch.randn(6, 16, 8, generator=chance)]


def factory() -> tuple[Engine, dict[str, object]]:
    """The engine with what it trains on."""
    torch.manual_seed(0)
    teacher, student = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)), nn.Linear(8, 3)
    engine = Engine(
        {"teacher": teacher, "student": student},
        optimizer=torch.optim.SGD(student.parameters(), lr=0.1),
        actions={State.FORWARD: output_from(forward), State.LOSS: loss_from(loss)},
    )
    return engine, {"train_loader": data(), "epochs": 3}


def main() -> Engine:
    """Train the student."""
    engine, given = factory()
    run = engine.fit(**given)  # type: ignore[arg-type]  # what the factory gives is what fit takes
    losses = [f"{record['train_loss']:.4f}" for record in run.history]
    print(f"loss by epoch: {', '.join(losses)}")
    return engine


if __name__ == "__main__":
    main()
