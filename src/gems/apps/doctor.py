"""Checks of `gems doctor`."""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

import httpx
from pydantic import BaseModel, ConfigDict, Field

from gems._version import __version__
from gems.apps.server.auth import open_keys
from gems.apps.text import pluralize
from gems.errors import (
    AuthenticationError,
    BlindModelError,
    ConfigurationError,
    ContextExceededError,
    EditingUnsupportedError,
    GemsError,
    InternalError,
    ModelUnavailableError,
    ProviderError,
    ProviderTimeoutError,
    RejectedRequestError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.files.config import config_file
from gems.files.shared import write_atomically
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.memory.checkpointer import open_checkpointer
from gems.memory.experience import EXPERIENCES
from gems.memory.ledger import open_ledger
from gems.memory.sqlite import reading, storage_error
from gems.memory.store import open_store
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import Picture, Question
from gems.models.chat.schemas import MAX_QUESTIONS
from gems.models.chat.vision import read_sight, red_square, vision_question
from gems.models.detectors.base import DetectionRequest
from gems.models.factory import open_chat, open_detector, open_generator
from gems.models.generators.comfyui.generator import ComfyUIGenerator
from gems.models.prices import DATE
from gems.nodes.prompts import numbered, question
from gems.observability.redaction import display_url
from gems.observability.tracing import check_installed
from gems.resources import open_stores, skill_places
from gems.settings import ChatSettings, GeneratorSettings, Settings
from gems.skills.discovery import SkillCatalogue
from gems.skills.models import FaultySkill
from gems.types import Role

_PATIENCE_S = 5.0
_SWITCHES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING")
_KEYS = ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")
_ENDPOINTS = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")
_SMALL = 256
_SHOWN_SIDE = 1024
_MOST_TOKENS = 4_000
_SEED = 7
_NOT_OFFERED = ("dev", "test")
# The default hints of these errors recommend `gems doctor` itself.
_HINTS: tuple[tuple[type[GemsError], str], ...] = (
    (AuthenticationError, "Check the API key in the settings."),
    (UnreachableError, "Check that the server is running and that the URL in the model spec is correct."),
    (ProviderTimeoutError, "The server may still be loading the model. If it is slow, raise the TIMEOUT_S setting."),
    (ProviderError, "Try again, and check the server's log."),
)
_OWN = re.compile(r"gems-agent\[(?P<extras>[^\]]+)\]")
_REQUIREMENT = re.compile(r"""^(?P<name>[\w.-]+).*extra\s*==\s*['"](?P<extra>[\w.-]+)['"]""")


class Check(BaseModel):
    """Result of checking one component."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Literal["ok", "failed", "skipped", "missing"] = Field(
        description="missing: an optional extra is not installed."
    )
    detail: str = ""
    hint: str = Field("", description="Suggested action.")


class DoctorReport(BaseModel):
    """Results of all checks."""

    model_config = ConfigDict(frozen=True)

    ok: bool = Field(description="True if no check failed.")
    version: str = Field(__version__, description="Version of GEMS.")
    checks: list[Check]


class _Skipped(Exception):  # noqa: N818 - nothing is wrong
    """Raised with the reason why a check is skipped."""


async def checkup(load: Callable[[], Settings], *, draw: bool) -> AsyncGenerator[Check]:
    """Run all checks and yield each result; `draw` allows a test image, which may cost money."""
    try:
        settings = load()
    except GemsError as error:
        yield _failed_check("settings", error)
    else:
        own = f" and {config_file()}" if config_file().is_file() else ""
        yield Check(name="settings", status="ok", detail=f"read from the environment and .env{own}")
        for name, detail in _storage_checks(settings):
            yield await _check(name, detail)
        yield await _check("memory", _check_memory(settings))
        yield await _check_skills(settings)
        async for check in _check_models(settings, draw=draw):
            yield check
        yield await _check("detector", _check_detector(settings))
        yield await _check("server", asyncio.to_thread(_check_server, settings))
        yield await _check("traces", _check_collector(settings))
    yield await _check("langsmith", langsmith())
    for check in extras():
        yield check


async def _check(name: str, detail: Awaitable[str]) -> Check:
    """Convert the detail that an awaitable returns, or its error, to a check."""
    try:
        return Check(name=name, status="ok", detail=await detail)
    except _Skipped as reason:
        return Check(name=name, status="skipped", detail=str(reason))
    except Exception as error:  # noqa: BLE001 - the other components must be checked too
        return _failed_check(name, error)


def _failed_check(name: str, error: Exception) -> Check:
    if isinstance(error, GemsError):
        hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")
        own = hint if hint and error.hint == error.default_hint else error.hint
        return Check(name=name, status="failed", detail=error.message, hint=own)
    hint = "This is a bug in GEMS or a library. Please report it."
    return Check(name=name, status="failed", detail=f"{type(error).__name__}: {error}", hint=hint)


def _check_server(settings: Settings) -> str:
    """Check the address and keys of `gems serve`, without listening."""
    try:
        from gems.apps.server.app import check_reach  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise _Skipped(f"{error.name} is not installed") from None
    check_reach(settings)
    serve = settings.serve
    file = open_keys(settings)
    access = "for this machine only, since there are no keys"
    if file.exists():
        access = f"protected by {pluralize(len(file.all()), 'API key')}"
    return f"may listen on {serve.host}, port {serve.port}, {access}"


def smallest_size(generator: GeneratorCapabilities) -> tuple[int, int]:
    """Return the smallest useful size, at least 256 pixels a side: most models fail below that."""
    if generator.sizes is not None:
        return min(generator.sizes, key=lambda size: size[0] * size[1])
    least = max(generator.min_side, min(_SMALL, generator.max_side), math.isqrt(generator.min_pixels - 1) + 1)
    side = -(-least // generator.size_multiple) * generator.size_multiple
    return (side, side) if side <= generator.max_side else generator.default_size


def extras() -> Iterator[Check]:
    """Yield a check for each optional extra."""
    try:
        lines = metadata.requires("gems-agent") or []
    except metadata.PackageNotFoundError:
        yield Check(name="extras", status="skipped", detail="GEMS is not installed as a package")
        return
    needed: dict[str, list[str]] = {}
    for found in filter(None, map(_REQUIREMENT.match, lines)):
        own = _OWN.match(found.group())
        names = [f"[{extra}]" for extra in own["extras"].split(",")] if own else [found["name"]]
        needed.setdefault(found["extra"], []).extend(names)
    for extra in needed:
        if extra in _NOT_OFFERED:
            continue
        name = f"extra {extra}"
        if absent := [package for package in _packages(extra, needed) if not _is_installed(package)]:
            hint = f"Install with: pip install 'gems-agent[{extra}]'"
            detail = f"not installed: {', '.join(absent)}"
            yield Check(name=name, status="missing", detail=detail, hint=hint)
        else:
            yield Check(name=name, status="ok", detail="installed")


def _packages(extra: str, needed: dict[str, list[str]]) -> list[str]:
    """List the packages of an extra, following other extras, whose names are in brackets."""
    found: list[str] = []
    for name in needed.get(extra, []):
        found += _packages(name.strip("[]"), needed) if name.startswith("[") else [name]
    return list(dict.fromkeys(found))


def _storage_checks(settings: Settings) -> Iterator[tuple[str, Awaitable[str]]]:
    async def check_sqlite(path: Path, opened: AbstractAsyncContextManager[object]) -> str:
        async with opened:
            return await asyncio.to_thread(_check_sqlite, path)

    async def check_database() -> str:
        async with open_stores(settings) as stores:
            return stores.label

    yield "home", asyncio.to_thread(_check_writable, settings.home)
    yield "images", asyncio.to_thread(_check_writable, settings.home / "images")
    if settings.checkpoint is not None:
        yield "database", check_database()
        return
    ledger, checkpoints = settings.ledger_path, settings.checkpoints_path
    yield "ledger", check_sqlite(ledger, open_ledger(ledger))
    yield "checkpoints", check_sqlite(checkpoints, open_checkpointer(checkpoints))


async def _check_skills(settings: Settings) -> Check:
    """Count usable skills; invalid folders do not fail the check."""
    try:
        registry = await SkillCatalogue(skill_places(settings).places).refreshed()
    except GemsError as error:
        return _failed_check("skills", error)
    faulty = sum(isinstance(item, FaultySkill) for item in registry.left_out)
    detail = f"{len(registry.all())} available{f', {faulty} skipped' if faulty else ''}"
    hint = "Run `gems skills list` to see what is wrong with them." if faulty else ""
    return Check(name="skills", status="ok", detail=detail, hint=hint)


async def _check_memory(settings: Settings) -> str:
    """Search the experience store, and name the embedder that `auto` selects."""
    if settings.experience == "off":
        raise _Skipped("GEMS_EXPERIENCE is off")
    where, folder = settings.experience, settings.experience_path
    async with open_store(where, folder, settings.embedder, settings.embedder_api_key) as store:
        embedder = await store.embedder()
        await embedder.embed(["a red circle"])
        await store.asearch((EXPERIENCES,), query="a red circle", limit=1)
        return f"{store.where}, embedder {embedder.identity}"


def _check_sqlite(path: Path) -> str:
    """Check the integrity of a SQLite file, and return its path."""
    with reading(path), closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"corrupt: {' '.join(found.split())}")
    return str(path)


def _check_writable(folder: Path) -> str:
    probe = folder / f".doctor-{time.monotonic_ns()}"
    try:
        write_atomically(probe, b"written by gems doctor")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise storage_error(error, folder) from error
    return f"{folder} is writable, {free / 1e9:,.1f} GB free"


async def _check_models(settings: Settings, *, draw: bool) -> AsyncGenerator[Check]:
    """Try all chat models and generators, those on offer included."""
    chats = [(roles, wanted, "") for roles, wanted in _group_roles(settings)]
    judges: list[Role] = ["judge"]
    chats += [(judges, settings.judge_for(name), f"judge {name} on offer") for name in settings.offered_judges]
    for roles, wanted, name in chats:
        async for check in check_chat(roles, wanted, name):
            yield check
    offered = {f"generator {name} on offer": part for name, part in settings.offered_generators.items()}
    for name, part in {"generator": settings.generator, **offered}.items():
        if part.model.startswith("comfyui:"):
            of = f" of the {name}" if part is not settings.generator else ""
            yield await _check(f"workflow{of}", asyncio.to_thread(_check_workflow, part))
            yield await _check(f"workflow's nodes{of}", _check_workflow_nodes(part))
        yield await check_generator(part, draw=draw, name=name)


def _group_roles(settings: Settings) -> Iterator[tuple[list[Role], ChatSettings]]:
    """Group the roles that share a chat model."""
    left = list(get_args(Role))
    while left:
        wanted = settings.chat_for(left[0])
        roles = [role for role in left if settings.chat_for(role) == wanted]
        left = [role for role in left if role not in roles]
        yield roles, wanted


async def check_chat(roles: list[Role], wanted: ChatSettings, name: str = "") -> AsyncGenerator[Check]:
    """Try a chat model with what its roles ask of it, and yield each result."""
    name = name or f"chat model of {', '.join(roles)}"
    try:
        # One attempt: retries would hide and delay the error. No model needs long for these answers.
        client = open_chat(wanted.model_copy(update={"attempts": 1, "max_tokens": wanted.max_tokens or _MOST_TOKENS}))
    except Exception as error:  # noqa: BLE001 - see `_check`
        yield _failed_check(name, error)
        return
    try:
        answers = await _check(name, _check_reply(client))
        yield answers
        found = answers
        asked = [("structured output", _check_structured_output)]
        if "judge" in roles:
            asked = [("sees images", _check_vision), ("several images", _check_several_images), *asked]
        elif "reflector" in roles:
            asked.insert(0, ("sees images", _check_reflector_vision))
        reason = "" if answers.status == "ok" else "the model does not answer"
        for what, ask in asked:
            if reason or (what == "several images" and found.status != "ok"):
                found = Check(name=f"{name}: {what}", status="skipped", detail=reason or "the model sees none")
            else:
                found = await _check(f"{name}: {what}", ask(client))
            yield found
    finally:
        await client.aclose()


async def _check_reply(client: ChatClient) -> str:
    started = time.monotonic()
    asked = Question(task="verify", system="You are being tried out.", parts=("Say the word: ready",))
    await client.ask(asked)
    return f"{client.name} answered in {time.monotonic() - started:.1f} s"


async def _check_vision(client: ChatClient) -> str:
    """Show a picture of the size and with as much text as the judge is sent, and ask what is in it."""
    filling = numbered(["Is there exactly one big square, and is all of it inside the picture?"] * MAX_QUESTIONS)
    before = f"{filling}\nNo answers to these."
    asked = await asyncio.to_thread(vision_question, _SHOWN_SIDE, before, logprobs=True)
    reply = await client.ask(asked)
    sight, said = read_sight(reply.text), f"it answered: {' '.join(reply.text.split())[:200]!r}."
    if sight == "blind":
        raise BlindModelError(f"Shown a red square, {said}")
    if sight == "doubtful":
        raise ConfigurationError(
            f"Asked for the colour of a red square, {said}",
            hint="Use a model with vision, at least for GEMS_JUDGE__MODEL and GEMS_REFLECTOR__MODEL.",
        )
    lacks, hint = list[str](), ContextExceededError.default_hint
    if client.limits.logprobs and "logprobs" in client.capabilities.lacking:
        lacks.append("log probabilities are refused, so answers have no probability")
    if client.capabilities.shrunk:
        lacks.append(f"its context is too short for images of {_SHOWN_SIDE} pixels, which are shown smaller. {hint}")
    return "; ".join(["recognized the colour of a square", *lacks])


async def _check_reflector_vision(client: ChatClient) -> str:
    try:
        return await _check_vision(client)
    except BlindModelError:
        return "sees no images; the reflector reads the judge's evidence instead"


async def _check_several_images(client: ChatClient) -> str:
    """Show two pictures, as where an image is edited or an earlier one was better."""
    data = await asyncio.to_thread(red_square)
    pictures = [Picture(image=str(number), data=data, media_type="image/png") for number in range(2)]
    words = "What colour are the squares? Answer in one word."
    await client.ask(Question(task="verify", system="Look at the pictures.", parts=(*pictures, words)))
    most = client.capabilities.most_pictures
    return "accepts them" if most is None else f"accepts {most} per request; the newest is shown"


async def _check_structured_output(client: ChatClient) -> str:
    try:
        await client.ask(question("decompose", {"user_prompt": "a red square"}))
    except UnreadableReplyError as error:
        hint = "Use a model that follows instructions, or raise GEMS_CHAT__MAX_TOKENS if it is cut off."
        raise UnreadableReplyError(error.message, hint=hint) from error
    return {
        "json_schema": "by JSON schema (json_schema)",
        "json_mode": "by JSON mode (json_mode), since the endpoint refuses schemas",
    }.get(client.structured_output, "requested in the prompt (text)")


def _open_workflow(settings: GeneratorSettings) -> ComfyUIGenerator:
    generator = open_generator(settings.model_copy(update={"attempts": 1}))
    if not isinstance(generator, ComfyUIGenerator):
        raise InternalError(f"{settings.model} is no workflow.")
    return generator


def _check_workflow(settings: GeneratorSettings) -> str:
    """Say which part of a request is set in which node of a ComfyUI workflow."""
    return _open_workflow(settings).describe_binding()


async def _check_workflow_nodes(settings: GeneratorSettings) -> str:
    """Look for the workflow's nodes and models on its server, which executes nothing."""
    generator = _open_workflow(settings)
    try:
        if missing := await generator.find_missing():
            hint = "Install the missing nodes there (ComfyUI Manager), and put models' files into its folder of models."
            raise ModelUnavailableError(f"The server lacks {', '.join(missing)}.", hint=hint)
        return "all are on the server"
    finally:
        await generator.aclose()


async def check_generator(settings: GeneratorSettings, *, draw: bool, name: str = "generator") -> Check:
    """Open the generator, and `draw` one image of its smallest size, which may cost money."""
    return await _check(name, _check_generator(settings, draw=draw))


async def _check_generator(settings: GeneratorSettings, *, draw: bool) -> str:
    generator = open_generator(settings.model_copy(update={"attempts": 1}))
    try:
        able = generator.capabilities
        if not draw:
            raise _Skipped(f"{able.model}: skipped with --no-draw")
        width, height = smallest_size(able)
        request = ImageRequest(prompt="a red square", seed=_SEED, width=width, height=height)
        try:
            image = await generator.generate(request)
        except EditingUnsupportedError:
            # A workflow that does nothing else than edit.
            side = max(width, height)
            source = await asyncio.to_thread(red_square, side)
            image = await generator.generate(replace(request, source=source, width=side, height=side))
        price = f" for ${able.price_usd:g}" if able.price_usd else ""
        if price and settings.usd_per_image is None:
            price += f" (known price of {DATE}; GEMS_GENERATOR__USD_PER_IMAGE overrides it)"
        return f"{able.model} generated {image.width}x{image.height} pixels in {image.seconds:.1f} s{price}"
    finally:
        await generator.aclose()


async def _check_detector(settings: Settings) -> str:
    """Let the detector look for a square in a picture of one; what a model does not find there is no fault."""
    detector = open_detector(settings)
    if detector is None:
        raise _Skipped("GEMS_DETECTOR is off")
    try:
        started = time.monotonic()
        request = DetectionRequest(image=await asyncio.to_thread(red_square), phrases=("red square",))
        found = await detector.detect(request)
        took = f"{detector.name} looked at an image in {time.monotonic() - started:.1f} s"
        return f"{took} and found {pluralize(len(found.objects), 'object')}"
    finally:
        await detector.aclose()


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


async def _check_collector(settings: Settings) -> str:
    """Send an empty trace to the collector, and describe it; raise GemsError if it does not accept traces."""
    if not settings.otel:
        raise _Skipped("GEMS_OTEL is not set")
    check_installed(settings)
    if settings.otel == "console":
        return "to stderr"
    from gems.observability.opentelemetry import traces_url  # noqa: PLC0415 - only where it is installed

    where = display_url(settings.otel)
    headers = {"content-type": "application/x-protobuf"}
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE_S) as client:
            answer = await client.post(traces_url(settings.otel), content=b"", headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(
            f"Cannot reach {where}: {type(error).__name__}.",
            hint="Set GEMS_OTEL to the URL of a collector that accepts OTLP/HTTP, usually on port 4318.",
        ) from error
    # OpenTelemetry sends the headers, not this probe; a collector that requires a key is up as well.
    if answer.status_code in (401, 403):
        return f"{where} is reachable and requires a key (OTEL_EXPORTER_OTLP_HEADERS)"
    if not answer.is_success:
        raise RejectedRequestError(
            f"{where} answered {answer.status_code} and does not accept traces.",
            hint="Set GEMS_OTEL to a collector that accepts OTLP/HTTP, usually on port 4318.",
        )
    texts = "with prompts and answers" if settings.otel_text else "without prompts and answers"
    return f"{where} accepts traces, {texts}"


async def langsmith() -> str:
    """List the LangSmith variables that are set, without values; raise ConfigurationError without a key."""
    if not any(os.environ.get(name, "").lower() == "true" for name in _SWITCHES):
        raise _Skipped("LANGSMITH_TRACING is not true")
    names = sorted(name for name in os.environ if name.startswith(("LANGSMITH_", "LANGCHAIN_")))
    named = [name for name in names if os.environ[name]]
    if not any(name in named for name in (*_KEYS, *_ENDPOINTS)):
        raise ConfigurationError(
            "LangSmith tracing is enabled, but no key is set.",
            hint="Set LANGSMITH_API_KEY in the environment, or unset LANGSMITH_TRACING.",
        )
    return f"traces are sent with texts and without images; set variables: {', '.join(named)}"
