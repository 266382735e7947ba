"""Do the peers do the work that they are timed for?  Those that are installed are asked; the others are skipped."""

import pytest

from tests.bench.contenders import PEERS, installed
from tests.bench.measure import judge_of
from tests.bench.workloads import EVENTS, WORKLOADS


pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
@pytest.mark.parametrize("module", PEERS)
def test_a_peer_ends_with_the_loss_of_the_plain_loop(module, workload) -> None:
    """Two epochs, so that a loader that is shuffled otherwise the second time would show."""
    found, absent = installed([module])
    if absent:
        pytest.skip(str(absent))
    judge = judge_of(workload, lambda: workload.job(3, 2))
    judge.timed(found[0])()
    assert judge.off[found[0].name] <= found[0].loss_off.get(workload.name, 0.0)


@pytest.mark.parametrize("module", PEERS)
def test_a_peer_says_what_is_not_equal(module) -> None:
    found, absent = installed([module])
    if absent:
        pytest.skip(str(absent))
    assert set(found[0].hears) <= set(EVENTS)
    assert found[0].version
    assert found[0].note
