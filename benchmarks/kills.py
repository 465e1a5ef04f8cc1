"""Runs that are killed at random moments and resumed, against one with the same seed that nothing happens to.

A process carries out a run of three rounds with two candidates each, with all models behind a stub server,
and gets SIGKILL at a moment that a seed decides: a share of the time that an undisturbed run takes, counted
from the run's entry into the index. Another process resumes it. This is done so many times with SQLite files,
and so many times with a PostgreSQL server of its own. The bounds, with exit status 1 where one is missed:

- The final state is that of the undisturbed run: rounds, prompts, verdicts, image ids, totals of usage. Only
  names of runs and durations are left out.
- No image is drawn twice, and no question asked twice: after the kill, exactly what the ledger did not hold
  then is asked for.
- No row that the ledger held when the process was killed is gone or changed in the end.

What the killed process was waiting for is asked for again, and is none of these: its answer never reached the
process, or reached it too late to be entered. The table counts both, the first as "in flight", the second as
"just missed": the stub had already finished its answer, and the process was killed before its entry was
written. An endpoint that charges for these charges twice, which nothing on this side of the connection can
prevent.

    python -m benchmarks.kills [--moments 50] [--seed 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks._killed import Ledger, Observed, Worker, preload
from benchmarks._results import write
from tests.support.pausable_models import World
from tests.support.postgres import Postgres, running
from tests.support.result_invariants import unchanging
from tests.support.stub import StubServer
from tests.support.stub.records import Kind

AT_A_TIME = 3
LATENCIES = {"chat_s": 0.01, "image_s": 0.03}
KINDS: tuple[Kind, ...] = ("images", "chat")
QUIET = 3
"""How often in a row nothing may be under way, so that nothing is."""
TRIES = 5
"""How often a moment is tried, where the run comes to its end before it."""


@dataclass
class Moment:
    """What came of one kill."""

    share: float
    entered: int = 0
    in_flight: int = 0
    just_missed: int = 0
    drawn_twice: int = 0
    asked_twice: int = 0
    lost: int = 0
    equal: bool = False
    fault: str = ""


@dataclass
class Tally:
    """All moments of one kind of store."""

    store: str
    undisturbed_s: float
    moments: list[Moment] = field(default_factory=list)

    def total(self, name: str) -> int:
        """The sum of a number over all moments."""
        return sum(getattr(moment, name) for moment in self.moments)

    def missed(self) -> list[str]:
        """The bounds that are missed, in words."""
        faults = [f"{self.store} at {m.share:.3f}: {m.fault}" for m in self.moments if m.fault]
        counts = {
            "final states differ": sum(not moment.equal and not moment.fault for moment in self.moments),
            "images were drawn twice": self.total("drawn_twice"),
            "questions were asked twice": self.total("asked_twice"),
            "rows of the ledger were lost": self.total("lost"),
        }
        return faults + [f"{self.store}: {count} {what}" for what, count in counts.items() if count]


class Place:
    """Where one run is kept, and the stub that it asks."""

    def __init__(self, home: Path, url: str | None) -> None:
        self.home, self.url = home, url
        self.observed = Observed(World())
        self.ledger = Ledger(home, url)
        self.stub = StubServer(chat=self.observed.chat, images=self.observed.draw, **LATENCIES)

    def worker(self, run_id: str = "") -> Worker:
        """A process that begins the run, or goes on with it."""
        return Worker(self.home, self.url, self.stub.base_url, run_id)

    def settle(self) -> None:
        """Wait until everything that was sent to the stub has arrived and been dealt with."""
        quiet = 0
        while quiet < QUIET:
            time.sleep(0.02)
            quiet = 0 if self.stub.under_way() else quiet + 1


@contextmanager
def place(server: Postgres | None) -> Iterator[Place]:
    """An empty home, an empty database where there is a server, and a stub of its own."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(server.database() if server else nullcontext())
        found = Place(Path(home), url)
        stack.enter_context(found.stub)
        yield found


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to."""

    result: dict[str, Any]
    images: int
    questions: int
    seconds: float


def undisturbed(server: Postgres | None) -> Undisturbed:
    """Carry out a run without a kill."""
    with place(server) as here, here.worker() as worker:
        worker.run_id()
        started = time.monotonic()
        result = worker.result()
        seconds = time.monotonic() - started
        stub = here.stub
        return Undisturbed(unchanging(result), len(stub.calls("images")), len(stub.calls("chat")), seconds)


def killed(server: Postgres | None, usual: Undisturbed, share: float) -> Moment:
    """Kill a run at a share of its usual time and resume it; see the module for what is counted."""
    seconds = usual.seconds
    for _ in range(TRIES):
        with place(server) as here, here.worker() as worker:
            run_id = worker.run_id()
            begun = time.monotonic()
            killed_at = worker.kill_after(share * seconds)
            if killed_at is None:
                # The machine was busier when the usual time was measured.
                seconds = min(0.9 * seconds, time.monotonic() - begun)
                continue
            moment = Moment(share)
            try:
                _resume(here, run_id, killed_at, usual, moment)
            except Exception as error:  # noqa: BLE001 - one that cannot be resumed is a finding
                moment.fault = f"{type(error).__name__}: {error}"
            return moment
    return Moment(share, fault="The run always came to its end before it could be killed.")


def _resume(here: Place, run_id: str, killed_at: float, usual: Undisturbed, moment: Moment) -> None:
    stub = here.stub
    # What was sent may still arrive.
    here.settle()
    answered = here.observed.answered(killed_at)
    before = here.ledger.rows(run_id)
    asked = {kind: len(stub.calls(kind)) for kind in KINDS}
    entered = {"images": len(before["drawings"]), "chat": len(before["answers"])}
    with here.worker(run_id) as worker:
        result = worker.result()
    again = {kind: len(stub.calls(kind)) - asked[kind] for kind in KINDS}
    after = here.ledger.rows(run_id)
    moment.entered = entered["images"]
    moment.in_flight = sum(asked[kind] - answered[kind] for kind in asked)
    moment.just_missed = sum(answered[kind] - entered[kind] for kind in asked)
    moment.drawn_twice = again["images"] - (usual.images - entered["images"])
    moment.asked_twice = again["chat"] - (usual.questions - entered["chat"])
    moment.lost = sum(row not in after[table] for table, rows in before.items() for row in rows)
    moment.equal = unchanging(result) == usual.result


def campaign(name: str, server: Postgres | None, shares: list[float], progress: Progress) -> Tally:
    """All moments with one kind of store."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        # As many at a time as later, so that they take as long.
        usual = list(pool.map(undisturbed, [server] * AT_A_TIME))
        seconds = statistics.median(run.seconds for run in usual)
        first = usual[0]
        tally = Tally(name, round(seconds, 3))
        if any(run.result != first.result for run in usual):
            raise SystemExit(f"{name}: runs that nothing happened to differ.")
        first = Undisturbed(first.result, first.images, first.questions, seconds)
        task = progress.add_task(name, total=len(shares))
        for moment in pool.map(partial(killed, server, first), shares):
            tally.moments.append(moment)
            progress.advance(task)
    return tally


def table_of(tallies: list[Tally]) -> Table:
    """The tallies as a table."""
    table = Table(title="SIGKILL at random moments of a run, then resumed", box=box.SIMPLE)
    headings = (
        "store", "kills", "undisturbed s", "images entered", "in flight", "just missed",
        "drawn twice", "asked twice", "rows lost", "equal in the end",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "store" else "right")
    for tally in tallies:
        counted = ("entered", "in_flight", "just_missed", "drawn_twice", "asked_twice", "lost", "equal")
        cells = [str(tally.total(name)) for name in counted]
        table.add_row(tally.store, str(len(tally.moments)), f"{tally.undisturbed_s:.2f}", *cells)
    return table


def main() -> int:
    """Print the table; exit status 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--moments", type=int, default=50, help="kills with each kind of store")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    given = parser.parse_args()
    dice = random.Random(given.seed)
    started = time.perf_counter()
    preload()
    with running() as server, Progress(console=Console(stderr=True), transient=True) as progress:
        tallies = [
            campaign(name, where, [dice.random() for _ in range(given.moments)], progress)
            for name, where in (("SQLite", None), ("PostgreSQL", server))
        ]
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table_of(tallies))
    missed = [text for tally in tallies for text in tally.missed()]
    console.print("\n".join(missed) or "Every bound is kept.", highlight=False)
    console.print(f"{time.perf_counter() - started:.0f} seconds", highlight=False)
    if given.out is not None:
        write(given.out, "kills", {"stores": [asdict(tally) for tally in tallies], "missed": missed})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
