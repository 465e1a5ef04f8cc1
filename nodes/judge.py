"""The judge: every requirement answered from the image."""

from __future__ import annotations

import asyncio
import time

from langgraph.types import Overwrite

from gems.errors import GemsError, LimitReached, ProviderError
from gems.events import Judged
from gems.nodes.base import Update, stop_reason_for
from gems.nodes.checklist import Judgement, judge_image, unknown_answer
from gems.nodes.confirming import all_met, candidates_to_confirm, confirm, doubtful_answers, recheck
from gems.nodes.context import NodeContext
from gems.nodes.drawing import negative_prompt
from gems.nodes.generator import drop_failed
from gems.nodes.scoring import best_verdict, build_verdict
from gems.nodes.skill_verifying import ask_verifiers
from gems.nodes.stopping import find_stop_reason
from gems.state import State
from gems.types import Candidate, Failure, Requirement, Round

_MAX_THOUGHT = 4_000


async def judge(state: State, work: NodeContext) -> Update:
    """Judge the round's candidates side by side and decide whether the loop ends."""
    if not state.get("drawn"):
        return await _confirm_last_round(state, work)
    started = time.perf_counter()
    requirements, candidates = state["requirements"], state["drawn"]
    results = await asyncio.gather(
        *(_judge_candidate(candidate["image"], state, work) for candidate in candidates),
        return_exceptions=True,
    )
    judgements = [found or _unknown_judgement(requirements) for found in drop_failed(results, work)]
    judgements, error = await _confirm_candidates(candidates, judgements, requirements, work)
    seconds = (state.get("timings") or {}) | {"judge": round(time.perf_counter() - started, 4)}
    turn = _build_round(state, work, candidates, judgements, seconds)
    rounds = [*(state.get("rounds") or []), turn]
    thought = judgements[turn["best"]].thought
    return {"rounds": [turn], "drawn": []} | _decision_update(state, work, rounds, thought, error)


async def _judge_candidate(image: str, state: State, work: NodeContext) -> Judgement:
    """Skills' verifiers answer what they can, the chat model the rest."""
    known = await ask_verifiers(image, state, work)
    return await judge_image(image, state["requirements"], work, known)


async def _confirm_last_round(state: State, work: NodeContext) -> Update:
    """Confirm the newest round, which was judged before and could not be confirmed then."""
    started = time.perf_counter()
    *earlier, before = state["rounds"]
    # Its questions stand in the ledger under its own number.
    work.round = before["number"]
    thought = state.get("thought") or ""
    judgements = [Judgement(verdict["answers"], thought) for verdict in before["verdicts"]]
    judgements, error = await _confirm_candidates(
        before["candidates"], judgements, state["requirements"], work
    )
    judging = before["seconds"].get("judge", 0.0) + time.perf_counter() - started
    seconds = before["seconds"] | {"judge": round(judging, 4)}
    turn = _build_round(state, work, before["candidates"], judgements, seconds)
    rounds = [*earlier, turn]
    thought = judgements[turn["best"]].thought
    return {"rounds": Overwrite(rounds)} | _decision_update(state, work, rounds, thought, error)


def _decision_update(
    state: State, work: NodeContext, rounds: list[Round], thought: str, error: GemsError | None
) -> Update:
    """Tell the newest verdicts, and say whether the loop ends.

    What could not be confirmed has not passed. Its verdicts are kept all the same, so that no worse image is
    handed back in its place, and a resumed run only confirms them.
    """
    turn = rounds[-1]
    work.emit(Judged(round=turn["number"], verdicts=turn["verdicts"], best=turn["best"], score=turn["score"]))
    update: Update = {"thought": thought[:_MAX_THOUGHT]}
    if error is None:
        return update | {"stop_reason": find_stop_reason(state["options"], rounds, work.total_usage(state))}
    failure: Failure = {
        "node": "judge",
        "error": type(error).__name__,
        "message": f"The image seems to meet everything, but that could not be confirmed: {error}",
    }
    return update | {
        "stop_reason": stop_reason_for(error),
        "failure": failure,
    }


async def _confirm_candidates(
    candidates: list[Candidate],
    judgements: list[Judgement],
    requirements: list[Requirement],
    work: NodeContext,
) -> tuple[list[Judgement], GemsError | None]:
    """Look closer at candidates that may meet everything, one after another until one does.

    Returns:
        The judgements as far as they could be confirmed, and what came in the way.
    """
    found = list(judgements)
    if work.profile == "paper":
        return found, None
    for index in candidates_to_confirm([judgement.answers for judgement in judgements]):
        image = candidates[index]["image"]
        found[index] = await _recheck_doubtful(image, found[index], requirements, work)
        if not all_met(found[index].answers):
            continue
        try:
            found[index] = await confirm(image, found[index], requirements, work)
        except (ProviderError, LimitReached) as error:
            return found, error
        if all_met(found[index].answers):
            # Later ones that seem to meet everything too are not asked about again: a tie keeps
            # the one that was looked at closer.
            break
    return found, None


async def _recheck_doubtful(
    image: str, judgement: Judgement, requirements: list[Requirement], work: NodeContext
) -> Judgement:
    """The judgement after the few noes that may be wrong were asked about again."""
    try:
        return await recheck(image, judgement, doubtful_answers(judgement.answers), requirements, work)
    except ProviderError as error:
        work.warn(f"What seems to be missing could not be asked about again: {error}")
    except LimitReached:
        # The run ends before anything else begins; until then the first look stands.
        pass
    return judgement


def _unknown_judgement(requirements: list[Requirement]) -> Judgement:
    """A candidate whose judging failed, while that of others did not: nothing is known about it."""
    return Judgement(
        answers=[unknown_answer(requirement, "not judged") for requirement in requirements],
        thought="",
    )


def _build_round(
    state: State,
    work: NodeContext,
    candidates: list[Candidate],
    judgements: list[Judgement],
    seconds: dict[str, float],
) -> Round:
    verdicts = [
        build_verdict(candidate["image"], judgement.answers)
        for candidate, judgement in zip(candidates, judgements, strict=True)
    ]
    best = best_verdict(verdicts)
    return {
        "number": work.round,
        "prompt": state["draw_prompt"],
        "negative_prompt": negative_prompt(state),
        "candidates": candidates,
        "verdicts": verdicts,
        "best": best,
        "score": verdicts[best]["score"],
        "seconds": seconds,
    }
