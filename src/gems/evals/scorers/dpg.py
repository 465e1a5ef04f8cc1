"""DPG-Bench with a judge; a question with a failed parent counts as failed."""

from __future__ import annotations

from collections.abc import Mapping

from gems.evals.formulas.dpg import tile_score
from gems.evals.judge import EvalJudge
from gems.evals.records import Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.questions import score_questions

DPG_METRIC = "dpg"


async def score_dpg(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Return the share of yes answers in [0, 1] for each image; raw answers are kept as facts."""
    return await score_questions(prompt, images, judge, DPG_METRIC, tile_score)
