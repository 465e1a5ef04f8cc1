"""A service with scripted models, and what its tests have in common."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gems.events import Event
from gems.generation import ImageRequest
from gems.results import RunResult
from gems.service import Gems
from tests.support.scripted_models import FlatGenerator, ScriptedChat, failing, opened_gems
from tests.support.stub.models import edited_picture

PATIENCE_S = 180
"""Everything that is waited for comes long before."""


@dataclass(slots=True)
class House:
    """A home and the models that its services share."""

    home: Path
    chat: ScriptedChat = field(default_factory=ScriptedChat)
    generator: FlatGenerator = field(default_factory=FlatGenerator)

    def gems(self) -> AbstractAsyncContextManager[Gems]:
        return opened_gems(self.home, self.chat, self.generator)

    def edits(self) -> None:
        self.generator.capabilities = replace(self.generator.capabilities, editing=True)
        self.generator.paint = edited_picture

    def never_pass(self) -> None:
        self.chat.script["checklist"] = failing(1)

    def on_drawing(self, number: int, doing: Callable[[], Awaitable[Any]] | None) -> None:
        """Await `doing` when the image that is the `number`th from now is asked for."""
        asked = len(self.generator.requests)

        async def before(request: ImageRequest) -> None:
            if doing is not None and len(self.generator.requests) == asked + number:
                await doing()

        self.generator.before = before

    def drawn(self) -> list[tuple[str, int]]:
        return [(request.prompt, request.seed) for request in self.generator.requests]


class Pause:
    """Something that is reached, and then stands still until it is cancelled."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()

    async def wait(self) -> None:
        await asyncio.wait_for(self.reached.wait(), PATIENCE_S)


async def told(events: Any) -> list[Event]:
    """All events of a stream."""
    async with aclosing(events) as stream:
        return [event async for event in stream]


def unchanging(result: RunResult) -> dict[str, Any]:
    """A result without what differs from run to run."""
    plain = result.model_dump(exclude={"run_id", "path", "seconds", "usage"})
    for turn in plain["rounds"]:
        turn.pop("seconds")
        for candidate in turn["candidates"]:
            candidate.pop("seconds")
    return plain


def content(path: str | Path | None) -> bytes:
    """The bytes of a file that must be there."""
    assert path is not None
    return Path(path).read_bytes()


def removed(path: str | Path | None) -> None:
    """Delete a file that must be there."""
    assert path is not None
    Path(path).unlink()


FILES_ONLY = pytest.mark.parametrize("backend", ["files"], indirect=True)
"""What a test looks at or breaks is a file."""

_HOLD = """
import asyncio, os, sys
from pathlib import Path
from gems.memory.locks import FileLocks
from gems.settings import load_settings
from gems.resources import open_stores

async def hold(locks):
    async with locks.hold(sys.argv[2]):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    print("free", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

async def main():
    if "GEMS_CHECKPOINT" not in os.environ:
        return await hold(FileLocks(Path(sys.argv[1])))
    async with open_stores(load_settings(home=Path(sys.argv[1]).parent)) as stores:
        await hold(stores.locks)

asyncio.run(main())
"""


@contextmanager
def held_elsewhere(folder: Path, run: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a run's lock until it is sent a line; it is killed in the end."""
    command = [sys.executable, "-c", _HOLD, str(folder), run]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
