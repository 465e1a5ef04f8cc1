"""The judge: every requirement answered from the image."""

from __future__ import annotations

import asyncio
import time

from langgraph.types import Overwrite

from gems.errors import GemsError, LimitReached, ProviderError
from gems.events import Judged
from gems.nodes.base import Update, reason_of
from gems.nodes.checklist import Judgement, judged, unknown
from gems.nodes.confirming import confirmed, doubtful, is_complete, looked_at_again, promising
from gems.nodes.context import NodeContext
from gems.nodes.drawing import negative_prompt
from gems.nodes.generator import succeeded
from gems.nodes.scoring import best_verdict, verdict
from gems.nodes.skill_verifying import answered_by_skills
from gems.nodes.stopping import stop_reason
from gems.state import State
from gems.types import Candidate, Failure, Requirement, Round

_MAX_THOUGHT = 4_000


async def judge(state: State, work: NodeContext) -> Update:
    """Judge the round's candidates side by side and decide whether the loop ends."""
    if not state.get("drawn"):
        return await _confirmed_later(state, work)
    started = time.perf_counter()
    requirements, candidates = state["requirements"], state["drawn"]
    results = await asyncio.gather(
        *(_judged(candidate["image"], state, work) for candidate in candidates), return_exceptions=True
    )
    judgements = [found or _unjudged(requirements) for found in succeeded(results, work)]
    judgements, fault = await _confirmed_best(candidates, judgements, requirements, work)
    seconds = (state.get("timings") or {}) | {"judge": round(time.perf_counter() - started, 4)}
    turn = _round(state, work, candidates, judgements, seconds)
    rounds = [*(state.get("rounds") or []), turn]
    thought = judgements[turn["best"]].thought
    return {"rounds": [turn], "drawn": []} | _decided(state, work, rounds, thought, fault)


async def _judged(image: str, state: State, work: NodeContext) -> Judgement:
    """Skills' verifiers answer what they can, the chat model the rest."""
    known = await answered_by_skills(image, state, work)
    return await judged(image, state["requirements"], work, known)


async def _confirmed_later(state: State, work: NodeContext) -> Update:
    """Confirm the newest round, which was judged before and could not be confirmed then."""
    started = time.perf_counter()
    *earlier, before = state["rounds"]
    # Its questions stand in the ledger under its own number.
    work.round = before["number"]
    thought = state.get("thought") or ""
    judgements = [Judgement(verdict["answers"], thought) for verdict in before["verdicts"]]
    judgements, fault = await _confirmed_best(before["candidates"], judgements, state["requirements"], work)
    judging = before["seconds"].get("judge", 0.0) + time.perf_counter() - started
    seconds = before["seconds"] | {"judge": round(judging, 4)}
    turn = _round(state, work, before["candidates"], judgements, seconds)
    rounds = [*earlier, turn]
    thought = judgements[turn["best"]].thought
    return {"rounds": Overwrite(rounds)} | _decided(state, work, rounds, thought, fault)


def _decided(
    state: State, work: NodeContext, rounds: list[Round], thought: str, fault: GemsError | None
) -> Update:
    """Tell the newest verdicts, and say whether the loop ends.

    What could not be confirmed has not passed. Its verdicts are kept all the same, so that no worse image is
    handed back in its place, and a resumed run only confirms them.
    """
    turn = rounds[-1]
    work.emit(Judged(round=turn["number"], verdicts=turn["verdicts"], best=turn["best"], score=turn["score"]))
    update: Update = {"thought": thought[:_MAX_THOUGHT]}
    if fault is None:
        return update | {"stop_reason": stop_reason(state["options"], rounds, work.total_usage(state))}
    failure: Failure = {
        "node": "judge",
        "error": type(fault).__name__,
        "message": f"The image seems to meet everything, but that could not be confirmed: {fault}",
    }
    return update | {
        "stop_reason": reason_of(fault),
        "failure": failure,
    }


async def _confirmed_best(
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
    for index in promising([judgement.answers for judgement in judgements]):
        image = candidates[index]["image"]
        found[index] = await _appealed(image, found[index], requirements, work)
        if not is_complete(found[index].answers):
            continue
        try:
            found[index] = await confirmed(image, found[index], requirements, work)
        except (ProviderError, LimitReached) as error:
            return found, error
        if is_complete(found[index].answers):
            # Later ones that seem to meet everything too are not asked about again: a tie keeps
            # the one that was looked at closer.
            break
    return found, None


async def _appealed(
    image: str, judgement: Judgement, requirements: list[Requirement], work: NodeContext
) -> Judgement:
    """The judgement after the few noes that may be wrong were asked about again."""
    try:
        return await looked_at_again(image, judgement, doubtful(judgement.answers), requirements, work)
    except ProviderError as error:
        work.warn(f"What seems to be missing could not be asked about again: {error}")
    except LimitReached:
        # The run ends before anything else begins; until then the first look stands.
        pass
    return judgement


def _unjudged(requirements: list[Requirement]) -> Judgement:
    """A candidate whose judging failed, while that of others did not: nothing is known about it."""
    return Judgement(
        answers=[unknown(requirement, "not judged") for requirement in requirements],
        thought="",
    )


def _round(
    state: State,
    work: NodeContext,
    candidates: list[Candidate],
    judgements: list[Judgement],
    seconds: dict[str, float],
) -> Round:
    verdicts = [
        verdict(candidate["image"], judgement.answers)
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
