"""What runs come to when a share of all answers is faulty.

Each fault in turn befalls 10 % and 30 % of the requests of 64 runs, over real HTTP to a stub server. Whether
an image meets its requirements is decided by a hidden truth (`faulty_world`), so that every image that is
called passed can be judged again by somebody whom no fault befalls. The bounds, with exit status 1 where one
is missed:

- Nothing crashes, and no run goes on past its deadline.
- No image is called passed that the clean judge rejects; without faults none is.
- Of the runs with 10 % faults at least 99 % end with an image. A refused picture is an answer, which is not
  asked for again: such a run may end without one, and says so with a `RefusedError`.

    python -m benchmarks.faults [--runs 64] [--quick] [--out FILE] [--only 429 reset]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import faulty_world as world
from benchmarks._results import write
from gems.errors import GemsError, InternalError
from gems.results import RunResult
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.stub import Fault, StubServer
from tests.support.stub.records import Kind

RATES = (0.1, 0.3)
AT_A_TIME = 16
PROCESSES = 2
DEADLINE_S = 30.0
LATE_S = 3.0
"""A run that is this much over its deadline went past it, since saving takes a moment. On a machine that is
busy with other things, it is as much longer as everything is slower."""
TIMEOUT_S = 1.5
_LONG_S = 4 * TIMEOUT_S

BOTH: tuple[Kind, ...] = ("chat", "images")
CHAT: tuple[Kind, ...] = ("chat",)
PICTURES: tuple[Kind, ...] = ("images",)
FAULTS: dict[str, tuple[Fault, tuple[Kind, ...]]] = {
    "429": (Fault("429"), BOTH),
    "429, Retry-After": (Fault("429", retry_after=0.05), BOTH),
    "500": (Fault("500"), BOTH),
    "503": (Fault("503"), BOTH),
    "reset": (Fault("reset"), BOTH),
    "reset half way": (Fault("cut"), BOTH),
    "hang": (Fault("hang", seconds=_LONG_S), BOTH),
    "slow drip": (Fault("drip", seconds=_LONG_S), BOTH),
    "truncated JSON": (Fault("truncated_json"), BOTH),
    "HTML": (Fault("html"), BOTH),
    "prose around JSON": (Fault("prose"), CHAT),
    "code fences": (Fault("fences"), CHAT),
    "wrong language": (Fault("language"), CHAT),
    "empty": (Fault("empty"), CHAT),
    "cut at token limit": (Fault("length"), CHAT),
    "refusal": (Fault("refusal"), CHAT),
    "refusal in words": (Fault("apology"), CHAT),
    "duplicate answers": (Fault("twice"), CHAT),
    "contradicting answers": (Fault("contradicted"), CHAT),
    "answers in another order": (Fault("backwards"), CHAT),
    "truncated PNG": (Fault("truncated_png"), PICTURES),
    "HTML for a picture": (Fault("html_picture"), PICTURES),
    "wrong size": (Fault("wrong_size", size=(96, 80)), PICTURES),
    "refused picture": (Fault("moderated"), PICTURES),
}
"""By name: the fault, and which requests it befalls."""
FINAL = ("refused picture",)
"""Faults that are answers: what is refused is not asked for again."""


@dataclass
class Cell:
    """What came of the runs with one fault at one rate.

    Attributes:
        fault: Its name; empty for none.
        rate: Share of the requests that it befalls.
        runs: How many.
        images: Runs that ended with an image.
        passed: Of these, how many were called passed.
        wrong: Of those, how many the clean judge rejects.
        raised: Runs that ended with an error of ours, by its name.
        crashed: What else was raised, defects included, anywhere in the process.
        late: Runs that went on past their deadline.
        calls: Requests per run.
        seconds: Of all runs together.
        slowest_s: Of the slowest run.
    """

    fault: str
    rate: float
    runs: int
    images: int = 0
    passed: int = 0
    wrong: int = 0
    raised: Counter[str] = field(default_factory=Counter)
    crashed: Counter[str] = field(default_factory=Counter)
    late: int = 0
    calls: float = 0.0
    seconds: float = 0.0
    slowest_s: float = 0.0

    def count(self, result: RunResult, picture: bytes | None) -> None:
        """Count a run that ended with a result, and judge its picture again."""
        if result.failure is not None and result.failure["error"] == InternalError.__name__:
            self.crashed[result.failure["message"]] += 1
        if picture is None:
            return
        self.images += 1
        if result.passed or result.stop_reason == "passed":
            self.passed += 1
            self.wrong += not all(world.met(picture))

    def plain(self) -> dict[str, Any]:
        """The cell as JSON holds it."""
        counted = {"raised": dict(self.raised), "crashed": dict(self.crashed)}
        return {name: counted.get(name, value) for name, value in vars(self).items()}

    def failed(self, error: BaseException) -> None:
        """Count a run that ended with an error."""
        expected = isinstance(error, GemsError) and not isinstance(error, InternalError)
        (self.raised if expected else self.crashed)[type(error).__name__] += 1

    def missed(self) -> list[str]:
        """The bounds that are missed, in words."""
        ended = self.images + (self.raised["RefusedError"] if self.fault in FINAL else 0)
        faults = {
            f"crashed: {dict(self.crashed)}": bool(self.crashed),
            f"{self.late} runs went on past their deadline": bool(self.late),
            f"{self.wrong} images were called passed wrongly": bool(self.wrong),
            f"{ended} of {self.runs} ended as they should": self.rate <= 0.1 and ended < 0.99 * self.runs,
        }
        place = f"{self.fault or 'no fault'} at {self.rate:.0%}"
        return [f"{place}: {text}" for text, is_missed in faults.items() if is_missed]


def befalls(rate: float, salt: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a request is one of the faulty ones: decided by what it asks, and how often that was asked."""
    asked: Counter[str] = Counter()

    def decided(body: dict[str, Any]) -> bool:
        text = json.dumps(body, sort_keys=True, default=repr)
        asked[text] += 1
        digest = hashlib.sha256(f"{salt}\n{asked[text]}\n{text}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64 < rate

    return decided


class Ticker:
    """Tells how much slower everything is than on a machine that has nothing else to do."""

    _TICK_S = 0.1

    def __init__(self) -> None:
        self._ticks = 0

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(self._TICK_S)
            self._ticks += 1

    def started(self) -> Callable[[], float]:
        """A function that tells how many times slower it has been since now, at least 1."""
        ticks, at = self._ticks, time.perf_counter()
        return lambda: max(1.0, (time.perf_counter() - at) / self._TICK_S / (self._ticks - ticks + 1))


def settings_for(stub: StubServer, home: Path) -> Settings:
    """All models at the stub, and waits that are short."""
    patience: dict[str, Any] = {"timeout_s": TIMEOUT_S, "first_wait_s": 0.02, "concurrency": AT_A_TIME}
    return Settings(
        home=home,
        experience="off",
        chat=ChatSettings(model=f"openai:stub@{stub.base_url}", **patience),
        generator=GeneratorSettings(model=f"openai:stub@{stub.base_url}", **patience),
    )


def measured(fault: str, rate: float, runs: int) -> Cell:
    """Carry out the runs of one cell, in a process that does nothing else."""
    logging.disable(logging.CRITICAL)
    return asyncio.run(_measured(Cell(fault, rate, runs)))


async def _measured(cell: Cell) -> Cell:
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, found: cell.crashed.update([str(found.get("exception") or found["message"])])
    )
    with StubServer(chat=world.chat, images=world.draw) as stub, tempfile.TemporaryDirectory() as home:
        if cell.fault:
            fault, kinds = FAULTS[cell.fault]
            for kind in kinds:
                stub.fault(fault, kind, when=befalls(cell.rate, f"{cell.fault} {kind}"))
        async with Gems(settings_for(stub, Path(home))) as gems:
            places, ticker = asyncio.Semaphore(AT_A_TIME), Ticker()
            ticking = asyncio.create_task(ticker.run())
            started = time.perf_counter()
            await asyncio.gather(*(_one(gems, number, cell, places, ticker) for number in range(cell.runs)))
            ticking.cancel()
            cell.seconds = round(time.perf_counter() - started, 1)
        cell.calls = round(len(stub.requests) / cell.runs, 2)
    return cell


async def _one(gems: Gems, number: int, cell: Cell, places: asyncio.Semaphore, ticker: Ticker) -> None:
    async with places:
        started, slowed = time.perf_counter(), ticker.started()
        run = gems.run(world.prompt(number), seed=number, size="128x128", max_rounds=4, deadline_s=DEADLINE_S)
        try:
            # A run that never came back would hold everything up.
            result = await asyncio.wait_for(run, 2 * DEADLINE_S)
            image = result.image_id
            cell.count(result, None if image is None else await gems.resources.images.load(image))
        except Exception as error:  # noqa: BLE001 - which ones there are is what is measured
            cell.failed(error)
        taken = time.perf_counter() - started
        cell.slowest_s = round(max(cell.slowest_s, taken), 1)
        cell.late += taken > DEADLINE_S + LATE_S * slowed()


def campaign(names: Sequence[str], rates: Sequence[float], runs: int, console: Console) -> list[Cell]:
    """All cells, the one without faults first; several processes work on them side by side."""
    wanted = [("", 0.0), *((name, rate) for name in names for rate in rates)]
    # Slow ones first, so that no process has to wait for one in the end.
    order = sorted(wanted, key=lambda cell: (cell[0] not in ("hang", "slow drip"), -cell[1]))
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(PROCESSES, mp_context=context) as pool,
        Progress(console=console, transient=True) as progress,
    ):
        task = progress.add_task("Runs", total=len(wanted) * runs)
        futures = [pool.submit(measured, name, rate, runs) for name, rate in order]
        found: dict[tuple[str, float], Cell] = {}
        for future in as_completed(futures):
            cell = future.result()
            found[cell.fault, cell.rate] = cell
            progress.advance(task, runs)
    return [found[key] for key in wanted]


def table_of(cells: Sequence[Cell]) -> Table:
    """The cells as a table."""
    title = f"{cells[0].runs} runs each, {AT_A_TIME} at a time; deadline {DEADLINE_S:g} s"
    table = Table(title=title, box=box.SIMPLE)
    for heading in ("fault", "rate"):
        table.add_column(heading)
    for heading in ("image", "passed", "wrongly", "raised", "crashed", "late", "calls", "vs. none", "s", "slowest"):
        table.add_column(heading, justify="right")
    for cell in cells:
        raised = ", ".join(f"{count} {name}" for name, count in sorted(cell.raised.items()))
        table.add_row(
            cell.fault or "none", f"{cell.rate:.0%}", str(cell.images), str(cell.passed), str(cell.wrong),
            raised or "0", str(cell.crashed.total()), str(cell.late), f"{cell.calls:.1f}",
            f"{cell.calls / cells[0].calls:.2f}", f"{cell.seconds:.1f}", f"{cell.slowest_s:.1f}",
        )  # fmt: skip
    return table


def main() -> int:
    """Print the table; exit status 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=64, help="runs of each cell")
    parser.add_argument("--quick", action="store_true", help="8 runs of each cell, at 10 %% only")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="FAULT")
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    given = parser.parse_args()
    runs, rates = (8, RATES[:1]) if given.quick else (given.runs, RATES)
    started = time.perf_counter()
    cells = campaign(given.only, rates, runs, Console(stderr=True))
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table_of(cells))
    missed = [text for cell in cells for text in cell.missed()]
    console.print("\n".join(missed) or "Every bound is kept.", highlight=False)
    console.print(f"{time.perf_counter() - started:.0f} seconds", highlight=False)
    if given.out is not None:
        write(given.out, "faults", {"cells": [cell.plain() for cell in cells], "missed": missed})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
