"""Is a compiled training the one that it would have been, with the user's own module, and compiled once?"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn, optim

from engine import Action, Engine, Run, loss_from, output_from
from engine.errors import ArgumentRefused
from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states import EVALUATION, TRAINING, State
from states.walk import Plan
from tests.engine.recording import Heard, answers_by, expected, hearings, hears_everything
from tests.engine.tools import batches, hears, refuses, same, small_engine, small_model, weights_of


# Torch's own: when its compiler is imported, and when it looks at what the loss is computed from.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

# What float32 may differ by after a few steps of the small models here.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def compiled() -> Engine:
    """One engine for all: each compilation takes seconds."""
    return small_engine(compile=True)


@pytest.fixture
def fresh(compiled: Engine) -> Engine:
    """The same one with the weights of a new one."""
    compiled.model.load_state_dict(small_model().state_dict())
    compiled.optimizer.state.clear()
    return compiled


@given(plans(), scripts())
def test_what_is_heard_and_what_comes_of_it_is_as_without(compiled: Engine, plan: Plan, chosen: Script) -> None:
    compiled.model.load_state_dict(small_model().state_dict())
    compiled.optimizer.state.clear()
    log: list[Heard] = []
    plain = small_engine()
    for engine in (plain, compiled):
        log.clear()
        listening = [hears_everything("Ear", log)(), answers_by(chosen.answers())]
        for callback in listening:
            engine.add(callback)
        valid = None if plan.valid_batches is None else batches(plan.valid_batches)
        engine.fit(batches(plan.batches), valid, plan.epochs, max_updates=plan.max_updates)
        for callback in listening:
            engine.remove(callback)
    said = hearings(expected(plan, chosen.answers()))
    assert [(h.event, h.state, h.counters) for h in log] == [(h.event, h.state, h.counters) for h in said]
    torch.testing.assert_close(compiled.model.state_dict(), plain.model.state_dict(), **CLOSE)
    one, other = plain.last_run.history, compiled.last_run.history
    assert [record.keys() for record in one] == [record.keys() for record in other]
    assert all(record == pytest.approx(mine, rel=1e-4, nan_ok=True) for record, mine in zip(other, one, strict=True))


def picture_model() -> nn.Module:
    """Convolution, batch norm, pooling: buffers move in training alone."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
    )


def normed_model() -> nn.Module:
    """What compiling is for: many small operations in a row."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [picture_model, normed_model])
def test_losses_weights_validation_and_predictions_are_close(make: Callable[[], nn.Module]) -> None:
    chance = torch.Generator().manual_seed(1)
    loader = [(torch.rand(size, 16, generator=chance), torch.rand(size, 3, generator=chance)) for size in (6, 6, 6, 5)]
    engines = []
    for compile_it in (False, True):
        model = make()
        engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1, momentum=0.5), compile=compile_it)
        engine.fit(loader, loader[2:], epochs=3)
        engines.append(engine)
    plain, other = engines
    assert list(other.model.state_dict()) == list(plain.model.state_dict())
    assert type(other.model) is type(other.last_run.model) is nn.Sequential
    torch.testing.assert_close(other.model.state_dict(), plain.model.state_dict(), **CLOSE)
    for mine, record in zip(other.last_run.history, plain.last_run.history, strict=True):
        assert mine == pytest.approx(record, rel=1e-4)
    torch.testing.assert_close(other.predict(loader), plain.predict(loader), **CLOSE)
    assert other.model.training


def test_it_is_compiled_once_for_all_runs_of_an_engine(fresh: Engine) -> None:
    from torch._dynamo.utils import counters  # noqa: PLC0415  # only those wait for it who compile

    for _ in range(2):
        fresh.fit(batches(2), batches(2), epochs=2)
        compiled = dict(counters["stats"])
        assert compiled["unique_graphs"] > 0
        fresh.fit(batches(2), batches(2), epochs=2)
        fresh.predict(batches(2))
        assert dict(counters["stats"]) == compiled


def test_a_hook_that_comes_and_goes_between_runs_is_called_while_it_is_there(fresh: Engine) -> None:
    seen: list[bool] = []
    fresh.fit(batches(2))
    hook = fresh.model.register_forward_hook(lambda module, args, output: seen.append(module.training))
    fresh.fit(batches(2), batches(1))
    assert seen == [True, True, False]
    hook.remove()
    fresh.fit(batches(2))
    assert len(seen) == 3


def test_a_hook_that_comes_while_a_run_goes_on_is_called_from_then_on(fresh: Engine) -> None:
    seen: list[int] = []

    def add(run: Run) -> None:
        if run.batch_index == 1:
            run.model.register_forward_pre_hook(lambda module, args: seen.append(1))

    callback = hears("batch_end", add)
    fresh.add(callback)
    try:
        fresh.fit(batches(5))
    finally:
        fresh.remove(callback)
        fresh.model._forward_pre_hooks.clear()
    assert len(seen) == 3


def test_another_model_of_the_engine_is_compiled_and_trained(compiled: Engine) -> None:
    mine, other = compiled.model, small_model()
    before, optimizer = weights_of(other), compiled.optimizer
    compiled.model, compiled.optimizer = other, optim.SGD(other.parameters(), lr=0.1)
    try:
        compiled.fit(batches(2))
    finally:
        compiled.model, compiled.optimizer = mine, optimizer
    plain = small_engine(model=(twin := small_model()), optimizer=optim.SGD(twin.parameters(), lr=0.1))
    plain.fit(batches(2))
    torch.testing.assert_close(weights_of(other), weights_of(twin), **CLOSE)
    assert not torch.equal(before[0], other.weight)


def test_engines_do_not_use_up_each_others_compilations() -> None:
    """Torch gives up on a code object after some: with a limit of one, each engine still has its own."""
    import torch._dynamo  # noqa: PLC0415  # only those wait for it who compile

    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for depth in (1, 2):
            model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(depth)])
            assert Engine(model, compile=True).predict(batches(1)).shape == (3, 2)


def test_the_users_own_actions_are_left_alone() -> None:
    own = Action(lambda run: None, (TRAINING.rows_from(State.FORWARD)[0].trigger,))
    engine = Engine(
        small_model(),
        compile=True,
        actions={
            State.FORWARD: output_from(lambda run: run.inputs),
            State.LOSS: loss_from(lambda run: run.output.sum()),
        },
    )
    kit = engine._kit
    mine = kit.actions(TRAINING, dict.fromkeys(TRAINING.holds, own.do))
    assert mine[State.FORWARD].do is engine.actions[State.FORWARD].do
    assert mine[State.LOSS].do is engine.actions[State.LOSS].do
    assert engine.evaluate([(torch.ones(2, 2), None)]).metrics == {"valid_loss": 4.0}


def test_what_is_compiled_is_forward_and_loss_where_a_machine_has_them(fresh: Engine) -> None:
    for machine in (TRAINING, EVALUATION):
        plain = Engine(small_model())._kit.actions(machine, dict.fromkeys(machine.holds, print))
        replaced = fresh._compiled.actions(plain)
        assert set(replaced) == {State.FORWARD, State.LOSS}
        assert all(action.reports == plain[state].reports for state, action in replaced.items())


def test_a_loss_of_a_lone_batch_is_explained_as_without() -> None:
    engine = Engine(
        small_model(), nn.MSELoss(), compile=True, actions={State.FORWARD: output_from(lambda run: run.inputs)}
    )
    with pytest.raises(Exception, match="NoneType") as raised:
        engine.evaluate([torch.ones(2, 2)])
    assert "the batch was no pair" in raised.value.__notes__[0]


def test_without_a_compiler_one_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config  # noqa: PLC0415  # as above

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    engine = small_engine(model=nn.Sequential(nn.Linear(2, 1), nn.Softplus()), compile=True)
    before = weights_of(engine.model)
    nowhere = config.patch({"cpp.cxx": (str(tmp_path / "no-compiler"),), "fx_graph_cache": False})
    with nowhere, refuses(ArgumentRefused, "nothing to compile with", "g++", "leave compile out"):
        engine.fit(batches(1))
    assert same(before, weights_of(engine.model))


def test_an_error_in_the_model_comes_through() -> None:
    class Fails(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            msg = "on purpose"
            raise ValueError(msg)

    with pytest.raises(Exception, match="on purpose"):
        small_engine(model=Fails(2, 1), compile=True).fit(batches(1))


def test_importing_and_making_an_engine_does_not_load_the_compiler() -> None:
    program = """
import sys, torch
from engine import Engine
Engine(torch.nn.Linear(2, 1), compile=True).dry_run()
print([name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_runs_that_end_in_the_order_in_which_they_began_leave_torch_as_it_was() -> None:
    config = pytest.importorskip("torch._dynamo").config
    before = config.skip_nnmodule_hook_guards
    runs = [small_engine(compile=True).start(batches(1)) for _ in range(2)]
    for run in runs:
        run.advance()
        assert config.skip_nnmodule_hook_guards == before
    for run in runs:
        run.close()
        assert config.skip_nnmodule_hook_guards == before
