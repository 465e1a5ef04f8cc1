"""What every scorer does: look at each image, and leave unscored what cannot be scored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from gems.errors import RefusedError, UnreadableReplyError
from gems.evals.gathering import gather_or_cancel
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt

Facts = dict[str, float | str | list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """What a scorer found out about one image.

    Attributes:
        value: None where it could not be scored.
        facts: What the value was computed from.
        explanation: For people.
    """

    value: float | None
    facts: Facts = field(default_factory=dict)
    explanation: str = ""


async def score_samples(
    prompt: BenchmarkPrompt,
    images: Mapping[int, bytes],
    metric: str,
    look: Callable[[bytes], Awaitable[ImageScore]],
) -> list[Score]:
    """Score every image of a prompt by itself.

    Args:
        prompt: What was drawn.
        images: PNG bytes by sample.
        metric: Name of the number.
        look: Scores one image. Where it cannot read what the judge says, the sample stays unscored.

    Raises:
        ProviderError: the judge cannot be reached.
    """
    found = await gather_or_cancel(unscored_if_unreadable(look(image)) for image in images.values())
    return [make_score(prompt, sample, metric, scored) for sample, scored in zip(images, found, strict=True)]


async def unscored_if_unreadable(looking: Awaitable[ImageScore]) -> ImageScore:
    """What a look at an image found; without a value where the judge's reply was of no use."""
    try:
        return await looking
    except (UnreadableReplyError, RefusedError) as error:
        return ImageScore(value=None, explanation=error.message)


def make_score(
    prompt: BenchmarkPrompt, sample: int, metric: str, scored: ImageScore, category: str | None = None
) -> Score:
    """The score of a sample; its category is the prompt's where none is given."""
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
