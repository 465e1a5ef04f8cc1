"""Check an image again that seems to meet all or nearly all requirements.

A judge errs both ways. Wrong once in twenty, it passes an image that lacks something once in twenty, and over
ten requirements it finds something missing in four of ten complete images. So such an image is checked again,
and if two answers contradict each other, a third question decides. docs/policy.md shows the effect.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gems.nodes.checklist import Judgement, ask_checklist, ask_individually, pictures_to_judge
from gems.nodes.context import NodeContext
from gems.types import Answer, AnswerValue, Requirement

MAX_DOUBTFUL = 1
"""Number of no answers of the first check that are asked about again before they are accepted."""
# Attempt numbers make repeated questions distinct in the ledger.
_SECOND_ATTEMPTS = (2, 3)
_THIRD_ATTEMPTS = (4, 5)


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


def _different_answers(name: str, *looks: Mapping[str, Answer]) -> set[AnswerValue]:
    """Return the different answers given about a requirement."""
    return {look[name]["answer"] for look in looks if name in look}


async def confirm(
    image: str, judgement: Judgement, requirements: Sequence[Requirement], work: NodeContext
) -> Judgement:
    """Ask again about each requirement of a complete image that was answered once.

    Answers of skills' verifiers are not asked about: they look closer than the model. Raises `GemsError` if
    no requirement could be asked about.
    """
    once = {answer["requirement"] for answer in judgement.answers if answer["source"] == "judge"}
    return await recheck(image, judgement, once, requirements, work)


async def recheck(
    image: str,
    judgement: Judgement,
    names: Collection[str],
    requirements: Sequence[Requirement],
    work: NodeContext,
) -> Judgement:
    """Ask about some requirements again, and once more where the second answer contradicts the first.

    Two of three answers decide; if the third is unknown, the second does. A no stands if the second answer is
    unknown. Raises `GemsError` if no requirement could be asked about.
    """
    asked = [requirement for requirement in requirements if requirement["id"] in names]
    if not asked:
        return judgement
    pictures = await pictures_to_judge(image, work)
    first = {answer["requirement"]: answer for answer in judgement.answers}
    # In reverse order and other words, so that what biased the first answer does not bias the second.
    ask = ask_individually if len(asked) == 1 else ask_checklist
    second = await ask(pictures, asked[::-1], work, _SECOND_ATTEMPTS)
    final = {
        answer["requirement"]: answer
        for answer in second.answers
        if answer["answer"] != "unknown" or first[answer["requirement"]]["answer"] == "yes"
    }
    torn = [r for r in asked if _different_answers(r["id"], first, final) == {"yes", "no"}]
    thoughts = [judgement.thought, second.thought]
    if torn:
        third = await ask_individually(pictures, torn, work, _THIRD_ATTEMPTS)
        final |= {a["requirement"]: a for a in third.answers if a["answer"] != "unknown"}
        thoughts.append(third.thought)
    answers: list[Answer] = [
        final[name] | {"source": "confirmation"} if name in final else answer
        for name, answer in first.items()
    ]
    return Judgement(answers, "\n".join(filter(None, thoughts)))
