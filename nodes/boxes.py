"""Check the boxes of what an image lacks against a detector, and grow them to whole objects."""

from __future__ import annotations

from collections.abc import Sequence

from gems.errors import GemsError, LimitReached
from gems.models.detectors.base import DetectionRequest, join_boxes, share_covered
from gems.nodes.checklist import Judgement
from gems.nodes.context import NodeContext
from gems.nodes.skills import limit_time
from gems.skills.objects import find_phrases, parse_question
from gems.types import Answer, Requirement, RequirementKind

_TOUCHED = 0.3
"""Share of the smaller of two boxes that they must have in common for one to be about the other."""
_MOST_PHRASES = 10
_ABOUT_PARENTS: frozenset[RequirementKind] = frozenset(("attribute", "relation"))
"""Kinds of requirements about the objects that they presuppose, and not about further ones."""
FAILED = "Boxes of faults were not checked:"
"""Start of the warning about a detector that failed; a run emits it once."""


async def check_boxes(
    image: str, judgement: Judgement, requirements: Sequence[Requirement], work: NodeContext, warned: Sequence[str] = ()
) -> Judgement:
    """Return the judgement with the judge's boxes checked; unchanged if there is no detector, or it fails.

    `warned` are the run's earlier warnings.
    """
    detector = work.context.detector
    if detector is None or work.profile == "paper":
        return judgement
    faults = {item["id"]: item for item in requirements}
    asked = {
        answer["requirement"]: phrases
        for answer in judgement.answers
        if "box" in answer and "placed_by" not in answer and answer["answer"] == "no"
        if (phrases := _phrases_of(faults[answer["requirement"]], requirements))
    }
    phrases = tuple(dict.fromkeys(phrase for each in asked.values() for phrase in each))[:_MOST_PHRASES]
    if not phrases:
        return judgement
    try:
        data = await work.context.images.load(image)
        async with limit_time(work.context.skill_timeout_s):
            found = await work.within_limits(detector.detect(DetectionRequest(image=data, phrases=phrases)))
    except LimitReached:
        # The run ends before the next node.
        return judgement
    except GemsError as error:
        if not any(message.startswith(FAILED) for message in (*warned, *work.warnings)):
            work.warn(f"{FAILED} {error}")
        return judgement
    checked: dict[str, Answer] = {}
    for answer in judgement.answers:
        known = [
            each for each in asked.get(answer["requirement"], ()) if each in phrases and each not in found.undecided
        ]
        if known:
            sure = [each.box for phrase in known for each in found.of(phrase) if each.score >= detector.threshold]
            box = grow_box(answer["box"], sure, faults[answer["requirement"]]["kind"])
            checked[answer["requirement"]] = _with_box(answer, box, detector.name)
    return judgement.updated(checked)


def grow_box(box: list[int], objects: Sequence[list[int]], kind: RequirementKind) -> list[int]:
    """Return a fault's box, grown to the objects that it touches; empty if it is in the wrong place.

    A box that touches none may be the place of what is missing. What is wrong about an object, though, is where the
    object is: if there is one of them, that is the place; among several, or without any, the place is not known.
    """
    touched = [each for each in objects if share_covered(box, each) >= _TOUCHED]
    if touched:
        return join_boxes([box, *touched])
    if kind != "attribute":
        return box
    return objects[0] if len(objects) == 1 else []


def _phrases_of(requirement: Requirement, requirements: Sequence[Requirement]) -> tuple[str, ...]:
    is_plain = parse_question(requirement["question"]) is not None
    return find_phrases(requirement, requirements) if is_plain or requirement["kind"] in _ABOUT_PARENTS else ()


def _with_box(answer: Answer, box: list[int], detector: str) -> Answer:
    if box:
        return answer | {"box": box, "placed_by": detector}
    changed = answer.copy()
    del changed["box"]
    return changed
