"""Judge: answer the requirements about the candidates, confirm, and decide whether the loop ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, cast

from langgraph.types import Overwrite

from gems.errors import GemsError, LimitReached, ProviderError
from gems.events import Judged
from gems.memory.measurements import expected_score
from gems.nodes.base import Update, stop_reason_for
from gems.nodes.boxes import check_boxes
from gems.nodes.checklist import (
    Judgement,
    ask_checklist,
    ask_individually,
    ask_verifiers,
    is_verified,
    judge_image,
    pictures_to_judge,
)
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import explain_limits
from gems.nodes.generator import describe_origin, drop_failed, is_given
from gems.nodes.lessons import recall_outcomes, recall_rechecks
from gems.nodes.policy import (
    choose_step,
    find_stop_reason,
    is_hopeless,
    is_out_of_reach,
    may_mend,
    undecided_requirements,
    wanted_step,
)
from gems.state import State, negative_prompt
from gems.types import (
    REDRAW,
    Answer,
    Candidate,
    Failure,
    Recheck,
    Requirement,
    Round,
    Step,
    StopReason,
    Verdict,
    answers_of,
    best_verdict,
    build_verdict,
    find_image,
    origin_of,
    unknown_answer,
)

MAX_DOUBTFUL = 1
"""Number of no answers of the first check that are asked about again before they are accepted."""
# Attempt numbers make repeated questions distinct in the ledger.
_SECOND_ATTEMPTS = (2, 3)
_THIRD_ATTEMPTS = (4, 5)
_LAST_ATTEMPTS = ((6, 7), (8, 9))
_DAMAGE_ATTEMPTS = ((10, 11), (12, 13))
_MOST_LAST_LOOKS = 5
"""Requirements that are looked at once more before a run passes."""
_MAX_THOUGHT = 4_000


def all_met(answers: Sequence[Answer]) -> bool:
    """Return whether every answer is yes."""
    return all(answer["answer"] == "yes" for answer in answers)


def doubtful_answers(answers: Sequence[Answer]) -> list[str]:
    """Return the requirements whose no should be asked about again; empty if that is not worthwhile."""
    unmet = [answer for answer in answers if answer["answer"] != "yes"]
    asked = [a["requirement"] for a in unmet if a["answer"] == "no" and a["source"] == "judge"]
    return asked if len(asked) == len(unmet) <= MAX_DOUBTFUL else []


def candidates_to_confirm(judged: Sequence[Sequence[Answer]]) -> list[int]:
    """Return the indices of candidates to check again: complete ones, then those with a doubtful no."""
    complete = [index for index, answers in enumerate(judged) if all_met(answers)]
    return complete + [index for index, answers in enumerate(judged) if doubtful_answers(answers)]


async def confirm(
    image: str, judgement: Judgement, requirements: Sequence[Requirement], work: NodeContext
) -> Judgement:
    """Ask again about each requirement of a complete image that the model, not a verifier, answered once."""
    once = {answer["requirement"] for answer in judgement.answers if answer["source"] == "judge"}
    return await recheck(image, judgement, once, requirements, work)


async def recheck(
    image: str, judgement: Judgement, names: Collection[str], requirements: Sequence[Requirement], work: NodeContext
) -> Judgement:
    """Ask about some requirements again, and once more where the second answer contradicts the first.

    Two of three answers decide; if the third is unknown, the second does. A no stands if the second answer is
    unknown. Raises the first error if no requirement could be asked about.
    """
    asked = [requirement for requirement in requirements if requirement["id"] in names]
    if not asked:
        return judgement
    pictures = await pictures_to_judge(image, work)
    first = judgement.by_requirement()
    # In reverse order and other words, so that what biased the first answer does not bias the second.
    ask = ask_individually if len(asked) == 1 else ask_checklist
    second = await ask(pictures, asked[::-1], work, _SECOND_ATTEMPTS)
    final = {
        name: answer
        for name, answer in second.by_requirement().items()
        if answer["answer"] != "unknown" or first[name]["answer"] == "yes"
    }
    torn = [
        requirement
        for requirement in asked
        if (again := final.get(requirement["id"]))
        and {again["answer"], first[requirement["id"]]["answer"]} == {"yes", "no"}
    ]
    third = Judgement([])
    final = {name: _note_recheck(answer, answer, first[name]["probability"]) for name, answer in final.items()}
    if torn:
        third = await ask_individually(pictures, torn, work, _THIRD_ATTEMPTS)
        for name, answer in third.by_requirement().items():
            if answer["answer"] != "unknown":
                second_one = final[name]
                noted: Any = {"rechecks": second_one["rechecks"]} if "rechecks" in second_one else {}
                final[name] = _note_recheck(answer | noted, answer, second_one["probability"])
    confirmed: dict[str, Answer] = {
        name: _keep_details(answer, first[name]) | {"source": "confirmation"} for name, answer in final.items()
    }
    return judgement.updated(confirmed, second.thought, third.thought)


def once_failed(judgement: Judgement, first: Judgement, rounds: Sequence[Round]) -> list[str]:
    """Return what of a complete image failed at first or in an earlier round, what failed most often first."""
    failed = Counter(a["requirement"] for a in first.answers if a["answer"] == "no")
    for turn in rounds:
        failed.update(name for name, answer in answers_of(turn).items() if answer["answer"] == "no")
    asked = {answer["requirement"] for answer in judgement.answers if not is_verified(answer)}
    return [name for name, _ in failed.most_common() if name in asked][:_MOST_LAST_LOOKS]


async def look_again(
    image: str, names: Collection[str], requirements: Sequence[Requirement], work: NodeContext
) -> list[Answer]:
    """Ask twice more about some requirements that an image seems to meet; return all answers.

    What has failed before is the likeliest to be missing still, and a judge that repeats its mistakes says yes again:
    what was yes twice is therefore no proof, and one no among four answers is believed.
    """
    asked = [requirement for requirement in requirements if requirement["id"] in names]
    if not asked:
        return []
    pictures = await pictures_to_judge(image, work)
    ask = ask_individually if len(asked) == 1 else ask_checklist
    looking = (ask(pictures, asked, work, attempts) for attempts in _LAST_ATTEMPTS)
    answers: list[Answer] = []
    for found in await asyncio.gather(*looking, return_exceptions=True):
        if isinstance(found, BaseException):
            raise found
        answers += found.answers
    return answers


def take_looks(judgement: Judgement, looks: Sequence[Answer]) -> Judgement:
    """Return the judgement with each no of later looks, and with what they say of the first ones' probabilities."""
    first, found = judgement.by_requirement(), dict[str, Answer]()
    for look in looks:
        name = look["requirement"]
        answer = found.get(name, first[name])
        noted = _note_recheck(answer, look, first[name]["probability"])
        if look["answer"] == "no":
            noted = look | {"source": "confirmation"} | ({"rechecks": noted["rechecks"]} if "rechecks" in noted else {})
        if noted is not answer:
            found[name] = noted
    return judgement.updated(found)


async def _confirm_and_look(
    image: str,
    judgement: Judgement,
    names: Collection[str],
    requirements: Sequence[Requirement],
    is_mended: bool,
    work: NodeContext,
) -> Judgement:
    """Confirm an image, then look again at what failed before; an image stays confirmed if these looks fail."""
    judgement = await confirm(image, judgement, requirements, work)
    if not all_met(judgement.answers):
        return judgement
    try:
        judgement = take_looks(judgement, await look_again(image, names, requirements, work))
        if is_mended and all_met(judgement.answers):
            judgement = await look_for_damage(image, judgement, requirements, work)
    except ProviderError as error:
        work.warn(f"What failed before could not be looked at once more: {error}")
    except LimitReached:
        # The run ends before the next node.
        pass
    return judgement


async def look_for_damage(
    image: str, judgement: Judgement, requirements: Sequence[Requirement], work: NodeContext
) -> Judgement:
    """Ask the checklist about a mended image once more; what is not met twice is broken."""
    names = {answer["requirement"] for answer in judgement.answers if not is_verified(answer)}
    asked = [item for item in requirements if item["id"] in names]
    pictures, denied = await pictures_to_judge(image, work), dict[str, Answer]()
    for ask, attempts in zip((ask_checklist, ask_individually), _DAMAGE_ATTEMPTS, strict=True):
        denied = _noes(await ask(pictures, asked, work, attempts)) if asked else {}
        asked = [item for item in asked if item["id"] in denied]
    return judgement.updated(denied)


def _noes(judgement: Judgement) -> dict[str, Answer]:
    return {a["requirement"]: a | {"source": "confirmation"} for a in judgement.answers if a["answer"] == "no"}


def _note_recheck(answer: Answer, look: Answer, probability: float | None) -> Answer:
    """Return an answer with what a later look says of an earlier one's probability."""
    if probability is None or look["answer"] == "unknown":
        return answer
    seen: Recheck = {"probability": probability, "met": look["answer"] == "yes"}
    noted: Answer = answer | {"rechecks": [*answer.get("rechecks", ()), seen]}
    return noted


def _keep_details(answer: Answer, first: Answer) -> Answer:
    """Return a repeated no with what the first said of it: answers to single questions have no place."""
    if {answer["answer"], first["answer"]} != {"no"}:
        return answer
    kept: Answer = answer | {"evidence": answer["evidence"] or first["evidence"]}
    return kept | {"box": first["box"]} if "box" in first and "box" not in answer else kept


async def judge(state: State, work: NodeContext) -> Update:
    """Judge the round's candidates concurrently and decide whether the loop ends."""
    if not state.get("drawn"):
        return await _confirm_last_round(state, work)
    started = time.perf_counter()
    requirements, candidates = state["requirements"], state["drawn"]

    earlier, parent = state.get("rounds") or [], (state.get("step") or REDRAW)["parent"]

    async def judge_candidate(image: str) -> Judgement:
        if image == parent and (known := find_image(earlier, image)):
            # The editor changed nothing, so nothing has to be looked at again.
            return Judgement(known[0]["verdicts"][known[1]]["answers"])
        # Skills' verifiers look closer than the chat model, which answers the rest.
        return await judge_image(image, requirements, work, await ask_verifiers(image, state, work))

    judged = (judge_candidate(candidate["image"]) for candidate in candidates)
    results = await asyncio.gather(*judged, return_exceptions=True)
    # Of a candidate that could not be judged while others could, nothing is known.
    unknown = Judgement([unknown_answer(requirement, "not judged") for requirement in requirements])
    judgements = [found or unknown for found in drop_failed(results, work)]
    judgements, error = await _confirm_candidates(candidates, judgements, requirements, earlier, bool(parent), work)
    judgements = await _check_places(state, candidates, judgements, work)
    seconds = (state.get("timings") or {}) | {"judge": round(time.perf_counter() - started, 4)}
    turn = await _build_round(state, work, candidates, judgements, seconds)
    rounds = [*(state.get("rounds") or []), turn]
    thought = judgements[turn["best"]].thought
    return {"rounds": [turn], "drawn": []} | await _decision_update(state, work, rounds, thought, error)


async def _check_places(
    state: State, candidates: Sequence[Candidate], judgements: Sequence[Judgement], work: NodeContext
) -> list[Judgement]:
    """Check the boxes of faults, where images can be mended."""
    if not may_mend(state["options"], work.context.generator.capabilities):
        return list(judgements)
    warned = state.get("warnings") or []
    checking = (
        check_boxes(candidate["image"], judgement, state["requirements"], work, warned)
        for candidate, judgement in zip(candidates, judgements, strict=True)
    )
    return list(await asyncio.gather(*checking))


async def _confirm_last_round(state: State, work: NodeContext) -> Update:
    """Confirm the newest round, which was judged earlier but could not be confirmed then."""
    started = time.perf_counter()
    *earlier, before = state["rounds"]
    # Its questions are in the ledger under its own number.
    work.round = before["number"]
    thought = state.get("judge_reasoning") or ""
    judgements = [Judgement(verdict["answers"], thought) for verdict in before["verdicts"]]
    requirements, candidates = state["requirements"], before["candidates"]
    is_mended = bool(before.get("parent"))
    judgements, error = await _confirm_candidates(candidates, judgements, requirements, earlier, is_mended, work)
    judgements = await _check_places(state, candidates, judgements, work)
    judging = before["seconds"].get("judge", 0.0) + time.perf_counter() - started
    seconds = before["seconds"] | {"judge": round(judging, 4)}
    turn = await _build_round(state, work, before["candidates"], judgements, seconds)
    turn = cast("Round", {**turn, "prompt": before["prompt"], **origin_of(before)})
    rounds = [*earlier, turn]
    thought = judgements[turn["best"]].thought
    return {"rounds": Overwrite(rounds)} | await _decision_update(state, work, rounds, thought, error)


async def _decision_update(
    state: State, work: NodeContext, rounds: list[Round], thought: str, error: GemsError | None
) -> Update:
    """Emit the newest verdicts and decide whether the loop ends.

    An unconfirmed image has not passed. Its verdicts are kept, so that no worse image is returned instead,
    and a resumed run only needs to confirm them.
    """
    turn = rounds[-1]
    _warn_out_of_reach(state, work, turn)
    judged = {name: turn[name] for name in ("verdicts", "best", "score")}
    work.emit(Judged(round=turn["number"], origin=origin_of(turn), **judged))
    update: Update = {"judge_reasoning": thought[:_MAX_THOUGHT]}
    if error is None:
        unchecked = state.get("unchecked") or []
        reason = find_stop_reason(state["options"], rounds, work.total_usage(state), unchecked)
        if reason == "undecided":
            _warn_undecided(state["requirements"], rounds, work)
        if (wanted := wanted_step(state["options"], rounds, work.context.generator.capabilities)) is not None:
            reason, update["step"] = None, wanted
        elif reason is None:
            reason, update["step"] = await _choose_step(state, work, rounds)
        return update | {"stop_reason": reason}
    failure: Failure = {
        "node": "judge",
        "error": type(error).__name__,
        "message": f"The image seems to meet all requirements, but this could not be confirmed: {error}",
    }
    return update | {"stop_reason": stop_reason_for(error), "failure": failure}


async def _choose_step(state: State, work: NodeContext, rounds: list[Round]) -> tuple[StopReason | None, Step]:
    """Return what is drawn next, or why nothing is."""
    options, generator = state["options"], work.context.generator.capabilities
    earlier = await recall_outcomes(state, work) if may_mend(options, generator) else {}
    known = (options, rounds, state["requirements"], generator, earlier)
    return "plateau" if is_hopeless(*known) else None, choose_step(*known)


def _warn_undecided(requirements: Sequence[Requirement], rounds: Sequence[Round], work: NodeContext) -> None:
    beyond = {name for name, answer in answers_of(rounds[-1]).items() if is_out_of_reach(answer)}
    ids = set(undecided_requirements(rounds)) - beyond
    if questions := [item["question"] for item in requirements if item["id"] in ids]:
        work.warn(f"The judge could not decide, over two images: {' '.join(questions)}")


def _warn_out_of_reach(state: State, work: NodeContext, turn: Round) -> None:
    """Warn once of requirements that the models in use cannot deal with, unless that was told before."""
    beyond = [answer for answer in answers_of(turn).values() if is_out_of_reach(answer)]
    if not beyond or explain_limits(state["prompt"], work):
        return
    questions = {requirement["id"]: requirement["question"] for requirement in state["requirements"]}
    asked = " ".join(questions[answer["requirement"]] for answer in beyond)
    message = f"{asked} {beyond[0]['evidence']} Run `gems setup` to connect real models."
    if message not in (state.get("warnings") or ()):
        work.warn(message)


async def _confirm_candidates(
    candidates: list[Candidate],
    judgements: list[Judgement],
    requirements: list[Requirement],
    earlier: Sequence[Round],
    is_mended: bool,
    work: NodeContext,
) -> tuple[list[Judgement], GemsError | None]:
    """Check candidates again until one is confirmed; return any error that prevented it as well."""
    found = list(judgements)
    if work.profile == "paper":
        return found, None
    for index in candidates_to_confirm([judgement.answers for judgement in judgements]):
        image = candidates[index]["image"]
        try:
            names = doubtful_answers(found[index].answers)
            found[index] = await recheck(image, found[index], names, requirements, work)
        except ProviderError as error:
            work.warn(f"Requirements that seem unmet could not be checked again: {error}")
        except LimitReached:
            # The run ends before the next node; the first judgement stands until then.
            pass
        if not all_met(found[index].answers):
            continue
        names = once_failed(found[index], judgements[index], earlier)
        try:
            found[index] = await _confirm_and_look(image, found[index], names, requirements, is_mended, work)
        except (ProviderError, LimitReached) as error:
            return found, error
        if all_met(found[index].answers):
            # Later complete candidates need no confirmation: the confirmed one wins a tie.
            break
    return found, None


async def _weigh_probabilities(verdicts: Sequence[Verdict], state: State, work: NodeContext) -> None:
    """Say of verdicts with probabilities how likely they are to hold; the paper's loop knows nothing of it."""
    has_any = any(answer["probability"] is not None for verdict in verdicts for answer in verdict["answers"])
    if not has_any or work.profile == "paper":
        return
    try:
        tallies = await recall_rechecks(state, work)
    except LimitReached:
        # The run ends before the next node.
        tallies = []
    for verdict in verdicts:
        likely = expected_score(verdict["answers"], tallies)
        if likely is not None:
            verdict["likely"] = round(likely, 4)


async def _build_round(
    state: State, work: NodeContext, candidates: list[Candidate], judgements: list[Judgement], seconds: dict[str, float]
) -> Round:
    verdicts = [
        build_verdict(candidate["image"], judgement.answers)
        for candidate, judgement in zip(candidates, judgements, strict=True)
    ]
    await _weigh_probabilities(verdicts, state, work)
    best = best_verdict(verdicts)
    turn: Any = {
        "number": work.round,
        # Somebody's own image was not made from any other.
        "prompt": state["prompt"] if is_given(state) else state["current_prompt"],
        "negative_prompt": negative_prompt(state),
        "candidates": candidates,
        "verdicts": verdicts,
        "best": best,
        "score": verdicts[best]["score"],
        "seconds": seconds,
    }
    return cast("Round", turn | describe_origin(state))
