"""DPG-Bench judged by a model that looks; a question whose parent failed counts as failed."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.formulas.dpg import tile
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers import questions

METRIC = "dpg"


async def score(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """The share of questions that hold, in [0, 1], of each image; raw answers are kept as facts."""
    return await questions.score(prompt, images, judge, METRIC, tile)
