"""OneIG: five dimensions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gems.evals.benchmarks.judging import (
    ImageScore,
    make_score,
    parse_ratings,
    read_image_text,
    score_questions,
    score_samples,
)
from gems.evals.benchmarks.metrics import (
    Parents,
    TextMatch,
    edit_distance,
    fail_children,
    is_chinese,
    match_units,
    normalize_text,
)
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.records import BenchmarkPrompt, Score
from gems.models.images import open_image

DIMENSIONS = ("alignment", "text", "reasoning", "style", "diversity")
MAX_EDITS: Mapping[str, int] = {"en": 100, "zh": 50}
"""Number of edits from which a text counts as completely wrong, by language."""


def alignment_score(answers: Mapping[int, float], parents: Parents) -> float:
    """Return the share of yes answers, in [0, 1]; a question with a failed parent counts as no."""
    found = fail_children(answers, parents)
    return sum(found.values()) / len(found)


@dataclass(frozen=True, slots=True)
class TextComparison:
    """The text in an image compared with the expected text.

    Attributes:
        edits: Edit distance in characters.
        match: Words, or characters if the expected text is Chinese.
    """

    edits: int
    match: TextMatch


def compare_text(found: str, wanted: str) -> TextComparison:
    """Compare the text read in an image with the expected one; case-sensitive."""
    read, given = _normalize_language(found), _normalize_language(wanted)
    match = match_units(read, given) if is_chinese(given) else match_units(read.split(), given.split())
    return TextComparison(edit_distance(read, given), match)


def text_score(comparisons: Sequence[TextComparison], language: str) -> float | None:
    """Return the text score in [0, 1] over images; None without expected text.

    It is 1 - min(M, ED) (1 - CR) (1 - WAC) / M with the mean edit distance ED, the share of exact texts CR,
    the share of expected units that were read WAC, and M by language.
    """
    units = sum(each.match.wanted for each in comparisons)
    if not comparisons or not units:
        return None
    most = MAX_EDITS[language]
    edits = sum(each.edits for each in comparisons) / len(comparisons)
    exact = sum(each.edits == 0 for each in comparisons) / len(comparisons)
    read = sum(each.match.matched for each in comparisons) / units
    return 1 - min(most, edits) * (1 - exact) * (1 - read) / most


def diversity_score(distances: Sequence[float]) -> float | None:
    """Return the mean distance of all pairs of one prompt's images; None without a pair."""
    return sum(distances) / len(distances) if distances else None


def oneig_score(dimensions: Mapping[str, float]) -> float | None:
    """Return the mean of the five dimensions, in [0, 1]; None if one is missing."""
    if not all(name in dimensions for name in DIMENSIONS):
        return None
    return sum(dimensions[name] for name in DIMENSIONS) / len(DIMENSIONS)


def _normalize_language(written: str) -> str:
    plain = normalize_text(written)
    return plain.replace(" ", "") if is_chinese(plain) else plain


ALIGNMENT = "alignment"


async def score_alignment(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return the share of yes answers in [0, 1] for each image."""
    return await score_questions(prompt, images, judge, ALIGNMENT, alignment_score)


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


REASONING = "reasoning"
_REASONING_PROMPT = """\
An image was drawn to show the answer to a task. Say how much of the answer it shows rightly.

Answer: {answer}

100 means that everything the answer says can be seen and nothing contradicts it, 50 that about half can \
be seen, 0 that the image has nothing to do with it. Looks do not count. Reply with a JSON array of one \
number from 0 to 100, for example [40]."""


async def score_reasoning(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Rate each image, in [0, 1]; not comparable with the official cosine of embeddings."""

    async def score_image(image: bytes) -> ImageScore:
        question = JudgeQuestion(
            text=_REASONING_PROMPT.format(answer=prompt.facts["gt_answer"]), pictures=[image]
        )
        reply = await judge.ask(question)
        (rating,) = parse_ratings(reply.text, 1, 0, 100)
        return ImageScore(value=rating / 100, explanation=reply.text)

    return await score_samples(prompt, images, REASONING, score_image)


STYLE = "style"
_STYLE_PROMPT = """\
How well does the image keep to the style named {style!r}? Judge its lines, colours, \
materials and light, not what it shows.

100 means that it could stand as an example of this style, 50 that some of its marks are there, 0 that it \
is of another style. Reply with a JSON array of one number from 0 to 100, for example [40]."""


async def score_style(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Rate each image, in [0, 1]; not comparable with the official style embeddings."""

    async def score_image(image: bytes) -> ImageScore:
        style = str(prompt.facts["style"]).replace("_", " ")
        reply = await judge.ask(JudgeQuestion(text=_STYLE_PROMPT.format(style=style), pictures=[image]))
        (rating,) = parse_ratings(reply.text, 1, 0, 100)
        return ImageScore(value=rating / 100, explanation=reply.text)

    return await score_samples(prompt, images, STYLE, score_image)


TEXT = "text"
_TEXT_FACTS = ("edits", "matched", "wanted", "found")


async def score_text(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Return the text formula for each image, in [0, 1]; the benchmark pools the counts in the facts."""

    async def score_image(image: bytes) -> ImageScore:
        read = await read_image_text(judge, image)
        found = await asyncio.to_thread(compare_text, read, prompt.facts["text_content"])
        counts = (found.edits, found.match.matched, found.match.wanted, found.match.found)
        return ImageScore(
            value=text_score([found], prompt.language),
            facts={name: float(count) for name, count in zip(_TEXT_FACTS, counts, strict=True)},
            explanation=read,
        )

    return await score_samples(prompt, images, TEXT, score_image)


def get_comparison(score: Score) -> TextComparison:
    """Return the comparison behind a score; raises `ValueError` if it has none."""
    found = [score.facts.get(name) for name in _TEXT_FACTS]
    counts = [int(value) for value in found if isinstance(value, float)]
    if len(counts) != len(_TEXT_FACTS):
        raise ValueError(f"{score.key} has no counts of characters.")
    return TextComparison(counts[0], TextMatch(*counts[1:]))
