"""Settings: the environment and `.env`, read once by the ways in.

Every variable begins with `GEMS_`; nested ones use two underscores, for example `GEMS_CHAT__MODEL`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, TypeVar

import platformdirs
from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from gems.errors import ConfigurationError
from gems.types import Role


class ChatSettings(BaseModel):
    """One chat model. A role's settings stand in for the common ones where they are set."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("blocks", description="Model spec: `blocks`, or `openai:MODEL@BASE_URL`.")
    api_key: SecretStr | None = Field(None, description="Key; OPENAI_API_KEY for OpenAI's own address.")
    temperature: float | None = Field(None, ge=0, le=2, description="None: the endpoint's own.")
    max_tokens: int | None = Field(None, ge=1, description="Longest answer; None: the endpoint's own.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds for one answer, from first to last byte.")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        # Users put keys there, and settings are printed in notebooks.
        repr=False,
        description='Further fields of the request body as JSON, e.g. `{"chat_template_kwargs": {}}`.',
    )
    concurrency: int = Field(8, ge=1, description="Requests to this model at a time.")
    attempts: int = Field(4, ge=1, le=20, description="Tries per request, where trying again can help.")
    first_wait_s: float = Field(0.5, ge=0, description="Seconds before the second try; doubles from there.")
    logprobs: bool = Field(True, description="Ask for the probability of yes where the endpoint can.")
    image_side: int | None = Field(
        None,
        ge=64,
        description="Longest side in pixels of images shown to it; None: 1024, for the reflector 512.",
    )
    input_usd_per_million: float | None = Field(None, ge=0, description="Price of a million input tokens.")
    output_usd_per_million: float | None = Field(None, ge=0, description="Price of a million output tokens.")


class GeneratorSettings(BaseModel):
    """The image generator."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        "blocks",
        description="Model spec: `blocks`, `diffusers:NAME_OR_DIR`, `openai:MODEL@BASE_URL`, `http:URL`.",
    )
    api_key: SecretStr | None = Field(None, description="Key; OPENAI_API_KEY for OpenAI's own address.")
    timeout_s: float = Field(300.0, gt=0, description="Seconds for one image.")
    concurrency: int = Field(4, ge=1, description="Requests to a remote generator at a time.")
    attempts: int = Field(4, ge=1, le=20, description="Tries per image, where trying again can help.")
    first_wait_s: float = Field(0.5, ge=0, description="Seconds before the second try; doubles from there.")
    extra_body: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="Further fields for OpenAI Images."
    )
    usd_per_image: float | None = Field(None, ge=0, description="Price of one image.")
    steps: int | None = Field(None, ge=1, description="Inference steps; None: the model's own.")
    guidance: float | None = Field(None, ge=0, description="Guidance scale; None: the model's own.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field("auto", description="`auto`, `cuda`, `cuda:1`, `mps`, `cpu`.")
    offload: Literal["auto", "none", "model", "sequential"] = Field(
        "auto", description="Keep weights in CPU memory where the accelerator's is short."
    )
    max_batch: int | None = Field(
        None, ge=1, description="Most images that Diffusers draws in one batch; None: 4, on a CPU 1."
    )
    compile: bool = Field(False, description="Run Diffusers' steps through torch.compile.")
    prompt_cache_mb: int = Field(256, ge=0, description="Megabytes of encoded prompts that Diffusers keeps.")


class ServeSettings(BaseModel):
    """The server."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field("127.0.0.1", description="Where it listens; another machine reaches it only with keys.")
    port: int = Field(8765, ge=0, le=65535)
    keys: Path | None = Field(None, description="The file of keys; `keys.json` in GEMS_HOME by default.")
    cors_origins: list[str] = Field(
        default_factory=list, description="Origins of web pages that may call it, as JSON; none by default."
    )
    max_body_mb: int = Field(25, ge=1, description="Largest body of a request in megabytes.")
    deadline_s: float = Field(90.0, gt=0, description="Seconds for an answer of the OpenAI API.")
    drain_s: float = Field(20.0, ge=0, description="Seconds that runs have to stop in when the server stops.")
    web: bool = Field(
        True, description="The web page at `/web`, where the extra `web` is installed; it takes 2 s to load."
    )

    def keys_path(self, settings: Settings) -> Path:
        """The file of keys."""
        return self.keys.expanduser() if self.keys is not None else settings.home / "keys.json"


_DOTENV = ".env"


def default_home() -> Path:
    """The platform's folder for data of users."""
    return Path(platformdirs.user_data_dir("gems", appauthor=False))


PartT = TypeVar("PartT", ChatSettings, GeneratorSettings)


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        env_prefix="GEMS_", env_nested_delimiter="__", env_file=_DOTENV, env_ignore_empty=True, extra="ignore"
    )

    home: Path = Field(
        default_factory=default_home,
        description="Where runs, images and the ledger are kept; default: the platform's user data folder.",
    )
    chat: ChatSettings = Field(default_factory=ChatSettings, description="The chat model of all roles.")
    planner: ChatSettings = Field(default_factory=ChatSettings, description="What differs for the planner.")
    judge: ChatSettings = Field(default_factory=ChatSettings, description="What differs for the judge.")
    reflector: ChatSettings = Field(
        default_factory=ChatSettings, description="What differs for the reflector."
    )
    eval_judge: ChatSettings = Field(
        default_factory=ChatSettings, description="The model that scores benchmarks; better not the judge."
    )
    generator: GeneratorSettings = Field(default_factory=GeneratorSettings)
    serve: ServeSettings = Field(default_factory=ServeSettings, description="The server.")
    checkpoint: SecretStr | None = Field(
        None,
        description="`postgresql://...`: keeps checkpoints, ledger and locks of runs in this database, for "
        "several machines; None: in files of the home.",
    )

    images: str = Field(
        "",
        description="Where images of runs are kept besides the home, for several machines: a folder that all "
        "of them see, or a URL that fsspec knows, such as `s3://bucket/images`; empty for nowhere.",
    )

    experience: str = Field(
        "",
        description="Where experiences are kept for later runs: empty for a folder of the home, "
        "`http://host:port` of a Chroma server, or `off`.",
    )
    embedder: str = Field(
        "auto",
        description="What experiences are found by: `auto`, `lexical`, `minilm`, `local:DIR`, "
        "`openai:MODEL@BASE_URL`.",
    )
    embedder_api_key: SecretStr | None = Field(
        None, description="Key of the embedder; OPENAI_API_KEY for OpenAI's own address."
    )

    skills: str = Field(
        "auto", description="What runs that do not say use: `auto`, `none`, or names separated by commas."
    )
    skills_path: str = Field(
        "", description="Further folders of skills, separated as in PATH; the last one goes first."
    )
    skill_timeout_s: float = Field(300.0, gt=0, description="Seconds that one skill may take.")

    log: Literal["text", "json"] = Field("text", description="The form of the server's log on stderr.")
    otel: str = Field(
        "",
        description="Where traces go by OpenTelemetry: a collector that takes OTLP/HTTP, such as "
        "`http://127.0.0.1:4318`, or `console`; empty for nowhere.",
    )
    otel_text: bool = Field(False, description="Whether prompts and answers are part of the traces.")

    _of_project: frozenset[str] = PrivateAttr(default=frozenset())

    def model_post_init(self, _context: Any) -> None:
        """Remember which places a `.env` has named, which may have come with a project."""
        named = {name.lower(): value for name, value in dotenv_values(_DOTENV).items() if value}
        given = {name.lower() for name, value in os.environ.items() if value}
        # A place that a program has given is not the file's.
        said = {
            "home": Path(os.path.expanduser(named.get("gems_home", ""))) == self.home,
            "skills_path": named.get("gems_skills_path") == self.skills_path,
        }
        self._of_project = frozenset(
            name for name, is_said in said.items() if is_said and f"gems_{name}" in named.keys() - given
        )

    @field_validator("home")
    @classmethod
    def _with_home(cls, home: Path) -> Path:
        return home.expanduser()

    @field_validator("checkpoint")
    @classmethod
    def _of_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("It must begin with postgresql://; without it, runs are kept in the home")
        return url

    @field_validator("otel")
    @classmethod
    def _of_collector(cls, where: str) -> str:
        if where not in ("", "console") and not where.startswith(("http://", "https://")):
            raise ValueError("It must be empty, console, or an address such as http://127.0.0.1:4318")
        return where

    @field_validator("experience")
    @classmethod
    def _of_chroma(cls, where: str) -> str:
        if where not in ("", "off") and not where.startswith(("http://", "https://")):
            raise ValueError("It must be empty, off, or an address such as http://host:8000")
        return where

    @property
    def experience_path(self) -> Path:
        """The folder of the local store of experiences."""
        return self.home / "experience"

    @property
    def outbox_path(self) -> Path:
        """The SQLite file of what is still to be written to the store of experiences."""
        return self.home / "outbox.sqlite3"

    @property
    def ledger_path(self) -> Path:
        """The ledger's SQLite file."""
        return self.home / "ledger.sqlite3"

    @property
    def checkpoints_path(self) -> Path:
        """The checkpointer's SQLite file."""
        return self.home / "checkpoints.sqlite3"

    @property
    def unsent_path(self) -> Path:
        """The SQLite file for what was paid for and could not be entered into a ledger on a server."""
        return self.home / "unsent.sqlite3"

    @property
    def locks_path(self) -> Path:
        """The folder of the runs' locks."""
        return self.home / "locks"

    def comes_with_project(self, name: Literal["home", "skills_path"], place: Path) -> bool:
        """Whether a place was named by the current folder's `.env` and stands below that folder.

        A project that somebody else has written can bring both, and with them code that would run.
        """
        return name in self._of_project and place.resolve().is_relative_to(Path.cwd())

    @property
    def trust_home(self) -> Path:
        """Where it is kept which folders the user trusts: never in a home that comes with a project."""
        return default_home() if self.comes_with_project("home", self.home) else self.home

    def identity(self) -> str:
        """A text that differs between settings that differ. Holds secrets: never show it."""
        keys = [
            part.api_key.get_secret_value() if part.api_key else None
            for part in (
                self.chat,
                self.planner,
                self.judge,
                self.reflector,
                self.eval_judge,
                self.generator,
            )
        ]
        keys.append(self.embedder_api_key.get_secret_value() if self.embedder_api_key else None)
        keys.append(self.checkpoint.get_secret_value() if self.checkpoint else None)
        return repr((self.model_dump(exclude_unset=True), keys))

    def chat_for(self, role: Role | Literal["eval_judge"]) -> ChatSettings:
        """The chat settings of a role: the common ones, with what differs for it.

        A role that names a model of its own does not inherit the common key: a key goes only where it
        was meant to go.
        """
        own = getattr(self, role).model_dump(exclude_unset=True)
        common = self.chat.model_dump(exclude_unset=True)
        if "model" in own:
            for name in ("api_key", "input_usd_per_million", "output_usd_per_million"):
                common.pop(name, None)
        return ChatSettings.model_validate(common | own)


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and `.env`, with `overrides` on top.

    Raises:
        ConfigurationError: a variable has a value that cannot be used; the value is not repeated.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise _configuration_error(error) from None
    except SettingsError as error:
        raise _not_json(error) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f".env cannot be read: {type(error).__name__}.", hint="It must be a readable file in UTF-8."
        ) from None


def with_models(
    settings: Settings,
    *,
    chat: str | None = None,
    judge: str | None = None,
    eval_judge: str | None = None,
    generator: str | None = None,
) -> Settings:
    """The settings with other models; everything else about them stays.

    A key that was configured for a model on one server does not go along to another server.
    """
    named = {"chat": chat, "judge": judge, "eval_judge": eval_judge, "generator": generator}
    changed = {
        name: _with_model(getattr(settings, name), spec) for name, spec in named.items() if spec is not None
    }
    return settings.model_copy(update=changed)


def _with_model(part: PartT, spec: str) -> PartT:
    kept = part.model_dump(exclude_unset=True, exclude={"model"})
    if "model" in part.model_fields_set and _server(part.model) != _server(spec):
        kept.pop("api_key", None)
    return type(part).model_validate(kept | {"model": spec})


def _server(spec: str) -> str:
    """The scheme, host and port that a model spec names; its kind where it names none."""
    found = re.search(r"https?://[^/?#]+", spec)
    return found.group().lower() if found else spec.partition(":")[0]


def _configuration_error(error: ValidationError) -> ConfigurationError:
    """Name each bad variable and what is wrong with it, but never its value, which may be a secret."""
    faults = "; ".join(
        f"GEMS_{'__'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )
    return ConfigurationError(f"The settings cannot be used: {faults}.", hint="See .env.example for each.")


def _not_json(error: SettingsError) -> ConfigurationError:
    """Name the group of settings with a value that was to be JSON; pydantic tells no more than that."""
    found = re.search(r'field "(\w+)"', str(error))
    name = f"GEMS_{found.group(1).upper()}" if found else "GEMS_..."
    return ConfigurationError(
        f"The settings cannot be used: {name}, or a variable that begins with {name}__, is to be JSON and is "
        "none.",
        hint="See .env.example for each.",
    )
