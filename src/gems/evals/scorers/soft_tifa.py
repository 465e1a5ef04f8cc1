"""GenEval2 by Soft-TIFA: how likely the judge finds each expected answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gems.evals.benchmarks.judging import Probability, probability_of_number, probability_of_yes
from gems.evals.formulas.soft_tifa import arithmetic, geometric
from gems.evals.gathering import together
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.scoring import Scored, each_sample

METRIC = "soft_tifa_gm"
ARITHMETIC = "soft_tifa_am"
_COUNTING = "How many"


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Both means of each image, in [0, 1]; the answers are kept as facts."""
    pairs: Sequence[Sequence[str]] = prompt.facts["vqa_list"]
    atoms = float(prompt.facts["atom_count"])

    async def look(image: bytes) -> Scored:
        found = await together(_answer(judge, image, *pair) for pair in pairs)
        answers = [answer.value for answer in found]
        return Scored(
            value=geometric(answers),
            facts={
                "answers": answers,
                "atomicity": atoms,
                "how": " ".join(sorted({answer.how for answer in found})),
            },
            explanation=_least(pairs, answers),
        )

    scores = await each_sample(prompt, images, METRIC, look)
    return [*scores, *(_arithmetic(score) for score in scores)]


async def _answer(judge: EvalJudge, image: bytes, question: str, expected: str) -> Probability:
    text = f"{question} Answer in one word."
    if question.startswith(_COUNTING):
        return await probability_of_number(judge, text, image, expected)
    return await probability_of_yes(judge, text, image)


def _arithmetic(score: Score) -> Score:
    answers = score.facts.get("answers")
    value = arithmetic(answers) if isinstance(answers, list) else None
    return score.model_copy(update={"metric": ARITHMETIC, "value": value})


def _least(pairs: Sequence[Sequence[str]], answers: Sequence[float]) -> str:
    worst = min(range(len(answers)), key=answers.__getitem__)
    question, expected = pairs[worst]
    return f"least likely: {question} {expected} ({answers[worst]:.0%})"
