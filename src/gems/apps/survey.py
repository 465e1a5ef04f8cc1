"""What `gems setup` finds on this machine: model servers, GPUs, and models on the disk."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

HOST = "127.0.0.1"
PORTS: dict[str, int] = {
    "Ollama": 11434,
    "LM Studio": 1234,
    "vLLM": 8000,
    "SGLang": 30000,
    "llama.cpp": 8080,
    "LocalAI": 8080,
    "ComfyUI": 8188,
    "Stable Diffusion WebUI": 7860,
    "InvokeAI": 9090,
}
"""Usual ports. What listens on one of them is told by its answers, not by the port."""
_PATHS = (
    *("/", "/v1/models", "/api/version", "/api/tags", "/api/v0/models", "/props", "/version", "/get_model_info"),
    *("/system", "/openapi.json", "/system_stats", "/sdapi/v1/options", "/config", "/api/v1/app/version"),
)
_CHAT, _IMAGES = "/v1/chat/completions", "/v1/images/generations"
_CONNECT_S, _ANSWER_S, _GPU_S = 1.0, 3.0, 5.0
_MAX_BYTES = 4 * 2**20
_MOST_MODELS = 40
_SEES = re.compile(
    r"(?i)(?:^|[^a-z])(?:vl|vlm|vision|omni|multimodal)(?:$|[^a-z])|qwen[\d.]*-?vl|llava|gemma-?3|pixtral|minicpm-?[vo]"
    r"|internvl|molmo|moondream|llama-?4|mistral-(?:small|medium)-?3|glm-[\d.]+v|gpt-(?:4o|4\.1|5)|claude|gemini|smolvlm"
)
_DRAWS = re.compile(
    r"(?i)flux|stable-?diffusion|sdxl|(?:^|[^a-z])sd-?[\d.x]|z-?image|qwen-?image|dreamshaper|gpt-image|sana|imagen"
)
_NAME = re.compile(r"[\w./:@+ -]{1,200}")
_OTHERS = re.compile(r"Img2Img|Inpaint|Edit|Control|Video|Audio|Upscale|Wan|LTX|Refiner|Prior|AudioLDM|Mochi")
"""In the names of pipelines that do not turn a text into an image."""

ServerStatus = Literal["ready", "no_models", "needs_key", "no_api", "silent", "unknown"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a server; whether it sees images or generates them is None if the server does not tell."""

    name: str
    sees: bool | None = None
    draws: bool | None = None

    @property
    def may_see(self) -> bool:
        """Whether it sees images, judged by its name if nothing else tells."""
        return self.sees if self.sees is not None else not self.may_draw and bool(_SEES.search(self.name))

    @property
    def may_draw(self) -> bool:
        """Whether it generates images, judged by its name if nothing else tells."""
        return self.draws if self.draws is not None else bool(_DRAWS.search(self.name))


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server on this machine; `program` is a key of `PORTS`, or empty for one that could not be told."""

    program: str
    url: str
    status: ServerStatus
    models: tuple[ServedModel, ...] = ()


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU; memory in GB."""

    name: str
    memory_gb: float


@dataclass(frozen=True, slots=True)
class DiskModel:
    """A Diffusers model in the cache of the Hugging Face Hub; `gb` are its weights in GB."""

    name: str
    pipeline: str
    gb: float
    complete: bool
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that was found; `keys` are names of environment variables."""

    servers: tuple[FoundServer, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    disk: tuple[DiskModel, ...] = ()
    keys: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    """Names of programs on the search path that could serve models."""

    @property
    def memory_gb(self) -> float:
        """Memory of the largest GPU in GB; 0 without one."""
        return max((gpu.memory_gb for gpu in self.gpus), default=0.0)

    def servers_of(self, program: str) -> list[FoundServer]:
        """Return the servers of a program."""
        return [server for server in self.servers if server.program == program]


async def survey(keys: Mapping[str, Any], ports: Mapping[str, int]) -> Survey:
    """Look for everything at once; `keys` has the names of variables to look for. Talks to loopback only."""
    servers, gpus, disk = await asyncio.gather(
        find_servers(ports), find_gpus(), asyncio.to_thread(find_disk_models, hub_cache())
    )
    return Survey(
        servers=servers,
        gpus=gpus,
        disk=disk,
        keys=tuple(name for name in keys if os.environ.get(name)),
        programs=tuple(name for name in ("ollama", "hf") if shutil.which(name)),
    )


async def find_servers(ports: Mapping[str, int]) -> tuple[FoundServer, ...]:
    """Return the servers that listen on the ports, in their order."""
    numbers = list(dict.fromkeys(ports.values()))
    # No proxy, no redirect: nothing leaves this machine.
    async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_S) as client:
        found = await asyncio.gather(*(_Port(client, number).server() for number in numbers))
    return tuple(server for server in found if server is not None)


@dataclass(slots=True)
class _Answer:
    status: int = 0
    """0 for none in time."""
    text: str = ""
    json: Any = None


@dataclass(slots=True)
class _Port:
    client: httpx.AsyncClient
    number: int
    answers: dict[str, _Answer] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.number}"

    async def server(self) -> FoundServer | None:
        """Return what listens on the port; None if nothing does."""
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(HOST, self.number), _CONNECT_S)
        except (OSError, TimeoutError):
            return None
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        found = await asyncio.gather(*(self._ask(path) for path in _PATHS))
        self.answers = dict(zip(_PATHS, found, strict=True))
        if not any(answer.status for answer in found):
            return FoundServer("", self.url, "silent")
        for program, identify in _PROGRAMS.items():
            if identify(self):
                return await _READERS.get(program, _Port.read_served)(self, program)
        if self.status("/v1/models") in (401, 403):
            # vLLM tells its version to everyone.
            program = "vLLM" if "version" in self.fields("/version") else ""
            return FoundServer(program, self.url, "needs_key")
        return FoundServer("", self.url, "unknown")

    async def _ask(self, path: str, body: Any = None) -> _Answer:
        method = "GET" if body is None else "POST"
        try:
            async with asyncio.timeout(_ANSWER_S), self.client.stream(method, self.url + path, json=body) as response:
                data = b""
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > _MAX_BYTES:
                        return _Answer(response.status_code)
        except (httpx.HTTPError, TimeoutError):
            return _Answer()
        text = data.decode("utf-8", "replace")
        try:
            return _Answer(response.status_code, text, json.loads(text))
        except (ValueError, RecursionError):
            return _Answer(response.status_code, text)

    def status(self, path: str) -> int:
        """Return the status of an answer."""
        return self.answers[path].status

    def fields(self, path: str) -> dict[str, Any]:
        """Return the JSON object of a successful answer; empty for any other."""
        answer = self.answers[path]
        return answer.json if answer.status == 200 and isinstance(answer.json, dict) else {}

    def items(self, path: str, name: str) -> list[dict[str, Any]]:
        """Return the objects in a list of a JSON object."""
        found = self.fields(path).get(name)
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    def owners(self) -> set[str]:
        """Return who owns the models of an OpenAI-compatible server."""
        return {str(item.get("owned_by", "")).lower() for item in self.items("/v1/models", "data")}

    def names(self, path: str = "/v1/models", where: str = "data", name: str = "id") -> list[str]:
        """Return the names of models; names that cannot stand in a model spec are left out."""
        found = [str(item.get(name) or "") for item in self.items(path, where)]
        return [each for each in found if _NAME.fullmatch(each)][:_MOST_MODELS]

    def _found(self, program: str, models: list[ServedModel]) -> FoundServer:
        return FoundServer(program, self.url, "ready" if models else "no_models", tuple(models))

    async def read_served(self, program: str) -> FoundServer:
        """Read the models of an OpenAI-compatible server."""
        paths = self.fields("/openapi.json").get("paths")
        sees: Any = self.fields("/get_model_info").get("has_image_understanding")
        if isinstance(modalities := self.fields("/props").get("modalities"), dict):
            sees = bool(modalities.get("vision"))
        # A server with both routes has them whatever its model is.
        draws = None
        if isinstance(paths, dict) and not {_CHAT, _IMAGES} <= paths.keys():
            draws = _IMAGES in paths
        told = False if draws else sees if isinstance(sees, bool) else None
        return self._found(program, [ServedModel(name, told, draws) for name in self.names()])

    async def read_ollama(self, program: str) -> FoundServer:
        names = self.names("/api/tags", "models", "name")
        shown = await asyncio.gather(*(self._ask("/api/show", {"model": name}) for name in names))
        models = []
        for name, answer in zip(names, shown, strict=True):
            able = answer.json.get("capabilities") if isinstance(answer.json, dict) else None
            if not isinstance(able, list):
                models.append(ServedModel(name))
            elif "completion" in able or "image" in able:
                models.append(ServedModel(name, "vision" in able, "image" in able))
        return self._found(program, models)

    async def read_lm_studio(self, program: str) -> FoundServer:
        types = {str(item.get("id")): item.get("type") for item in self.items("/api/v0/models", "data")}
        models = [
            ServedModel(name, types[name] == "vlm", draws=False)
            for name in self.names("/api/v0/models")
            if types[name] in ("llm", "vlm")
        ]
        return self._found(program, models)

    async def read_web_ui(self, program: str) -> FoundServer:
        if self.status("/sdapi/v1/options") in (401, 403):
            return FoundServer(program, self.url, "needs_key")
        if not self.fields("/sdapi/v1/options"):
            return FoundServer(program, self.url, "no_api")
        name = str(self.fields("/sdapi/v1/options").get("sd_model_checkpoint") or "")
        return self._found(program, [ServedModel(name, sees=False, draws=True)] if name else [])

    async def read_bare(self, program: str) -> FoundServer:
        return FoundServer(program, self.url, "ready")

    def is_web_ui(self) -> bool:
        """Return whether it is A1111, Forge or SD.Next, also without its API."""
        title = str(self.fields("/config").get("title") or "")
        has_api = "sd_model_checkpoint" in self.fields("/sdapi/v1/options")
        # Some servers answer 401 to everything.
        is_guarded = self.status("/sdapi/v1/options") in (401, 403) and self.status("/v1/models") == 404
        return has_api or is_guarded or "Stable Diffusion" in title

    def is_ollama(self) -> bool:
        """Return whether it is Ollama; other servers imitate some of its routes."""
        return self.answers["/"].text.startswith("Ollama is running") or (
            "version" in self.fields("/api/version") and "models" in self.fields("/api/tags")
        )


# In this order: llama.cpp and LocalAI imitate routes of others.
_PROGRAMS: dict[str, Callable[[_Port], bool]] = {
    "ComfyUI": lambda port: {"system", "devices"} <= port.fields("/system_stats").keys(),
    "Stable Diffusion WebUI": _Port.is_web_ui,
    "InvokeAI": lambda port: isinstance(port.fields("/api/v1/app/version").get("version"), str),
    "llama.cpp": lambda port: "default_generation_settings" in port.fields("/props") or "llamacpp" in port.owners(),
    "LM Studio": lambda port: any("type" in item for item in port.items("/api/v0/models", "data")),
    "LocalAI": lambda port: "backends" in port.fields("/system"),
    "Ollama": _Port.is_ollama,
    "vLLM": lambda port: "vllm" in port.owners(),
    "SGLang": lambda port: "sglang" in port.owners() or "model_path" in port.fields("/get_model_info"),
    "OpenAI-compatible server": lambda port: "data" in port.fields("/v1/models") and "gems" not in port.owners(),
}
_READERS: dict[str, Callable[[_Port, str], Awaitable[FoundServer]]] = {
    "Ollama": _Port.read_ollama,
    "LM Studio": _Port.read_lm_studio,
    "Stable Diffusion WebUI": _Port.read_web_ui,
    "ComfyUI": _Port.read_bare,
    "InvokeAI": _Port.read_bare,
}


async def find_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that `nvidia-smi` lists, or the one of a Mac; torch takes seconds to load and is not asked."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return (Gpu("Apple", round(memory / 1e9, 1)),)
    path = shutil.which("nvidia-smi")
    if path is None:
        return ()
    query = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    try:
        process = await asyncio.create_subprocess_exec(
            path, *query, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ()
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _GPU_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ()
    lines = re.findall(r"^(.+), (\d+)\s*$", out.decode("utf-8", "replace"), re.MULTILINE)
    return tuple(Gpu(name, round(int(mebibytes) * 2**20 / 1e9, 1)) for name, mebibytes in lines)


def hub_cache() -> Path:
    """Return the cache folder of the Hugging Face Hub, by the variables that its library reads."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()


def find_disk_models(cache: Path) -> tuple[DiskModel, ...]:
    """Return the text-to-image pipelines in a cache folder, the newest snapshot of each. Blocking."""
    found = []
    for folder in sorted(cache.glob("models--*--*")):
        indices = sorted(folder.glob("snapshots/*/model_index.json"), key=lambda path: path.lstat().st_mtime)
        if not indices:
            continue
        try:
            index = json.loads(indices[-1].read_text(encoding="utf-8"))
            pipeline = str(index["_class_name"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if not pipeline.endswith("Pipeline") or _OTHERS.search(pipeline):
            continue
        snapshot = indices[-1].parent
        weights = [path for path in snapshot.rglob("*.safetensors") if path.exists()]
        parts = [name for name, origin in index.items() if isinstance(origin, list) and origin and origin[0]]
        complete = bool(weights) and all((snapshot / part).is_dir() for part in parts)
        complete = complete and not any(folder.glob("blobs/*.incomplete"))
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        gb = round(sum(path.stat().st_size for path in weights) / 1e9, 1)
        found.append(DiskModel(name, pipeline, gb, complete, snapshot))
    return tuple(found)
