"""Logic of `gems setup`: propose models from what was found, try them, and write the user's own `.env`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gems._version import __version__
from gems.apps.doctor import Check, check_chat, check_generator
from gems.apps.survey import DiskModel, FoundServer, ServedModel, Survey
from gems.apps.text import pluralize
from gems.files.config import ROLES, config_file, find_key, read_config, server_of, write_keyring
from gems.settings import ChatSettings, GeneratorSettings, Settings, with_models
from gems.types import Role

Part = Literal["chat", "generator"]
MOST_TRIED = 3
"""Models on this machine that are tried for one part."""
_GB_SPARE = 2.0
_GB_ON_CPU = 6.0
"""Weights of a model that a CPU still draws with in minutes."""
_LOOPBACK = re.compile(r"localhost|127(?:\.\d+){3}|::1")
_OF_SERVER = (
    "API_KEY",
    "EXTRA_BODY",
    "CONCURRENCY",
    "USD_PER_IMAGE",
    "INPUT_USD_PER_MILLION",
    "OUTPUT_USD_PER_MILLION",
)
"""Settings that belong to the server of a model, and are removed with it."""


_SEEING = {
    "LM Studio": "lms get qwen/qwen3-vl-8b",
    "vLLM": "vllm serve Qwen/Qwen3-VL-8B-Instruct",
    "SGLang": "python -m sglang.launch_server --model-path Qwen/Qwen3-VL-8B-Instruct",
    "llama.cpp": "llama-server -hf ggml-org/Qwen2.5-VL-7B-Instruct-GGUF",
}
"""Commands that get a model with vision, by the program of the server."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A company that sells models; names of models as of November 2026.

    `chat` is its OpenAI-compatible endpoint, `own` its own one, which needs the package `package`.
    """

    name: str
    chat: str
    generator: str = ""
    own: str = ""
    package: str = ""

    def spec(self, part: Part) -> str:
        """Return the model spec to propose; empty for none."""
        if part == "generator":
            return self.generator
        return self.own if self.package and find_spec(self.package) is not None else self.chat


_GOOGLE = Provider(
    "Google",
    "openai:gemini-3.7-flash@https://generativelanguage.googleapis.com/v1beta/openai",
    own="langchain:google_genai:gemini-3.7-flash",
    package="langchain_google_genai",
)
PROVIDERS: dict[str, Provider] = {
    "OPENAI_API_KEY": Provider("OpenAI", "openai:gpt-5", "openai:gpt-image-1"),
    "ANTHROPIC_API_KEY": Provider(
        "Anthropic",
        "openai:claude-sonnet-5@https://api.anthropic.com/v1",
        own="langchain:anthropic:claude-sonnet-5",
        package="langchain_anthropic",
    ),
    "GOOGLE_API_KEY": _GOOGLE,
    "GEMINI_API_KEY": _GOOGLE,
    "OPENROUTER_API_KEY": Provider(
        "OpenRouter",
        "openai:qwen/qwen3-vl-235b-a22b-instruct@https://openrouter.ai/api/v1",
        "openai-chat:google/gemini-2.5-flash-image@https://openrouter.ai/api/v1",
    ),
    "GROQ_API_KEY": Provider("Groq", "openai:meta-llama/llama-4-scout-17b-16e-instruct@https://api.groq.com/openai/v1"),
    "MISTRAL_API_KEY": Provider("Mistral", "openai:mistral-medium-latest@https://api.mistral.ai/v1"),
    "XAI_API_KEY": Provider("xAI", "openai:grok-4@https://api.x.ai/v1"),
}
"""Providers by the environment variable of their keys."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could be used; `key` names it as in the user's `.env`, empty for none."""

    part: Part
    spec: str
    seller: str = ""
    """Whoever charges for requests; empty for models on this machine."""
    key: str = ""
    trial: str = ""
    """Spec to try instead, if trying it by its own would ask another machine for updates."""
    named: bool = False
    """Whether the user named it: then the key in the settings is meant for it."""
    settings: ChatSettings | GeneratorSettings | None = None
    """Those of a model that is configured already."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further variables."""

    @property
    def variable(self) -> str:
        """The environment variable of its key; empty if none is set or its key is not one."""
        own = f"GEMS_{self.part.upper()}__API_KEY"
        sold = next((name for name, each in PROVIDERS.items() if each.name == self.seller and os.environ.get(name)), "")
        known = self.key.removeprefix("env:") or sold
        name = own if self.named and os.environ.get(own) else known
        return name if self.settings is None and os.environ.get(name) else ""

    def in_keyring(self) -> Candidate:
        """Return the candidate with its key in the keyring, where `store_key` puts it."""
        return replace(self, key=f"keyring:{self.variable}") if self.variable else self


class SetupReport(BaseModel):
    """What `gems setup` found, tried and wrote."""

    model_config = ConfigDict(frozen=True)

    ok: bool = Field(description="True if there are a chat model that sees images and an image generator.")
    version: str = Field(__version__, description="Version of GEMS.")
    found: list[Check] = Field(description="API keys, servers, GPUs and models on this machine.")
    tried: list[Check] = Field(description="Results of small requests to the proposed models.")
    chat: str | None = Field(description="Model spec of the proposed chat model; null for none.")
    generator: str | None = Field(description="Model spec of the proposed generator; null for none.")
    untried: list[str] = Field(description="Proposed models that charge for requests and were not tried.")
    advice: list[str] = Field(description="What is missing, each with a command that helps.")
    file: str = Field(description="The user's own .env.")
    changes: dict[str, str | None] = Field(description="Variables to set in the file; null for those to remove.")
    overridden: list[str] = Field(description="Changes without effect, since the environment or .env overrides them.")
    written: bool = Field(description="Whether the changes were written.")
    undo: str = Field("", description="Command that undoes what was written.")


def describe(found: Survey) -> Iterator[Check]:
    """Yield a check for everything that was found."""
    for name in found.keys:
        yield Check(name=f"API key of {PROVIDERS[name].name}", status="ok", detail=f"{name} is set")
    for server in found.servers:
        yield _describe_server(server)
    for gpu in found.gpus:
        yield Check(name="GPU", status="ok", detail=f"{gpu.name}, {gpu.memory_gb:g} GB")
    for model in found.disk:
        if model.complete:
            yield Check(
                name="model on the disk", status="ok", detail=f"{model.name}, {model.gb:g} GB, {model.pipeline}"
            )
        else:
            yield Check(
                name="model on the disk",
                status="failed",
                detail=f"{model.name} is incomplete",
                hint=f"Complete it with: hf download {model.name}",
            )
    if not (found.keys or found.servers or found.disk):
        yield Check(name="this machine", status="skipped", detail="no API key, model server or Diffusers model found")


def _describe_server(server: FoundServer) -> Check:
    name = f"{server.program or 'server'} at {server.url}"
    match server.status:
        case "ready":
            seeing = [model.name for model in server.models if model.may_see]
            drawing = [model.name for model in server.models if model.may_draw]
            parts = [pluralize(len(server.models), "model")] if server.models else ["running"]
            parts += [f"sees images: {', '.join(seeing)}"] * bool(seeing)
            parts += [f"generates images: {', '.join(drawing)}"] * bool(drawing)
            return Check(name=name, status="ok", detail="; ".join(parts))
        case "no_models":
            return Check(name=name, status="skipped", detail="has no models")
        case "needs_key":
            hint = f"Set GEMS_CHAT__API_KEY to its key, and run: gems setup --chat openai:MODEL@{server.url}/v1"
            if server.program == "Stable Diffusion WebUI":
                hint = (
                    f"Set GEMS_GENERATOR__API_KEY to USER:PASSWORD, and run: gems setup --generator a1111:{server.url}"
                )
            return Check(name=name, status="failed", detail="requires a key", hint=hint)
        case "no_api":
            return Check(name=name, status="failed", detail="runs without its API", hint="Start it with --api.")
        case "silent":
            hint = "It may be starting or busy. Run `gems setup` again."
            return Check(name=name, status="failed", detail="accepts connections but does not answer", hint=hint)
        case _:
            return Check(name=name, status="skipped", detail="is none of the model servers that GEMS knows")


def chat_candidates(found: Survey, settings: Settings) -> list[Candidate]:
    """Return chat models that may see images: the configured one, then local ones, then those of providers."""
    served = [
        (server, model)
        for server in found.servers
        if server.program not in ("ComfyUI", "Stable Diffusion WebUI", "InvokeAI")
        for model in server.models
        if model.may_see or (model.sees is None and len(server.models) == 1 and not model.may_draw)
    ]
    served.sort(key=lambda pair: _chat_rank(pair[1]))
    local = [_served_candidate("chat", server, model) for server, model in served]
    return [*_configured("chat", settings.chat), *local, *_sold("chat", found)]


def _chat_rank(model: ServedModel) -> tuple[bool, bool, bool]:
    """Sort models that are known to see first; those that do not think answer sooner."""
    return model.sees is not True, not model.may_see, "instruct" not in model.name.lower()


def generator_candidates(found: Survey, settings: Settings) -> list[Candidate]:
    """Return generators that may work: the configured one, local servers, models on the disk, providers."""
    local = [
        Candidate("generator", f"a1111:{server.url}")
        for server in found.servers_of("Stable Diffusion WebUI")
        if server.status == "ready"
    ]
    local += [
        _served_candidate("generator", server, model)
        for server in found.servers
        if server.program != "Stable Diffusion WebUI"
        for model in server.models
        if model.may_draw
    ]
    if has_diffusers():
        fitting = sorted((model for model in found.disk if fits(model, found)), key=lambda model: -model.gb)
        local += [
            Candidate("generator", f"diffusers:{model.name}", trial=f"diffusers:{model.folder}") for model in fitting
        ]
    return [*_configured("generator", settings.generator), *local, *_sold("generator", found)]


def fits(model: DiskModel, found: Survey) -> bool:
    """Return whether a model fits into the memory of the GPU, or without one is small enough for the CPU."""
    if not found.gpus:
        return model.complete and model.gb <= _GB_ON_CPU
    return model.complete and model.gb + _GB_SPARE <= found.memory_gb


def has_diffusers() -> bool:
    """Return whether the extra for Diffusers is installed."""
    return find_spec("torch") is not None and find_spec("diffusers") is not None


def _served_candidate(part: Part, server: FoundServer, model: ServedModel) -> Candidate:
    # A second request would reload the model or halve the context.
    extra = {"GEMS_CHAT__CONCURRENCY": "1"} if (part, server.program) == ("chat", "Ollama") else {}
    return Candidate(part, f"openai:{model.name}@{server.url}/v1", extra=extra)


def _configured(part: Part, settings: ChatSettings | GeneratorSettings) -> Iterator[Candidate]:
    if settings.model != "blocks":
        yield Candidate(part, settings.model, seller_of(settings.model), settings=settings)


def _sold(part: Part, found: Survey) -> Iterator[Candidate]:
    known = set[str]()
    for variable in found.keys:
        spec = PROVIDERS[variable].spec(part)
        if spec and spec not in known:
            known.add(spec)
            yield Candidate(part, spec, PROVIDERS[variable].name, _reference(variable, spec))


def named_candidate(part: Part, spec: str, found: Survey) -> Candidate:
    """Return a model that the user named, with the key of its provider if the settings have none."""
    kind, _, rest = spec.partition(":")
    path, at, url = rest.rpartition("@http") if "@http" in rest else (rest, "", "")
    if kind in ("comfyui", "diffusers") and Path(path).exists():
        # The user's own .env is read in every folder.
        spec = f"{kind}:{Path(path).resolve()}{at}{url}"
    sold = next((name for name in found.keys if server_of(PROVIDERS[name].chat) == server_of(spec)), "")
    key = "" if os.environ.get(f"GEMS_{part.upper()}__API_KEY") else _reference(sold, spec)
    return Candidate(part, spec, seller_of(spec), key, named=True)


def _reference(variable: str, spec: str) -> str:
    """Return how a key is named in the user's `.env`; empty where the model finds it by itself."""
    return f"env:{variable}" if variable and "@http" in spec else ""


def seller_of(spec: str) -> str:
    """Return the host that is asked, empty for this machine."""
    if found := re.search(r"https?://[^/?#]+", spec):
        host = urlsplit(found.group()).hostname or ""
        return "" if _LOOPBACK.fullmatch(host) else host
    kind, _, rest = spec.partition(":")
    if kind in ("openai", "openai-chat"):
        return "OpenAI"
    provider = rest.partition(":")[0] if kind == "langchain" else ""
    return "" if provider == "ollama" else provider


async def try_out(candidate: Candidate, settings: Settings) -> list[Check]:
    """Try a candidate with small real requests."""
    if candidate.settings is not None:
        own = candidate.settings
    else:
        own = getattr(with_models(settings, **{candidate.part: candidate.trial or candidate.spec}), candidate.part)
        if candidate.key or not candidate.named:
            key = find_key(candidate.key)
            own = own.model_copy(update={"api_key": SecretStr(key) if key else None, "extra_body": {}})
    if isinstance(own, GeneratorSettings):
        checks = [await check_generator(own, draw=True)]
    else:
        checks = [check async for check in check_chat([*get_args(Role)], own)]
    return [check.model_copy(update={"name": f"{candidate.spec}: {_aspect(check)}"}) for check in checks]


def _aspect(check: Check) -> str:
    return check.name.partition(": ")[2] or ("generates" if check.name == "generator" else "answers")


def works(checks: list[Check]) -> bool:
    """Return whether a candidate passed; several images in one request are not needed."""
    return all(check.status == "ok" or check.name.endswith("several images") for check in checks)


def advise(found: Survey, chat: bool, generator: bool) -> Iterator[str]:
    """Yield what helps where no chat model or no generator works, each with a command."""
    if not chat:
        yield f"No chat model that sees images works. {_advise_chat(found)}"
    if not generator:
        yield f"No image generator works. {_advise_generator(found)}"


def _advise_chat(found: Survey) -> str:
    memory = found.memory_gb
    size = "32b" if memory >= 40 else "8b" if memory >= 10 else "4b" if memory >= 6 else "2b"
    pull = f"ollama pull qwen3-vl:{size}-instruct"
    if any(server.status != "silent" for server in found.servers_of("Ollama")):
        return f"Get one with: {pull}"
    if "ollama" in found.programs:
        return f"Ollama is installed but does not run. Start it with: ollama serve (then: {pull})"
    for server in found.servers:
        if server.models and server.program in _SEEING:
            return f"{server.program} at {server.url} needs a model with vision: {_SEEING[server.program]}"
    return f"Install Ollama from https://ollama.com, then: {pull} (or set OPENAI_API_KEY), and run: gems setup"


def _advise_generator(found: Survey) -> str:
    for server in found.servers_of("ComfyUI"):
        return (
            "ComfyUI draws with a workflow of yours: export one in ComfyUI (Workflow > Export (API)), then: "
            f"gems setup --generator comfyui:WORKFLOW.json@{server.url}"
        )
    if any(server.status == "no_api" for server in found.servers_of("Stable Diffusion WebUI")):
        return "Start the Stable Diffusion WebUI with its API: ./webui.sh --api"
    if found.servers_of("InvokeAI") and not has_diffusers():
        return "GEMS cannot use InvokeAI. Use Diffusers: pip install 'gems-agent[diffusers]'"
    if not found.gpus:
        return "There is no GPU for a local one. Set OPENAI_API_KEY, and run: gems setup"
    if not has_diffusers():
        return "Install Diffusers with: pip install 'gems-agent[diffusers]'"
    incomplete = [model.name for model in found.disk if not model.complete]
    small = found.memory_gb < 12
    name = "stabilityai/stable-diffusion-xl-base-1.0" if small else "Tongyi-MAI/Z-Image-Turbo"
    return f"Download a model with: hf download {incomplete[0] if incomplete else name}"


def plan_changes(chosen: list[Candidate]) -> dict[str, str | None]:
    """Return the variables to set or remove in the user's own `.env`, without those that are so already."""
    before, changes = read_config(config_file()), dict[str, str | None]()
    for candidate in chosen:
        if candidate.settings is not None:
            continue
        prefix = f"GEMS_{candidate.part.upper()}__"
        old = before.get(f"{prefix}MODEL")
        if old is None or server_of(old) != server_of(candidate.spec):
            # Whatever belongs to another server is of no use to this one, a key above all.
            changes |= {name: None for name in before if name.removeprefix(prefix) in _OF_SERVER}
        changes |= {f"{prefix}MODEL": candidate.spec, **candidate.extra}
        if candidate.key:
            changes[f"{prefix}API_KEY"] = candidate.key
    return {name: value for name, value in changes.items() if before.get(name) != value}


def find_overriding(changes: dict[str, str | None], chosen: list[Candidate]) -> Iterator[str]:
    """Yield where a change has no effect, since something with priority says otherwise."""
    project = dotenv_values(".env") if Path(".env").is_file() else {}
    for name, value in changes.items():
        for place, values in (("the environment", os.environ), (".env in the current folder", project)):
            if value is not None and values.get(name) not in (None, "", value):
                yield f"{name} is set in {place}, which has priority."
    if any(candidate.part == "chat" for candidate in chosen):
        own = read_config(config_file())
        for role in ROLES:
            name = f"GEMS_{role.upper()}__MODEL"
            if any(values.get(name) for values in (os.environ, project, own)):
                yield f"{name} is set, so the {role.replace('_', ' ')} uses that model."


def store_keys(chosen: list[Candidate]) -> None:
    """Store the keys that the user's `.env` will look for in the keyring; raises as `find_key`."""
    for candidate in chosen:
        where, _, name = candidate.key.partition(":")
        if where == "keyring":
            write_keyring(name, os.environ[name])
