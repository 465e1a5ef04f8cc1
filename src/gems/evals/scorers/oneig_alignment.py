"""OneIG alignment: questions about the contents of the prompt."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.benchmarks.oneig_scoring import alignment_score
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.questions import score_questions

ALIGNMENT = "alignment"


async def score_alignment(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return the share of yes answers in [0, 1] for each image."""
    return await score_questions(prompt, images, judge, ALIGNMENT, alignment_score)
