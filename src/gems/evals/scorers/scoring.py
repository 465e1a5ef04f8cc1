"""Score images one by one; unreadable replies leave an image unscored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from gems.errors import RefusedError, UnreadableReplyError
from gems.evals.records import BenchmarkPrompt, Score, gather_or_cancel

Facts = dict[str, float | str | list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """The score of one image: value (None if unscored), the facts behind it, and an explanation."""

    value: float | None
    facts: Facts = field(default_factory=dict)
    explanation: str = ""


async def score_samples(
    prompt: BenchmarkPrompt,
    images: Mapping[int, bytes],
    metric: str,
    score_image: Callable[[bytes], Awaitable[ImageScore]],
) -> list[Score]:
    """Score every image of a prompt (PNG bytes by sample) with `look`.

    Raises `ProviderError` if the judge cannot be reached.
    """
    results = await gather_or_cancel(unscored_if_unreadable(score_image(image)) for image in images.values())
    return [
        make_score(prompt, sample, metric, scored) for sample, scored in zip(images, results, strict=True)
    ]


async def unscored_if_unreadable(scoring: Awaitable[ImageScore]) -> ImageScore:
    """Return the score; without a value if the judge's reply is unreadable or refused."""
    try:
        return await scoring
    except (UnreadableReplyError, RefusedError) as error:
        return ImageScore(value=None, explanation=error.message)


def make_score(
    prompt: BenchmarkPrompt, sample: int, metric: str, scored: ImageScore, category: str | None = None
) -> Score:
    """Build the score of a sample; its category defaults to the prompt's."""
    return Score(
        benchmark=prompt.benchmark,
        language=prompt.language,
        prompt_id=prompt.id,
        sample=sample,
        metric=metric,
        value=scored.value,
        category=prompt.category if category is None else category,
        facts=scored.facts,
        explanation=scored.explanation,
    )
