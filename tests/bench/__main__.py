"""What does a batch cost?  `python -m tests.bench` measures everything; `--help` says what else there is."""

import argparse
import gc
import sys

import torch

from tests.bench import callbacks, kit, page, picture
from tests.bench.contenders import PEERS, installed
from tests.bench.fake import dispatch, memory
from tests.bench.faster import gain_line, gains
from tests.bench.measure import add_slow, measure_own
from tests.bench.parts import parts
from tests.bench.results import JSON, Results, Table, read, written
from tests.bench.startup import startup
from tests.bench.table import memory_line, report, startup_line
from tests.bench.where import results
from tests.bench.workloads import WORKLOADS


NAMES = (*WORKLOADS, "dispatch")
USAGE = """%(prog)s [workload ...] [--rounds N] [--own] [--save]    four to five minutes for all
       %(prog)s memory [N]    what N batches of fake work leave behind (1_000_000)
       %(prog)s startup       what importing the engine adds to importing torch
       %(prog)s faster        what compile=True and fused steps gain; it compiles for a minute
       %(prog)s kit [--save]  how fast the ordering kit tests
       %(prog)s callbacks [--save]    what each callback costs a batch; four minutes
       %(prog)s draw          make docs/speed.md and docs/speed.svg anew from docs/speed.json"""


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    match arguments:
        case ["memory", *number]:
            print(memory_line(memory(int(number[0]) if number else 1_000_000)))
        case ["startup"]:
            print(startup_line(startup()))
        case ["faster"]:
            for gain in gains():
                print(gain_line(gain), flush=True)
        case ["kit", *rest] if rest in ([], ["--save"]):
            found = kit.measured()
            print(kit.table(found))
            if rest:
                kit.save(found)
        case ["callbacks", *rest] if rest in ([], ["--save"]):
            costs = callbacks.measured()
            print(callbacks.table(costs))
            if rest:
                callbacks.save(costs)
        case ["draw"]:
            draw(read(JSON.read_text()))
        case _:
            measure(parsed(arguments))


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", usage=USAGE, description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"any of {', '.join(NAMES)}; by default all")
    parser.add_argument(
        "--rounds", type=int, default=15, help="how often the engine is timed (15); others up to 5 times"
    )
    parser.add_argument("--own", action="store_true", help="no peers")
    parser.add_argument("--save", action="store_true", help="also write docs/speed.json, docs/speed.md, docs/speed.svg")
    given = parser.parse_args(arguments)
    if unknown := set(given.workloads) - set(NAMES):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if given.rounds < 3:
        parser.error("--rounds must be 3 at least: fewer have no quartiles")
    if given.save and (given.workloads or given.own):
        parser.error("--save keeps everything: leave the workloads and --own out")
    given.workloads = given.workloads or list(NAMES)
    return given


def measure(given: argparse.Namespace) -> None:
    """Our own first, while no peer is loaded; then the peers."""
    tables: dict[str, Table] = {}
    for name in given.workloads:
        say(f"{name}: the engine against the plain loop")
        tables[name] = dispatch(given.rounds) if name == "dispatch" else measure_own(WORKLOADS[name], given.rounds)
    say("loading the peers" if not given.own else "no peers were asked for")
    peers, absent = installed(() if given.own else PEERS)
    gc.freeze()  # what the peers have loaded is no garbage of anyone's run
    for name in given.workloads:
        if name != "dispatch":
            say(f"{name}: the engine checked, and {len(peers)} peers")
            tables[name] = add_slow(tables[name], WORKLOADS[name], peers)
    found = results(list(tables.values()), peers, absent)
    if "dispatch" in tables:
        found.parts = parts(tables["dispatch"], given.rounds)
    if given.save:
        found.memory, found.startup = memory(10_000_000), startup()
    print(report(found))
    if given.save:
        JSON.write_text(written(found))
        draw(read(JSON.read_text()))  # rounded as it is kept


def draw(found: Results) -> None:
    """The page and the picture, from the results alone."""
    page.PATH.write_text(page.made(found))
    picture.PATH.write_text(picture.made(found))


def say(text: str) -> None:
    """What goes on, for who waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
