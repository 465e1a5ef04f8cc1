"""OneIG's diversity, by a stand-in: how far thumbnails of one prompt's images are from each other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gems.evals.benchmarks.oneig_scoring import diversity
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import Scored, score_of
from gems.models.pictures import opened

METRIC = "diversity"
_SIDE = 16


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes]) -> list[Score]:
    """The mean distance in [0, 1] of all pairs, as one score for the prompt; none of fewer than two images.

    The official number is DreamSim's distance, which knows what pictures show; the two do not compare.
    """
    if len(images) < 2:
        return []
    distances = await asyncio.to_thread(_distances, list(images.values()))
    found = Scored(value=diversity(distances), facts={"distances": distances, "embedding": "thumbnails"})
    return [score_of(prompt, 0, METRIC, found)]


def _distances(images: Sequence[bytes]) -> list[float]:
    embeddings = [_embedding(image) for image in images]
    return [float(np.clip((1 - first @ second) / 2, 0, 1)) for first, second in combinations(embeddings, 2)]


def _embedding(image: bytes) -> NDArray[Any]:
    """A thumbnail's colours as a vector of length 1."""
    with opened(image) as picture:
        small = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    # Around middle grey, so that opposite pictures are as far apart as can be. The last component is for
    # pictures that are grey all over, which have no direction else.
    centred = np.append(np.asarray(small, dtype=np.float64).ravel() / 255 - 0.5, 0.1)
    return np.asarray(centred / np.linalg.norm(centred))
