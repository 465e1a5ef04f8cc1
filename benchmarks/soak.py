"""Half an hour of a server with 16 runs at a time, 5 % of whose models' answers are faulty: what grows, and what not.

`gems serve` runs as a process of its own with its defaults; its models are a stub server in this process. Users come
and go: each gets a key, starts some runs by all ways in, watches, leaves, comes back, cancels, disconnects, reads
images, reports and metrics, keeps one run in ten, deletes the others, and loses the key. In the beginning (after a
tenth of the time), the middle and the end all users pause, and the idle server and its home are measured. What should
grow, and nothing else: the rows, checkpoints and images of runs that are kept, what keys have spent, experiences that
are not forgotten, and until `gems gc` the images of runs that were deleted less than an hour ago while others were in
progress. The bounds, with exit status 1 where one is missed, are in `missed`.

    python -m benchmarks.soak [--minutes 30] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import faulty_world as world
from benchmarks._results import ROOT, write
from benchmarks.faults import BOTH, FAULTS
from gems.apps.server.auth import KeyFile
from gems.generation import ImageRequest
from gems.memory.chroma import MOST_INDEXES
from gems.models.images import CACHED_BYTES
from tests.support.stub import StubServer

AT_A_TIME = 16
FAULT_RATE = 0.05
KEPT_SHARE = 0.1
RUNS_PER_USER = (3, 8)
PATIENCE_S = 120.0
"""Everything that is waited for comes long before."""
SHARED_LOCKS = 70
"""Lock files that are not of a run."""
CACHES_MB = CACHED_BYTES / 2**20 + 3 * MOST_INDEXES
"""What the caches may come to hold: encoded images, and open indexes of 3 MB."""
SETTLE_S = 8.0
"""Connections to models are closed once they are idle, and experiences are written in batches."""
SAMPLE_S = 5.0
_DATABASES = ("ledger", "checkpoints", "outbox")
_HOUR_S = 3600.0
_CHOSEN = random.Random(7)

Moment = dict[str, Any]


def draw(request: ImageRequest) -> bytes:
    """A picture of the faulty world, of which no two are the same file."""
    digest = hashlib.sha256(f"{request.seed} {request.prompt}".encode()).digest()
    with Image.open(io.BytesIO(world.draw(request))) as image:
        # The first row says nothing about what is shown.
        for x in range(len(digest) // 3):
            image.putpixel((x, 0), tuple(digest[3 * x : 3 * x + 3]))
        image.save(out := io.BytesIO(), "PNG")
    return out.getvalue()


@dataclass
class Tally:
    """What users did, and the outcome.

    Attributes:
        did: Numbers by what was done.
        ended: Runs of the index by status or stop reason, at the time they were kept or deleted.
        deleted: Runs that were deleted.
        unexpected: Answers that no user should get.
    """

    did: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    deleted: set[str] = field(default_factory=set)
    unexpected: Counter[str] = field(default_factory=Counter)


class Users:
    """Users who come and go, each with a key and a run at a time.

    Args:
        base: Address of the server.
        keys: Its key file.
    """

    def __init__(self, base: str, keys: KeyFile) -> None:
        self.tally = Tally()
        self._base, self._keys = base, keys
        self._open, self._empty = asyncio.Event(), asyncio.Event()
        self._present = self._number = 0

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Let users come, and wait until all have left."""
        self._open.set()
        try:
            yield
        finally:
            self._open.clear()
            await self._empty.wait()

    async def come_and_go(self) -> None:
        """Be one user after another, whenever they are let in."""
        while await self._open.wait():
            self._number += 1
            self._present += 1
            self._empty.clear()
            try:
                await self._stay(f"user-{self._number}")
            except httpx.RequestError as error:
                # What this user has begun stays.
                asked = f"{error.request.method} {error.request.url.path[:20]}"
                self.tally.unexpected[f"{asked}: {type(error).__name__}"] += 1
            finally:
                self._present -= 1
                if not self._present:
                    self._empty.set()

    async def _stay(self, name: str) -> None:
        key = await asyncio.to_thread(self._keys.add, name)
        self.tally.did["keys"] += 1
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=self._base, headers=headers, timeout=PATIENCE_S) as client:
            for _ in range(_CHOSEN.randint(*RUNS_PER_USER)):
                (way,) = _CHOSEN.choices((self._run, self._image, self._chat, self._chain), (6, 2, 2, 1))
                await way(client)
            await self._tidy_up(client)
            await asyncio.to_thread(self._keys.revoke, name)
            await self._ask(client, "GET", "/runs", 401)

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, *wanted: int, **more: Any
    ) -> httpx.Response:
        answer = await client.request(method, path, **more)
        if answer.status_code not in (wanted or (200,)):
            self.tally.unexpected[f"{method} {path[:20]}: {answer.status_code} {answer.text[:200]}"] += 1
        return answer

    def _prompt(self) -> dict[str, Any]:
        number = _CHOSEN.randrange(2**31)
        return {"prompt": world.prompt(number), "seed": number, "size": "128x128", "max_rounds": 3, "deadline_s": 30}

    async def _run(self, client: httpx.AsyncClient) -> None:
        begun = await self._ask(client, "POST", "/runs", 202, json=self._prompt())
        if begun.status_code != 202:
            return
        run_id = begun.json()["run_id"]
        fleeting = [self._glance(client, run_id, _CHOSEN.randint(1, 6)) for _ in range(_CHOSEN.randint(0, 3))]
        if _CHOSEN.random() < 0.1:
            self.tally.did["cancelled"] += 1
            await self._ask(client, "POST", f"/runs/{run_id}/cancel", 202)
        await asyncio.gather(self._watch(client, run_id), *fleeting)
        found = (await self._ask(client, "GET", f"/runs/{run_id}")).json()
        if found.get("image_url"):
            await self._ask(client, "GET", found["image_url"])
        if _CHOSEN.random() < 0.1:
            for path in (f"/runs/{run_id}/report", "/metrics", "/readyz", "/web/", "/openapi.json"):
                # The page has a sign-in of its own.
                await self._ask(client, "GET", path, 200, 303)

    async def _glance(self, client: httpx.AsyncClient, run_id: str, events: int) -> None:
        """Watch a while, leave, and perhaps come back."""
        last = await self._watch(client, run_id, leave_after=events)
        if _CHOSEN.random() < 0.5:
            await self._watch(client, run_id, last=last)

    async def _watch(self, client: httpx.AsyncClient, run_id: str, leave_after: int = -1, last: str = "") -> str:
        self.tally.did["watched"] += 1
        headers = {"last-event-id": last} if last else {}
        async with client.stream("GET", f"/runs/{run_id}/events", headers=headers) as answer:
            if answer.status_code not in (200, 204):
                self.tally.unexpected[f"GET events: {answer.status_code}"] += 1
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    last, leave_after = line[4:], leave_after - 1
                if not leave_after:
                    self.tally.did["stopped watching"] += 1
                    break
        return last

    async def _image(self, client: httpx.AsyncClient) -> None:
        await self._post(client, "/v1/images/generations", self._prompt())

    async def _chat(self, client: httpx.AsyncClient) -> None:
        asked = self._prompt()
        await self._post(
            client, "/v1/chat/completions",
            {"messages": [{"role": "user", "content": asked.pop("prompt")}], "stream": True, **asked},
        )  # fmt: skip

    async def _chain(self, client: httpx.AsyncClient) -> None:
        await self._post(client, "/gems/stream", {"input": self._prompt()})

    async def _post(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
        """Send a request that is answered when its run has ended; one in three disconnects before."""
        self.tally.did[path] += 1
        # A model that refuses, or whose answers stay unreadable, is the models' fault.
        asking = self._ask(client, "POST", path, 200, 400, 502, json=body)
        if _CHOSEN.random() < 0.3:
            self.tally.did["disconnected"] += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(asking, _CHOSEN.uniform(0.2, 2.0))
        else:
            await asking

    async def _tidy_up(self, client: httpx.AsyncClient) -> None:
        """Keep some of the user's runs, and delete the others as soon as they have ended."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            runs = (await self._ask(client, "GET", "/runs?limit=100")).json()["runs"]
            working = [run for run in runs if run["status"] == "running"]
            if not working or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        for run in runs:
            self.tally.did["runs"] += 1
            self.tally.ended[run["stop_reason"] or run["status"]] += 1
            if _CHOSEN.random() >= KEPT_SHARE:
                await self._delete(client, run["run_id"])

    async def _delete(self, client: httpx.AsyncClient, run_id: str) -> None:
        path = f"/runs/{run_id}{'?forget=true' if _CHOSEN.random() < 0.5 else ''}"
        # A run keeps its lock for a moment after its status is written.
        for _ in range(50):
            answer = await self._ask(client, "DELETE", path, 200, 409)
            if answer.status_code == 200:
                self.tally.deleted.add(run_id)
                return
            await asyncio.sleep(0.1)
        self.tally.unexpected[f"DELETE: {answer.status_code} {answer.text[:200]}"] += 1


class Server:
    """A `gems serve` process, and what can be seen of it from outside."""

    def __init__(self, process: subprocess.Popen[str], home: Path) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        self._folder, self.home = Path(f"/proc/{process.pid}"), home
        self.base = process.stdout.readline().strip()

    def cpu_s(self) -> float:
        """CPU time so far."""
        fields = (self._folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def vitals(self) -> dict[str, Any]:
        """Memory in MB, threads and open files, now."""
        lines = (self._folder / "status").read_text(encoding="ascii").splitlines()
        told = dict(line.split(":", 1) for line in lines)
        return {
            "rss_mb": round(int(told["VmRSS"].split()[0]) / 1024, 1),
            "threads": int(told["Threads"]),
            "files": len(list((self._folder / "fd").iterdir())),
        }

    def open_files(self) -> Counter[str]:
        """What is open, by kind."""
        targets = Counter[str]()
        for link in (self._folder / "fd").iterdir():
            with suppress(FileNotFoundError):
                target = os.readlink(link)
                targets[target.partition(":")[0] if ":" in target else target.replace(str(self.home), "home")] += 1
        return targets

    def measure(self, tally: Tally) -> Moment:
        """Everything that is measured while nobody uses the server."""
        moment: Moment = {"runs": tally.did["runs"], **self.vitals()}
        for name in _DATABASES:
            path = self.home / f"{name}.sqlite3"
            moment[f"{name}_mb"] = _mb(*path.parent.glob(f"{path.name}*"))
            with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as database:
                pages, free, size = (
                    database.execute(f"PRAGMA {what}").fetchone()[0]
                    for what in ("page_count", "freelist_count", "page_size")
                )
                moment[f"{name}_used_mb"] = round((pages - free) * size / 1e6, 3)
                moment |= {key: database.execute(sql).fetchone()[0] for key, sql in _COUNTS[name].items()}
                if name == "ledger":
                    listed = {run for (run,) in database.execute("SELECT run FROM runs")}
                    moment["runs_kept"] = len(listed - tally.deleted)
                    moment["runs_deleted_but_listed"] = len(listed & tally.deleted)
                    moment["images_kept"] = len(set(_images_of(database)))
        images = [path for path in (self.home / "images").rglob("*") if path.is_file()]
        return moment | {
            "images": len(images),
            "images_mb": _mb(*images),
            "outputs": len(list((self.home / "outputs").glob("*"))),
            "locks": sum(1 for _ in self.home.rglob("*.lock")),
            "experience_mb": _mb(*(path for path in (self.home / "experience").rglob("*") if path.is_file())),
            "other_files": sorted(path.name for path in self.home.iterdir()),
        }


_COUNTS = {
    "ledger": {
        "runs_paid": "SELECT count(*) FROM (SELECT run FROM drawings UNION SELECT run FROM answers)",
        "spent_rows": "SELECT (SELECT count(*) FROM spent) + (SELECT count(*) FROM spending)",
    },
    "checkpoints": {"runs_with_checkpoints": "SELECT count(DISTINCT thread_id) FROM checkpoints"},
    "outbox": {"outbox_pending": "SELECT count(*) FROM operations WHERE done=0"},
}


def _images_of(ledger: sqlite3.Connection) -> Iterator[str]:
    for (image,) in ledger.execute("SELECT result ->> '$.image' FROM drawings"):
        yield image


def _mb(*paths: Path) -> float:
    return round(sum(path.stat().st_size for path in paths) / 1e6, 3)


@contextmanager
def serving(home: Path, stub: StubServer, log: Path) -> Iterator[Server]:
    """A server with its defaults, but for its models and their patience."""
    patience = {"TIMEOUT_S": "2", "FIRST_WAIT_S": "0.05", "CONCURRENCY": str(AT_A_TIME)}
    models = {
        f"GEMS_{role}__{name}": value
        for role in ("CHAT", "GENERATOR")
        for name, value in {"MODEL": f"openai:stub@{stub.base_url}", **patience}.items()
    }
    known = {name: value for name, value in os.environ.items() if not name.startswith("GEMS_")}
    # Other machines' settings would be read from the current folder.
    environment = known | models | {"GEMS_HOME": str(home), "GEMS_EMBEDDER": "lexical", "PYTHONPATH": _python_path()}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "gems", "serve", "--port", "0"],
            stdout=subprocess.PIPE, stderr=errors, text=True, cwd=home, env=environment,
        ) as process,
    ):  # fmt: skip
        try:
            yield Server(process, home)
        finally:
            process.terminate()


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def plan_faults(stub: StubServer) -> Counter[str]:
    """Let faults of all kinds befall 5 % of the requests; how often each did is counted."""
    befell = Counter[str]()
    chosen = random.Random(11)

    def befalls(name: str, rate: float) -> Callable[[dict[str, Any]], bool]:
        def decide(_body: dict[str, Any]) -> bool:
            is_hit = chosen.random() < rate
            befell[name] += is_hit
            return is_hit

        return decide

    for kind in BOTH:
        faults = [(name, fault) for name, (fault, kinds) in FAULTS.items() if kind in kinds]
        for name, fault in faults:
            stub.fault(fault, kind, when=befalls(name, FAULT_RATE / len(faults)))
    return befell


async def soak(server: Server, stub: StubServer, minutes: float) -> tuple[list[Moment], dict[str, Any], Users]:
    """Let users come and go; the measurements at the three moments, and the peaks between them."""
    keys = KeyFile(server.home / "keys.json")
    await asyncio.to_thread(keys.add, "operator")
    users, began = Users(server.base, keys), time.monotonic()
    peaks: dict[str, Any] = {"rss_mb": 0, "threads": 0, "files": 0, "requests": 0}
    moments: list[Moment] = []
    coming = [asyncio.create_task(users.come_and_go()) for _ in range(AT_A_TIME)]
    for share in (0.1, 0.5, 1.0):
        async with users.coming():
            is_over = False
            while not is_over:
                await asyncio.sleep(SAMPLE_S)
                # The stub's record of requests would grow itself.
                peaks["requests"] += len(stub.requests)
                stub.requests.clear()
                peaks |= {name: max(peaks[name], now) for name, now in server.vitals().items()}
                is_over = time.monotonic() >= began + 60 * minutes * share
        await asyncio.sleep(SETTLE_S)
        moment = {"minute": round((time.monotonic() - began) / 60, 1), **server.measure(users.tally)}
        before = moments[-1] if moments else {"cpu_s": 0.0, "runs": 0}
        moment["cpu_s"] = server.cpu_s()
        moment["cpu_s_per_run"] = round((moment["cpu_s"] - before["cpu_s"]) / (moment["runs"] - before["runs"]), 2)
        moments.append(moment)
        print(moments[-1], dict(users.tally.did), dict(users.tally.unexpected), flush=True)
        print(server.open_files().most_common(40), flush=True)
    for task in coming:
        task.cancel()
    return moments, peaks, users


def collect_garbage(server: Server) -> int:
    """Images that are left once `gems gc` takes every file for an hour old."""
    hour_ago = time.time() - 2 * _HOUR_S
    for path in (server.home / "images").rglob("*"):
        os.utime(path, (hour_ago, hour_ago))
    environment = {**os.environ, "GEMS_HOME": str(server.home), "PYTHONPATH": _python_path()}
    command = [sys.executable, "-m", "gems", "gc", "--yes"]
    subprocess.run(command, check=True, cwd=server.home, env=environment, capture_output=True)  # noqa: S603
    return sum(path.is_file() for path in (server.home / "images").rglob("*"))


def missed(moments: Sequence[Moment], images_after_gc: int, unexpected: Counter[str]) -> list[str]:
    """The bounds that are missed, in words."""
    first, middle, last = moments
    kept = last["runs_kept"]
    grown = last["rss_mb"] - first["rss_mb"]
    used = ("ledger_used_mb", "checkpoints_used_mb")
    per_run = {name: last[name] / max(1, kept) / (middle[name] / max(1, middle["runs_kept"])) for name in used}
    slower = last["cpu_s_per_run"] / middle["cpu_s_per_run"]
    faults = {
        f"a run took {slower:.2f} times the CPU time of one before the middle": slower > 1.25,
        f"memory grew by {grown:.0f} MB": grown > CACHES_MB + 0.05 * first["rss_mb"],
        f"{last['threads'] - first['threads']} more threads": last["threads"] > first["threads"] + 2,
        # Chroma keeps four files of each open index.
        f"{last['files'] - first['files']} more open files": last["files"] > first["files"] + 4 * MOST_INDEXES + 4,
        f"{last['runs_deleted_but_listed']} deleted runs are listed": last["runs_deleted_but_listed"] > 0,
        **{
            f"{last[name]} {name}, and {kept} runs are kept": last[name] > kept
            for name in ("runs_paid", "runs_with_checkpoints", "outputs")
        },
        f"{last['locks']} lock files": last["locks"] > kept + SHARED_LOCKS,
        f"{images_after_gc} images for {last['images_kept']} of kept runs": images_after_gc != last["images_kept"],
        **{f"{name} per kept run grew {ratio:.2f} times": ratio > 1.2 for name, ratio in per_run.items()},
        **{f"unexpected: {text} ({count} times)": True for text, count in unexpected.items()},
    }
    return [text for text, is_missed in faults.items() if is_missed]


ROWS = {
    "runs": "runs so far",
    "runs_kept": "runs kept",
    "rss_mb": "memory, MB",
    "threads": "threads",
    "files": "open files",
    "cpu_s_per_run": "CPU time per run since the moment before, s",
    "ledger_mb": "ledger, MB",
    "checkpoints_mb": "checkpoints, MB",
    "outbox_mb": "outbox, MB",
    "experience_mb": "experiences, MB",
    "images_kept": "images of kept runs",
    "locks": "lock files",
}
"""The figures of the page of results, with their names there."""


def table_of(moments: Sequence[Moment]) -> Table:
    """The measurements as a table."""
    table = Table("idle, at minute", *(f"{moment['minute']:g}" for moment in moments), box=box.MARKDOWN)
    for name, title in ROWS.items():
        table.add_row(title, *(f"{moment[name]:,}" for moment in moments))
    return table


def main() -> int:
    """Print the table; exit status 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        StubServer(chat=world.chat, images=draw, chat_s=0.05, image_s=0.2) as stub,
    ):
        home, log = Path(folder, "home"), Path(folder, "server.log")
        home.mkdir()
        befell = plan_faults(stub)
        with serving(home, stub, log) as server:
            moments, peaks, users = asyncio.run(soak(server, stub, given.minutes))
        images_after_gc = collect_garbage(server)
        lines = log.read_text(encoding="utf-8").splitlines()
    tally, console = users.tally, Console(width=None if sys.stdout.isatty() else 150)
    failed = missed(moments, images_after_gc, tally.unexpected)
    console.print(table_of(moments))
    console.print("\n".join([*lines[-20:], *failed]) or "Every bound is kept.", highlight=False)
    if given.out is not None:
        tables = {
            "minutes": given.minutes, "at_a_time": AT_A_TIME, "fault_rate": FAULT_RATE, "moments": moments,
            "peaks": peaks, "did": dict(tally.did), "ended": dict(tally.ended), "faults": dict(befell),
            "log_lines": len(lines), "images_after_gc": images_after_gc, "missed": failed,
        }  # fmt: skip
        write(given.out, "soak", tables)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
