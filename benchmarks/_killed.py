"""The process that is killed, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import time
from collections import Counter
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from gems.errors import GemsError
from gems.events import Finished, Started
from gems.generation import ImageRequest
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.pausable_models import World

PATIENCE_S = 60.0
"""Everything that is waited for comes long before."""
_PROMPT, _SEED = "a red cat asleep", 7
# What a process of a run needs is loaded once, in the one that all others are forked from.
_LOADED = ["benchmarks._killed", "langchain_openai", "openai", "gems.memory.postgres", "gems.memory.postgres"]
_CONTEXT = multiprocessing.get_context("forkserver")
_TABLES = {"drawings": "", "answers": " AND task<>'recall'"}


def preload() -> None:
    """Say what the processes to come have in common; to be called before the first."""
    _CONTEXT.set_forkserver_preload(_LOADED)


class Worker:
    """A process that begins a run, or goes on with one; it is killed in the end if it is still there.

    Args:
        home: Where files are.
        url: The database of runs; None for files.
        base_url: The models.
        run_id: The run to go on with; empty to begin one.
    """

    def __init__(self, home: Path, url: str | None, base_url: str, run_id: str = "") -> None:
        self._told, telling = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_work, args=(telling, home, url, base_url, run_id))
        self._telling = telling

    def __enter__(self) -> Self:
        self._process.start()
        # The end of a pipe whose only writer is killed is noticed.
        self._telling.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join(PATIENCE_S)
        self._told.close()

    def run_id(self) -> str:
        """The run's id, as soon as it is in the index."""
        return str(self._next())

    def result(self) -> dict[str, Any]:
        """The run's result."""
        found = self._next()
        while not isinstance(found, dict):
            found = self._next()
        return found

    def kill_after(self, seconds: float) -> float | None:
        """Kill the process in so many seconds; when that was, None where its run had come to its end."""
        if self._told.poll(seconds):
            return None
        killed_at = time.monotonic()
        self._process.kill()
        self._process.join(PATIENCE_S)
        # It may have come to its end in the very last moment; otherwise there is nothing but the pipe's end.
        try:
            self._told.recv()
        except EOFError:
            return killed_at
        return None

    def _next(self) -> Any:
        if not self._told.poll(PATIENCE_S):
            raise TimeoutError("The process tells nothing.")
        found = self._told.recv()
        if isinstance(found, Exception):
            raise found
        return found


def _work(telling: Connection, home: Path, url: str | None, base_url: str, run_id: str) -> None:
    try:
        asyncio.run(_carry_out(telling, home, url, base_url, run_id))
    except GemsError as error:
        telling.send(RuntimeError(f"{type(error).__name__}: {error}"))


async def _carry_out(telling: Connection, home: Path, url: str | None, base_url: str, run_id: str) -> None:
    settings = Settings(
        home=home,
        skills="none",
        experience="off",
        checkpoint=SecretStr(url) if url else None,
        chat=ChatSettings(model=f"openai:stub@{base_url}"),
        generator=GeneratorSettings(model=f"openai:stub@{base_url}"),
    )
    async with Gems(settings) as gems:
        events = (
            gems.stream_resume(run_id) if run_id else gems.stream(_PROMPT, seed=_SEED, size="128x128", candidates=2)
        )
        async for event in events:
            if isinstance(event, Started):
                telling.send(event.run_id)
            elif isinstance(event, Finished):
                telling.send(event.result.model_dump())


class Observed:
    """A world that notes when each answer was finished."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._finished: list[tuple[str, float]] = []

    def chat(self, messages: list[dict[str, Any]]) -> str:
        """See `World.chat`."""
        answer = self._world.chat(messages)
        self._finished.append(("chat", time.monotonic()))
        return answer

    def draw(self, request: ImageRequest) -> bytes:
        """See `World.draw`."""
        picture = self._world.draw(request)
        self._finished.append(("images", time.monotonic()))
        return picture

    def answered(self, until: float) -> Counter[str]:
        """How many answers were finished at a time of `time.monotonic()`, by kind of request."""
        return Counter(kind for kind, at in list(self._finished) if at <= until)


class Ledger:
    """The rows of a ledger, read from outside."""

    def __init__(self, home: Path, url: str | None) -> None:
        self._home, self._url = home, url

    def rows(self, run: str) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that was paid for, by table."""
        queries = {
            table: f"SELECT * FROM {table} WHERE run='{run}'{more}"  # noqa: S608 - all of it is our own
            for table, more in _TABLES.items()
        }
        if self._url is None:
            with closing(sqlite3.connect(self._home / "ledger.sqlite3", timeout=PATIENCE_S)) as database:
                return {table: database.execute(sql).fetchall() for table, sql in queries.items()}
        import psycopg  # noqa: PLC0415 - only for PostgreSQL

        with psycopg.connect(self._url) as connection:
            return {table: connection.execute(sql.encode()).fetchall() for table, sql in queries.items()}
