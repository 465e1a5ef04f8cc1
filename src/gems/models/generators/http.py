"""Image servers with `POST /generate?prompt=...` that return image bytes, as in the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gems.errors import GemsError
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.models.generators.remote import RawImage, RemoteGenerator, RemoteLimits
from gems.models.http import MAX_IMAGE_BYTES, error_from_response, error_in_reply, make_client_options
from gems.observability.redaction import display_url, secrets_in

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
        size: Default width and height in pixels.
        extra_body: Additional parameters to send.
        price_usd: US dollars per image; None if unknown.
        limits: Timeout, concurrency, attempts and defaults of requests.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        size: tuple[int, int] = (1024, 1024),
        extra_body: Mapping[str, Any] | None = None,
        price_usd: float | None = None,
        limits: RemoteLimits | None = None,
    ) -> None:
        address = display_url(url)
        super().__init__(
            GeneratorCapabilities(model=f"http:{address}", default_size=size, price_usd=price_usd),
            endpoint=f"The image server at {address}",
            url=url,
            api_key=api_key,
            extra_body=extra_body,
            limits=limits,
        )

    def _open(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - loaded with the first request

        options = make_client_options(httpx.Limits, self._limits.timeout_s, MAX_IMAGE_BYTES)
        headers = {"Accept": "image/png, image/*"} | options["headers"]
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return httpx.AsyncClient(**options | {"headers": headers})

    async def _close(self, client: httpx.AsyncClient) -> None:
        await client.aclose()

    async def _draw(self, client: httpx.AsyncClient, request: ImageRequest) -> RawImage:
        fields = _build_fields(request)
        message = self._build_request(client, {**self._extra, **fields})
        response = await client.send(message)
        if not response.is_success:
            raise error_from_response(response, self._endpoint, *self._secrets)
        if response.content[:1] == b"{" and (error := self._error_in(response.content)):
            raise error
        known = {"prompt", "seed", "width", "height"}
        # Recorded parameters are displayed and written into images: no secrets.
        public = {name: value for name, value in self._extra.items() if not any(secrets_in({name: value}))}
        parameters = {**public, **{name: value for name, value in fields.items() if name not in known}}
        return RawImage(data=response.content, seed=request.seed, parameters=parameters)

    def _error_in(self, body: bytes) -> GemsError | None:
        """Return the error that the server answers, with a good status, in place of an image."""
        try:
            return error_in_reply(json.loads(body), self._endpoint, *self._secrets)
        except (ValueError, RecursionError):
            return None

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
