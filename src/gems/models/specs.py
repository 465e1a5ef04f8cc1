"""Model specs: short strings such as `openai:gpt-image-1@http://host/v1`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from gems.errors import ConfigurationError, ModelSpecError
from gems.observability.redaction import redact

CHAT_FORMS = "`blocks` or `openai:MODEL[@BASE_URL]`"
GENERATOR_FORMS = "`blocks`, `diffusers:NAME_OR_DIR`, `openai:MODEL[@BASE_URL]` or `http:URL`"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A parsed model spec.

    Attributes:
        kind: `blocks`, `openai`, `diffusers` or `http`.
        model: The model's name or directory; empty where the kind has none.
        url: Base URL; None for the kind's own.
    """

    kind: str
    model: str = ""
    url: str | None = None

    def __str__(self) -> str:
        if self.kind == "http":
            return f"http:{self.url}"
        at = f"@{self.url}" if self.url else ""
        return f"{self.kind}:{self.model}{at}" if self.model else self.kind


def parse_chat_spec(text: str) -> ModelSpec:
    """The chat model that `text` names.

    Raises:
        ModelSpecError: `text` is no chat model spec.
    """
    return _parse(text, ("blocks", "openai"), "chat", CHAT_FORMS)


def parse_generator_spec(text: str) -> ModelSpec:
    """The image generator that `text` names.

    Raises:
        ModelSpecError: `text` is no generator spec.
    """
    return _parse(text, ("blocks", "diffusers", "openai", "http"), "generator", GENERATOR_FORMS)


def _parse(text: str, kinds: tuple[str, ...], what: str, forms: str) -> ModelSpec:
    kind, _, rest = text.strip().partition(":")
    wrong = ModelSpecError(f"{redact(text)!r} is no {what} model spec.", hint=f"Write {forms}.")
    if kind not in kinds or (kind == "blocks") != (not rest):
        raise wrong
    if kind == "http":
        return ModelSpec(kind, url=checked_url(rest, wrong))
    # A model's name may hold "@" itself; only one before an address begins the address.
    model, at, url = rest.rpartition("@http")
    if kind != "openai":
        return ModelSpec(kind, rest)
    if not at:
        # An address without its scheme would otherwise be sent to OpenAI as a model's name.
        if re.search(r"[/:]", rest.partition("@")[2]):
            raise wrong
        return ModelSpec(kind, rest)
    if not model:
        raise wrong
    base = checked_url(f"http{url}", wrong)
    if "?" in base or "#" in base:
        raise ModelSpecError(
            f"The base URL of {redact(model)!r} has a query, which no endpoint below it would get.",
            hint="Write it up to /v1, and give keys by the API key setting.",
        )
    return ModelSpec(kind, model, base)


def checked_url(url: str, wrong: ConfigurationError) -> str:
    """`url` without slashes at its end.

    Args:
        url: Of a spec.
        wrong: Raised where it is no address.

    Raises:
        ModelSpecError: it holds a user or a password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = None
    if not usable:
        raise wrong
    if parts is not None and "@" in parts.netloc:
        raise ModelSpecError(
            f"The spec of {parts.hostname} holds a user or a password.",
            hint="Give keys by the API key setting instead.",
        )
    return url.rstrip("/")
