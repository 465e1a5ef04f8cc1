"""Actors of a Ray cluster: workers that run jobs, and image generators."""

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
    """A `GemsError` in a form that can be pickled."""

    kind: str
    message: str
    hint: str

    @classmethod
    def of(cls, error: GemsError) -> RemoteError:
        """Convert an error."""
        return cls(type(error).__name__, error.message, error.hint)

    def error(self) -> GemsError:
        """Return the original error."""
        kind: type[GemsError] = getattr(errors, self.kind, InternalError)
        error = kind.__new__(kind)
        GemsError.__init__(error, self.message, hint=self.hint)
        return error


class GeneratorActor:
    """An image generator in its own process; waiting requests may share a batch."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self._settings = settings
        self._generator: ImageGenerator | None = None

    async def capabilities(self) -> GeneratorCapabilities | RemoteError:
        """Return the generator's capabilities."""
        try:
            return self._open_generator().capabilities
        except GemsError as error:
            return RemoteError.of(error)

    async def generate(self, request: ImageRequest) -> GeneratedImage | RemoteError:
        """Generate one image."""
        try:
            return await self._open_generator().generate(request)
        except GemsError as error:
            return RemoteError.of(error)

    def _open_generator(self) -> ImageGenerator:
        # Opened in the actor process, which has been assigned its accelerator.
        if self._generator is None:
            self._generator = open_generator(self._settings)
        return self._generator


class RemoteGenerator:
    """The image generator of a run, backed by the generator actor with the shortest queue."""

    def __init__(self, generators: list[Any], capabilities: GeneratorCapabilities) -> None:
        self.capabilities = capabilities
        self._generators = generators
        self._waiting = [0] * len(generators)

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Generate one image; steps are not reported."""
        index = min(range(len(self._generators)), key=self._waiting.__getitem__)
        self._waiting[index] += 1
        call = self._generators[index].generate.remote(replace(request, on_progress=None))
        try:
            reply: GeneratedImage | RemoteError = await call
        except asyncio.CancelledError:
            ray.cancel(call)
            raise
        except RayError as error:
            raise ServerError(
                f"The generator process died: {type(error).__name__}.",
                hint="It is being restarted; try again.",
            ) from error
        finally:
            self._waiting[index] -= 1
        if isinstance(reply, RemoteError):
            raise reply.error()
        return reply

    async def aclose(self) -> None:
        """Do nothing: the actors are shared."""


class Worker:
    """Runs jobs with its own models and stores; generates itself if `generators` is empty."""

    def __init__(self, config: EngineConfig, generators: list[Any]) -> None:
        self._config, self._generators = config, generators
        self._stack = AsyncExitStack()
        self._gems: Gems | None = None
        self._store: FileStore | None = None

    async def open(self) -> RemoteError | None:
        """Open models and stores; called once, before the first job."""
        try:
            generator = await self._remote_generator()
            self._store = await asyncio.to_thread(FileStore, self._config.url)
            opening = Gems(
                _with_local_home(self._config.settings), generator=generator, graph=self._config.graph
            )
            self._gems = await self._stack.enter_async_context(opening)
        except GemsError as error:
            return RemoteError.of(error)
        return None

    async def run_job(self, job: Job) -> JobResult | RemoteError:
        """Run a job; an error that affects every job is returned."""
        if self._gems is None or self._store is None:
            return RemoteError.of(InternalError("A worker received a job before it was opened."))
        try:
            return await run_job(self._gems, job, self._store)
        except GemsError as error:
            return RemoteError.of(error)

    async def close(self) -> None:
        """Close models and stores."""
        await self._stack.aclose()

    async def _remote_generator(self) -> RemoteGenerator | None:
        if not self._generators:
            return None
        found: GeneratorCapabilities | RemoteError = await self._generators[0].capabilities.remote()
        if isinstance(found, RemoteError):
            raise found.error()
        return RemoteGenerator(self._generators, found)


def _with_local_home(settings: Settings) -> Settings:
    """Return the settings with this machine's GEMS_HOME, if it is set."""
    own = os.environ.get("GEMS_HOME")
    return settings.model_copy(update={"home": Path(own).expanduser()}) if own else settings
