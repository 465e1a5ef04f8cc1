"""GenEval2 by Soft-TIFA: the judge's probability of each expected answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gems.evals.benchmarks.judging import Probability, ask_number_probability, ask_yes_probability
from gems.evals.formulas.soft_tifa import arithmetic_mean, geometric_mean
from gems.evals.gathering import gather_or_cancel
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import ImageScore, score_samples

SOFT_TIFA_GM = "soft_tifa_gm"
SOFT_TIFA_AM = "soft_tifa_am"
_COUNT_QUESTION = "How many"


async def score_soft_tifa(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return both means of each image, in [0, 1]; the answers are kept as facts."""
    pairs: Sequence[Sequence[str]] = prompt.facts["vqa_list"]
    atoms = float(prompt.facts["atom_count"])

    async def score_image(image: bytes) -> ImageScore:
        found = await gather_or_cancel(_ask_answer(judge, image, *pair) for pair in pairs)
        answers = [answer.value for answer in found]
        return ImageScore(
            value=geometric_mean(answers),
            facts={
                "answers": answers,
                "atomicity": atoms,
                "how": " ".join(sorted({answer.how for answer in found})),
            },
            explanation=_least_likely(pairs, answers),
        )

    scores = await score_samples(prompt, images, SOFT_TIFA_GM, score_image)
    return [*scores, *(_arithmetic_score(score) for score in scores)]


async def _ask_answer(judge: EvalJudge, image: bytes, question: str, expected: str) -> Probability:
    text = f"{question} Answer in one word."
    if question.startswith(_COUNT_QUESTION):
        return await ask_number_probability(judge, text, image, expected)
    return await ask_yes_probability(judge, text, image)


def _arithmetic_score(score: Score) -> Score:
    answers = score.facts.get("answers")
    value = arithmetic_mean(answers) if isinstance(answers, list) else None
    return score.model_copy(update={"metric": SOFT_TIFA_AM, "value": value})


def _least_likely(pairs: Sequence[Sequence[str]], answers: Sequence[float]) -> str:
    worst = min(range(len(answers)), key=answers.__getitem__)
    question, expected = pairs[worst]
    return f"least likely: {question} {expected} ({answers[worst]:.0%})"
