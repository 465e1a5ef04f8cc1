"""The OpenAI Images API, as OpenAI, vLLM-Omni, SGLang and LocalAI serve it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gems.errors import AuthenticationError, InvalidImageError, RejectedRequestError, UnreadableReplyError
from gems.models.connecting import held_open
from gems.models.generators.addresses import on_same_server, shown_address
from gems.models.generators.openai_parameters import (
    OPENAI_URL,
    complained_about,
    is_openai,
    known_model,
)
from gems.models.generators.remote import Drawn, RemoteGenerator, RemoteLimits
from gems.models.limiting import MAX_PICTURE_BYTES, PLAIN, limited
from gems.observability.redaction import hide, redact, secrets_in, shorten
from gems.types import GeneratorCapabilities, ImageRequest

if TYPE_CHECKING:
    import openai

_RECORDED = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    **{
        name: name
        for name in (
            "negative_prompt",
            "size",
            "quality",
            "background",
            "style",
            "moderation",
            "output_format",
        )
    },
}


class OpenAIImagesGenerator(RemoteGenerator["openai.AsyncOpenAI"]):
    """Draws with an endpoint that speaks the OpenAI Images API.

    The seed and `response_format="b64_json"` are always sent, since SGLang defaults to one fixed seed and to
    an address instead of the picture; `negative_prompt`, `num_inference_steps` and `guidance_scale` where a
    request sets them. An endpoint that calls one of these unknown is asked again without it and never sent
    it again; `capabilities` then says so, and the result's `parameters["not_taken"]` names what was dropped.

    Args:
        model: The model's name at the endpoint.
        base_url: Where the API is, usually ending in `/v1`; None for OpenAI.
        api_key: None for `OPENAI_API_KEY` where the address is OpenAI's own, and for no key elsewhere.
        timeout_s: Seconds one attempt may take.
        concurrency: Requests under way at a time.
        size: Width and height in pixels where the user asks for none.
        extra_body: Further parameters to send along, for example `{"quality": "high"}`.
        price_usd: US dollars per image; None where not known.
        attempts: Attempts per image.
        steps: Inference steps of requests that name none.
        guidance: Guidance scale of requests that name none.
        first_wait_s: Seconds before the second attempt.

    Raises:
        ModelSpecError: `base_url` is no http or https address.
        SizeError: `size` is none of those the model is known to draw.
    """

    def __init__(  # noqa: PLR0913 - independent settings, all but the first two by name
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 180.0,
        concurrency: int = 4,
        size: tuple[int, int] = (1024, 1024),
        extra_body: Mapping[str, Any] | None = None,
        price_usd: float | None = None,
        attempts: int = 4,
        first_wait_s: float = 0.5,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        # Always explicit: the client would otherwise follow OPENAI_BASE_URL, and take the key there.
        self._base_url = (base_url or OPENAI_URL).rstrip("/")
        shown = shown_address(self._base_url)
        self._openai = is_openai(self._base_url)
        known = known_model(model) if self._openai else None
        self._not_taken: frozenset[str] = known.rejects if known else frozenset()
        capabilities = GeneratorCapabilities(
            model=f"openai:{model}",
            default_size=size,
            sizes=known.sizes if known else None,
            seeds="seed" not in self._not_taken,
            negative_prompts="negative_prompt" not in self._not_taken,
            editing=known.editing if known else True,
            price_usd=price_usd,
        )
        capabilities.check_size(*size)
        super().__init__(
            capabilities,
            endpoint=f"{model} at {shown}",
            secrets=(*((api_key,) if api_key else ()), *secrets_in(extra_body or {})),
            limits=RemoteLimits(
                timeout_s=timeout_s,
                concurrency=concurrency,
                attempts=attempts,
                first_wait_s=first_wait_s,
                steps=steps,
                guidance=guidance,
            ),
        )
        self._model = model
        self._api_key = api_key
        self._extra = dict(extra_body or {})

    def _open(self) -> openai.AsyncOpenAI:
        import openai  # noqa: PLC0415 - takes about a second; loaded with the first request

        key = self._api_key or (None if self._openai else "none")
        # A redirect could lead a request, its key and its picture anywhere.
        http_client = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            timeout=self._limits.timeout_s,
            headers=PLAIN,
            event_hooks=limited(MAX_PICTURE_BYTES),
            **held_open(type(openai.DEFAULT_CONNECTION_LIMITS)),
        )
        try:
            client = openai.AsyncOpenAI(
                api_key=key,
                base_url=self._base_url,
                timeout=self._limits.timeout_s,
                max_retries=0,
                http_client=http_client,
            )
        except openai.OpenAIError as error:
            raise AuthenticationError(f"{self._endpoint} needs an API key, and none is set.") from error
        if not self._openai:
            # The client takes these from OpenAI's environment variables; they concern nobody else.
            client.organization = client.project = None
        if len(client.api_key) > len("none"):
            self._secrets = tuple(dict.fromkeys((client.api_key, *self._secrets)))
        return client

    async def _close(self, client: openai.AsyncOpenAI) -> None:
        await client.close()

    async def _draw(self, client: openai.AsyncOpenAI, request: ImageRequest) -> Drawn:
        import openai  # noqa: PLC0415 - loaded by `_open`

        while True:
            sent = self._optional(request)
            try:
                answer = await self._ask(client, request, sent)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                name = complained_about(error.response.text, sent)
                if name is None:
                    raise
                self._learn(name)
                continue
            return await self._drawn(client, request, sent, answer)

    async def _ask(
        self, client: openai.AsyncOpenAI, request: ImageRequest, sent: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The endpoint's answer, as the JSON object it is."""
        common: dict[str, Any] = {
            "model": self._model,
            "prompt": request.prompt,
            "n": 1,
            "size": f"{request.width}x{request.height}",
            "extra_body": {**self._extra, **sent},
        }
        images = client.images.with_raw_response
        if request.source is None:
            raw = await images.generate(**common)
        else:
            raw = await images.edit(image=("source.png", request.source, "image/png"), **common)
        try:
            answer = json.loads(raw.content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UnreadableReplyError(
                f"{self._endpoint} sent {len(raw.content)} bytes that are no JSON object, beginning with "
                f"{raw.content[:48]!r}."
            )
        return answer

    def _optional(self, request: ImageRequest) -> dict[str, Any]:
        """The parameters an endpoint may not know, less those it is known to reject."""
        wanted: dict[str, Any] = {
            "response_format": "b64_json",
            "seed": request.seed,
            "negative_prompt": request.negative_prompt or None,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance,
        }
        return {
            name: value
            for name, value in wanted.items()
            if value is not None and name not in self._not_taken and name not in self._extra
        }

    def _learn(self, name: str) -> None:
        self._not_taken |= {name}
        self._capabilities = replace(
            self._capabilities,
            seeds="seed" not in self._not_taken,
            negative_prompts="negative_prompt" not in self._not_taken,
        )

    async def _drawn(
        self,
        client: openai.AsyncOpenAI,
        request: ImageRequest,
        sent: Mapping[str, Any],
        answer: Mapping[str, Any],
    ) -> Drawn:
        items = answer.get("data")
        item = items[0] if isinstance(items, list) and items else None
        if not isinstance(item, dict):
            said = shorten(redact(json.dumps(answer.get("error", answer)), *self._secrets))
            raise UnreadableReplyError(f"{self._endpoint} sent no picture: {said}")
        if isinstance(encoded := item.get("b64_json"), str) and encoded:
            data = self._decoded(encoded)
        elif isinstance(url := item.get("url"), str) and url:
            data = await self._fetched(client, url)
        else:
            raise UnreadableReplyError(f"{self._endpoint} sent neither a picture nor its address.")
        seed = {**self._extra, **sent}.get("seed")
        return Drawn(data=data, seed=seed, parameters=self._parameters(request, sent, answer, item))

    def _parameters(
        self,
        request: ImageRequest,
        sent: Mapping[str, Any],
        answer: Mapping[str, Any],
        item: Mapping[str, Any],
    ) -> dict[str, Any]:
        # Only what is known to decide the pixels: further fields of the body may be secrets.
        parameters = {
            _RECORDED[name]: value for name, value in {**self._extra, **sent}.items() if name in _RECORDED
        }
        for name in ("quality", "background"):
            if isinstance(answer.get(name), str):
                parameters[name] = hide(answer[name], *self._secrets)
        if isinstance(item.get("revised_prompt"), str) and item["revised_prompt"] != request.prompt:
            parameters["revised_prompt"] = hide(item["revised_prompt"], *self._secrets)
        not_taken = sorted(self._not_taken - {"response_format"})
        return parameters | ({"not_taken": not_taken} if not_taken else {})

    def _decoded(self, encoded: str) -> bytes:
        # Some servers send a whole data URL where plain base64 belongs.
        payload = encoded.partition(",")[2] if encoded.startswith("data:") else encoded
        try:
            return base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidImageError(
                f"{self._endpoint} sent a picture that is no base64, beginning with {payload[:48]!r}."
            ) from error

    async def _fetched(self, client: openai.AsyncOpenAI, url: str) -> bytes:
        """The picture at `url`, only where the endpoint itself serves it.

        Any other address could be one inside this machine's network that the endpoint cannot reach itself.
        """
        import openai  # noqa: PLC0415 - loaded by `_open`

        if url.startswith("data:"):
            return self._decoded(url)
        if (address := on_same_server(url, self._base_url)) is None:
            raise RejectedRequestError(
                f"{self._endpoint} sent an address on another server instead of the picture: "
                f"{shorten(redact(url.partition('?')[0], *self._secrets), 120)}.",
                hint="Set the server to answer b64_json.",
            )
        answer = await client.get(address, cast_to=openai.HttpxBinaryResponseContent)
        return answer.content
