"""A server with OpenAI's `/embeddings`, whose vectors lie as close to each other as those of real models."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request

from tests.support.http_server import serving

SIZE = 1024
_SHORT = 3
_CROWD = 1.5
"""Weight of what all texts have in common: unrelated ones then have a cosine of about 0.7, as with many models."""


_ATTRIBUTES = (
    "one two three four five six seven eight nine red blue green yellow orange purple pink brown black white grey gold "
    "golden small large tiny huge young round left right above below beside behind front under around between with "
    "this does show there image words word reads says photo night background striped spotted wooden open"
)
"""Words that models weigh little, since they say nothing of what a text is about."""


def crowded_vector(text: str) -> list[float]:
    """Return the vector of a text: its words, of which short ones mean little, and what all texts have in common."""
    total = np.zeros(SIZE)
    for word in set(re.findall(r"\w+", text.lower())):
        rng = np.random.default_rng(zlib.crc32(word.removesuffix("s").encode()))
        weight = 0.25 if word in _ATTRIBUTES.split() or len(word) <= _SHORT else 1.0
        total += weight * rng.standard_normal(SIZE) / np.sqrt(SIZE)
    norm = float(np.linalg.norm(total)) or 1.0
    return [float(value) for value in total / norm + _CROWD / np.sqrt(SIZE)]


@contextmanager
def embedding_server() -> Iterator[tuple[str, list[list[str]]]]:
    """Serve embeddings; yield the base URL, and the texts of each request so far."""
    app, asked = FastAPI(), list[list[str]]()

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> dict[str, Any]:
        texts = (await request.json())["input"]
        asked.append(texts)
        rows = [{"index": number, "embedding": crowded_vector(text)} for number, text in enumerate(texts)]
        return {"object": "list", "data": rows}

    with serving(app) as address:
        yield f"{address}/v1", asked
