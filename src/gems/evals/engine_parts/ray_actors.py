"""Processes of a Ray cluster: those that carry out runs, and those that draw for them."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from gems import errors
from gems.errors import GemsError, InternalError, ServerError
from gems.evals.engines import EngineConfig
from gems.evals.jobs import Job, JobResult, run_job
from gems.memory.file_store import FileStore
from gems.models.base import ImageGenerator
from gems.models.factory import open_generator
from gems.service import Gems
from gems.settings import GeneratorSettings, Settings
from gems.types import GeneratedImage, GeneratorCapabilities, ImageRequest


@dataclass(frozen=True, slots=True)
class RemoteError:
    """One of our errors on its way to another process; not all of them can be pickled as they are."""

    kind: str
    message: str
    hint: str

    @classmethod
    def of(cls, error: GemsError) -> RemoteError:
        """What is left of the error."""
        return cls(type(error).__name__, error.message, error.hint)

    def error(self) -> GemsError:
        """The error again."""
        kind: type[GemsError] = getattr(errors, self.kind, InternalError)
        error = kind.__new__(kind)
        GemsError.__init__(error, self.message, hint=self.hint)
        return error


class GeneratorActor:
    """Draws, with a generator of its own; requests that wait together may share a batch.

    Args:
        settings: The generator.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        self._settings = settings
        self._generator: ImageGenerator | None = None

    async def capabilities(self) -> GeneratorCapabilities | RemoteError:
        """What the generator can do."""
        try:
            return self._opened().capabilities
        except GemsError as error:
            return RemoteError.of(error)

    async def draw(self, request: ImageRequest) -> GeneratedImage | RemoteError:
        """One image."""
        try:
            return await self._opened().generate(request)
        except GemsError as error:
            return RemoteError.of(error)

    def _opened(self) -> ImageGenerator:
        # Not before the process is where it stays: a generator looks for the accelerator that it was given.
        if self._generator is None:
            self._generator = open_generator(self._settings)
        return self._generator


class RemoteGenerator:
    """The generator of a run, which has it drawn by whichever drawer has the least to do.

    Args:
        drawers: Handles of `Drawer` actors.
        capabilities: Theirs.
    """

    def __init__(self, drawers: list[Any], capabilities: GeneratorCapabilities) -> None:
        self.capabilities = capabilities
        self._drawers = drawers
        self._waiting = [0] * len(drawers)

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """See `ImageGenerator`; steps are not told about."""
        index = min(range(len(self._drawers)), key=self._waiting.__getitem__)
        self._waiting[index] += 1
        drawing = self._drawers[index].draw.remote(replace(request, on_progress=None))
        try:
            drawn: GeneratedImage | RemoteError = await drawing
        except asyncio.CancelledError:
            ray.cancel(drawing)
            raise
        except RayError as error:
            raise ServerError(
                f"The process that drew ended: {type(error).__name__}.",
                hint="It is started again; try again.",
            ) from error
        finally:
            self._waiting[index] -= 1
        if isinstance(drawn, RemoteError):
            raise drawn.error()
        return drawn

    async def aclose(self) -> None:
        """The drawers are not this run's to close."""


class Worker:
    """Carries out runs, with models and stores of its own.

    Args:
        place: What to open; its URLs mean the same on every machine.
        drawers: Handles of the actors that draw; empty where the worker does.
    """

    def __init__(self, place: EngineConfig, drawers: list[Any]) -> None:
        self._place, self._drawers = place, drawers
        self._stack = AsyncExitStack()
        self._gems: Gems | None = None
        self._store: FileStore | None = None

    async def open(self) -> RemoteError | None:
        """Open models and stores; called once, before any job comes."""
        try:
            generator = await self._remote_generator()
            self._store = await asyncio.to_thread(FileStore, self._place.url)
            opening = Gems(
                _with_local_home(self._place.settings), generator=generator, graph=self._place.graph
            )
            self._gems = await self._stack.enter_async_context(opening)
        except GemsError as error:
            return RemoteError.of(error)
        return None

    async def work_off(self, job: Job) -> JobResult | RemoteError:
        """See `gems.evals.jobs.work_off`; an error that would befall every job is handed back."""
        if self._gems is None or self._store is None:
            return RemoteError.of(InternalError("A worker was given a job before it was opened."))
        try:
            return await run_job(self._gems, job, self._store)
        except GemsError as error:
            return RemoteError.of(error)

    async def close(self) -> None:
        """Close what was opened."""
        await self._stack.aclose()

    async def _remote_generator(self) -> RemoteGenerator | None:
        if not self._drawers:
            return None
        found: GeneratorCapabilities | RemoteError = await self._drawers[0].capabilities.remote()
        if isinstance(found, RemoteError):
            raise found.error()
        return RemoteGenerator(self._drawers, found)


def _with_local_home(settings: Settings) -> Settings:
    """The settings with the home of this machine, where it has one of its own."""
    own = os.environ.get("GEMS_HOME")
    return settings.model_copy(update={"home": Path(own).expanduser()}) if own else settings
