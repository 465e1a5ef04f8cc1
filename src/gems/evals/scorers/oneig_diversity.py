"""In-house stand-in for OneIG diversity: distances between thumbnails of one prompt's images."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gems.evals.benchmarks.oneig_scoring import diversity_score
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import ImageScore, make_score
from gems.models.images import open_image

DIVERSITY = "diversity"
_THUMBNAIL_SIDE = 16


async def score_diversity(prompt: BenchmarkPrompt, images: Mapping[int, bytes]) -> list[Score]:
    """Return the mean distance of all pairs, in [0, 1], as one score; none for fewer than two images.

    Not comparable with the official distance, DreamSim, which recognizes the contents of images.
    """
    if len(images) < 2:
        return []
    distances = await asyncio.to_thread(_pair_distances, list(images.values()))
    found = ImageScore(
        value=diversity_score(distances), facts={"distances": distances, "embedding": "thumbnails"}
    )
    return [make_score(prompt, 0, DIVERSITY, found)]


def _pair_distances(images: Sequence[bytes]) -> list[float]:
    embeddings = [_embed_thumbnail(image) for image in images]
    return [float(np.clip((1 - first @ second) / 2, 0, 1)) for first, second in combinations(embeddings, 2)]


def _embed_thumbnail(image: bytes) -> NDArray[Any]:
    """Return the colours of a thumbnail as a unit vector."""
    with open_image(image) as picture:
        small = picture.convert("RGB").resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.BOX)
    # Around middle grey, so that opposite pictures are as far apart as can be. The last component is for
    # pictures that are grey all over, which have no direction else.
    centred = np.append(np.asarray(small, dtype=np.float64).ravel() / 255 - 0.5, 0.1)
    return np.asarray(centred / np.linalg.norm(centred))
