"""Image servers with `POST /generate?prompt=...` that return image bytes, as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gems.models.generators.remote import RawImage, RemoteGenerator, RemoteLimits
from gems.models.http import (
    MAX_IMAGE_BYTES,
    UNCOMPRESSED,
    error_from_status,
    make_client_options,
    max_response_size,
    parse_retry_after,
)
from gems.observability.redaction import display_url, secrets_in, secrets_of_address
from gems.types import GeneratorCapabilities, ImageRequest

if TYPE_CHECKING:
    import httpx

MAX_URL = 8000
"""Longest URL in characters: nginx and other servers accept 8 KiB for the whole request line."""


class HTTPGenerator(RemoteGenerator["httpx.AsyncClient"]):
    """Generates images with a server that answers `POST url?prompt=...` with image bytes.

    Sends `prompt`, `seed`, `width`, `height` and, if set, `negative_prompt`, `steps` and `guidance` as query
    parameters. A server that knows only `prompt`, such as the paper's, ignores the others: its pixels then
    do not depend on the seed, although `capabilities.seeds` is true. If the URL would exceed `MAX_URL`, the
    fields are sent as a JSON object instead; servers that read only the query reject that.

    Args:
        url: Complete URL, e.g. `http://host:8000/generate`; its own query is kept.
        api_key: Sent as a bearer token.
        timeout_s: Seconds per attempt.
        concurrency: Limit of concurrent requests.
        size: Default width and height in pixels.
        extra_body: Additional parameters to send.
        price_usd: US dollars per image; None if unknown.
        attempts: Attempts per image.
        steps: Default inference steps.
        guidance: Default guidance scale.
        first_wait_s: Seconds before the second attempt.

    Raises:
        ModelSpecError: `url` is not an HTTP URL.
    """

    def __init__(  # noqa: PLR0913 - independent settings, all but the first by name
        self,
        url: str,
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
        address = display_url(url)
        super().__init__(
            GeneratorCapabilities(model=f"http:{address}", default_size=size, price_usd=price_usd),
            endpoint=f"The image server at {address}",
            secrets=(
                *((api_key,) if api_key else ()),
                *secrets_of_address(url),
                *secrets_in(extra_body or {}),
            ),
            limits=RemoteLimits(
                timeout_s=timeout_s,
                concurrency=concurrency,
                attempts=attempts,
                first_wait_s=first_wait_s,
                steps=steps,
                guidance=guidance,
            ),
        )
        self._url = url
        self._api_key = api_key
        self._extra = dict(extra_body or {})

    def _open(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - loaded with the first request

        headers = {"Accept": "image/png, image/*"} | UNCOMPRESSED
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return httpx.AsyncClient(
            headers=headers,
            timeout=self._limits.timeout_s,
            event_hooks=max_response_size(MAX_IMAGE_BYTES),
            **make_client_options(httpx.Limits),
        )

    async def _close(self, client: httpx.AsyncClient) -> None:
        await client.aclose()

    async def _draw(self, client: httpx.AsyncClient, request: ImageRequest) -> RawImage:
        fields = _build_fields(request)
        message = self._build_request(client, {**self._extra, **fields})
        response = await client.send(message)
        if not response.is_success:
            raise error_from_status(
                response.status_code,
                response.text,
                self._endpoint,
                *self._secrets,
                retry_after=parse_retry_after(response.headers),
            )
        known = {"prompt", "seed", "width", "height"}
        # Recorded parameters are displayed and written into images: no secrets.
        public = {name: value for name, value in self._extra.items() if not any(secrets_in({name: value}))}
        parameters = {**public, **{name: value for name, value in fields.items() if name not in known}}
        return RawImage(data=response.content, seed=request.seed, parameters=parameters)

    def _build_request(self, client: httpx.AsyncClient, fields: Mapping[str, Any]) -> httpx.Request:
        import httpx  # noqa: PLC0415 - loaded by `_open`

        # Measured first, since httpx itself rejects very long URLs.
        if len(self._url) + len(urlencode(fields)) <= MAX_URL:
            return client.build_request("POST", httpx.URL(self._url).copy_merge_params(fields))
        return client.build_request("POST", self._url, json=dict(fields))


def _build_fields(request: ImageRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "prompt": request.prompt,
        "seed": request.seed,
        "width": request.width,
        "height": request.height,
    }
    optional = {
        "negative_prompt": request.negative_prompt or None,
        "steps": request.steps,
        "guidance": request.guidance,
    }
    return fields | {name: value for name, value in optional.items() if value is not None}
