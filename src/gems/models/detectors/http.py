"""Detectors behind a URL that answers as Hugging Face's task `zero-shot-object-detection` does."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

from gems.errors import GemsError, ProviderTimeoutError, UnreadableReplyError
from gems.models.detectors.base import DEFAULT_THRESHOLD, DetectionRequest, Detections, select_objects
from gems.models.http import (
    MAX_CHAT_BYTES,
    error_from_response,
    error_in_reply,
    is_retryable,
    make_client_options,
    translate_error,
    with_retries,
)
from gems.models.images import open_image
from gems.observability.redaction import display_url, redact, scrub, secrets_of_address

if TYPE_CHECKING:
    import httpx

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_FORM = '[{"label": "...", "score": 0.9, "box": {"xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}}]'


class HTTPDetector:
    """Finds objects with a server that takes `POST url` and answers in JSON.

    The request is `{"inputs": IMAGE, "parameters": {"candidate_labels": [...], "threshold": 0.15}}` with a PNG in
    base64; the answer a list of objects, `[{"label": "...", "score": 0.9, "box": {"xmin": 0, "ymin": 0, "xmax": 9,
    "ymax": 9}}]`, with boxes in pixels of that image; an empty list says that nothing was found.

    Args:
        url: Complete URL, e.g. `http://host:8000/detect`.
        api_key: Sent as a bearer token.
        threshold: Score from which an object counts as found, in (0, 1]; None for 0.3.
        timeout_s: Seconds for one answer.
        attempts: Attempts per request, if retrying can help; a server that is too slow is asked once.
        first_wait_s: Seconds before the second try; doubles from there.

    Source: the request and answer of huggingface_hub's `InferenceClient`.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        threshold: float | None = None,
        timeout_s: float = 30.0,
        attempts: int = 3,
        first_wait_s: float = 0.5,
    ) -> None:
        address = display_url(url)
        self._name = f"http:{address}"
        self._endpoint = f"The detector at {address}"
        self._url = url
        self._api_key = api_key
        self._secrets = (*((api_key,) if api_key else ()), *secrets_of_address(url))
        self._threshold = threshold or DEFAULT_THRESHOLD
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._first_wait_s = first_wait_s

    @property
    def name(self) -> str:
        """`http:` and the URL, without secrets."""
        return self._name

    @property
    def threshold(self) -> float:
        """Score from which an object counts as found."""
        return self._threshold

    async def detect(self, request: DetectionRequest) -> Detections:
        """Ask the server; see `ObjectDetector`."""
        if not request.phrases:
            return Detections(objects=())
        size, body = await asyncio.to_thread(self._prepare, request)
        found = await with_retries(
            lambda: self._attempt(body),
            attempts=self._attempts,
            first_wait_s=self._first_wait_s,
            # A slow server would hold up the run as long again.
            retries=lambda error: is_retryable(error) and not isinstance(error, ProviderTimeoutError),
        )
        return select_objects(found, request, size, threshold=self._threshold, detector=self._endpoint)

    async def aclose(self) -> None:
        """Do nothing: connections end with their request."""

    def _prepare(self, request: DetectionRequest) -> tuple[tuple[int, int], bytes]:
        """Return the image's size in pixels and the body of the request. Blocking."""
        parameters = {"candidate_labels": list(request.phrases), "threshold": self._threshold / 2}
        body = {"inputs": base64.b64encode(request.image).decode(), "parameters": parameters}
        with open_image(request.image) as opened:
            return opened.size, json.dumps(body).encode()

    async def _attempt(self, body: bytes) -> list[tuple[str, Any, list[Any]]]:
        import httpx  # noqa: PLC0415 - loaded with the first request

        options = await asyncio.to_thread(make_client_options, httpx.Limits, self._timeout_s, MAX_CHAT_BYTES)
        headers = options["headers"] | {"Accept": "application/json", "Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            async with asyncio.timeout(self._timeout_s), httpx.AsyncClient(**options | {"headers": headers}) as client:
                response = await client.post(self._url, content=body)
        except Exception as error:
            raise translate_error(error, self._endpoint, *self._secrets) from error
        try:
            return self._read(response)
        except GemsError as error:
            error.message = redact(error.message, *self._secrets)
            scrub(error, *self._secrets)
            raise

    def _read(self, response: httpx.Response) -> list[tuple[str, Any, list[Any]]]:
        if not response.is_success:
            raise error_from_response(response, self._endpoint, *self._secrets)
        try:
            reply = json.loads(response.content)
        except (ValueError, RecursionError):
            raise self._unreadable(response.text) from None
        if not isinstance(reply, list):
            raise error_in_reply(reply, self._endpoint, *self._secrets) or self._unreadable(response.text)
        try:
            return [(each["label"], each["score"], [each["box"][edge] for edge in _EDGES]) for each in reply]
        except (KeyError, TypeError):
            raise self._unreadable(response.text) from None

    def _unreadable(self, text: str) -> UnreadableReplyError:
        said = " ".join(text.split())[:160]
        return UnreadableReplyError(
            f"{self._endpoint} sent an invalid response: {said!r}.", hint=f"Its answer must have the form {_FORM}."
        )
