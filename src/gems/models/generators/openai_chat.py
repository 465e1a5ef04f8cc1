"""Generate images with chat models that answer with images, by the OpenAI chat completions API."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import gcd, log
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from gems.errors import GemsError, InvalidImageError, RefusedError, RejectedRequestError, UnreadableReplyError
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.models.generators.download import ImageDownloader
from gems.models.generators.openai import OPENAI_URL, find_rejected_parameter
from gems.models.generators.remote import RawImage, RemoteGenerator, RemoteLimits
from gems.models.http import (
    MAX_IMAGE_BYTES,
    error_from_response,
    error_from_status,
    error_in_reply,
    make_client_options,
)
from gems.models.images import unpack_base64
from gems.models.prices import find_image_price
from gems.models.refusals import clean_message, find_refusal
from gems.models.specs import ModelSpec, resolve_on_same_server
from gems.observability.redaction import display_url, hide, redact, shorten

if TYPE_CHECKING:
    import httpx

_BOTH = ("image", "text")
"""Value of `modalities`; models that only draw take `image` alone, and some servers do not know the field."""
_UNTELLING = (401, 403, 429)
"""Statuses that say nothing about parameters."""
_REFERENCES = 10
_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
"""Aspect ratios of OpenRouter's `image_config`."""
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/=_-]+")
_MARKDOWN = re.compile(r"!\[[^\]]*\]\(\s*<?(https?://[^\s)>]+)")
_BARE = re.compile(r"https?://[^\s)>\"']+\.(?:png|jpe?g|webp|gif|avif)(?:\?[^\s)>\"']*)?", re.IGNORECASE)
_RAW = re.compile(r"(?:iVBORw0KGgo|/9j/|UklGR)[A-Za-z0-9+/=_\s-]{64,}")
"""An image as base64 without a prefix: PNG, JPEG, WebP."""
_SCHEMES = ("http://", "https://")
_PARTS = ("images", "image", "content", "multi_mod_content")
"""Fields of a message that hold images. Its thoughts are none of them: some models draft images there."""
_FIELDS = ("b64_json", "image_base64", "data", "url", "image_url", "inline_data", "inlineData", "source", "image")
"""Fields of a part that hold an image, or an object with one."""
_DECLINES = re.compile(
    r"\b(?:can(?:no|')t|can\u2019t|unable to|not able to|won(?:'|\u2019)t|not allowed to|must decline|decline to|"
    r"against (?:my|our|the) (?:\w+ )?(?:polic|guideline))",
    re.IGNORECASE,
)
_NO_PAINTER = re.compile(
    r"text[- ]based|language model|(?:generate|create|produce|draw|display|make) (?:\w+ )?(?:image|picture|visual)s?\b"
    r"(?! (?:of|that|which|with))",
    re.IGNORECASE,
)
"""What models say that cannot draw at all."""
_DEEPEST = 6
_FIRST_ERROR, _LAST_ERROR = 400, 599


class OpenAIChatGenerator(RemoteGenerator["httpx.AsyncClient"]):
    """Generates and edits images with a chat model that answers with images.

    The prompt is sent as one message, with the image to edit and the references as further parts. The size is told
    in the prompt, and to OpenRouter as `image_config`; models choose a size of their own, which the result says. A
    seed and `modalities` are sent until the server rejects them. An answer without an image is paid for, so it is an
    error that quotes what the model said, and is not asked for again.

    Args:
        model: The model's name at the endpoint, e.g. `google/gemini-2.5-flash-image`.
        base_url: Usually ends in `/v1`; None for OpenAI.
        api_key: Sent as a bearer token.
        size: Default width and height in pixels.
        extra_body: Additional fields of the request, e.g. `{"image_config": {"image_size": "2K"}}`.
        price_usd: US dollars per image, for servers that do not tell the cost; None for those of `gems.models.prices`.
        limits: Timeout, concurrency and attempts of requests.
        image_hosts: Other hosts from which images may be fetched if the endpoint answers their URLs.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        size: tuple[int, int] = (1024, 1024),
        extra_body: Mapping[str, Any] | None = None,
        price_usd: float | None = None,
        limits: RemoteLimits | None = None,
        image_hosts: Sequence[str] = (),
    ) -> None:
        url = (base_url or OPENAI_URL).rstrip("/")
        shown = display_url(url)
        capabilities = GeneratorCapabilities(
            model=f"openai-chat:{model}",
            default_size=size,
            editing=True,
            references=_REFERENCES,
            price_usd=find_image_price(ModelSpec("openai-chat", model, base_url)) if price_usd is None else price_usd,
        )
        super().__init__(
            capabilities, endpoint=f"{model} at {shown}", url=url, api_key=api_key, extra_body=extra_body, limits=limits
        )
        self._model = model
        host = urlsplit(url).hostname or ""
        self._takes_config = host == "openrouter.ai" or host.endswith(".openrouter.ai")
        self._modalities: tuple[str, ...] | None = None if "modalities" in self._extra else _BOTH
        self._takes_seed = "seed" not in self._extra
        self._downloader = ImageDownloader(
            image_hosts, endpoint=self._endpoint, base_url=url, timeout_s=self._limits.timeout_s
        )

    def _open(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - loaded with the first request

        options = make_client_options(httpx.Limits, self._limits.timeout_s, MAX_IMAGE_BYTES)
        if self._api_key:
            options["headers"] = options["headers"] | {"Authorization": f"Bearer {self._api_key}"}
        return httpx.AsyncClient(**options)

    async def _close(self, client: httpx.AsyncClient) -> None:
        await client.aclose()

    async def _fetch(self, client: httpx.AsyncClient, url: str) -> bytes:
        """Fetch the image at `url`, with the key if the endpoint itself serves it."""
        if (address := resolve_on_same_server(url, self._url)) is None:
            return await self._downloader.download(url)
        response = await client.get(address)
        if not response.is_success:
            raise error_from_response(response, self._endpoint, *self._secrets)
        return response.content

    async def _draw(self, client: httpx.AsyncClient, request: ImageRequest) -> RawImage:
        common = await asyncio.to_thread(self._build_body, request)
        modalities = self._modalities
        while True:
            optional: dict[str, Any] = {"modalities": list(modalities)} if modalities else {}
            if self._takes_seed:
                optional["seed"] = request.seed
            body = await asyncio.to_thread(json.dumps, {**common, **optional})
            headers = {"Content-Type": "application/json"}
            response = await client.post(f"{self._url}/chat/completions", content=body, headers=headers)
            if response.is_success:
                break
            is_telling = response.status_code not in _UNTELLING
            rejected = find_rejected_parameter(response.text, optional, tuple(optional)) if is_telling else None
            if rejected == "modalities":
                modalities = None
            elif rejected == "seed":
                self._takes_seed = False
                self._capabilities = replace(self._capabilities, seeds=False)
            elif is_telling and modalities == _BOTH and "modalit" in clean_message(response.text).lower():
                modalities = ("image",)
            else:
                raise error_from_response(response, self._endpoint, *self._secrets)
        # Only now: the error could have been about something else.
        self._modalities = modalities
        return await asyncio.to_thread(self._read_answer, request, common, response.content)

    def _build_body(self, request: ImageRequest) -> dict[str, Any]:
        """Return the fields that every server takes. Blocking."""
        text = request.prompt
        if request.negative_prompt:
            text += f"\n\nAvoid: {request.negative_prompt}"
        config = self._extra.get("image_config")
        if self._takes_config:
            own = config if isinstance(config, dict) else {}
            config = {"aspect_ratio": _nearest_ratio(request.width, request.height), **own}
        elif config is None:
            part = gcd(request.width, request.height)
            ratio = f"{request.width // part}:{request.height // part}"
            text += f"\n\nSize of the image: {request.width}x{request.height} pixels, aspect ratio {ratio}."
        images = (*(() if request.source is None else (request.source,)), *request.references)
        if request.source is not None and request.references:
            text += "\n\nThe first image is the one to edit; the others are references."
        parts = [_image_part(image) for image in images]
        content: Any = [{"type": "text", "text": text}, *parts] if parts else text
        body = {
            "stream": False,
            **self._extra,
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
        }
        return body if config is None else body | {"image_config": config}

    def _read_answer(self, request: ImageRequest, body: Mapping[str, Any], content: bytes) -> RawImage:
        """Return the image of an answer. Blocking."""
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            what = f"{len(content)} bytes that are not a JSON object, beginning with {content[:48]!r}"
            raise UnreadableReplyError(f"{self._endpoint} sent {what}.")
        choices = answer.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message: Mapping[str, Any] = found if isinstance(found := choice.get("message"), dict) else {}
        images = list(dict.fromkeys(_find_images(message)))
        if not images:
            raise self._explain_absence(answer, choice, message)
        parameters: dict[str, Any] = {}
        if request.negative_prompt:
            parameters["negative_prompt"] = request.negative_prompt
        if isinstance(body.get("image_config"), dict):
            parameters["image_config"] = body["image_config"]
        if said := _find_text(message):
            parameters["answer"] = hide(shorten(said), *self._secrets)
        if not self._takes_seed and "seed" not in self._extra:
            parameters["not_taken"] = ["seed"]
        warnings: tuple[str, ...] = ()
        if len(images) > 1:
            # Drafts come first.
            warnings = (f"{self._endpoint} sent {len(images)} images; the last one is used.",)
        seed = self._extra.get("seed", request.seed if self._takes_seed else None)
        cost = usage.get("cost") if isinstance(usage := answer.get("usage"), dict) else None
        if isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0:
            parameters["cost_usd"] = float(cost)
        image = images[-1]
        return RawImage(
            data=b"" if image.is_url else self._decode(image.value),
            url=image.value if image.is_url else "",
            seed=seed if isinstance(seed, int) else None,
            parameters=parameters,
            warnings=warnings,
        )

    def _decode(self, encoded: str) -> bytes:
        try:
            return unpack_base64(encoded)
        except ValueError as error:
            what = f"an image that is not valid base64, beginning with {encoded[:48]!r}"
            raise InvalidImageError(f"{self._endpoint} sent {what}.") from error

    def _explain_absence(
        self, answer: Mapping[str, Any], choice: Mapping[str, Any], message: Mapping[str, Any]
    ) -> GemsError:
        """Return the error for an answer without an image: it is paid for, and another one would be too."""
        if (error := error_in_reply(answer, self._endpoint, *self._secrets)) is not None:
            return error
        failure = {"error": choice.get("error")}
        if (error := error_in_reply(failure, self._endpoint, *self._secrets)) is not None:
            return error
        if reported := answer.get("error") or choice.get("error"):
            body = json.dumps({"error": reported})
            status = reported.get("code") if isinstance(reported, dict) else None
            if isinstance(status, int) and _FIRST_ERROR <= status <= _LAST_ERROR:
                return error_from_status(status, body, self._endpoint, *self._secrets)
            said = shorten(redact(clean_message(body), *self._secrets))
            return UnreadableReplyError(f"{self._endpoint} sent no image: {said}")
        text = message.get("refusal") if isinstance(message.get("refusal"), str) else _find_text(message)
        said = shorten(redact(str(text or ""), *self._secrets))
        finish = str(choice.get("native_finish_reason") or choice.get("finish_reason") or "")
        refusal = find_refusal(json.dumps({"error": {"message": text}})) if text else None
        is_policy = refusal is not None and refusal.kind == "policy"
        declines = bool(text) and bool(_DECLINES.search(str(text))) and not _NO_PAINTER.search(str(text))
        if message.get("refusal") or is_policy or declines:
            return RefusedError(f"{self._endpoint} refused: {said}")
        if choice.get("finish_reason") == "length":
            hint = "Raise max_tokens in GEMS_GENERATOR__EXTRA_BODY, or the server's limit."
            return RejectedRequestError(f"{self._endpoint} was cut off before it sent an image: {said}", hint=hint)
        if text:
            hint = "Use a model that generates images, and a prompt that asks for one image."
            return RejectedRequestError(f"{self._endpoint} answered with text instead of an image: {said}", hint=hint)
        return UnreadableReplyError(f"{self._endpoint} sent no image and no text{f' ({finish})' if finish else ''}.")


class _Found(NamedTuple):
    """An image in an answer: base64 with or without a data URL's prefix, or the URL at which it lies."""

    value: str
    is_url: bool


def _find_images(message: Mapping[str, Any]) -> Iterator[_Found]:
    """Yield the images of a message, in the first of its fields that holds any."""
    for name in _PARTS:
        value = message.get(name)
        found = list(_find_in_text(value) if isinstance(value, str) and name == "content" else _find_in_part(value))
        if found:
            yield from found
            return


def _find_in_part(value: Any, depth: int = 0) -> Iterator[_Found]:
    """Yield the images in a part of a message, in any of the forms in which servers send them."""
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            yield from _find_in_part(item, depth + 1)
    elif isinstance(value, str):
        yield from _as_image(value) if value[:8].lower().startswith(_SCHEMES) else _find_in_text(value)
    elif isinstance(value, dict) and value.get("thought") is not True:
        if isinstance(text := value.get("text"), str):
            yield from _find_in_text(text)
        if encoded := next((value[name] for name in _FIELDS if isinstance(value.get(name), str)), ""):
            yield from _as_image(encoded)
        else:
            inner = (value[name] for name in _FIELDS if isinstance(value.get(name), dict))
            yield from _find_in_part(next(inner, None), depth + 1)


def _as_image(value: str) -> Iterator[_Found]:
    if value:
        yield _Found(value, is_url=value[:8].lower().startswith(_SCHEMES))


def _find_in_text(text: str) -> Iterator[_Found]:
    """Yield the images in a text: data URLs, then the URLs of Markdown images, then others that name an image file."""
    if inline := _DATA_URL.findall(text):
        yield from (_Found(each, is_url=False) for each in inline)
    elif urls := _MARKDOWN.findall(text) or _BARE.findall(text):
        yield from (_Found(each, is_url=True) for each in urls)
    elif _RAW.fullmatch(text.strip()):
        yield _Found(text.strip(), is_url=False)


def _find_text(message: Mapping[str, Any]) -> str:
    """Return what a message says besides its images."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("thought") is not True]
        content = " ".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    if not isinstance(content, str) or _RAW.fullmatch(content.strip()):
        return ""
    return " ".join(_DATA_URL.sub("", content).replace("![]()", "").split())


def _nearest_ratio(width: int, height: int) -> str:
    def distance(ratio: str) -> float:
        wide, high = (int(side) for side in ratio.split(":"))
        return abs(log(width / height) - log(wide / high))

    return min(_RATIOS, key=distance)


def _image_part(png: bytes) -> dict[str, Any]:
    url = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}
