"""GenEval with a judge: counts, colours and positions."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from gems.errors import RefusedError, UnreadableReplyError
from gems.evals.benchmarks.judging import ask_number, ask_yes_no
from gems.evals.formulas.geneval import combine_checks
from gems.evals.gathering import gather_or_cancel
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import ImageScore, score_samples

T = TypeVar("T")
GENEVAL_METRIC = "geneval"


async def score_geneval(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return 1 for an image where every check holds, else 0; one score per image."""
    return await score_samples(
        prompt, images, GENEVAL_METRIC, lambda image: _score_geneval_image(prompt.facts, image, judge)
    )


async def _score_geneval_image(facts: Mapping[str, Any], image: bytes, judge: EvalJudge) -> ImageScore:
    include, exclude = facts["include"], facts.get("exclude") or []
    names = list(dict.fromkeys(item["class"] for item in [*include, *exclude]))
    counted = await gather_or_cancel(_answer_or_none(_count_objects(judge, name, image)) for name in names)
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
    # Missing objects have neither colour nor position.
    if False not in checks.values():
        questions = _attribute_questions(include)
        answers = await gather_or_cancel(
            _answer_or_none(ask_yes_no(judge, each, image)) for each in questions
        )
        checks |= dict(zip(questions, answers, strict=True))
    right = combine_checks(list(checks.values()))
    return ImageScore(
        value=None if right is None else float(right),
        facts={f"counted {name}": float(count) for name, count in counts.items() if count is not None},
        explanation=_explain_checks(checks),
    )


async def _count_objects(judge: EvalJudge, name: str, image: bytes) -> int:
    return await ask_number(judge, f"How many objects of the kind {name!r} can be seen in the image?", image)


def _attribute_questions(include: Sequence[Mapping[str, Any]]) -> list[str]:
    questions = []
    for item in include:
        if color := item.get("color"):
            questions.append(f"Is the {item['class']} in the image {color}?")
        if place := item.get("position"):
            relation, other = place
            questions.append(
                f"In the image, is the {item['class']} {relation} the {include[other]['class']}?"
            )
    return questions


async def _answer_or_none(answer: Awaitable[T]) -> T | None:
    """Return an answer; None if it is unreadable or refused."""
    try:
        return await answer
    except (UnreadableReplyError, RefusedError):
        return None


def _explain_checks(checks: Mapping[str, bool | None]) -> str:
    wrong = [what for what, holds in checks.items() if holds is False]
    unknown = [what for what, holds in checks.items() if holds is None]
    groups = (("not so", wrong), ("unreadable", unknown))
    return ", ".join(f"{how}: {'; '.join(what)}" for how, what in groups if what)
