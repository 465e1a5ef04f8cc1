"""Chat models of other providers, which LangChain's `init_chat_model` creates: Anthropic, Gemini, Ollama and more.

The packages are optional; the factory imports this module only for specs that begin with `langchain:`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr, ValidationError

from gems.errors import ConfigurationError, MissingExtraError, ModelSpecError
from gems.models.chat.capabilities import FEATURES
from gems.models.http import MAX_CHAT_BYTES, make_client_options
from gems.models.specs import ModelSpec
from gems.observability.redaction import redact, secrets_in, shorten
from gems.settings import ChatSettings

_NO_KEY = "none"
"""Sent to addresses that a spec names, so that they do not receive the provider's key from the environment."""
_TOKEN_LIMITS = ("max_tokens", "max_output_tokens", "num_predict", "max_completion_tokens")
"""Names of the field that limits the tokens of an answer, in the classes of LangChain."""

Close = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model of LangChain, and how a `ChatClient` has to use it.

    Attributes:
        lacking: Features of requests that its class does not have.
        secrets: Keys that must not appear in messages.
        closing: Closes its connections.
    """

    model: BaseChatModel
    lacking: frozenset[str]
    secrets: tuple[str, ...]
    closing: Close | None


class _Provider(NamedTuple):
    extra: str
    package: str
    lacking: tuple[str, ...]
    """Features besides `stream_usage`, which only classes for OpenAI's API have."""
    keys: tuple[str, ...]
    """Variables of the environment that may hold its key; empty if it needs none."""


_PROVIDERS = {
    "anthropic": _Provider(
        "anthropic",
        "langchain_anthropic",
        ("limits", "json_mode", "logprobs"),
        ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    ),
    "google_genai": _Provider(
        "google", "langchain_google_genai", ("limits", "logprobs"), ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    ),
    "ollama": _Provider("ollama", "langchain_ollama", ("logprobs",), ()),
}


def open_langchain_model(spec: ModelSpec, settings: ChatSettings) -> OpenedModel:
    """Create the model of a spec without a request.

    Raises:
        ConfigurationError: Its package or key is missing, or its class rejects the settings.
    """
    known = _PROVIDERS.get(spec.provider)
    _check_packages(spec, known)
    key = settings.api_key.get_secret_value() if settings.api_key is not None else None
    if known is not None and key is None and spec.url is None:
        _check_key(spec, known)
    secrets = (*((key,) if key else ()), *secrets_in(settings.extra_body))
    options = _options_of(spec, settings, key or (_NO_KEY if spec.url else None)) | settings.extra_body
    try:
        model: BaseChatModel = import_module("langchain.chat_models").init_chat_model(
            spec.model, model_provider=spec.provider, **options
        )
        closing = _CLIENTS[spec.provider](model, settings.timeout_s) if spec.provider in _CLIENTS else None
    except Exception as error:  # noqa: BLE001 - the classes raise whatever they like
        raise _translate(error, spec, secrets) from None
    lacking = frozenset({*known.lacking, "stream_usage"} if known else FEATURES) - {"parts", "system"}
    if known is None:
        fields = type(model).model_fields
        lacking -= {name for name in ("temperature", "max_tokens") if name in fields}
    return OpenedModel(model, lacking, tuple({*secrets, *_keys_of(model)} - {_NO_KEY}), closing)


def adapt_parameters(model: BaseChatModel, parameters: dict[str, Any]) -> tuple[BaseChatModel, dict[str, Any]]:
    """Return the model with OpenAI's parameters of one request, and the arguments of its call.

    The classes agree on the fields that they are created with more than on the arguments of a call.
    """
    names = {"temperature": "temperature", "max_tokens": _token_limit_of(model)}
    changed = {field: parameters[name] for name, field in names.items() if field and name in parameters}
    form = parameters.get("extra_body", {}).get("response_format")
    return model.model_copy(update=changed), {"response_format": form} if form else {}


def _check_packages(spec: ModelSpec, known: _Provider | None) -> None:
    if known is not None:
        if find_spec("langchain") is None or find_spec(known.package) is None:
            raise MissingExtraError(str(spec), known.extra)
    elif find_spec("langchain") is None:
        package = f"langchain-{spec.provider.replace('_', '-')}"
        raise ConfigurationError(
            f"{spec} needs packages that are not installed.", hint=f"Install them with: pip install langchain {package}"
        )


def _check_key(spec: ModelSpec, known: _Provider) -> None:
    # Vertex AI and LangSmith's gateway have credentials of their own.
    others = ("GOOGLE_GENAI_USE_VERTEXAI", "LANGSMITH_GATEWAY")
    if known.keys and not any(os.environ.get(name) for name in (*known.keys, *others)):
        raise ConfigurationError(
            f"{spec} needs an API key.", hint=f"Set {known.keys[0]}, or GEMS_CHAT__API_KEY for this model only."
        )


def _options_of(spec: ModelSpec, settings: ChatSettings, key: str | None) -> dict[str, Any]:
    """Return the arguments that the class is created with; retries are ours."""
    address = {"base_url": spec.url} if spec.url else {}
    if spec.provider == "ollama":
        options = make_client_options(import_module("httpx").Limits, settings.timeout_s, MAX_CHAT_BYTES)
        headers = options.pop("headers") | ({"Authorization": f"Bearer {key}"} if key else {})
        return address | {"async_client_kwargs": options | {"headers": headers, "follow_redirects": False}}
    kept: dict[str, Any] = {"timeout": settings.timeout_s, "max_retries": 0}
    if spec.provider == "google_genai":
        # Its timeout ends the whole answer, however fast it is written, and 0 means four retries.
        kept = {"max_retries": 1}
    return address | kept | ({"api_key": SecretStr(key)} if key else {})


def _own_anthropic_client(model: Any, timeout_s: float) -> Close:
    """Give the model an HTTP client of its own: LangChain shares one, which breaks when its event loop ends."""
    httpx2 = import_module("httpx2")
    http = httpx2.AsyncClient(**make_client_options(httpx2.Limits, timeout_s, MAX_CHAT_BYTES))
    options = model._client_params | {"http_client": http}  # noqa: SLF001 - it has no argument for a client
    model.__dict__["_async_client"] = import_module("anthropic").AsyncAnthropic(**options)
    close: Close = http.aclose
    return close


def _own_google_client(model: Any, timeout_s: float) -> Close | None:
    """Give the model an HTTP client with our limits; Vertex AI keeps its own, which signs requests."""
    if model.client.vertexai:
        return None
    httpx, genai = import_module("httpx"), import_module("google.genai")
    http = httpx.AsyncClient(**make_client_options(httpx.Limits, timeout_s, MAX_CHAT_BYTES))
    options = {"base_url": model.base_url, "api_version": model.api_version, "httpx_async_client": http}
    key = model.google_api_key.get_secret_value()
    model.client = genai.Client(api_key=key, http_options={k: v for k, v in options.items() if v is not None})
    close: Close = http.aclose
    return close


def _own_ollama_client(model: Any, timeout_s: float) -> Close:  # noqa: ARG001 - it was created with the limits
    close: Close = model._async_client.close  # noqa: SLF001 - it has no method to close
    return close


_CLIENTS: dict[str, Callable[[Any, float], Close | None]] = {
    "anthropic": _own_anthropic_client,
    "google_genai": _own_google_client,
    "ollama": _own_ollama_client,
}


def _token_limit_of(model: BaseChatModel) -> str | None:
    return next((name for name in _TOKEN_LIMITS if name in type(model).model_fields), None)


def _keys_of(model: BaseChatModel) -> Iterable[str]:
    """Yield the keys that a model holds, also those that it read from the environment."""
    for value in model.__dict__.values():
        if isinstance(value, SecretStr) and value.get_secret_value():
            yield value.get_secret_value()


def _translate(error: Exception, spec: ModelSpec, secrets: tuple[str, ...]) -> ConfigurationError:
    if isinstance(error, ValidationError):
        # Without the input, which holds keys.
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        message = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    else:
        message = str(error)
    message = shorten(redact(message, *secrets))
    if isinstance(error, ImportError):
        return ConfigurationError(
            f"{spec} needs packages that are not installed: {message}", hint="Install the package that is named."
        )
    if "model_provider" in message or "provider=" in message:
        return ModelSpecError(
            f"{spec} names a provider that LangChain does not know: {message}",
            hint="Use `anthropic`, `google_genai`, `ollama` or another provider of LangChain's init_chat_model.",
        )
    return ConfigurationError(
        f"{spec} cannot be opened: {message}",
        hint="Check the provider's key, and the arguments in GEMS_CHAT__EXTRA_BODY if there are any.",
    )
