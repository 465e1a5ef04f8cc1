"""What the tests of drawing with Diffusers share."""

from __future__ import annotations

import asyncio
import functools
import io
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gems.generation import GeneratedImage, ImageRequest
from gems.models.generators.diffusers.generator import DiffusersGenerator

PATIENCE_S = 180
"""After so many seconds a test that waits is taken to hang."""


@asynccontextmanager
async def drawing(model: Path | str, **options: Any) -> AsyncIterator[DiffusersGenerator]:
    generator = DiffusersGenerator(str(model), **{"steps": 2, "device": "cpu", "max_batch": 4, **options})
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield generator
    finally:
        await generator.aclose()


def ask(prompt: str = "a red cube", seed: int = 1, **other: Any) -> ImageRequest:
    return ImageRequest(**{"prompt": prompt, "seed": seed, "width": 64, "height": 64, **other})


def pixels(image: GeneratedImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.data))).astype(int)


class Gate:
    """A progress listener that holds the worker up after the first step until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.seen: list[tuple[int, int]] = []
        self._open = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._open.wait(PATIENCE_S)

    async def passed_by(self, task: asyncio.Task[GeneratedImage]) -> None:
        """Wait for the first step of `task`, or raise what it failed with before."""
        arrival = asyncio.create_task(self.reached.wait())
        await asyncio.wait([arrival, task], return_when=asyncio.FIRST_COMPLETED)
        if not self.reached.is_set():
            arrival.cancel()
            raise AssertionError("drawn without a step") from task.exception()

    def open(self) -> None:
        self._open.set()


async def behind(generator: DiffusersGenerator, *requests: ImageRequest) -> list[Any]:
    """Results (or errors) of requests that all came while the worker was busy with another one."""
    gate = Gate()
    first = asyncio.create_task(generator.generate(ask("first", on_progress=gate)))
    await gate.passed_by(first)
    tasks = [asyncio.create_task(generator.generate(request)) for request in requests]
    await asyncio.sleep(0)
    gate.open()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def wrap_call(monkeypatch: pytest.MonkeyPatch, name: str, wrapper: Callable[..., Any]) -> None:
    """Put `wrapper(original, pipe, **arguments)` around the call of a pipeline class of Diffusers."""
    import diffusers

    pipeline = getattr(diffusers, name)
    original = pipeline.__call__

    @functools.wraps(original)
    def call(pipe: Any, **arguments: Any) -> Any:
        return wrapper(original, pipe, **arguments)

    monkeypatch.setattr(pipeline, "__call__", call)
