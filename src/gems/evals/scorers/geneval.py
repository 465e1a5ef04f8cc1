"""GenEval judged by a model that looks: how many there are, and whether colour and place are right."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from gems.errors import RefusedError, UnreadableReplyError
from gems.evals.benchmarks.judging import how_many, is_so
from gems.evals.formulas.geneval import image_is_right
from gems.evals.gathering import together
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import Scored, each_sample

T = TypeVar("T")
METRIC = "geneval"


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """1 for an image where everything holds, 0 for one where something does not; one score per image."""
    return await each_sample(prompt, images, METRIC, lambda image: _look(prompt.facts, image, judge))


async def _look(facts: Mapping[str, Any], image: bytes, judge: EvalJudge) -> Scored:
    include, exclude = facts["include"], facts.get("exclude") or []
    names = list(dict.fromkeys(item["class"] for item in [*include, *exclude]))
    counted = await together(_told(_counted(judge, name, image)) for name in names)
    counts = dict(zip(names, counted, strict=True))
    checks: dict[str, bool | None] = {}
    for item in include:
        found = counts[item["class"]]
        checks[f"{item['count']} {item['class']}"] = None if found is None else found >= item["count"]
    for item in exclude:
        found = counts[item["class"]]
        checks[f"fewer than {item['count']} {item['class']}"] = (
            None if found is None else found < item["count"]
        )
    # What is not there has neither colour nor place.
    if False not in checks.values():
        questions = _questions(include)
        answers = await together(_told(is_so(judge, each, image)) for each in questions)
        checks |= dict(zip(questions, answers, strict=True))
    right = image_is_right(list(checks.values()))
    return Scored(
        value=None if right is None else float(right),
        facts={f"counted {name}": float(count) for name, count in counts.items() if count is not None},
        explanation=_explained(checks),
    )


async def _counted(judge: EvalJudge, name: str, image: bytes) -> int:
    return await how_many(judge, f"How many objects of the kind {name!r} can be seen in the image?", image)


def _questions(include: Sequence[Mapping[str, Any]]) -> list[str]:
    asked = []
    for item in include:
        if color := item.get("color"):
            asked.append(f"Is the {item['class']} in the image {color}?")
        if place := item.get("position"):
            relation, other = place
            asked.append(f"In the image, is the {item['class']} {relation} the {include[other]['class']}?")
    return asked


async def _told(asking: Awaitable[T]) -> T | None:
    """An answer; None where what was said is none."""
    try:
        return await asking
    except (UnreadableReplyError, RefusedError):
        return None


def _explained(checks: Mapping[str, bool | None]) -> str:
    wrong = [what for what, holds in checks.items() if holds is False]
    unknown = [what for what, holds in checks.items() if holds is None]
    told = (("not so", wrong), ("unreadable", unknown))
    return ", ".join(f"{how}: {'; '.join(what)}" for how, what in told if what)
