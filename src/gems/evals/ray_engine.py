"""The engine of a Ray cluster: each run within one process, on whichever machine has room for it.

Machines share no disk: the output folder and the images of runs in hand are at fsspec URLs, and checkpoints,
ledger and locks in PostgreSQL. A process or machine that dies loses no more than what it was doing at that
moment; its runs go on elsewhere. Only the process that opened the engine writes rows.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from gems.errors import ConfigurationError, GemsError, InternalError, ServerError
from gems.evals.engine_parts.engine import run_concurrently
from gems.evals.engine_parts.ray_actors import GeneratorActor, RemoteError, Worker
from gems.evals.engines import EngineConfig
from gems.evals.jobs import Job, JobResult
from gems.memory.file_store import FileStore
from gems.models.specs import parse_generator_spec

logger = logging.getLogger(__name__)

_MAX_DEATHS = 3
"""So many processes may die of one job before it is given up: perhaps it is what they die of."""
_POLL_S = 5.0
_NO_WORKER_TIMEOUT_S = 300.0
"""How long it may be that no process is there that could carry out runs."""
_CLOSE_TIMEOUT_S = 15.0
_MAX_QUEUED_REQUESTS = 256
"""Requests that may wait at a drawer; how many it draws in a batch is its own business."""


@asynccontextmanager
async def open_ray(place: EngineConfig) -> AsyncIterator[RayEngine]:
    """The engine on the cluster that RAY_ADDRESS names, else on one of this machine alone.

    Raises:
        ConfigurationError: the cluster cannot be reached, or machines would not find each other's runs.
    """
    store = await asyncio.to_thread(FileStore, place.url)
    is_own = not ray.is_initialized()
    # A thread of Ray prints what befalls nodes, and standard output is for results.
    with redirect_stdout(sys.stderr):
        await asyncio.to_thread(_connect)
        try:
            engine = RayEngine(_cluster_config(place, store), store)
            try:
                await engine.open()
                yield engine
            finally:
                await engine.close()
        finally:
            if is_own:
                await asyncio.to_thread(ray.shutdown)


@dataclass(eq=False, slots=True)
class _WorkerHandle:
    """A worker, which may have died."""

    actor: Any
    is_alive: bool = True


@dataclass(slots=True)
class RayEngine:
    """Works off jobs with the processes of a Ray cluster.

    Args:
        place: What workers open; its URLs mean the same on every machine.
        store: The output folder as this process sees it.
    """

    place: EngineConfig
    store: FileStore
    _free: asyncio.Queue[_WorkerHandle] = field(default_factory=asyncio.Queue)
    _hired: list[_WorkerHandle] = field(default_factory=list)
    _drawers: list[Any] = field(default_factory=list)
    _hiring: set[asyncio.Task[None]] = field(default_factory=set)
    _each: int = 1
    _broken: GemsError | None = None

    @property
    def ready(self) -> int:
        """How many workers can take jobs."""
        return sum(hired.is_alive for hired in self._hired)

    async def open(self) -> None:
        """Start the processes, and wait for the first one.

        Raises:
            GemsError: it cannot open what it needs.
        """
        self._drawers = [
            _start_generator_actor(self.place) for _ in range(_generator_actor_count(self.place))
        ]
        count = self.place.workers or min(self.place.concurrency, max(1, int(_cluster_resource("CPU"))))
        self._each = math.ceil(self.place.concurrency / count)
        for _ in range(count):
            self._hire()
        self._free.put_nowait(await self._next())

    def endings(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """See `Engine`."""
        return run_concurrently(jobs, self.place.concurrency, self._work_off)

    async def close(self) -> None:
        """End the processes; runs in hand stop where they can go on."""
        for task in self._hiring:
            task.cancel()
        await asyncio.gather(*self._hiring, return_exceptions=True)
        closing = [hired.actor.close.remote() for hired in self._hired if hired.is_alive]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), _CLOSE_TIMEOUT_S)
        for actor in [*(hired.actor for hired in self._hired), *self._drawers]:
            ray.kill(actor)

    async def _work_off(self, job: Job) -> JobResult:
        """The ending of a job, begun again elsewhere where a process died."""
        for _ in range(_MAX_DEATHS):
            hired = await self._next()
            working = hired.actor.work_off.remote(job)
            try:
                reply: JobResult | RemoteError = await working
            except asyncio.CancelledError:
                ray.cancel(working)
                raise
            except RayTaskError as error:
                raise InternalError(f"A worker failed: {error.cause}") from error
            except RayError as error:
                self._lose(hired, error)
                continue
            self._free.put_nowait(hired)
            return await self._checked(reply)
        return JobResult(
            job=job, error=f"{_MAX_DEATHS} processes that carried it out ended, one after another."
        )

    async def _checked(self, reply: JobResult | RemoteError) -> JobResult:
        if isinstance(reply, RemoteError):
            raise reply.error()
        if reply.file and not await asyncio.to_thread(self.store.exists, reply.file):
            raise ConfigurationError(
                f"A worker has written {reply.file}, and it is not in {self.store.label}: the machines do "
                "not share that folder.",
                hint="Give --out the URL of a store that all machines reach.",
            )
        return reply

    async def _next(self) -> _WorkerHandle:
        """A worker that is free; whoever takes one puts it back.

        Raises:
            GemsError: workers cannot open what they need.
            ServerError: there has been none for some minutes.
        """
        since = time.monotonic()
        while True:
            if self._broken is not None:
                raise self._broken
            try:
                hired = await asyncio.wait_for(self._free.get(), _POLL_S)
            except TimeoutError:
                if any(hired.is_alive for hired in self._hired):
                    since = time.monotonic()
                elif time.monotonic() - since > _NO_WORKER_TIMEOUT_S:
                    raise ServerError(
                        "The cluster has no room for a process that carries out runs.",
                        hint="`ray status` tells what there is and what is waited for.",
                    ) from None
                continue
            if hired.is_alive:
                return hired

    def _hire(self) -> None:
        """Start a worker; it takes jobs once it is ready."""
        task = asyncio.create_task(self._hired_and_opened())
        self._hiring.add(task)
        task.add_done_callback(self._hiring.discard)

    async def _hired_and_opened(self) -> None:
        # More than jobs may be under way, since closing and cancelling must not wait behind them.
        actor = _remote_actor(Worker, num_cpus=1, max_concurrency=self._each + 2).remote(
            self.place, self._drawers
        )
        try:
            fault: RemoteError | None = await actor.open.remote()
        except RayTaskError as error:
            self._broken = InternalError(f"A worker could not be opened: {error.cause}")
            return
        except RayError as error:
            logger.warning("A worker ended before it was ready (%s); another one is started.", error)
            await asyncio.sleep(_POLL_S)
            self._hire()
            return
        if fault is not None:
            self._broken = fault.error()
            return
        hired = _WorkerHandle(actor)
        self._hired.append(hired)
        for _ in range(self._each):
            self._free.put_nowait(hired)

    def _lose(self, hired: _WorkerHandle, error: RayError) -> None:
        """A worker has died, and another one takes its place where there is room."""
        if not hired.is_alive:
            return
        hired.is_alive = False
        logger.warning("A worker has ended (%s); what it was doing goes on elsewhere.", type(error).__name__)
        # Where it is only out of reach, it must not go on beside its successor.
        ray.kill(hired.actor)
        self._hire()


def _connect() -> None:
    """Called in a thread: in the main one Ray takes over SIGTERM."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"The Ray cluster cannot be reached: {error}.",
            hint="Is RAY_ADDRESS right, and does `ray status` answer there?",
        ) from error


def _cluster_config(place: EngineConfig, store: FileStore) -> EngineConfig:
    """The same with URLs that mean the same to processes elsewhere.

    Raises:
        ConfigurationError: runs, or what they learn, would be known to one machine alone.
    """
    settings = place.settings
    machines = sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
    if settings.checkpoint is None and machines > 1:
        raise ConfigurationError(
            f"The cluster has {machines} machines, and a run that one of them has begun could not go on on "
            "another.",
            hint="Set GEMS_CHECKPOINT to a PostgreSQL database that all of them reach.",
        )
    if settings.experience == "":
        raise ConfigurationError(
            "Processes of a cluster cannot learn from each other through a folder of one home.",
            hint="Set GEMS_EXPERIENCE to the address of a Chroma server.",
        )
    url = str(store.folder) if store.folder is not None else place.url
    changed = {"home": settings.home.absolute(), "images": settings.images or f"{url.rstrip('/')}/runs"}
    return replace(place, url=url, settings=settings.model_copy(update=changed))


def _generator_actor_count(place: EngineConfig) -> int:
    if place.generator_actors is not None:
        return place.generator_actors
    if parse_generator_spec(place.settings.generator.model).kind != "diffusers":
        return 0
    return max(1, int(_cluster_resource("GPU")))


def _start_generator_actor(place: EngineConfig) -> Any:
    gpus = 1 if _cluster_resource("GPU") else 0
    # What a drawer had in hand when it died is drawn again; nobody was given it yet.
    kept: dict[str, Any] = {
        "max_restarts": -1,
        "max_task_retries": _MAX_DEATHS,
        "max_concurrency": _MAX_QUEUED_REQUESTS,
    }
    return _remote_actor(GeneratorActor, num_cpus=0, num_gpus=gpus, **kept).remote(place.settings.generator)


def _remote_actor(kind: type, **options: Any) -> Any:
    return ray.remote(kind).options(**options)


def _cluster_resource(name: str) -> float:
    return float(ray.cluster_resources().get(name, 0))  # type: ignore[no-untyped-call]
