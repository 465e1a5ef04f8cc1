"""Ray engine and actors."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from gems import errors
from gems.errors import ConfigurationError, GemsError, InternalError, ServerError
from gems.evals.engines import EngineConfig, run_concurrently
from gems.evals.jobs import Job, JobResult, run_job
from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.memory.file_store import FileStore
from gems.models.base import ImageGenerator
from gems.models.factory import open_generator
from gems.models.specs import parse_generator_spec
from gems.service import Gems
from gems.settings import GeneratorSettings, Settings

T = TypeVar("T")
logger = logging.getLogger(__name__)
_MAX_DEATHS = 3
"""Maximum number of processes that may die while running the same job, which may be the cause."""
_POLL_S = 5.0
_NO_WORKER_TIMEOUT_S = 300.0
"""Maximum time without any worker."""
_CLOSE_TIMEOUT_S = 15.0
_MAX_QUEUED_REQUESTS = 256
"""Maximum number of requests that wait at a generator actor."""


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


def _raise_error(reply: T | RemoteError) -> T:
    if isinstance(reply, RemoteError):
        raise reply.error()
    return reply


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
                f"The generator process died: {type(error).__name__}.", hint="It is being restarted; try again."
            ) from error
        finally:
            self._waiting[index] -= 1
        return _raise_error(reply)

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
            generator = None
            if self._generators:
                found: GeneratorCapabilities | RemoteError = await self._generators[0].capabilities.remote()
                generator = RemoteGenerator(self._generators, _raise_error(found))
            self._store = await asyncio.to_thread(FileStore, self._config.url)
            settings = _with_local_home(self._config.settings)
            opening = Gems(settings, generator=generator, graph=self._config.graph)
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


def _with_local_home(settings: Settings) -> Settings:
    """Return the settings with this machine's GEMS_HOME, if it is set."""
    own = os.environ.get("GEMS_HOME")
    return settings.model_copy(update={"home": Path(own).expanduser()}) if own else settings


@asynccontextmanager
async def open_ray(config: EngineConfig) -> AsyncIterator[RayEngine]:
    """Open the engine on the cluster at RAY_ADDRESS, or on a local one.

    Raises `ConfigurationError` if the cluster is unreachable, or its machines could not resume each other's
    runs.
    """
    store = await asyncio.to_thread(FileStore, config.url)
    started_here = not ray.is_initialized()
    # A thread of Ray prints events of nodes, and standard output is for results.
    with redirect_stdout(sys.stderr):
        await asyncio.to_thread(_connect)
        try:
            engine = RayEngine(_cluster_config(config, store), store)
            try:
                await engine.open()
                yield engine
            finally:
                await engine.close()
        finally:
            if started_here:
                await asyncio.to_thread(ray.shutdown)


@dataclass(eq=False, slots=True)
class _WorkerHandle:
    """A worker, which may have died."""

    actor: Any
    is_alive: bool = True


@dataclass(slots=True)
class RayEngine:
    """Run jobs in the processes of a Ray cluster; the URLs in `config` hold on every machine."""

    config: EngineConfig
    store: FileStore
    _free: asyncio.Queue[_WorkerHandle] = field(default_factory=asyncio.Queue)
    _workers: list[_WorkerHandle] = field(default_factory=list)
    _generators: list[Any] = field(default_factory=list)
    _starting: set[asyncio.Task[None]] = field(default_factory=set)
    _jobs_per_worker: int = 1
    _fatal_error: GemsError | None = None

    @property
    def ready(self) -> int:
        """Number of workers that accept jobs."""
        return sum(worker.is_alive for worker in self._workers)

    async def open(self) -> None:
        """Start the processes and wait for the first one; raises `GemsError` if it cannot open."""
        self._generators = [_start_generator_actor(self.config) for _ in range(_generator_actor_count(self.config))]
        count = self.config.workers or min(self.config.concurrency, max(1, int(_cluster_resource("CPU"))))
        self._jobs_per_worker = math.ceil(self.config.concurrency / count)
        for _ in range(count):
            self._start_worker()
        self._free.put_nowait(await self._free_worker())

    def run(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """Yield results in order of completion."""
        return run_concurrently(jobs, self.config.concurrency, self._run_job)

    async def close(self) -> None:
        """Stop the processes; unfinished runs can be resumed."""
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        closing = [worker.actor.close.remote() for worker in self._workers if worker.is_alive]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), _CLOSE_TIMEOUT_S)
        for actor in [*(worker.actor for worker in self._workers), *self._generators]:
            ray.kill(actor)

    async def _run_job(self, job: Job) -> JobResult:
        """Return the result of a job; it is resumed elsewhere if its process dies."""
        for _ in range(_MAX_DEATHS):
            worker = await self._free_worker()
            working = worker.actor.run_job.remote(job)
            try:
                reply: JobResult | RemoteError = await working
            except asyncio.CancelledError:
                ray.cancel(working)
                raise
            except RayTaskError as error:
                raise InternalError(f"A worker failed: {error.cause}") from error
            except RayError as error:
                self._replace_worker(worker, error)
                continue
            self._free.put_nowait(worker)
            return await self._check_result(_raise_error(reply))
        error_text = f"{_MAX_DEATHS} worker processes died while running it."
        return JobResult(name=job.name, run_id=job.run_id, error=error_text)

    async def _check_result(self, result: JobResult) -> JobResult:
        if result.file and not await asyncio.to_thread(self.store.exists, result.file):
            raise ConfigurationError(
                f"A worker wrote {result.file}, but it is not in {self.store.label}: the machines do not "
                "share this folder.",
                hint="Set --out to a URL that all machines can access.",
            )
        return result

    async def _free_worker(self) -> _WorkerHandle:
        """Return a free worker; the caller puts it back.

        Raises `GemsError` if workers cannot open, `ServerError` if there has been no worker for some minutes.
        """
        since = time.monotonic()
        while True:
            if self._fatal_error is not None:
                raise self._fatal_error
            try:
                worker = await asyncio.wait_for(self._free.get(), _POLL_S)
            except TimeoutError:
                if any(worker.is_alive for worker in self._workers):
                    since = time.monotonic()
                elif time.monotonic() - since > _NO_WORKER_TIMEOUT_S:
                    raise ServerError(
                        "The cluster has no capacity for a worker process.",
                        hint="Check resources and demands with `ray status`.",
                    ) from None
                continue
            if worker.is_alive:
                return worker

    def _start_worker(self) -> None:
        """Start a worker, which accepts jobs as soon as it is ready."""
        task = asyncio.create_task(self._open_worker())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _open_worker(self) -> None:
        # Two extra slots, so that closing and cancelling do not wait for jobs.
        actor = _remote_actor(Worker, num_cpus=1, max_concurrency=self._jobs_per_worker + 2).remote(
            self.config, self._generators
        )
        try:
            fault: RemoteError | None = await actor.open.remote()
        except RayTaskError as error:
            self._fatal_error = InternalError(f"A worker could not be opened: {error.cause}")
            return
        except RayError as error:
            logger.warning("A worker died before it was ready (%s); starting another one.", error)
            await asyncio.sleep(_POLL_S)
            self._start_worker()
            return
        if fault is not None:
            self._fatal_error = fault.error()
            return
        worker = _WorkerHandle(actor)
        self._workers.append(worker)
        for _ in range(self._jobs_per_worker):
            self._free.put_nowait(worker)

    def _replace_worker(self, worker: _WorkerHandle, error: RayError) -> None:
        """Mark a worker as dead and start another one."""
        if not worker.is_alive:
            return
        worker.is_alive = False
        logger.warning("A worker died (%s); its runs are resumed elsewhere.", type(error).__name__)
        # If it is only unreachable, it must not run beside its successor.
        ray.kill(worker.actor)
        self._start_worker()


def _connect() -> None:
    """Connect to Ray; called in a thread, because in the main thread Ray takes over SIGTERM."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
        ray.init(**quiet, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"The Ray cluster cannot be reached: {error}.", hint="Check RAY_ADDRESS and run `ray status` there."
        ) from error


def _cluster_config(config: EngineConfig, store: FileStore) -> EngineConfig:
    """Return the configuration with URLs that hold on every machine.

    Raises `ConfigurationError` if runs or experiences would be visible on one machine only.
    """
    settings = config.settings
    machines = sum(node["Alive"] for node in ray.nodes())
    if settings.checkpoint is None and machines > 1:
        raise ConfigurationError(
            f"The cluster has {machines} machines, but they could not resume each other's runs.",
            hint="Set GEMS_CHECKPOINT to a PostgreSQL database that all of them can access.",
        )
    if settings.experience == "":
        raise ConfigurationError(
            "The processes of a cluster cannot share experiences in a local folder.",
            hint="Set GEMS_EXPERIENCE to the URL of a Chroma server.",
        )
    url = str(store.folder) if store.folder is not None else config.url
    changed = {"home": settings.home.absolute(), "images": settings.images or f"{url.rstrip('/')}/runs"}
    return replace(config, url=url, settings=settings.model_copy(update=changed))


def _generator_actor_count(config: EngineConfig) -> int:
    if config.generator_actors is not None:
        return config.generator_actors
    if parse_generator_spec(config.settings.generator.model).kind != "diffusers":
        return 0
    return max(1, int(_cluster_resource("GPU")))


def _start_generator_actor(config: EngineConfig) -> Any:
    gpus = 1 if _cluster_resource("GPU") else 0
    # Requests of an actor that died are repeated; nobody has received their images.
    restarts = {"max_restarts": -1, "max_task_retries": _MAX_DEATHS, "max_concurrency": _MAX_QUEUED_REQUESTS}
    actor = _remote_actor(GeneratorActor, num_cpus=0, num_gpus=gpus, **restarts)
    return actor.remote(config.settings.generator)


def _remote_actor(kind: type, **options: Any) -> Any:
    return ray.remote(kind).options(**options)


def _cluster_resource(name: str) -> float:
    return float(ray.cluster_resources().get(name, 0))
