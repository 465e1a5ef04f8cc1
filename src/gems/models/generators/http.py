"""Image servers with a plain `POST /generate?prompt=...` that answers picture bytes, as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gems.models.connecting import held_open
from gems.models.generators.addresses import shown_address
from gems.models.generators.remote import Drawn, RemoteGenerator, RemoteLimits
from gems.models.http import from_status, retry_after
from gems.models.limiting import MAX_PICTURE_BYTES, PLAIN, limited
from gems.observability.redaction import secrets_in, secrets_of_address
from gems.types import GeneratorCapabilities, ImageRequest

if TYPE_CHECKING:
    import httpx

MAX_URL = 8000
"""Longest address in characters: nginx and other servers take 8 KiB for the whole request line."""


class HTTPGenerator(RemoteGenerator["httpx.AsyncClient"]):
    """Draws on a server that answers `POST url?prompt=...` with the bytes of a picture.

    Sends `prompt`, `seed`, `width`, `height` and, where set, `negative_prompt`, `steps` and `guidance` as
    query parameters. A server that knows only `prompt`, such as the paper's, ignores the others: its pixels
    then do not follow the seed, although `capabilities.seeds` says what was asked. Where the address would
    be longer than `MAX_URL` the same fields go as a JSON object in the body instead, with no query; servers
    that read only the query answer that with an error, which is reported as it is.

    Args:
        url: The whole address, for example `http://host:8000/generate`; its own query is kept.
        api_key: Sent as a bearer token where given.
        timeout_s: Seconds one attempt may take.
        concurrency: Requests under way at a time.
        size: Width and height in pixels where the user asks for none.
        extra_body: Further parameters to send along.
        price_usd: US dollars per image; None where not known.
        attempts: Attempts per image.
        steps: Inference steps of requests that name none.
        guidance: Guidance scale of requests that name none.
        first_wait_s: Seconds before the second attempt.

    Raises:
        ModelSpecError: `url` is no http or https address.
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
        address = shown_address(url)
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

        headers = {"Accept": "image/png, image/*"} | PLAIN
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return httpx.AsyncClient(
            headers=headers,
            timeout=self._limits.timeout_s,
            event_hooks=limited(MAX_PICTURE_BYTES),
            **held_open(httpx.Limits),
        )

    async def _close(self, client: httpx.AsyncClient) -> None:
        await client.aclose()

    async def _draw(self, client: httpx.AsyncClient, request: ImageRequest) -> Drawn:
        asked = _fields(request)
        message = self._message(client, {**self._extra, **asked})
        response = await client.send(message)
        if not response.is_success:
            raise from_status(
                response.status_code,
                response.text,
                self._endpoint,
                *self._secrets,
                retry_after=retry_after(response.headers),
            )
        known = {"prompt", "seed", "width", "height"}
        # What is recorded is shown and written into pictures.
        kept = {name: value for name, value in self._extra.items() if not any(secrets_in({name: value}))}
        parameters = {**kept, **{name: value for name, value in asked.items() if name not in known}}
        return Drawn(data=response.content, seed=request.seed, parameters=parameters)

    def _message(self, client: httpx.AsyncClient, fields: Mapping[str, Any]) -> httpx.Request:
        import httpx  # noqa: PLC0415 - loaded by `_open`

        # Measured before it is built: httpx itself refuses very long addresses.
        if len(self._url) + len(urlencode(fields)) <= MAX_URL:
            return client.build_request("POST", httpx.URL(self._url).copy_merge_params(fields))
        return client.build_request("POST", self._url, json=dict(fields))


def _fields(request: ImageRequest) -> dict[str, Any]:
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
