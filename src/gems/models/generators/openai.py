"""Generate images with the OpenAI Images API."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from PIL import Image, ImageChops

from gems.errors import AuthenticationError, InvalidImageError, UnreadableReplyError
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.models.generators.download import ImageDownloader
from gems.models.generators.remote import RawImage, RemoteGenerator, RemoteLimits
from gems.models.http import MAX_IMAGE_BYTES, error_in_reply, make_client_options
from gems.models.images import encode_png, unpack_base64
from gems.models.masks import read_mask
from gems.models.prices import compute_image_cost, find_image_price
from gems.models.specs import ModelSpec, resolve_on_same_server
from gems.observability.redaction import display_url, hide, redact, shorten

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"

LEARNABLE = ("response_format", "seed", "negative_prompt", "num_inference_steps", "guidance_scale", "mask")
"""Optional parameters; one that the endpoint rejects is not sent again."""

_FORMATS: tuple[str | None, ...] = ("b64_json", "url", None)
"""Values of `response_format` in the order in which they are tried."""
_UNTELLING = (401, 403, 429)
"""Statuses that say nothing about parameters."""
_EXTENSIONS = frozenset(LEARNABLE[1:-1])
_REFERENCES = 15
"""Further images beside the source: OpenAI takes 16 in all."""
_WANTS_JSON = re.compile(
    r"unsupported media type|content[- ]type|multipart|valid dictionary"
    r"|(?:pars|decod|invalid|expected)[^.]{0,20}json|json[^.]{0,20}(?:pars|decod|invalid|expected)",
    re.IGNORECASE,
)
"""How servers refuse a form where they take JSON."""
_UNKNOWN_WORDS = (
    r"(?:un(?:known|recogni[sz]ed|supported|expected|permitted)(?! value)|extra|additional|invalid parameter|"
    r"not (?:supported|permitted|allowed|accepted|recogni[sz]ed)|does not (?:support|accept)|no such)"
)
_ECHO = re.compile(r"""['"]input['"]\s*:""")
"""Where pydantic's messages begin to repeat the request."""
_RECORDED = {"num_inference_steps": "steps", "guidance_scale": "guidance"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """Documented limits of one of OpenAI's own models; the defaults are common to all."""

    sizes: tuple[tuple[int, int], ...] | None = None
    size_multiple: int = 1
    max_side: int = 8192
    min_pixels: int = 1
    max_pixels: int = 8192 * 8192
    editing: bool = True
    references: int = _REFERENCES
    rejects: frozenset[str] = _EXTENSIONS


# Source: platform.openai.com/docs/guides/image-generation and /docs/api-reference/images. The first of these whose
# name the model's begins with counts; gpt-image-1-mini and gpt-image-1.5 have the limits of gpt-image-1.
_GPT_IMAGE = _EXTENSIONS | {"response_format"}
_KNOWN_MODELS = {
    "gpt-image-2": KnownModel(
        size_multiple=16, max_side=3840, min_pixels=655_360, max_pixels=8_294_400, rejects=_GPT_IMAGE
    ),
    "gpt-image-1": KnownModel(sizes=((1024, 1024), (1536, 1024), (1024, 1536)), rejects=_GPT_IMAGE),
    "chatgpt-image": KnownModel(sizes=((1024, 1024), (1536, 1024), (1024, 1536)), rejects=_GPT_IMAGE),
    "dall-e-3": KnownModel(sizes=((1024, 1024), (1792, 1024), (1024, 1792)), editing=False, references=0),
    "dall-e-2": KnownModel(sizes=((256, 256), (512, 512), (1024, 1024)), references=0),
}


def is_openai(base_url: str) -> bool:
    """Whether `base_url` is OpenAI's own, the only one that may receive OPENAI_API_KEY."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == "api.openai.com" or host.endswith(".api.openai.com"))


def find_known_model(model: str) -> KnownModel:
    """Return the documented limits of `model` at OpenAI; those common to all models if it is not listed."""
    for name, known in _KNOWN_MODELS.items():
        if model == name or model.startswith((f"{name}-", f"{name}.")):
            return known
    return KnownModel()


def find_rejected_parameter(body: str, sent: Iterable[str], names: Sequence[str] = LEARNABLE) -> str | None:
    """Return the parameter of `sent` among `names` that the error text `body` calls unknown; None for other errors.

    An error about a parameter's value does not count: dropping a seed that is too large would silently
    change the images.
    """
    learnable = [name for name in names if name in set(sent)]
    error = _parse_error_object(body)
    if isinstance(param := error.get("param"), str):
        name = param.rsplit(".", 1)[-1]
        message = f"{error.get('code')} {error.get('message')}"
        if name in learnable and re.search(_UNKNOWN_WORDS, message.replace("_", " "), re.IGNORECASE):
            return name
    near = r"(?:[^\w]+\w+){0,4}?[^\w]+"
    for name in learnable:
        pattern = rf"{_UNKNOWN_WORDS}{near}{name}\b|\b{name}\b{near}{_UNKNOWN_WORDS}"
        if re.search(pattern, body, re.IGNORECASE):
            return name
    return None


def find_other_formats(body: str, formats: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Return the response formats to try after an error, the likeliest first; none if it is about something else."""
    words = _ECHO.split(body, maxsplit=1)[0]
    if not re.search(r"response[_ ]?format|b64_json", words, re.IGNORECASE):
        return ()
    named = "url" if formats[0] != "url" and re.search(r"\burl\b", words, re.IGNORECASE) else None
    named = "b64_json" if formats[0] == "url" and "b64" in words else named
    return tuple(sorted(formats[1:], key=lambda each: each != named))


def _parse_error_object(body: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    return error if isinstance(error, dict) else {}


_RECORDED |= {
    name: name
    for name in (
        "negative_prompt",
        "size",
        "quality",
        "background",
        "style",
        "moderation",
        "output_format",
        "input_fidelity",
    )
}


class OpenAIImagesGenerator(RemoteGenerator["openai.AsyncOpenAI"]):
    """Generates images with an endpoint of the OpenAI Images API.

    Always sends the seed and `response_format="b64_json"`, since SGLang defaults to a fixed seed and to a
    URL; `negative_prompt`, `num_inference_steps` and `guidance_scale` if the request sets them. A parameter
    that the endpoint calls unknown is never sent again; `capabilities` and the result's
    `parameters["not_taken"]` then say so. If it rejects the response format, the others are tried, and the one
    that it accepts is used from then on.

    A source and references are edited: sent as a form with `image` or `image[]` and `mask`, or as JSON with `images`
    to endpoints that reject forms. A mask that the endpoint does not know is applied to the result only.

    Args:
        model: The model's name at the endpoint.
        base_url: Usually ends in `/v1`; None for OpenAI.
        api_key: None for `OPENAI_API_KEY` at OpenAI, and for no key elsewhere.
        size: Default width and height in pixels.
        extra_body: Additional parameters to send, e.g. `{"quality": "high"}`; `input_fidelity` with edits only.
        price_usd: US dollars per image; None for those of `gems.models.prices`, if it has the model.
        limits: Timeout, concurrency, attempts and defaults of requests.
        image_hosts: Other hosts from which images may be fetched if the endpoint answers their URLs; see
            `ImageDownloader`.

    Raises:
        SizeError: the model does not support `size`.
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
        # Explicit, or the client would use OPENAI_BASE_URL and send the key there.
        url = (base_url or OPENAI_URL).rstrip("/")
        # First, since it rejects invalid URLs.
        shown = display_url(url)
        self._openai = is_openai(url)
        known = find_known_model(model) if self._openai else KnownModel(rejects=frozenset())
        self._not_taken: frozenset[str] = known.rejects
        spec = ModelSpec("openai", model, base_url)
        capabilities = GeneratorCapabilities(
            model=f"openai:{model}",
            default_size=size,
            sizes=known.sizes,
            size_multiple=known.size_multiple,
            max_side=known.max_side,
            min_pixels=known.min_pixels,
            max_pixels=known.max_pixels,
            seeds="seed" not in self._not_taken,
            negative_prompts="negative_prompt" not in self._not_taken,
            editing=known.editing,
            inpainting=known.editing,
            references=known.references,
            price_usd=find_image_price(spec, (extra_body or {}).get("quality")) if price_usd is None else price_usd,
        )
        capabilities.check_size(*size)
        super().__init__(
            capabilities, endpoint=f"{model} at {shown}", url=url, api_key=api_key, extra_body=extra_body, limits=limits
        )
        self._model = model
        self._input_fidelity = self._extra.pop("input_fidelity", None)
        self._sends_json = False
        self._is_priced = price_usd is not None
        asked = self._extra.pop("response_format", _FORMATS[0])
        self._formats = (None,) if "response_format" in self._not_taken else tuple(dict.fromkeys((asked, *_FORMATS)))
        self._downloader = ImageDownloader(
            image_hosts, endpoint=self._endpoint, base_url=url, timeout_s=self._limits.timeout_s
        )

    def _open(self) -> openai.AsyncOpenAI:
        import openai  # noqa: PLC0415 - takes about a second; loaded with the first request

        key = self._api_key or (None if self._openai else "none")
        # A redirect could send the request, its key and its image anywhere.
        library_limits = type(openai.DEFAULT_CONNECTION_LIMITS)
        options = make_client_options(library_limits, self._limits.timeout_s, MAX_IMAGE_BYTES)
        http_client = openai.DefaultAsyncHttpxClient(follow_redirects=False, **options)
        try:
            client = openai.AsyncOpenAI(
                api_key=key, base_url=self._url, timeout=self._limits.timeout_s, max_retries=0, http_client=http_client
            )
        except openai.OpenAIError as error:
            raise AuthenticationError(f"{self._endpoint} needs an API key, but none is set.") from error
        if not self._openai:
            # Read from OpenAI's environment variables, which other servers must not receive.
            client.organization = client.project = None
        if len(client.api_key) > len("none"):
            self._secrets = tuple(dict.fromkeys((client.api_key, *self._secrets)))
        return client

    async def _close(self, client: openai.AsyncOpenAI) -> None:
        await client.close()

    async def _draw(self, client: openai.AsyncOpenAI, request: ImageRequest) -> RawImage:
        import openai  # noqa: PLC0415 - loaded by `_open`

        optional: dict[str, Any] = {
            "seed": request.seed,
            "negative_prompt": request.negative_prompt or None,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance,
        }
        images = [image for image in (request.source, *request.references) if image is not None]
        if images:
            optional["input_fidelity"] = self._input_fidelity
        if request.mask is not None:
            optional["mask"] = await asyncio.to_thread(_make_transparent, request)
        formats, sends_json = self._formats, self._sends_json
        while True:
            left_out = self._not_taken.union(self._extra)
            sent = {name: v for name, v in optional.items() if v is not None and name not in left_out}
            try:
                asked = {"response_format": formats[0]} if formats[0] else {}
                content = await self._send(client, request, images, {**sent, **asked}, as_json=sends_json)
            except openai.APIStatusError as error:
                if error.status_code in _UNTELLING:
                    raise
                if images and not sends_json and _wants_json(error.status_code, error.response.text):
                    sends_json = True
                    continue
                if others := find_other_formats(error.response.text, formats):
                    formats = others
                    continue
                name = find_rejected_parameter(error.response.text, sent)
                if name is None:
                    raise
                self._not_taken |= {name}
                self._capabilities = replace(
                    self._capabilities,
                    seeds="seed" not in self._not_taken,
                    negative_prompts="negative_prompt" not in self._not_taken,
                    inpainting="mask" not in self._not_taken,
                )
                continue
            # Only now: the error could have been about something else.
            self._formats, self._sends_json = formats, sends_json
            return await asyncio.to_thread(self._read_image, request, sent, content)

    async def _send(
        self,
        client: openai.AsyncOpenAI,
        request: ImageRequest,
        images: Sequence[bytes],
        sent: Mapping[str, Any],
        *,
        as_json: bool,
    ) -> bytes:
        """Send the request and return the body of the response."""
        common: dict[str, Any] = {
            "model": self._model,
            "prompt": request.prompt,
            "n": 1,
            "size": f"{request.width}x{request.height}",
        }
        fields = {**self._extra, **sent}
        mask = fields.pop("mask", None)
        if not images:
            raw = await client.images.with_raw_response.generate(**common, extra_body=fields)
            return bytes(raw.content)
        if as_json:
            body = {**fields, **common, "images": [_as_json(image) for image in images]}
            return await self._post_json(client, body | ({} if mask is None else {"mask": _as_json(mask)}))
        files = [(f"image-{number}.png", image, "image/png") for number, image in enumerate(images, 1)]
        given: dict[str, Any] = {} if mask is None else {"mask": ("mask.png", mask, "image/png")}
        # A list is sent as `image[]`, which some servers of a single image do not know.
        source: Any = files if len(files) > 1 else files[0]
        raw = await client.images.with_raw_response.edit(image=source, **given, **common, extra_body=fields)
        return bytes(raw.content)

    async def _post_json(self, client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> bytes:
        import openai  # noqa: PLC0415 - loaded by `_open`

        answer = await client.post("/images/edits", body=dict(body), cast_to=openai.HttpxBinaryResponseContent)
        return answer.content

    def _parse_object(self, content: bytes) -> Mapping[str, Any]:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            what = f"{len(content)} bytes that are not a JSON object, beginning with {content[:48]!r}"
            raise UnreadableReplyError(f"{self._endpoint} sent {what}.")
        return answer

    def _read_image(self, request: ImageRequest, sent: Mapping[str, Any], content: bytes) -> RawImage:
        """Return the image of a response, which may be long. Blocking."""
        answer = self._parse_object(content)
        items = answer.get("data")
        item = items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}
        encoded, url = (value if isinstance(value := item.get(name), str) else "" for name in ("b64_json", "url"))
        if not encoded and url[:5].lower() == "data:":
            encoded, url = url, ""
        if not encoded and not url:
            if (error := error_in_reply(answer, self._endpoint, *self._secrets)) is not None:
                raise error
            message = shorten(redact(json.dumps(answer.get("error") or answer), *self._secrets))
            raise UnreadableReplyError(f"{self._endpoint} sent no image: {message}")
        body = {**self._extra, **sent}
        # Only parameters known to affect the pixels: other fields of the body may be secrets.
        parameters = {_RECORDED[name]: value for name, value in body.items() if name in _RECORDED}
        for name in ("quality", "background"):
            if isinstance(answer.get(name), str):
                parameters[name] = hide(answer[name], *self._secrets)
        if isinstance(item.get("revised_prompt"), str) and item["revised_prompt"] != request.prompt:
            parameters["revised_prompt"] = hide(item["revised_prompt"], *self._secrets)
        if not_taken := sorted(self._not_taken - {"response_format"}):
            parameters["not_taken"] = not_taken
        cost = compute_image_cost(self._model, answer.get("usage")) if self._openai and not self._is_priced else None
        if cost is not None:
            parameters["cost_usd"] = round(cost, 6)
        data = self._decode(encoded) if encoded else b""
        return RawImage(data=data, url="" if encoded else url, seed=body.get("seed"), parameters=parameters)

    def _decode(self, encoded: str) -> bytes:
        try:
            return unpack_base64(encoded)
        except ValueError as error:
            what = f"an image that is not valid base64, beginning with {encoded[:48]!r}"
            raise InvalidImageError(f"{self._endpoint} sent {what}.") from error

    async def _fetch(self, client: openai.AsyncOpenAI, url: str) -> bytes:
        """Fetch the image at `url`, with the key if the endpoint itself serves it."""
        import openai  # noqa: PLC0415 - loaded by `_open`

        if (address := resolve_on_same_server(url, self._url)) is None:
            return await self._downloader.download(url)
        answer = await client.get(address, cast_to=openai.HttpxBinaryResponseContent)
        return answer.content


def _wants_json(status: int, body: str) -> bool:
    """Return whether an error refuses a form, so that JSON may be taken."""
    return status == 415 or (status in (400, 422) and bool(_WANTS_JSON.search(_ECHO.split(body, maxsplit=1)[0])))


def _make_transparent(request: ImageRequest) -> bytes:
    """Return the request's mask as OpenAI takes it: transparent where the source is to be changed. Blocking."""
    changed = read_mask(request.mask or b"", (request.width, request.height))
    mask = Image.new("RGBA", changed.size, "black")
    mask.putalpha(ImageChops.invert(changed))
    return encode_png(mask)


def _as_json(png: bytes) -> dict[str, str]:
    return {"image_url": f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"}
