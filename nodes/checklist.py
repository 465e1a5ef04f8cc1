"""Answer a checklist about one image, by the chat model and by verifiers of skills."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, get_args

from gems.errors import GemsError, LimitReached, ProviderError, RefusedError, SkillError, UnreadableReplyError
from gems.models.chat.answers import read_answer
from gems.models.chat.messages import Picture
from gems.models.chat.schemas import MAX_QUESTIONS, OUT_OF_REACH, AnswerReply, ChecklistReply, read_box
from gems.nodes.context import NodeContext
from gems.nodes.prompts import EDITED, ORIGINAL, numbered, question
from gems.nodes.skills import limit_time, skill_verifiers, used_skills
from gems.skills.authoring import VerifierAnswer, VerifierRequest
from gems.skills.loader import forbid_exit, format_code_error
from gems.state import State
from gems.types import Answer, AnswerValue, Finding, Requirement, build_answer, unknown_answer

Attempts = tuple[int, ...]
"""Numbers that make repeated questions distinct in the ledger."""
_FIRST_ATTEMPTS: Attempts = (0, 1)
_MOST_NUMBERS = 20
_SAME_QUESTION = 0.6
"""Likeness, from 0 to 1, from which a repeated question counts as the one that was asked."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Answers for one image, one per requirement in plan order, and the judge's reasoning."""

    answers: list[Answer]
    thought: str = ""

    def by_requirement(self) -> dict[str, Answer]:
        """Return the answers by the ids of their requirements."""
        return {answer["requirement"]: answer for answer in self.answers}

    def updated(self, newer: Mapping[str, Answer], *thoughts: str) -> Judgement:
        """Replace answers by newer ones, which keep what an instrument found, and append to the reasoning."""
        answers = [_keep_finding(newer.get(answer["requirement"], answer), answer) for answer in self.answers]
        return Judgement(answers, "\n".join(filter(None, (self.thought, *thoughts))))


def _keep_finding(answer: Answer, earlier: Answer) -> Answer:
    return answer if "finding" not in earlier else {"finding": earlier["finding"], **answer}


async def judge_image(
    image: str, requirements: Sequence[Requirement], work: NodeContext, known: Mapping[str, Answer]
) -> Judgement:
    """Answer all requirements about a stored image; those in `known` were answered by verifiers.

    What an instrument answered is asked as well, since either may be wrong.
    """
    measured = {name: answer for name, answer in known.items() if "finding" in answer}
    open_ones = [item for item in requirements if item["id"] not in known or item["id"] in measured]
    asked = Judgement([])
    pictures = await pictures_to_judge(image, work) if open_ones else []
    if open_ones:
        # The paper asks one question per call.
        ask = ask_individually if work.profile == "paper" else ask_checklist
        asked = await ask(pictures, open_ones, work, _FIRST_ATTEMPTS)
    _warn_undecided(asked, work)
    answers = asked.by_requirement() | dict(known)
    if measured:
        answers |= await _compare(pictures, requirements, asked.by_requirement(), measured, work)
    judgement = Judgement([answers[requirement["id"]] for requirement in requirements], asked.thought)
    return judgement if work.profile == "paper" else _apply_parents(judgement, requirements)


def _warn_undecided(judgement: Judgement, work: NodeContext) -> None:
    """Quote the judge if nothing of what it said about an image could be read as an answer."""
    found = judgement.answers
    if found and all(a["answer"] == "unknown" and not a["evidence"].startswith(OUT_OF_REACH) for a in found):
        said = next((answer["evidence"] for answer in judgement.answers if answer["evidence"]), "nothing")
        work.warn(
            f"The judge answered none of {len(judgement.answers)} questions about an image; it said: {said[:160]}"
        )


async def _compare(
    pictures: Sequence[Picture],
    requirements: Sequence[Requirement],
    judged: Mapping[str, Answer],
    measured: Mapping[str, Answer],
    work: NodeContext,
) -> dict[str, Answer]:
    """Return what instruments and the judge say together; where they contradict each other, the judge looks again.

    That look decides; if it cannot, the instrument does.
    """
    found = {name: _join_answers(answer, judged[name]) for name, answer in measured.items()}
    torn = [item for item in requirements if item["id"] in found and _is_contested(found[item["id"]])]
    told = [_describe_contradiction(measured[item["id"]], judged[item["id"]]) for item in torn]
    for start in range(0, len(torn), MAX_QUESTIONS):
        listed = slice(start, start + MAX_QUESTIONS)
        try:
            looked = await _ask_list(pictures, torn[listed], work, 0, numbered(told[listed]))
        except ProviderError as error:
            work.warn(f"An instrument and the judge contradict each other, and nobody could look again: {error}")
            continue
        for name, answer in looked.by_requirement().items():
            # An instrument that was right knows best what is wrong, and where.
            if answer["answer"] == judged[name]["answer"]:
                decided: Answer = answer | {"source": "confirmation", "finding": found[name]["finding"]}
                found[name] = _with_place(decided, answer if "box" in answer else judged[name])
            elif answer["answer"] != "unknown" and "box" not in found[name]:
                found[name] = _with_place(found[name], answer)
    return found


def _join_answers(measured: Answer, judged: Answer) -> Answer:
    """Return an instrument's answer, with what the judge said and, if both say no, where."""
    finding: Finding = measured["finding"] | {"judge": judged["answer"]}
    joined: Answer = measured | {"finding": finding}
    both = measured["answer"] == judged["answer"] == "no" and "box" not in measured
    return _with_place(joined, judged) if both else joined


def _with_place(answer: Answer, placed: Answer) -> Answer:
    """Return an answer with the box of another one, if that has one."""
    if "box" not in placed:
        return answer
    found: Answer = answer | {"box": placed["box"]}
    return found | {"placed_by": placed["placed_by"]} if "placed_by" in placed else found


def _is_contested(answer: Answer) -> bool:
    return {answer["finding"]["answer"], answer["finding"]["judge"]} == {"yes", "no"}


def _describe_contradiction(measured: Answer, judged: Answer) -> str:
    instrument = measured["finding"]["instrument"]
    return (
        f"The instrument {instrument} says {measured['answer']}: {measured['evidence']} Somebody who looked says "
        f"{judged['answer']}: {judged['evidence']}"
    )


async def pictures_to_judge(image: str, work: NodeContext) -> list[Picture]:
    """Return the image to check, preceded by the original if the run edits one."""
    if not work.is_editing:
        return [await work.picture(image, "judge")]
    return [await work.picture(work.source, "judge", ORIGINAL), await work.picture(image, "judge", EDITED)]


def is_verified(answer: Answer) -> bool:
    """Return whether a skill's verifier gave the answer."""
    return answer["source"] not in ("judge", "confirmation", "parent")


async def ask_checklist(
    pictures: Sequence[Picture], requirements: Sequence[Requirement], work: NodeContext, attempts: Attempts
) -> Judgement:
    """Ask the questions in lists of at most 15; those left unknown, or all of an unusable list, individually.

    What depends on a requirement that is not met is not asked, where that is known before its list.
    """
    found = Judgement([])
    for start in range(0, len(requirements), MAX_QUESTIONS):
        listed = requirements[start : start + MAX_QUESTIONS]
        known = found.by_requirement()
        skipped = {item["id"]: answer for item in listed if (answer := _answer_of_parent(item, known, requirements))}
        open_ones = [item for item in listed if item["id"] not in skipped]
        asked = await _ask_one_list(pictures, open_ones, work, attempts) if open_ones else Judgement([])
        answers = asked.by_requirement() | skipped
        found = Judgement([*found.answers, *(answers[item["id"]] for item in listed)], found.thought)
        found = found.updated({}, asked.thought)
    return found


async def _ask_one_list(
    pictures: Sequence[Picture], requirements: Sequence[Requirement], work: NodeContext, attempts: Attempts
) -> Judgement:
    try:
        listed = await _ask_list(pictures, requirements, work, attempts[0])
    except (UnreadableReplyError, RefusedError) as error:
        work.warn(f"The checklist reply was unusable; asking each question separately: {error}")
        return await ask_individually(pictures, requirements, work, attempts)
    known = listed.by_requirement()
    asked = [
        item
        for item in requirements
        if known[item["id"]]["answer"] == "unknown" and not _answer_of_parent(item, known, requirements)
    ]
    if not asked:
        return listed
    try:
        again = await ask_individually(pictures, asked, work, attempts[-1:])
    except ProviderError as error:
        work.warn(f"{len(asked)} requirements stay unknown: {error}")
        return listed
    return listed.updated(again.by_requirement(), again.thought)


async def _ask_list(
    pictures: Sequence[Picture],
    requirements: Sequence[Requirement],
    work: NodeContext,
    attempt: int,
    findings: str = "",
) -> Judgement:
    """Ask for all answers in one reply; `findings` are what contradicts itself about each, if anything does."""
    listed = {"questions": numbered(requirement["question"] for requirement in requirements)}
    asked = question(
        "settle" if findings else "checklist",
        listed | ({"findings": findings} if findings else {}),
        pictures=pictures,
        logprobs=True,
        attempt=attempt,
        editing=work.is_editing,
        again=attempt not in _FIRST_ATTEMPTS,
    )
    reply = await work.ask(asked)
    given = reply.form(ChecklistReply).answers
    by_number = _answers_by_number(given, [requirement["question"] for requirement in requirements])
    likely: dict[int, float | None] = {}
    for answer, probability in zip(given, reply.yes_probabilities, strict=False):
        # As the evidence, that of the first answer with a number counts.
        likely.setdefault(answer.number, probability)
    answers = [
        build_answer(
            requirement,
            found.answer,
            found.evidence,
            probability=None if found.answer == "unknown" else likely.get(number),
            box=found.box,
        )
        if (found := by_number.get(number))
        else unknown_answer(requirement, "left out of the answer")
        for number, requirement in enumerate(requirements, 1)
    ]
    return Judgement(answers, reply.thought)


def _answers_by_number(given: Sequence[AnswerReply], questions: Sequence[str]) -> dict[int, AnswerReply]:
    """Map question numbers to answers; what contradicts itself or repeats another question becomes unknown.

    Raises:
        UnreadableReplyError: Numbers are missing and others stand in their place, as where the count begins with 0 or
            the answer is another request's.
    """
    asked, numbers = set(range(1, len(questions) + 1)), {answer.number for answer in given}
    if numbers - asked and asked - numbers:
        listed = ", ".join(map(str, sorted(numbers)[:_MOST_NUMBERS]))
        raise UnreadableReplyError(f"The judge answered questions {listed}, but was asked 1 to {len(questions)}.")
    found: dict[int, AnswerReply] = {}
    for answer in given:
        if answer.number in asked and not _is_about(answer.question, answer.number, questions):
            undecided = {"answer": "unknown", "evidence": f"answers another question: {answer.question[:80]!r}"}
            found[answer.number] = answer.model_copy(update=undecided)
            continue
        first = found.setdefault(answer.number, answer)
        if first.answer != answer.answer:
            undecided = {"answer": "unknown", "evidence": "two answers that contradict each other"}
            found[answer.number] = first.model_copy(update=undecided)
    return found


def _is_about(repeated: str, number: int, questions: Sequence[str]) -> bool:
    """Return whether what an answer repeats of its question, if anything, is more like that one than like others."""
    if not re.search(r"\w", repeated):
        return True
    likeness = [SequenceMatcher(None, repeated.casefold(), asked.casefold()).ratio() for asked in questions]
    return likeness[number - 1] == max(likeness) and likeness[number - 1] >= _SAME_QUESTION


async def ask_individually(
    pictures: Sequence[Picture], requirements: Sequence[Requirement], work: NodeContext, attempts: Attempts
) -> Judgement:
    """Ask one question per call, all concurrently.

    Unknown and refused answers are retried in the next attempt, since a model may answer what it refused
    before. Raises the first failure if every call failed.
    """
    results = await asyncio.gather(
        *(_ask_one(pictures, requirement, work, attempts) for requirement in requirements), return_exceptions=True
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if len(failures) == len(results) or not isinstance(failure, ProviderError):
            raise failure
    found = [
        (unknown_answer(requirement, f"could not be asked: {result}"), "")
        if isinstance(result, BaseException)
        else result
        for requirement, result in zip(requirements, results, strict=True)
    ]
    return Judgement([answer for answer, _ in found]).updated({}, *(thought for _, thought in found))


async def _ask_one(
    pictures: Sequence[Picture], requirement: Requirement, work: NodeContext, attempts: Attempts
) -> tuple[Answer, str]:
    asked = question(
        "verify",
        {"question": requirement["question"]},
        pictures=pictures,
        logprobs=True,
        attempt=attempts[0],
        editing=work.is_editing,
        again=attempts[0] > 0,
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
    return build_answer(requirement, value, evidence, probability=reply.yes_probability), reply.thought


def _answer_of_parent(
    requirement: Requirement, answers: Mapping[str, Answer], requirements: Sequence[Requirement]
) -> Answer | None:
    """Return the no of a requirement that makes no sense without one that is not met; None for others.

    A wrong count is an exception: of four cats where three were asked for, one can still say whether they are
    black.
    """
    counts = {item["id"] for item in requirements if item["kind"] == "count"}
    for parent in requirement["parents"]:
        if parent not in counts and parent in answers and answers[parent]["answer"] == "no":
            evidence = f"makes no sense without {parent}, which is not met"
            return build_answer(requirement, "no", evidence, source="parent")
    return None


def _apply_parents(judgement: Judgement, requirements: Sequence[Requirement]) -> Judgement:
    """Change answers to no where a parent's answer is no."""
    answers = judgement.by_requirement()
    for requirement in requirements:
        found = _answer_of_parent(requirement, answers, requirements)
        if found is not None and answers[requirement["id"]]["answer"] != "no":
            answers[requirement["id"]] = found
    return judgement.updated(answers)


async def ask_verifiers(image: str, state: State, work: NodeContext) -> dict[str, Answer]:
    """Return answers of skills' verifiers by requirement, of the first that answers; failures only warn."""
    answers: dict[str, Answer] = {}
    for name in used_skills(state):
        waiting = [item for item in state["requirements"] if item["id"] not in answers]
        try:
            answers |= await _answers_of_skill(name, image, waiting, state["prompt"], work)
        except LimitReached:
            raise
        except Exception as error:  # noqa: BLE001 - code of somebody else's
            is_known = isinstance(error, GemsError | TimeoutError)
            message = f"The verifier of the skill {name} failed: {error if is_known else format_code_error(error)}"
            if message not in (*(state.get("warnings") or ()), *work.warnings):
                work.warn(message)
    return answers


async def _answers_of_skill(
    name: str, image: str, requirements: Sequence[Requirement], prompt: str, work: NodeContext
) -> dict[str, Answer]:
    skill = work.context.skills.get(name)
    verifiers = await asyncio.to_thread(skill_verifiers, skill) if skill is not None else []
    answers: dict[str, Answer] = {}
    # The paper's loop has no instruments.
    detector = None if work.profile == "paper" else work.context.detector
    for verifier in verifiers:
        if detector is None and getattr(verifier, "uses_detector", False):
            continue
        left = [item for item in requirements if item["id"] not in answers]
        try:
            taken = [item for item in left if verifier.takes(item)]
        except SystemExit as error:
            raise SkillError(f"Its verifier tried to exit the program: SystemExit: {error}.") from None
        if taken:
            data = await work.context.images.load(image)
            request = VerifierRequest(image=data, user_prompt=prompt, requirements=taken, detector=detector)
            async with limit_time(work.context.skill_timeout_s):
                found = await work.within_limits(forbid_exit(verifier.verify)(request))
            if not isinstance(found, Mapping):
                kind = type(found).__name__
                raise SkillError(f"Its verifier returned {kind}, but must return answers by requirement.")
            for item in taken:
                if (said := found.get(item["id"])) is None:
                    continue
                value: Any = getattr(said, "answer", None)
                if value not in get_args(AnswerValue):
                    raise SkillError(f"Its verifier answers {value!r:.80}; it must be yes, no or unknown.")
                if value != "unknown":
                    answers[item["id"]] = _build_measured(item, value, said, name, work)
    return answers


def _build_measured(
    requirement: Requirement, value: AnswerValue, said: VerifierAnswer, skill: str, work: NodeContext
) -> Answer:
    """Return a verifier's answer, with its place and, if an instrument gave it, its finding."""
    box = read_box(list(said.box))
    answer = build_answer(requirement, value, str(said.evidence), source=skill, box=box)
    if "box" in answer:
        answer["placed_by"] = said.instrument or skill
    if said.instrument and work.profile != "paper":
        answer["finding"] = {"instrument": said.instrument, "answer": value, "judge": "unknown"}
    return answer
