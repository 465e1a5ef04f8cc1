"""Engines by name, and the settings that runs for an output folder have."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from gems.errors import MissingExtraError, OptionError
from gems.evals.engine_parts.engine import Engine
from gems.evals.engine_parts.local import LocalEngine
from gems.graphs.loop import GraphBuilder, build_graph
from gems.memory.file_store import FileStore
from gems.models.specs import parse_chat_spec, parse_generator_spec
from gems.service import Gems
from gems.settings import ChatSettings, Settings
from gems.types import Role

EngineName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Where and with what jobs are worked off.

    Attributes:
        settings: Models and stores.
        url: The output folder.
        concurrency: Runs at a time, in all.
        workers: Processes that carry them out; None for as many as there are processors. For Ray only.
        generator_actors: Processes that draw, where runs do not draw themselves; None for one for each GPU
            with Diffusers, else none. For Ray only.
        graph: What is run; the loop by default.
    """

    settings: Settings
    url: str
    concurrency: int = 4
    workers: int | None = None
    generator_actors: int | None = None
    graph: GraphBuilder = build_graph


@asynccontextmanager
async def open_engine(name: EngineName, place: EngineConfig) -> AsyncIterator[Engine]:
    """The engine of this name, opened.

    Raises:
        MissingExtraError: it needs packages that are not installed.
        ConfigurationError: models or stores cannot be used as configured.
    """
    if name == "ray":
        # Read when Ray is imported: it would abort a process that SIGTERM asks to stop in order.
        os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
        try:
            # Only whoever uses Ray needs its packages.
            from gems.evals.ray_engine import open_ray  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("--engine ray", "ray") from error
        async with open_ray(place) as engine:
            yield engine
        return
    store = await asyncio.to_thread(FileStore, place.url)
    async with Gems(place.settings, graph=place.graph) as gems:
        yield LocalEngine(gems, store, place.concurrency)


def settings_for_jobs(settings: Settings, *, asks: bool = True, learn: bool = False) -> Settings:
    """The settings with which runs of a folder are carried out.

    Samples are independent of each other: they learn nothing from other runs unless that is wanted. Where no
    chat model is asked, none needs to be usable.
    """
    changed: dict[str, object] = {} if learn else {"experience": "off"}
    if not asks:
        changed |= {name: ChatSettings() for name in ("chat", *get_args(Role))}
    return settings.model_copy(update=changed)


def check_prices(settings: Settings) -> None:
    """Rule out a budget that means nothing, since a price is not known.

    Raises:
        OptionError: it is not.
    """
    generator = settings.generator
    unknown = []
    if parse_generator_spec(generator.model).kind != "blocks" and generator.usd_per_image is None:
        unknown.append("GEMS_GENERATOR__USD_PER_IMAGE")
    roles: tuple[Role, ...] = get_args(Role)
    for role in roles:
        chat = settings.chat_for(role)
        prices = (chat.input_usd_per_million, chat.output_usd_per_million)
        if parse_chat_spec(chat.model).kind != "blocks" and None in prices:
            unknown.append(f"GEMS_{role.upper()}__INPUT_USD_PER_MILLION and ..._OUTPUT_USD_PER_MILLION")
            break
    if unknown:
        raise OptionError(
            "--budget-usd is set, but not all prices are known.", hint=f"Set {', '.join(unknown)}."
        )
