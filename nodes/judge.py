"""The judge: every requirement answered from the image."""

from __future__ import annotations

import asyncio
import time

from gems.events import Judged
from gems.nodes.generator import succeeded
from gems.nodes.node import Update
from gems.nodes.scoring import best_index, verdict
from gems.nodes.stopping import stop_reason
from gems.nodes.verifying import Judgement, confirmed, judged, unknown
from gems.state import State
from gems.types import Candidate, Requirement, Round
from gems.work import Work

_MAX_THOUGHT = 4_000


async def judge(state: State, work: Work) -> Update:
    """Judge the round's candidates side by side and decide whether the loop ends."""
    started = time.perf_counter()
    requirements, candidates = state["requirements"], state["drawn"]
    results = await asyncio.gather(
        *(judged(candidate["image"], requirements, work) for candidate in candidates), return_exceptions=True
    )
    judgements = [found or _unjudged(requirements) for found in succeeded(results, work)]
    if work.profile != "paper":
        judgements = await _confirmed_best(candidates, judgements, requirements, work)
    turn = _round(state, work, judgements, time.perf_counter() - started)
    work.emit(Judged(round=turn["number"], verdicts=turn["verdicts"], best=turn["best"], score=turn["score"]))
    rounds = [*(state.get("rounds") or []), turn]
    usage = work.total_usage(state)
    return {
        "rounds": [turn],
        "drawn": [],
        "thought": judgements[turn["best"]].thought[:_MAX_THOUGHT],
        "stop_reason": stop_reason(state["options"], rounds, usage, work.seconds()),
    }


async def _confirmed_best(
    candidates: list[Candidate], judgements: list[Judgement], requirements: list[Requirement], work: Work
) -> list[Judgement]:
    """Confirm candidates that seem to meet everything, one after another until one does."""
    confirmed_ones = list(judgements)
    for index, judgement in enumerate(judgements):
        if all(answer["answer"] == "yes" for answer in judgement.answers):
            checked = await confirmed(candidates[index]["image"], judgement, requirements, work)
            confirmed_ones[index] = checked
            if all(answer["answer"] == "yes" for answer in checked.answers):
                # Later ones that seem to meet everything too are not asked about again: a tie keeps
                # the earlier one.
                break
    return confirmed_ones


def _unjudged(requirements: list[Requirement]) -> Judgement:
    """A candidate whose judging failed, while that of others did not: nothing is known about it."""
    return Judgement(
        answers=[unknown(requirement, "not judged") for requirement in requirements],
        thought="",
    )


def _round(state: State, work: Work, judgements: list[Judgement], seconds: float) -> Round:
    candidates = state["drawn"]
    verdicts = [
        verdict(candidate["image"], judgement.answers)
        for candidate, judgement in zip(candidates, judgements, strict=True)
    ]
    best = best_index([found["score"] for found in verdicts])
    return {
        "number": work.round,
        "prompt": state["draw_prompt"],
        "negative_prompt": state["options"]["negative_prompt"],
        "candidates": candidates,
        "verdicts": verdicts,
        "best": best,
        "score": verdicts[best]["score"],
        "seconds": (state.get("timings") or {}) | {"judge": round(seconds, 4)},
    }
