"""Ask a GEMS server for rewards, from a trainer: `request_rewards`.

It needs nothing but httpx and Pillow, and reads JSON only.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx

from gems.errors import OptionError, RequestError, ServerError
from gems.models.refusals import clean_message
from gems.observability.redaction import redact, shorten
from gems.runs.rewards import MOST_ITEMS

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_CHARACTERS = 16_000_000
"""Of the images of a request; a server takes 25 MB by default."""
_BATCHES_AT_A_TIME = 2


def request_rewards(
    prompts: Sequence[str],
    images: Sequence[Image | bytes],
    *,
    url: str = "http://127.0.0.1:8000",
    key: str = "",
    checklists: Sequence[Sequence[str]] | None = None,
    timeout_s: float = 600.0,
) -> list[float | None]:
    """Return the rewards of images in [0, 1], None where the judge could not tell.

    Args:
        prompts: One per image.
        images: Pillow images, or the bytes of image files.
        url: The address of `gems serve`.
        key: An API key of the server.
        checklists: Yes/no questions for each image, in place of the requirements of its prompt.
        timeout_s: Longest wait for a batch of at most 256 images and 16 MB.

    Raises:
        OptionError: The lengths differ.
        RequestError: The server refused the request.
        ServerError: The server failed.
        httpx.TransportError: It cannot be reached.
    """
    if len(prompts) != len(images) or (checklists is not None and len(checklists) != len(images)):
        raise OptionError(f"There are {len(prompts)} prompts and {len(images)} images.", hint="Pass one of each.")
    items = [
        {"prompt": prompt, "image": base64.b64encode(_encode(image)).decode()}
        | ({"checklist": list(checklists[number])} if checklists is not None else {})
        for number, (prompt, image) in enumerate(zip(prompts, images, strict=True))
    ]
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=timeout_s) as client:

        def ask(batch: list[dict[str, Any]]) -> list[float | None]:
            answer = client.post("/v1/rewards", json={"items": batch})
            told = f"{url} answered {answer.status_code}: {shorten(redact(clean_message(answer.text), key))}"
            if answer.is_client_error:
                raise RequestError(told, hint="Correct the request: the answer says what is wrong.")
            if answer.is_error:
                raise ServerError(told)
            return [reward["score"] for reward in answer.json()["rewards"]]

        # The next batch is sent and decoded while the judge is busy with this one.
        pool = ThreadPoolExecutor(_BATCHES_AT_A_TIME)
        try:
            return [score for scores in pool.map(ask, _batches(items)) for score in scores]
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(items: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield items in parts that a server takes at once."""
    batch: list[dict[str, Any]] = []
    size = 0
    for item in items:
        if batch and (len(batch) == MOST_ITEMS or size + len(item["image"]) > _MOST_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item["image"])
    if batch:
        yield batch


def _encode(image: Image | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
