"""Open engines by name, and derive the settings of their runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gems.errors import OptionError
from gems.graphs.loop import GraphBuilder, build_graph
from gems.models.specs import parse_chat_spec, parse_generator_spec
from gems.settings import ChatSettings, Settings
from gems.types import Role

EngineName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The configuration of an engine.

    Attributes:
        settings: Models and stores.
        url: The output folder.
        concurrency: Maximum number of concurrent runs in total.
        workers: Ray only: worker processes; None for one per CPU.
        generator_actors: Ray only: processes with an image generator; None for one per GPU with Diffusers,
            else 0, where workers generate themselves.
        graph: The graph to run.
    """

    settings: Settings
    url: str
    concurrency: int = 4
    workers: int | None = None
    generator_actors: int | None = None
    graph: GraphBuilder = build_graph


def settings_for_jobs(settings: Settings, *, uses_chat: bool = True, learn: bool = False) -> Settings:
    """Return the settings for the runs of an output folder.

    Samples are independent: experience is off unless `learn` is set. Without `uses_chat` no chat model is
    needed.
    """
    changed: dict[str, object] = {} if learn else {"experience": "off"}
    if not uses_chat:
        changed |= {name: ChatSettings() for name in ("chat", *get_args(Role))}
    return settings.model_copy(update=changed)


def check_prices(settings: Settings) -> None:
    """Check that all prices needed for a budget are known; raises `OptionError`."""
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
            "--budget-usd needs prices, and some are not set.", hint=f"Set {', '.join(unknown)}."
        )
