"""Answers for one image, by model and verifiers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from gems.errors import GemsError, LimitReached, ProviderError, RefusedError, SkillError, UnreadableReplyError
from gems.models.chat.messages import Picture
from gems.models.chat.parsing import read_answer
from gems.models.schemas import AnswerReply, ChecklistReply
from gems.nodes.context import NodeContext
from gems.nodes.prompts import EDITED, ORIGINAL, numbered, question
from gems.nodes.skills import skill_verifiers, used_skills
from gems.skills.authoring import Verifier, VerifierAnswer, VerifierRequest
from gems.skills.loader import forbid_exit, format_code_error
from gems.state import State
from gems.types import Answer, AnswerValue, Requirement, shorten_evidence, unknown_answer

# Attempt numbers make repeated questions distinct in the ledger.
_FIRST_ATTEMPTS = (0, 1)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Answers for one image, one per requirement in plan order, and the judge's reasoning."""

    answers: list[Answer]
    thought: str


async def judge_image(
    image: str,
    requirements: Sequence[Requirement],
    work: NodeContext,
    known: Mapping[str, Answer] | None = None,
) -> Judgement:
    """Answer all requirements about one stored image.

    The chat model is not asked about the requirements in `known`, which skills' verifiers have answered.
    Raises the first `GemsError` if no requirement could be asked about.
    """
    known = known or {}
    open_ones = [requirement for requirement in requirements if requirement["id"] not in known]
    asked = await _ask_model(image, open_ones, work) if open_ones else Judgement([], "")
    answers = {answer["requirement"]: answer for answer in asked.answers} | dict(known)
    judgement = Judgement([answers[requirement["id"]] for requirement in requirements], asked.thought)
    return judgement if work.profile == "paper" else _apply_parents(judgement, requirements)


async def _ask_model(image: str, requirements: Sequence[Requirement], work: NodeContext) -> Judgement:
    """Ask the chat model: one question per call in profile `paper`, otherwise all in one call."""
    ask = ask_individually if work.profile == "paper" else ask_checklist
    return await ask(await pictures_to_judge(image, work), requirements, work, _FIRST_ATTEMPTS)


async def pictures_to_judge(image: str, work: NodeContext) -> list[Picture]:
    """Return the image to check, preceded by the original if the run edits one."""
    if not work.is_editing:
        return [await work.picture(image, "judge")]
    return [await work.picture(work.source, "judge", ORIGINAL), await work.picture(image, "judge", EDITED)]


def is_verified(answer: Answer) -> bool:
    """Return whether a skill's verifier gave the answer."""
    return answer["source"] not in ("judge", "confirmation", "parent")


async def ask_checklist(
    pictures: Sequence[Picture],
    requirements: Sequence[Requirement],
    work: NodeContext,
    attempts: Sequence[int],
) -> Judgement:
    """Ask all questions in one call, and those left unknown once more individually in the last attempt.

    Without a usable list each question is asked individually.
    """
    try:
        listed = await _ask_list(pictures, requirements, work, attempts[0])
    except (UnreadableReplyError, RefusedError) as error:
        work.warn(f"The checklist reply was unusable; asking each question separately: {error}")
        return await ask_individually(pictures, requirements, work, attempts)
    return await _retry_unknown(pictures, listed, requirements, work, attempts[-1:])


async def _ask_list(
    pictures: Sequence[Picture], requirements: Sequence[Requirement], work: NodeContext, attempt: int
) -> Judgement:
    reply = await work.ask(
        question(
            "checklist",
            {"questions": numbered(requirement["question"] for requirement in requirements)},
            pictures=pictures,
            attempt=attempt,
            editing=work.is_editing,
            again=attempt not in _FIRST_ATTEMPTS,
        )
    )
    by_number = _answers_by_number(reply.form(ChecklistReply).answers)
    answers: list[Answer] = []
    for number, requirement in enumerate(requirements, 1):
        found = by_number.get(number)
        answers.append(
            {
                "requirement": requirement["id"],
                "answer": found.answer if found else "unknown",
                "evidence": shorten_evidence(found.evidence if found else "left out of the answer"),
                "probability": None,
                "source": "judge",
            }
        )
    return Judgement(answers, reply.thought)


def _answers_by_number(given: Sequence[AnswerReply]) -> dict[int, AnswerReply]:
    """Map question numbers to answers; contradictory answers to one question become unknown."""
    found: dict[int, AnswerReply] = {}
    for answer in given:
        first = found.setdefault(answer.number, answer)
        if first.answer != answer.answer:
            undecided = {"answer": "unknown", "evidence": "two answers that contradict each other"}
            found[answer.number] = first.model_copy(update=undecided)
    return found


async def _retry_unknown(
    pictures: Sequence[Picture],
    judgement: Judgement,
    requirements: Sequence[Requirement],
    work: NodeContext,
    attempts: Sequence[int],
) -> Judgement:
    """Ask individually about each requirement whose answer is unknown."""
    unclear = {answer["requirement"] for answer in judgement.answers if answer["answer"] == "unknown"}
    if not unclear:
        return judgement
    asked = [requirement for requirement in requirements if requirement["id"] in unclear]
    try:
        again = await ask_individually(pictures, asked, work, attempts)
    except ProviderError as error:
        work.warn(f"{len(asked)} requirements stay unknown: {error}")
        return judgement
    newer = {answer["requirement"]: answer for answer in again.answers}
    answers = [newer.get(answer["requirement"], answer) for answer in judgement.answers]
    return Judgement(answers, "\n".join(filter(None, (judgement.thought, again.thought))))


async def ask_individually(
    pictures: Sequence[Picture],
    requirements: Sequence[Requirement],
    work: NodeContext,
    attempts: Sequence[int],
) -> Judgement:
    """Ask one question per call, all concurrently.

    Unknown and refused answers are retried in the next attempt, since a model may answer what it refused
    before. Raises the first failure if every call failed.
    """
    results = await asyncio.gather(
        *(_ask_one(pictures, requirement, work, attempts) for requirement in requirements),
        return_exceptions=True,
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if len(failures) == len(results) or not isinstance(failure, ProviderError):
            raise failure
    answers, thoughts = [], []
    for requirement, result in zip(requirements, results, strict=True):
        if isinstance(result, BaseException):
            answers.append(unknown_answer(requirement, f"could not be asked: {result}"))
        else:
            answers.append(result[0])
            thoughts.append(result[1])
    return Judgement(answers, "\n".join(filter(None, thoughts)))


async def _ask_one(
    pictures: Sequence[Picture], requirement: Requirement, work: NodeContext, attempts: Sequence[int]
) -> tuple[Answer, str]:
    asked = question(
        "verify",
        {"question": requirement["question"]},
        pictures=pictures,
        logprobs=True,
        attempt=attempts[0],
        editing=work.is_editing,
    )
    last = len(attempts) == 1
    try:
        reply = await work.ask(asked)
    except RefusedError:
        if last:
            raise
        return await _ask_one(pictures, requirement, work, attempts[1:])
    value, evidence = read_answer(reply.text)
    if value == "unknown" and not last:
        return await _ask_one(pictures, requirement, work, attempts[1:])
    answer: Answer = {
        "requirement": requirement["id"],
        "answer": value,
        "evidence": shorten_evidence(evidence),
        "probability": reply.yes_probability,
        "source": "judge",
    }
    return answer, reply.thought


def _apply_parents(judgement: Judgement, requirements: Sequence[Requirement]) -> Judgement:
    """Change answers to no where a parent's answer is no, since they make no sense without it.

    A wrong count is an exception: of four cats where three were asked for, one can still say whether they are
    black.
    """
    answers = {answer["requirement"]: answer for answer in judgement.answers}
    counts = {requirement["id"] for requirement in requirements if requirement["kind"] == "count"}
    for requirement in requirements:
        parents = [parent for parent in requirement["parents"] if parent not in counts]
        missing = [parent for parent in parents if answers[parent]["answer"] == "no"]
        if missing and answers[requirement["id"]]["answer"] != "no":
            evidence = f"makes no sense without {missing[0]}, which is not met"
            answers[requirement["id"]] = answers[requirement["id"]] | {
                "answer": "no",
                "evidence": evidence,
                "probability": None,
                "source": "parent",
            }
    return Judgement([answers[requirement["id"]] for requirement in requirements], judgement.thought)


async def ask_verifiers(image: str, state: State, work: NodeContext) -> dict[str, Answer]:
    """Return answers by requirement; the judge is asked about those that no verifier can decide.

    The first skill that answers wins. A verifier that fails causes one warning and does not end the run.
    """
    answers: dict[str, Answer] = {}
    for name in used_skills(state):
        waiting = [item for item in state["requirements"] if item["id"] not in answers]
        try:
            answers |= await _answers_of_skill(name, image, waiting, state["prompt"], work)
        except LimitReached:
            raise
        except (GemsError, TimeoutError) as error:
            _warn_once(f"The verifier of the skill {name} failed: {error}", state, work)
        except Exception as error:  # noqa: BLE001 - code of somebody else's
            _warn_once(f"The verifier of the skill {name} failed: {format_code_error(error)}", state, work)
    return answers


async def _answers_of_skill(
    name: str, image: str, requirements: Sequence[Requirement], prompt: str, work: NodeContext
) -> dict[str, Answer]:
    skill = work.context.skills.get(name)
    verifiers = await asyncio.to_thread(skill_verifiers, skill) if skill is not None else []
    answers: dict[str, Answer] = {}
    for verifier in verifiers:
        taken = [
            item for item in requirements if item["id"] not in answers and _takes_requirement(verifier, item)
        ]
        if taken:
            data = await work.context.images.load(image)
            request = VerifierRequest(image=data, user_prompt=prompt, requirements=taken)
            found = await _run_verifier(verifier, request, work)
            for item in taken:
                if (said := found.get(item["id"])) is not None and _checked_value(said) != "unknown":
                    answers[item["id"]] = _to_answer(item, said, name)
    return answers


def _takes_requirement(verifier: Verifier, requirement: Requirement) -> bool:
    try:
        return bool(verifier.takes(requirement))
    except SystemExit as error:
        raise SkillError(f"Its verifier tried to exit the program: SystemExit: {error}.") from None


async def _run_verifier(
    verifier: Verifier, request: VerifierRequest, work: NodeContext
) -> Mapping[str, VerifierAnswer]:
    seconds = work.context.skill_timeout_s
    try:
        async with asyncio.timeout(seconds) as limit:
            found = await work.within_limits(forbid_exit(verifier.verify)(request))
    except TimeoutError:
        if limit.expired():
            raise SkillError(f"It did not finish within {seconds:g} s.") from None
        raise
    if not isinstance(found, Mapping):
        raise SkillError(
            f"Its verifier hands back {type(found).__name__}; it must be answers by requirement."
        )
    return found


def _checked_value(said: VerifierAnswer) -> AnswerValue:
    value = getattr(said, "answer", None)
    if value not in get_args(AnswerValue):
        raise SkillError(f"Its verifier answers {value!r:.80}; it must be yes, no or unknown.")
    return said.answer


def _to_answer(requirement: Requirement, said: VerifierAnswer, name: str) -> Answer:
    return {
        "requirement": requirement["id"],
        "answer": said.answer,
        "evidence": shorten_evidence(str(said.evidence)),
        "probability": None,
        "source": name,
    }


def _warn_once(message: str, state: State, work: NodeContext) -> None:
    if message not in (*(state.get("warnings") or ()), *work.warnings):
        work.warn(message)
