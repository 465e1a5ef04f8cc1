"""OneIG's alignment: questions about what the prompt names."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.benchmarks.oneig_scoring import alignment
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers import questions

METRIC = "alignment"


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """The share of questions that hold, in [0, 1], of each image."""
    return await questions.score(prompt, images, judge, METRIC, alignment)
