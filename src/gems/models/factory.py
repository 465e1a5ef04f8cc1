"""Create models from settings. Heavy libraries are imported lazily, by the model that needs them."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from gems.errors import ConfigurationError, MissingExtraError
from gems.models.base import ImageGenerator
from gems.models.chat.capabilities import ChatLimits
from gems.models.chat.client import ChatClient
from gems.models.detectors.base import ObjectDetector
from gems.models.generators.openai import OPENAI_URL, is_openai
from gems.models.generators.remote import RemoteLimits
from gems.models.http import MAX_CHAT_BYTES, make_client_options
from gems.models.prices import ChatPrice, find_chat_price
from gems.models.specs import ModelSpec, parse_chat_spec, parse_detector_spec, parse_generator_spec
from gems.observability.redaction import display_url, secrets_in
from gems.settings import ChatSettings, GeneratorSettings, Settings

_PER_MILLION = 1e-6


def open_chat(settings: ChatSettings) -> ChatClient:
    """Create the chat client that `settings` describe, without a request; raises `ConfigurationError`."""
    spec = parse_chat_spec(settings.model)
    limits = _make_chat_limits(settings, find_chat_price(spec))
    if spec.kind == "blocks":
        model = import_module("gems.models.blocks.chat_model").BlocksChat()
        return ChatClient(model, name="blocks", limits=limits)
    if spec.kind == "langchain":
        return _open_langchain_chat(spec, settings, limits)
    return _open_openai_chat(spec, settings, limits)


def wrap_chat(model: BaseChatModel, settings: ChatSettings) -> ChatClient:
    """Wrap the caller's own LangChain chat model in a client."""
    return ChatClient(model, name=type(model).__name__, limits=_make_chat_limits(settings, None))


def open_generator(settings: GeneratorSettings) -> ImageGenerator:
    """Create the image generator of `settings` without loading a model; raises `ConfigurationError`."""
    spec = parse_generator_spec(settings.model)
    if spec.kind == "blocks":
        return _instantiate("blocks.generator", "BlocksGenerator", *([spec.model] if spec.model else []))
    if spec.kind == "diffusers":
        return _open_diffusers(spec, settings)
    key = _select_key(settings, spec)
    limits = RemoteLimits(
        timeout_s=settings.timeout_s,
        concurrency=settings.concurrency,
        attempts=settings.attempts,
        first_wait_s=settings.first_wait_s,
        steps=settings.steps,
        guidance=settings.guidance,
    )
    common: dict[str, Any] = {"api_key": key, "price_usd": settings.usd_per_image, "limits": limits}
    if spec.kind == "http":
        return _instantiate("generators.http", "HTTPGenerator", spec.url, **common)
    common["extra_body"] = settings.extra_body
    if spec.kind == "a1111":
        named = {"sampler": settings.sampler, "checkpoint": settings.checkpoint}
        return _instantiate("generators.a1111", "A1111Generator", spec.url, **common, **named)
    if spec.kind == "comfyui":
        url = (spec.url,) if spec.url else ()
        return _instantiate("generators.comfyui.generator", "ComfyUIGenerator", spec.model, *url, **common)
    common["image_hosts"] = settings.image_hosts
    if spec.kind == "openai-chat":
        return _instantiate("generators.openai_chat", "OpenAIChatGenerator", spec.model, spec.url, **common)
    named = settings.model_dump(include={"quality", "background", "output_format", "input_fidelity"}, exclude_none=True)
    common["extra_body"] = {**settings.extra_body, **named}
    return _instantiate("generators.openai", "OpenAIImagesGenerator", spec.model, spec.url, **common)


def open_detector(settings: Settings) -> ObjectDetector | None:
    """Create the detector that `settings` name, without loading a model; raises `ConfigurationError`."""
    spec = parse_detector_spec(settings.detector)
    if spec.kind == "off":
        return None
    opened: ObjectDetector
    if spec.kind == "blocks":
        module = import_module("gems.models.blocks.detector")
        opened = module.BlocksDetector(*([float(spec.model)] if spec.model else []))
    elif spec.kind == "http":
        key = settings.detector_api_key.get_secret_value() if settings.detector_api_key else None
        module = import_module("gems.models.detectors.http")
        limits = {"threshold": settings.detector_threshold, "timeout_s": settings.detector_timeout_s}
        opened = module.HTTPDetector(spec.url, api_key=key, **limits)
    else:
        if any(find_spec(package) is None for package in ("torch", "transformers")):
            raise MissingExtraError("Finding objects with transformers", "detect")
        module = import_module("gems.models.detectors.transformers")
        device, threshold = settings.detector_device, settings.detector_threshold
        opened = module.TransformersDetector(spec.model, device=device, threshold=threshold)
    return opened


def _instantiate(module: str, name: str, *args: Any, **kwargs: Any) -> ImageGenerator:
    generator: ImageGenerator = getattr(import_module(f"gems.models.{module}"), name)(*args, **kwargs)
    return generator


def _open_diffusers(spec: ModelSpec, settings: GeneratorSettings) -> ImageGenerator:
    if find_spec("torch") is None or find_spec("diffusers") is None:
        raise MissingExtraError("Generating images with Diffusers", "diffusers")
    return _instantiate(
        "generators.diffusers.generator",
        "DiffusersGenerator",
        spec.model,
        dtype=settings.dtype,
        device=settings.device,
        offload=settings.offload,
        steps=settings.steps,
        guidance=settings.guidance,
        max_batch=settings.max_batch,
        compiled=settings.compile,
        prompt_cache_mb=settings.prompt_cache_mb,
        loras=tuple((lora.path, lora.weight) for lora in settings.loras),
        quantize=settings.quantize,
        price_usd=settings.usd_per_image,
    )


def _open_openai_chat(spec: ModelSpec, settings: ChatSettings, limits: ChatLimits) -> ChatClient:
    import httpx  # noqa: PLC0415

    from gems.models.chat.openai import ReasoningChatOpenAI  # noqa: PLC0415 - takes about a second

    key = _select_key(settings, spec)
    url = spec.url or OPENAI_URL
    # langchain-openai shares one client between event loops, which breaks when a loop ends.
    http = httpx.AsyncClient(**make_client_options(httpx.Limits, settings.timeout_s, MAX_CHAT_BYTES))
    # langchain-openai dumps chunks with a list of parts as content, as Mistral's; pydantic would quote them on stderr.
    warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
    model = ReasoningChatOpenAI(
        model=spec.model,
        base_url=url,
        api_key=SecretStr(key or "none"),
        max_retries=0,
        timeout=settings.timeout_s,
        http_async_client=http,
        # OPENAI_PROXY would conflict with `http_async_client`.
        openai_proxy=None,
    )
    if not is_openai(url):
        # Read from OpenAI's environment variables, which other servers must not receive.
        model.root_async_client.organization = model.root_async_client.project = None
    return ChatClient(
        model,
        name=f"{spec.model} at {display_url(url)}",
        limits=limits,
        adapt=lambda model, parameters: (model, parameters),
        # OpenAI's strict mode rejects `maxLength`.
        lacking=("limits",) if is_openai(url) else (),
        extra_body=settings.extra_body,
        secrets=(*((key,) if key else ()), *secrets_in(settings.extra_body)),
        closing=http.aclose,
    )


def _open_langchain_chat(spec: ModelSpec, settings: ChatSettings, limits: ChatLimits) -> ChatClient:
    from gems.models.chat.langchain import adapt_parameters, open_langchain_model  # noqa: PLC0415 - seldom used

    opened = open_langchain_model(spec, settings)
    return ChatClient(
        opened.model,
        name=f"{spec.model} at {display_url(spec.url) if spec.url else spec.provider}",
        limits=limits,
        adapt=adapt_parameters,
        lacking=opened.lacking,
        secrets=opened.secrets,
        closing=opened.closing,
    )


def _select_key(settings: ChatSettings | GeneratorSettings, spec: ModelSpec) -> str | None:
    """Return the key to send. OPENAI_API_KEY is only sent to OpenAI, and only over HTTPS."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if spec.kind not in ("openai", "openai-chat"):
        return None
    if not is_openai(spec.url or OPENAI_URL):
        return None
    if key := os.environ.get("OPENAI_API_KEY"):
        return key
    raise ConfigurationError(
        f"{spec} needs an API key.", hint="Set OPENAI_API_KEY, or GEMS_CHAT__API_KEY and GEMS_GENERATOR__API_KEY."
    )


def _make_chat_limits(settings: ChatSettings, price: ChatPrice | None) -> ChatLimits:
    """Return the limits of a model, with the settings' prices or, where they have none, `price`."""
    own = (settings.input_usd_per_million, settings.output_usd_per_million)
    prices = price if price is not None and own == (None, None) else own
    known = tuple(None if p is None else p * _PER_MILLION for p in prices)
    return ChatLimits(
        concurrency=settings.concurrency,
        timeout_s=settings.timeout_s,
        attempts=settings.attempts,
        first_wait_s=settings.first_wait_s,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        logprobs=settings.logprobs,
        image_side=settings.image_side,
        input_usd=known[0],
        output_usd=known[1],
    )
