"""Parse model specs, display and compare URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from gems.errors import ConfigurationError, ModelSpecError
from gems.observability.redaction import redact

CHAT_FORMS = "`blocks`, `openai:MODEL[@BASE_URL]` or `langchain:PROVIDER:MODEL[@BASE_URL]`"
GENERATOR_FORMS = (
    "`blocks[:good|:poor]`, `diffusers:NAME_OR_DIR`, `openai:MODEL[@BASE_URL]`, `openai-chat:MODEL[@BASE_URL]`, "
    "`comfyui:WORKFLOW.json[@URL]`, `a1111:URL` or `http:URL`"
)
DETECTOR_FORMS = "`off`, `blocks[:ERROR_RATE]`, `transformers:NAME_OR_DIR` or `http:URL`"
_URL_KINDS = ("http", "a1111")
"""Kinds whose spec is a URL."""
_OPENAI_KINDS = ("openai", "openai-chat")
"""Kinds whose spec is a model's name and the base URL of a server."""
_NAMED_KINDS = (*_OPENAI_KINDS, "langchain", "comfyui")
"""Kinds whose spec may end in the URL of a server."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A parsed model spec.

    `model` is a name or directory, of `blocks` the editor, and empty if there is none; `provider` is LangChain's.
    """

    kind: str
    model: str = ""
    url: str | None = None
    provider: str = ""

    def __str__(self) -> str:
        if self.kind in _URL_KINDS:
            return f"{self.kind}:{self.url}"
        at = f"@{self.url}" if self.url else ""
        kind = f"{self.kind}:{self.provider}" if self.provider else self.kind
        return f"{kind}:{self.model}{at}" if self.model else kind


def parse_chat_spec(text: str) -> ModelSpec:
    """Parse a chat model spec; raises `ModelSpecError`."""
    return _parse_spec(text, ("blocks",), ("openai", "langchain"), "chat", CHAT_FORMS)


def parse_generator_spec(text: str) -> ModelSpec:
    """Parse an image generator spec; raises `ModelSpecError`."""
    builtin = ("blocks", "blocks:good", "blocks:poor")
    kinds = ("diffusers", *_OPENAI_KINDS, "comfyui", *_URL_KINDS)
    return _parse_spec(text, builtin, kinds, "generator", GENERATOR_FORMS)


def parse_detector_spec(text: str) -> ModelSpec:
    """Parse an object detector spec; raises `ModelSpecError`."""
    spec = _parse_spec(text, ("off", "blocks"), ("blocks", "transformers", "http"), "detector", DETECTOR_FORMS)
    if spec.kind == "blocks" and spec.model and not re.fullmatch(r"0?\.\d+|[01]", spec.model):
        raise ModelSpecError(
            f"Invalid error rate of the built-in detector: {spec.model!r}.", hint="Use 0 to 1, e.g. blocks:0.1."
        )
    return spec


def _parse_spec(text: str, builtin: tuple[str, ...], kinds: tuple[str, ...], what: str, forms: str) -> ModelSpec:
    kind, _, rest = text.strip().partition(":")
    wrong = ModelSpecError(f"Invalid {what} model spec: {redact(text)!r}.", hint=f"Use {forms}.")
    if text.strip() in builtin:
        return ModelSpec(kind, rest)
    if kind not in kinds or not rest:
        raise wrong
    if kind in _URL_KINDS:
        return ModelSpec(kind, url=check_url(rest, wrong))
    if kind not in _NAMED_KINDS:
        return ModelSpec(kind, rest)
    provider = ""
    if kind == "langchain":
        provider, rest = _split_provider(rest, wrong)
    # A model's name may contain "@"; only the one before `http` begins the URL.
    model, at, url = rest.rpartition("@http")
    if not at:
        # A URL without a scheme would otherwise be sent to OpenAI as a model name.
        if re.search(r"[/:]", rest.partition("@")[2]):
            raise wrong
        return ModelSpec(kind, rest, provider=provider)
    if not model:
        raise wrong
    base = check_url(f"http{url}", wrong)
    if "?" in base or "#" in base:
        raise ModelSpecError(
            f"The base URL of {redact(model)!r} has a query or fragment, which is never sent.",
            hint="Remove it, and use the API key setting for keys.",
        )
    return ModelSpec(kind, model, base, provider)


def _split_provider(text: str, wrong: ConfigurationError) -> tuple[str, str]:
    # A model's name may contain ":", as those of Ollama do.
    provider, _, model = text.partition(":")
    provider = provider.lower().replace("-", "_")
    if not model or not re.fullmatch(r"[a-z]\w*", provider, re.ASCII):
        raise wrong
    return provider, model


def check_url(url: str, wrong: ConfigurationError) -> str:
    """Return `url` without trailing slashes; raise `wrong` if not HTTP, `ModelSpecError` if with a user."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not usable:
        raise wrong
    if "@" in parts.netloc:
        raise ModelSpecError(
            f"The URL of {parts.hostname} contains a user or a password.", hint="Use the API key setting instead."
        )
    return url.rstrip("/")


def resolve_on_same_server(address: str, base_url: str) -> str | None:
    """Resolve `address` against `base_url`; None if it is on another server or ambiguous."""
    try:
        absolute = urljoin(f"{base_url}/", address)
        if any(mark in urlsplit(absolute).netloc for mark in "@\\"):
            # URL parsers disagree about the host of such an address.
            return None
        return absolute if _origin(absolute) == _origin(base_url) else None
    except ValueError:
        return None


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
