"""Engine protocol, local engine, opening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from gems import options
from gems.evals.jobs import Job, JobResult, run_job
from gems.graphs.loop import GraphBuilder, build_graph
from gems.memory.file_store import FileStore
from gems.models.prices import find_chat_price, find_image_price
from gems.models.specs import parse_chat_spec, parse_generator_spec
from gems.service import Gems
from gems.settings import ChatSettings, Settings
from gems.types import Role

EngineName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The configuration of an engine."""

    settings: Settings
    url: str
    """The output folder."""
    concurrency: int = 4
    """Maximum number of concurrent runs in total."""
    workers: int | None = None
    """Ray only: worker processes; None for one per CPU."""
    generator_actors: int | None = None
    """Ray only: processes with an image generator; None for one per GPU with Diffusers, else 0."""
    graph: GraphBuilder = build_graph


def settings_for_jobs(settings: Settings, *, uses_chat: bool = True, learn: bool = False) -> Settings:
    """Return the settings for the runs of an output folder.

    Samples are independent: experience is off unless `learn` is set. Without `uses_chat` no chat model is
    needed. All have the models of the folder, so that none is on offer.
    """
    changed: dict[str, object] = {"offered_generators": {}, "offered_judges": {}}
    changed |= {} if learn else {"experience": "off"}
    if not uses_chat:
        changed |= {name: ChatSettings() for name in ("chat", *get_args(Role))}
    return settings.model_copy(update=changed)


def check_prices(settings: Settings) -> None:
    """Check that all prices needed for a budget are known; raises `OptionError`."""
    chats = {role: settings.chat_for(role) for role in get_args(Role)}
    unknown = [
        role
        for role, chat in chats.items()
        if None in (chat.input_usd_per_million, chat.output_usd_per_million)
        and find_chat_price(parse_chat_spec(chat.model)) is None
    ]
    generator = settings.generator
    known = find_image_price(parse_generator_spec(generator.model), generator.quality)
    options.check_prices(unknown, known if generator.usd_per_image is None else generator.usd_per_image)


class Engine(Protocol):
    """Runs jobs concurrently."""

    def run(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """Yield results in order of completion; jobs are taken as capacity becomes free.

        If the consumer stops, running jobs are interrupted; they resume when they start again.

        Raises:
            GemsError: an error that affects every job, as from `gems.evals.jobs.run_job`.
        """
        ...


async def run_concurrently(
    jobs: Iterator[Job], limit: int, run_one: Callable[[Job], Awaitable[JobResult]]
) -> AsyncGenerator[JobResult]:
    """Run at most `limit` jobs at a time and yield results in order of completion."""
    running: set[asyncio.Future[JobResult]] = set()
    try:
        while True:
            while len(running) < limit and (job := next(jobs, None)) is not None:
                running.add(asyncio.ensure_future(run_one(job)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Results are yielded before errors are raised.
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class LocalEngine:
    """Run jobs with an open `Gems` that has the harness's graph."""

    def __init__(self, gems: Gems, store: FileStore, concurrency: int) -> None:
        self._gems, self._store, self._concurrency = gems, store, concurrency

    def run(self, jobs: Iterator[Job]) -> AsyncGenerator[JobResult]:
        """Yield results in order of completion."""
        return run_concurrently(jobs, self._concurrency, self._run_job)

    async def _run_job(self, job: Job) -> JobResult:
        return await run_job(self._gems, job, self._store)
