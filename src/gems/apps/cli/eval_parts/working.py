"""Engine options of a command, and interruption with a resume command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

from gems.apps.cli.errors import Interrupted
from gems.apps.cli.runner import run_async
from gems.errors import OptionError
from gems.evals.engines import EngineConfig, EngineName
from gems.graphs.loop import GraphBuilder, build_graph
from gems.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options that say where and how jobs are executed."""

    out: str
    engine: str = "local"
    concurrency: int = 4
    workers: int | None = None
    generator_actors: int | None = None
    budget_usd: float | None = None
    retries: int = 1

    @property
    def engine_name(self) -> EngineName:
        """The engine, validated."""
        if self.engine not in get_args(EngineName):
            raise OptionError(f"Unknown engine: {self.engine!r}.", hint="Use local or ray.")
        return cast("EngineName", self.engine)

    def workplace(self, settings: Settings, graph: GraphBuilder = build_graph) -> EngineConfig:
        """Return the configuration of the engine."""
        return EngineConfig(
            settings=settings,
            url=self.out,
            concurrency=self.concurrency,
            workers=self.workers,
            generator_actors=self.generator_actors,
            graph=graph,
        )


def run_resumable(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; an interruption names the current command line as the one that resumes."""
    try:
        return run_async(coroutine)
    except Interrupted:
        raise Interrupted(command=shlex.join(["gems", *sys.argv[1:]])) from None
