"""Settings from the environment, the current folder's `.env` and the user's; `GEMS_CHAT__MODEL` sets `chat.model`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import platformdirs
from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from gems.errors import ConfigurationError, NotOfferedError
from gems.files.config import ConfigFileSource, ProjectFileSource, config_file, provider_of, read_config, server_of
from gems.files.trust import ENV_FILE
from gems.types import Role

_HOST = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*(?::\d{1,5})?")
_OFFER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""Names of models on offer; no model spec but `blocks` is one."""
_TAKEN = ("blocks", "gems")
"""Names that stand for the built-in world and, in OpenAI's API, for the default."""
# The word that may stand in place of an address, and an example.
_ADDRESSES = {"otel": ("console", "http://127.0.0.1:4318"), "experience": ("off", "http://host:8000")}


class ChatSettings(BaseModel):
    """One chat model. A role's settings override the common ones."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        "blocks", description="Model spec: `blocks`, `openai:MODEL@BASE_URL` or `langchain:PROVIDER:MODEL`."
    )
    api_key: SecretStr | None = Field(
        None, description="Key; by default OPENAI_API_KEY for OpenAI's own address, or LangChain's for a provider."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="None: 0 for the judge, else the endpoint's own.")
    max_tokens: int | None = Field(None, ge=1, description="Longest answer; None: the endpoint's own.")
    timeout_s: float = Field(180.0, gt=0, description="Longest silence in seconds, before and within an answer.")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        # Users store keys here, and settings are printed in notebooks.
        repr=False,
        description='Further fields of the request body as JSON, e.g. `{"chat_template_kwargs": {}}`; for '
        '`langchain:`, arguments of LangChain\'s class, e.g. `{"num_ctx": 16384}`.',
    )
    concurrency: int = Field(
        128, ge=1, description="Most requests to this model at a time; up to 8 at first, then as many as it takes."
    )
    attempts: int = Field(
        4, ge=1, le=20, description="Attempts per request that a rate limit turned away; at most 3 of others."
    )
    first_wait_s: float = Field(0.5, ge=0, description="Seconds before the second try; doubles from there.")
    logprobs: bool = Field(True, description="Request the probability of yes if the endpoint supports it.")
    image_side: int | None = Field(
        None,
        ge=64,
        description="Images shown to it have at most the area of a square of this side in pixels; "
        "None: 1255 (1.5 megapixels), for the reflector 512.",
    )
    input_usd_per_million: float | None = Field(None, ge=0, description="Price of a million input tokens.")
    output_usd_per_million: float | None = Field(None, ge=0, description="Price of a million output tokens.")


def _split_weight(lora: Any) -> Any:
    """Return PATH:WEIGHT as fields; a path may have colons, too."""
    if not isinstance(lora, str):
        return lora
    path, colon, weight = lora.rpartition(":")
    given = colon and re.fullmatch(r"-?\d*\.?\d+", weight)
    return {"path": path, "weight": float(weight)} if given else {"path": lora}


class LoraSettings(BaseModel):
    """A LoRA of Diffusers and how strongly it acts."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1)
    weight: float = Field(1.0, ge=-10, le=10)


class GeneratorSettings(BaseModel):
    """The image generator."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        "blocks",
        description="Model spec: `blocks` (`blocks:poor` edits badly), `diffusers:NAME_OR_DIR`, "
        "`openai:MODEL@BASE_URL`, `openai-chat:MODEL@BASE_URL`, `comfyui:WORKFLOW.json@URL`, `a1111:URL`, `http:URL`.",
    )
    api_key: SecretStr | None = Field(None, description="Key; OPENAI_API_KEY for OpenAI's own address.")
    timeout_s: float = Field(300.0, gt=0, description="Seconds for one image.")
    concurrency: int = Field(
        64,
        ge=1,
        description="Most requests to a remote generator at a time; up to 4 at first, then as many as it takes.",
    )
    attempts: int = Field(4, ge=1, le=20, description="Attempts per image, if retrying can help.")
    first_wait_s: float = Field(0.5, ge=0, description="Seconds before the second try; doubles from there.")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="Further fields of requests to OpenAI APIs, ComfyUI and A1111, as JSON.",
    )
    image_hosts: list[str] = Field(
        default_factory=list,
        description="Other hosts from which images are fetched if the server of OpenAI Images answers URLs: `HOST`, "
        '`HOST:PORT` or `*.DOMAIN`, as JSON, e.g. `["cdn.example.org"]`; none by default.',
    )
    usd_per_image: float | None = Field(None, ge=0, description="Price of one image.")
    steps: int | None = Field(None, ge=1, description="Inference steps; None: the model's own.")
    guidance: float | None = Field(None, ge=0, description="Guidance scale; None: the model's own.")
    quality: Literal["auto", "low", "medium", "high", "standard", "hd", "xhigh", "max"] | None = Field(
        None, description="Quality of images of OpenAI Images; None: the endpoint's own."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None, description="Background of images of OpenAI Images; None: the endpoint's own."
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="Format in which OpenAI Images sends images; None: the endpoint's own."
    )
    input_fidelity: Literal["low", "high"] | None = Field(
        None, description="How closely edits of OpenAI Images keep the source; None: the endpoint's own."
    )
    sampler: str | None = Field(None, description="Sampler of an A1111 server by name; None: the server's own.")
    checkpoint: str | None = Field(
        None, description="Checkpoint of an A1111 server by title, name or hash; None: the one that is loaded."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field("auto", description="`auto`, `cuda`, `cuda:1`, `mps`, `cpu`.")
    offload: Literal["auto", "none", "model", "sequential"] = Field(
        "auto", description="Keep weights in CPU memory if the accelerator's is short."
    )
    max_batch: int | None = Field(
        None, ge=1, description="Maximum images in one batch of Diffusers; None: 4, on a CPU 1."
    )
    compile: bool = Field(False, description="Run Diffusers' steps through torch.compile.")
    prompt_cache_mb: int = Field(256, ge=0, description="Megabytes of encoded prompts that Diffusers keeps.")

    loras: list[LoraSettings] = Field(
        default_factory=list,
        description="LoRAs of Diffusers as JSON: safetensors files, or OWNER/NAME/FILE in the Hub's cache, each with "
        'its weight behind a colon, e.g. `["./style.safetensors:0.6"]`; none by default.',
    )
    quantize: Literal["", "bitsandbytes-4bit", "bitsandbytes-8bit", "torchao-int8"] = Field(
        "", description="Quantise the weights of Diffusers while they are loaded; empty: load them as they are."
    )

    @field_validator("loras", mode="before")
    @classmethod
    def _split_weights(cls, loras: Any) -> Any:
        return [_split_weight(each) for each in loras] if isinstance(loras, list) else loras

    @field_validator("image_hosts")
    @classmethod
    def _check_hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host[:80]!r} is not a host such as cdn.example.org, host:8443 or *.example.org")
        return hosts


class ServeSettings(BaseModel):
    """The server."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; other machines need keys.")
    port: int = Field(8765, ge=0, le=65535)
    keys: Path | None = Field(None, description="File of API keys; `keys.json` in GEMS_HOME by default.")
    cors_origins: list[str] = Field(
        default_factory=list, description="Origins of web pages that may call it, as JSON; none by default."
    )
    max_body_mb: int = Field(25, ge=1, description="Largest body of a request in megabytes.")
    deadline_s: float = Field(90.0, gt=0, description="Seconds for an answer of the OpenAI API.")
    mcp_answer_s: float = Field(
        45.0, gt=0, description="Seconds after which an MCP call is answered although its run is still in progress."
    )
    chat_images: Literal["auto", "field", "text"] = Field(
        "auto",
        description="Where answers of chats have their image: `field`, beside the text as OpenRouter does; `text`, "
        "small in the text; `auto`, beside it for clients that ask for it or are known to show it.",
    )
    queue: int = Field(
        20, ge=0, description="Requests of one key that wait until it may start another run; 0: they are refused."
    )
    runs_at_a_time: int | None = Field(
        None, ge=1, description="Runs of all keys together at a time, given in turn; None: no limit."
    )
    drain_s: float = Field(20.0, ge=0, description="Seconds that runs have to stop when the server stops.")
    web: bool = Field(
        True, description="The web page at `/web`, if the extra `web` is installed; it takes 2 s to load."
    )

    def keys_path(self, settings: Settings) -> Path:
        """Return the path of the file of API keys."""
        return self.keys.expanduser() if self.keys is not None else settings.home / "keys.json"


def _default_home() -> Path:
    return Path(platformdirs.user_data_dir("gems", appauthor=False))


PartT = TypeVar("PartT", ChatSettings, GeneratorSettings)


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix="GEMS_", env_nested_delimiter="__", env_file=".env", env_ignore_empty=True, extra="ignore"
    )

    home: Path = Field(
        default_factory=_default_home,
        description="Folder of runs, images and the ledger; default: the platform's user data folder.",
    )
    chat: ChatSettings = Field(default_factory=ChatSettings, description="The chat model of all roles.")
    planner: ChatSettings = Field(default_factory=ChatSettings, description="Overrides for the planner.")
    judge: ChatSettings = Field(default_factory=ChatSettings, description="Overrides for the judge.")
    reflector: ChatSettings = Field(default_factory=ChatSettings, description="Overrides for the reflector.")
    eval_judge: ChatSettings = Field(
        default_factory=ChatSettings, description="The model that scores benchmarks; preferably not the judge."
    )
    generator: GeneratorSettings = Field(default_factory=GeneratorSettings)
    offered_generators: dict[str, GeneratorSettings] = Field(
        default_factory=dict,
        description="Generators that a run may choose instead, as JSON: fields of the generator by a name of letters, "
        'digits, `.`, `_` and `-`, e.g. `{"fast": {"model": "http:http://host:8001/generate"}}`.',
    )
    offered_judges: dict[str, ChatSettings] = Field(
        default_factory=dict,
        description="Judges that a run may choose instead, as JSON: overrides for the judge by a name.",
    )
    serve: ServeSettings = Field(default_factory=ServeSettings, description="The server.")
    checkpoint: SecretStr | None = Field(
        None,
        description="`postgresql://...`: stores checkpoints, ledger and locks of runs in this database, for "
        "several machines; None: in files of the home.",
    )

    images: str = Field(
        "",
        description="Second location of images of runs, for several machines: a shared folder, or a URL that "
        "fsspec supports, such as `s3://bucket/images`; empty for none.",
    )

    experience: str = Field(
        "",
        description="Store of experiences: empty for a folder of the home, `http://host:port` of a Chroma "
        "server, or `off`.",
    )
    embedder: str = Field(
        "auto",
        description="Embedder of experiences: `auto`, `lexical`, `minilm`, `local:DIR`, `openai:MODEL@BASE_URL`.",
    )
    embedder_api_key: SecretStr | None = Field(
        None, description="Key of the embedder; OPENAI_API_KEY for OpenAI's own address."
    )

    detector: str = Field(
        "off",
        description="Object detector: `off`, `blocks` (`blocks:0.1` errs in 10 %), `transformers:NAME_OR_DIR` or "
        "`http:URL`.",
    )
    detector_api_key: SecretStr | None = Field(None, description="Key of the detector's server.")
    detector_threshold: float | None = Field(
        None, gt=0, le=1, description="Score from which an object counts as found; None: 0.3."
    )
    detector_timeout_s: float = Field(30.0, gt=0, description="Seconds for an answer of the detector's server.")
    detector_device: str = Field("auto", description="Device of a detector in this process, as of the generator.")

    skills: str = Field("auto", description="Default skills of runs: `auto`, `none`, or names separated by commas.")
    skills_path: str = Field(
        "", description="Additional folders of skills, separated as in PATH; the last one has priority."
    )
    skill_timeout_s: float = Field(300.0, gt=0, description="Time limit of one skill in seconds.")

    log: Literal["text", "json"] = Field("text", description="Format of the server's log on stderr.")
    otel: str = Field(
        "",
        description="Destination of OpenTelemetry traces: an OTLP/HTTP collector such as "
        "`http://127.0.0.1:4318`, or `console`; empty for none.",
    )
    otel_text: bool = Field(False, description="Whether traces include prompts and answers.")

    _from_dotenv: frozenset[str] = PrivateAttr(default=frozenset())
    _own_home: Path = PrivateAttr(default_factory=_default_home)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the most important one first."""
        own = ConfigFileSource(settings_cls, env_file=config_file())
        file = getattr(dotenv_settings, "env_file", None)
        project = ProjectFileSource(settings_cls, own, _default_home(), env_file=file)
        return init_settings, env_settings, project, own

    def model_post_init(self, _context: Any) -> None:
        """Remember which paths come from a `.env`, which may be part of somebody else's project."""
        named = {name.lower(): value for name, value in dotenv_values(ENV_FILE).items() if value}
        given = {name.lower() for name, value in os.environ.items() if value}
        own = read_config(config_file()) if "gems_home" not in given else {}
        self._own_home = Path(own.get("GEMS_HOME") or _default_home()).expanduser()
        # A path that a program has set does not come from the file.
        origins = {
            "home": Path(os.path.expanduser(named.get("gems_home", ""))) == self.home != self._own_home,
            "skills_path": named.get("gems_skills_path") == self.skills_path,
        }
        from_file = {name for name, is_from_file in origins.items() if is_from_file}
        self._from_dotenv = frozenset(name for name in from_file if f"gems_{name}" in named.keys() - given)

    @field_validator("offered_generators", "offered_judges")
    @classmethod
    def _check_offers(cls, offered: dict[str, PartT]) -> dict[str, PartT]:
        for name, part in offered.items():
            if not _OFFER.fullmatch(name) or name in _TAKEN:
                allowed = f"at most 40 letters, digits, '.', '_' and '-', and none of {', '.join(_TAKEN)}"
                raise ValueError(f"{name[:80]!r} is no name for a model on offer; use {allowed}")
            if "model" not in part.model_fields_set:
                raise ValueError(f"{name!r} names no model")
        return offered

    @field_validator("home")
    @classmethod
    def _expand_home(cls, home: Path) -> Path:
        return home.expanduser()

    @field_validator("checkpoint")
    @classmethod
    def _check_checkpoint(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("It must begin with postgresql://; without it, runs are stored in the home")
        return url

    @field_validator("otel", "experience")
    @classmethod
    def _check_address(cls, where: str, info: ValidationInfo) -> str:
        word, example = _ADDRESSES[str(info.field_name)]
        if where not in ("", word) and not where.startswith(("http://", "https://")):
            raise ValueError(f"It must be empty, {word}, or an address such as {example}")
        return where

    @property
    def experience_path(self) -> Path:
        """The folder of the local store of experiences."""
        return self.home / "experience"

    @property
    def outbox_path(self) -> Path:
        """The SQLite file of pending writes to the store of experiences."""
        return self.home / "outbox.sqlite3"

    @property
    def vision_path(self) -> Path:
        """The JSON file of what judges replied when they were asked whether they see."""
        return self.home / "vision.json"

    @property
    def unsent_path(self) -> Path:
        """The SQLite file for paid results that could not be written to a ledger on a server."""
        return self.home / "unsent.sqlite3"

    @property
    def ledger_path(self) -> Path:
        """The ledger's SQLite file."""
        return self.home / "ledger.sqlite3"

    @property
    def checkpoints_path(self) -> Path:
        """The checkpointer's SQLite file."""
        return self.home / "checkpoints.sqlite3"

    @property
    def locks_path(self) -> Path:
        """The folder of lock files."""
        return self.home / "locks"

    def comes_with_project(self, name: Literal["home", "skills_path"]) -> bool:
        """Return whether the current folder's `.env` has set a path, wherever that lies.

        Somebody else's project can bring the file and name any folder, and with it code that would be executed.
        """
        return name in self._from_dotenv

    @property
    def trust_home(self) -> Path:
        """The folder of the list of what is trusted: never a home that a project has set."""
        return self._own_home if self.comes_with_project("home") else self.home

    def identity(self) -> str:
        """Return a text that differs between different settings. Contains secrets: never show it."""
        keys = (
            *(part.api_key for part in self.models()),
            self.embedder_api_key,
            self.detector_api_key,
            self.checkpoint,
        )
        shown = [key.get_secret_value() if key else None for key in keys]
        return repr((self.model_dump(exclude_unset=True), shown))

    def models(self) -> tuple[ChatSettings | GeneratorSettings, ...]:
        """Return the settings of all models, in the order of their fields."""
        chats = (self.chat, self.planner, self.judge, self.reflector, self.eval_judge)
        return (*chats, self.generator, *self.offered_generators.values(), *self.offered_judges.values())

    def chat_for(self, role: Role | Literal["eval_judge"]) -> ChatSettings:
        """Return the chat settings of a role: the common ones with the role's overrides.

        A role with a model of its own does not inherit the common key, so that a key is not sent to another
        server.
        """
        return self._over_common(getattr(self, role))

    def judge_for(self, name: str) -> ChatSettings:
        """Return the chat settings of a judge on offer, as `chat_for` does."""
        return self._over_common(self.offered_judges[name])

    def _over_common(self, part: ChatSettings) -> ChatSettings:
        own = part.model_dump(exclude_unset=True)
        common = self.chat.model_dump(exclude_unset=True)
        if "model" in own:
            for name in ("api_key", "input_usd_per_million", "output_usd_per_million"):
                common.pop(name, None)
            if "model" in self.chat.model_fields_set and provider_of(own["model"]) != provider_of(self.chat.model):
                common.pop("extra_body", None)
        return ChatSettings.model_validate(common | own)


def load_settings(**overrides: Any) -> Settings:
    """Read settings, with `overrides` on top; ConfigurationError, without the value, for an invalid one."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = "; ".join(
            f"GEMS_{'__'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"Invalid settings: {faults}.") from None
    except SettingsError as error:
        # Pydantic does not say which variable of a group is not valid JSON.
        found = re.search(r'field "(\w+)"', str(error))
        name = f"GEMS_{found.group(1).upper()}" if found else "GEMS_..."
        raise ConfigurationError(
            f"Invalid settings: {name}, or a variable that begins with {name}__, is not valid JSON."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f".env in the current folder or {config_file()} cannot be read: {type(error).__name__}.",
            hint="It must be a readable file in UTF-8.",
        ) from None


def with_models(
    settings: Settings,
    *,
    chat: str | None = None,
    judge: str | None = None,
    eval_judge: str | None = None,
    generator: str | None = None,
    detector: str | None = None,
) -> Settings:
    """Return the settings with other models; a key for one server is not used for another.

    `judge` and `generator` are specs, or names on offer. Raises NotOfferedError for any other name.
    """
    named = {"chat": chat, "eval_judge": eval_judge}
    changed: dict[str, Any] = {
        name: _with_model(getattr(settings, name), spec) for name, spec in named.items() if spec is not None
    }
    if judge is not None:
        changed["judge"] = _choose("judge", judge, settings.offered_judges, settings.judge)
    if generator is not None:
        changed["generator"] = _choose("generator", generator, settings.offered_generators, settings.generator)
    if detector is not None:
        changed["detector"] = detector
        if "detector" in settings.model_fields_set and server_of(settings.detector) != server_of(detector):
            changed["detector_api_key"] = None
    return settings.model_copy(update=changed)


def _choose(kind: str, spec: str, offered: Mapping[str, PartT], default: PartT) -> PartT:
    if spec in offered:
        return offered[spec]
    if offered and _OFFER.fullmatch(spec) and spec not in _TAKEN:
        raise NotOfferedError(kind, spec, offered)
    return _with_model(default, spec)


def _with_model(part: PartT, spec: str) -> PartT:
    kept = part.model_dump(exclude_unset=True, exclude={"model"})
    if "model" in part.model_fields_set:
        if server_of(part.model) != server_of(spec):
            kept.pop("api_key", None)
        if provider_of(part.model) != provider_of(spec):
            kept.pop("extra_body", None)
    return type(part).model_validate(kept | {"model": spec})
