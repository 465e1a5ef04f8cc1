"""Answer requirements by skills' verifiers, which look closer than a general model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import get_args

from gems.errors import GemsError, LimitReached, SkillError
from gems.nodes.context import NodeContext
from gems.nodes.skills import skill_verifiers, used_skills
from gems.skills.authoring import Verifier, VerifierAnswer, VerifierRequest
from gems.skills.loader import forbid_exit, format_code_error
from gems.state import State
from gems.types import Answer, AnswerValue, Requirement
from gems.verdicts import shorten_evidence


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
