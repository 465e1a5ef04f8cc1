"""Open models and stores from settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.base import BaseCheckpointSaver

from gems.errors import MissingExtraError
from gems.memory.checkpointer import open_checkpointer
from gems.memory.embeddings import open_embedder
from gems.memory.images import ImageStore
from gems.memory.ledger import Ledger, open_ledger
from gems.memory.locks import FileLocks, RunLocks
from gems.memory.patches import PatchStore
from gems.memory.store import ChromaStore, open_store
from gems.memory.vision_record import VisionRecord
from gems.memory.writer import ExperienceWriter, Outbox, open_outbox
from gems.models.base import ImageGenerator
from gems.models.chat.client import ChatClient
from gems.models.detectors.base import ObjectDetector
from gems.models.factory import open_chat, open_detector, open_generator, wrap_chat
from gems.models.images import EncodedImageCache
from gems.observability.tracing import OFF, Tracing, check_installed
from gems.options import NO_OPTIONS
from gems.settings import PartT, Settings
from gems.skills.discovery import SkillCatalogue, SkillSearchPath
from gems.skills.models import SkillRegistry
from gems.skills.ranking import SkillRanking
from gems.state import Context
from gems.types import Role

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Stores(NamedTuple):
    """The stores of runs."""

    ledger: Ledger
    checkpointer: BaseCheckpointSaver[str]
    locks: RunLocks
    label: str
    """Their location, for messages."""


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Open the stores of runs: files of the home, or PostgreSQL.

    With PostgreSQL a local file keeps paid results while the server is unreachable.
    """
    async with AsyncExitStack() as stack:
        if settings.checkpoint is None:
            await asyncio.to_thread(_warn_of_lost_files, settings)
            ledger = await stack.enter_async_context(open_ledger(settings.ledger_path))
            checkpointer = await stack.enter_async_context(open_checkpointer(settings.checkpoints_path))
            yield Stores(ledger, checkpointer, FileLocks(settings.locks_path), str(settings.home))
            return
        try:
            # Only PostgreSQL users need its packages.
            from gems.memory import postgres  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("GEMS_CHECKPOINT", "postgres") from error
        unsent = await stack.enter_async_context(open_ledger(settings.unsent_path))
        server = await stack.enter_async_context(postgres.open_server(settings.checkpoint.get_secret_value()))
        rows, shared_checkpointer = await postgres.open_tables(server)
        ledger = Ledger(rows, unsent)
        await ledger.catch_up()
        locks = await stack.enter_async_context(postgres.open_locks(server))
        yield Stores(ledger, shared_checkpointer, locks, server.label)


def _warn_of_lost_files(settings: Settings) -> None:
    """Tell if a file of the home is gone while those that were written with it are there. Blocking."""
    ledger, checkpoints = (_has_content(path) for path in (settings.ledger_path, settings.checkpoints_path))
    lost = []
    if checkpoints and not ledger:
        lost.append(f"{settings.ledger_path} is gone or empty: earlier runs are not listed, but their images are kept.")
    if ledger and not checkpoints:
        lost.append(f"{settings.checkpoints_path} is gone or empty: earlier runs cannot be resumed.")
    if settings.experience_path.is_dir() and not settings.experience and not _has_content(settings.outbox_path):
        lost.append(f"{settings.outbox_path} is gone or empty: `gems memory rebuild` restores what was not stored yet.")
    for message in lost:
        logger.warning("%s", message)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


class Experiences(NamedTuple):
    """The store of experiences with its outbox and writer."""

    store: ChromaStore
    outbox: Outbox
    writer: ExperienceWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Opened models and stores, shared by all runs."""

    chats: dict[Role, ChatClient]
    generator: ImageGenerator
    generators: Mapping[str, ImageGenerator] = field(default_factory=dict)
    """Those that a run may choose instead, by name."""
    judges: Mapping[str, ChatClient] = field(default_factory=dict)
    """Chat models that a run may choose as its judge, by name."""
    detector: ObjectDetector | None = None
    images: ImageStore
    ledger: Ledger
    checkpointer: BaseCheckpointSaver[str]
    locks: RunLocks
    skills: SkillCatalogue
    ranking: SkillRanking
    patches: PatchStore
    default_skills: str = "auto"
    skill_timeout_s: float = 300.0
    tracing: Tracing = OFF
    experiences: Experiences | None = None
    """None if memory is off."""
    encodings: EncodedImageCache = field(default_factory=EncodedImageCache)
    vision: VisionRecord = field(default_factory=VisionRecord)

    def context(self, options: Mapping[str, Any] = NO_OPTIONS) -> Context:
        """Return the context of a run that starts now, with the skills and patches of the last refresh.

        Its models are those that the options of the run name, else those of the settings.

        Raises:
            NotOfferedError: no generator or judge of this name is on offer.
        """
        context = Context(
            chats=self.chats,
            generator=self.generator,
            generators={"": self.generator, **self.generators},
            judges={"": self.chats["judge"], **self.judges},
            detector=self.detector,
            images=self.images,
            encodings=self.encodings,
            ledger=self.ledger,
            skills=self.skills.current,
            patches=self.patches.current,
            vision=self.vision,
            ranking=self.ranking,
            default_skills=self.default_skills,
            skill_timeout_s=self.skill_timeout_s,
            tracing=self.tracing,
            learning=self.experiences is not None,
            writer=self.experiences.writer if self.experiences else None,
        )
        return context.choose(options)

    async def refresh(self) -> None:
        """Read skills and patches that have changed."""
        await self.skills.refreshed()
        await self.patches.refreshed()

    def models(self, options: Mapping[str, Any] = NO_OPTIONS) -> dict[str, str]:
        """Return the names of the models of a run by role, and of its generator; raises as `context`."""
        context = self.context(options)
        names: dict[str, str] = {role: client.name for role, client in context.chats.items()}
        seen_by = {"detector": self.detector.name} if self.detector is not None else {}
        return names | {"generator": context.generator.capabilities.model} | seen_by

    def find_generator(self, options: Mapping[str, Any]) -> ImageGenerator | None:
        """Return the generator of a run; None if it chose one that is not on offer here any more."""
        name = options.get("generator")
        return self.generators.get(name) if name else self.generator

    def image_price(self, options: Mapping[str, Any]) -> float | None:
        """Return the US dollars of an image of a run; the highest of all if its generator is not on offer here."""
        if (found := self.find_generator(options)) is not None:
            return found.capabilities.price_usd
        # Another server executes the run, with other settings.
        prices = (each.capabilities.price_usd for each in (self.generator, *self.generators.values()))
        return max((price for price in prices if price is not None), default=None)


@asynccontextmanager
async def open_resources(
    settings: Settings,
    *,
    chat: BaseChatModel | None = None,
    generator: ImageGenerator | None = None,
    detector: ObjectDetector | None = None,
    skills: SkillRegistry | None = None,
) -> AsyncIterator[Resources]:
    """Open everything that the settings describe; nothing is loaded and no endpoint is called.

    `chat` is a chat model for all roles whose settings do not name a model; `generator` and `detector`, which
    are not closed, and `skills` replace those of the settings. Raises ConfigurationError or StorageError.
    """
    async with AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(open_tracing(settings))
        chats, judges = _open_chats(settings, chat)
        _close_later(stack, [*chats.values(), *judges.values()])
        wanted = [*([settings.generator] if generator is None else []), *settings.offered_generators.values()]
        # Reads the files of LoRAs.
        generators = await asyncio.to_thread(_open_each, wanted, open_generator)
        _close_later(stack, generators)
        if generator is None:
            generator = generators.pop(0)
        if detector is None and (detector := open_detector(settings)) is not None:
            stack.push_async_callback(detector.aclose)
        stores = await stack.enter_async_context(open_stores(settings))
        yield Resources(
            chats=chats,
            generator=generator,
            generators=dict(zip(settings.offered_generators, generators, strict=True)),
            judges=judges,
            detector=detector,
            images=await asyncio.to_thread(_open_images, settings),
            ledger=stores.ledger,
            checkpointer=stores.checkpointer,
            locks=stores.locks,
            skills=await _open_skills(settings, skills),
            patches=PatchStore(settings.home),
            ranking=SkillRanking(open_embedder(settings.embedder, api_key=settings.embedder_api_key)),
            default_skills=settings.skills,
            skill_timeout_s=settings.skill_timeout_s,
            tracing=tracing,
            experiences=await _open_experiences(settings, stack),
            vision=VisionRecord(settings.vision_path),
        )


def _open_images(settings: Settings) -> ImageStore:
    folder = settings.home / "images"
    if not settings.images:
        return ImageStore(folder)
    # Only shared images need fsspec.
    from gems.memory.images import SharedImageStore  # noqa: PLC0415

    return SharedImageStore(folder, settings.images)


async def _open_skills(settings: Settings, fixed: SkillRegistry | None) -> SkillCatalogue:
    if fixed is not None:
        return SkillCatalogue(fixed=fixed)
    catalogue = SkillCatalogue(skill_places(settings).places)
    await catalogue.refreshed()
    return catalogue


def skill_places(settings: Settings) -> SkillSearchPath:
    """Return the search paths of skills; the project is the current folder."""
    return SkillSearchPath(
        home=settings.home,
        path=settings.skills_path,
        project=Path.cwd(),
        trust_home=settings.trust_home,
        is_doubtful=settings.comes_with_project,
    )


async def _open_experiences(settings: Settings, stack: AsyncExitStack) -> Experiences | None:
    """Open the store of experiences, which connects on first use."""
    if settings.experience == "off":
        return None
    store = await stack.enter_async_context(
        open_store(settings.experience, settings.experience_path, settings.embedder, settings.embedder_api_key)
    )
    outbox = await stack.enter_async_context(open_outbox(settings.outbox_path))
    writer = ExperienceWriter(store, outbox)
    stack.push_async_callback(writer.aclose)
    return Experiences(store, outbox, writer)


def _open_chats(
    settings: Settings, custom: BaseChatModel | None
) -> tuple[dict[Role, ChatClient], dict[str, ChatClient]]:
    """Open one client per role, and one per judge on offer."""
    roles: tuple[Role, ...] = get_args(Role)
    wrapped = wrap_chat(custom, settings.chat) if custom is not None else None
    own = [role for role in roles if wrapped is None or "model" in getattr(settings, role).model_fields_set]
    wanted = [*map(settings.chat_for, own), *map(settings.judge_for, settings.offered_judges)]
    opened = _open_each(wanted, open_chat)
    chats = dict(zip(own, opened, strict=False))
    judges = dict(zip(settings.offered_judges, opened[len(own) :], strict=True))
    return {role: chats.get(role) or cast("ChatClient", wrapped) for role in roles}, judges


def _close_later(stack: AsyncExitStack, models: Iterable[ChatClient | ImageGenerator]) -> None:
    for model in {id(model): model for model in models}.values():
        stack.push_async_callback(model.aclose)


def _open_each(wanted: Sequence[PartT], open_one: Callable[[PartT], T]) -> list[T]:
    """Open a model for each settings; equal ones share one, and with it what it learns."""
    known: list[tuple[PartT, T]] = []
    for part in wanted:
        shared = next((model for other, model in known if other == part), None)
        known.append((part, open_one(part) if shared is None else shared))
    return [model for _, model in known]


@asynccontextmanager
async def open_tracing(settings: Settings) -> AsyncIterator[Tracing]:
    """Open the configured tracing; MissingExtraError if OpenTelemetry is not installed."""
    if not settings.otel:
        yield OFF
        return
    check_installed(settings)
    from gems.observability.opentelemetry import open_otel  # noqa: PLC0415 - only those who want traces need it

    async with open_otel(settings.otel, texts=settings.otel_text) as tracing:
        yield tracing
