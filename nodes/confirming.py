"""A closer look at an image that may well meet everything.

A judge errs both ways. Wrong once in twenty, it passes an image that lacks something once in twenty, and over
ten requirements it finds something missing in four of ten images that lack nothing. So an image that seems to
meet everything, or all but very little, is asked about again, and where two answers contradict each other a
third one, to a question of its own, decides. docs/policy.md shows what that is worth.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gems.nodes.checklist import Judgement, ask_checklist, ask_individually, pictures_to_judge
from gems.nodes.context import NodeContext
from gems.types import Answer, AnswerValue, Requirement

MAX_DOUBTFUL = 1
"""So many noes of the first look are asked about again before they are believed."""
# Numbers of attempts: each is a question of its own, which the ledger tells apart.
_SECOND_ATTEMPTS = (2, 3)
_THIRD_ATTEMPTS = (4, 5)


def all_met(answers: Sequence[Answer]) -> bool:
    """Whether every answer is yes."""
    return all(answer["answer"] == "yes" for answer in answers)


def doubtful_answers(answers: Sequence[Answer]) -> list[str]:
    """The requirements whose no should be asked about again; empty where that is not worth it.

    Args:
        answers: Of the first look.
    """
    unmet = [answer for answer in answers if answer["answer"] != "yes"]
    asked = [a["requirement"] for a in unmet if a["answer"] == "no" and a["source"] == "judge"]
    return asked if len(asked) == len(unmet) <= MAX_DOUBTFUL else []


def candidates_to_confirm(judged: Sequence[Sequence[Answer]]) -> list[int]:
    """Which candidates deserve a closer look, in order: complete ones, then those with a doubtful no.

    Args:
        judged: The answers of each candidate.
    """
    complete = [index for index, answers in enumerate(judged) if all_met(answers)]
    return complete + [index for index, answers in enumerate(judged) if doubtful_answers(answers)]


def _different_answers(name: str, *looks: Mapping[str, Answer]) -> set[AnswerValue]:
    """The different answers that were given about a requirement."""
    return {look[name]["answer"] for look in looks if name in look}


async def confirm(
    image: str, judgement: Judgement, requirements: Sequence[Requirement], work: NodeContext
) -> Judgement:
    """Ask about each requirement again that was not yet.

    What a skill's verifier found is not put to the model: it looked closer.

    Args:
        image: The stored image.
        judgement: Every answer is yes.
        requirements: In plan order.
        work: This turn.

    Raises:
        GemsError: none of them could be asked about.
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

    Two of three answers decide; where the third is unknown, the second one does. A no stands where the second
    answer is unknown: it is all that is known.

    Raises:
        GemsError: none of them could be asked about.
    """
    asked = [requirement for requirement in requirements if requirement["id"] in names]
    if not asked:
        return judgement
    pictures = await pictures_to_judge(image, work)
    first = {answer["requirement"]: answer for answer in judgement.answers}
    # Backwards and in other words, so that what swayed an answer has no such sway over the second.
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
