"""Answer questions about objects by the boxes that a detector found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gems.models.detectors.base import DetectedObject, DetectionRequest, Detections, join_boxes
from gems.skills.authoring import VerifierAnswer, VerifierRequest
from gems.skills.objects.questions import Across, Counted, Down, ObjectQuestion, Placed, Related, parse_question
from gems.types import AnswerValue, Requirement, RequirementKind

_KINDS: frozenset[RequirementKind] = frozenset(("object", "count", "relation", "other"))
_MOST_TOLD = 4
_CLEAR = 30
"""Thousandths of the image by which centres must differ to say which is where."""
_MIDDLE = (400, 600)
"""Centres between these thousandths are certainly in the middle, those outside of the next certainly not."""
_NEAR_MIDDLE = (300, 700)
_HALF = 500


class ObjectVerifier:
    """A `gems.skills.authoring.Verifier` of counts, presence and places, by the run's detector.

    What the detector is not sure of, and what it cannot look for, is `unknown`: the judge answers it alone.
    """

    uses_detector = True

    def takes(self, requirement: Requirement) -> bool:
        """Return whether boxes alone answer its question."""
        return requirement["kind"] in _KINDS and parse_question(requirement["question"]) is not None

    async def verify(self, request: VerifierRequest) -> Mapping[str, VerifierAnswer]:
        """Look once for all that is asked about; raises GemsError if the detector fails."""
        detector = request.detector
        parsed = {item["id"]: parse_question(item["question"]) for item in request.requirements if self.takes(item)}
        asked = {name: question for name, question in parsed.items() if question is not None}
        if detector is None or not asked:
            return {}
        phrases = dict.fromkeys(phrase for question in asked.values() for phrase in question.phrases)
        found = await detector.detect(DetectionRequest(image=request.image, phrases=tuple(phrases)))
        return {
            name: _answer(question, found, detector.threshold, detector.name)
            for name, question in asked.items()
            if not found.undecided & set(question.phrases)
        }


def _answer(question: ObjectQuestion, found: Detections, threshold: float, instrument: str) -> VerifierAnswer:
    sure = {phrase: [each for each in found.of(phrase) if each.score >= threshold] for phrase in question.phrases}
    if isinstance(question, Counted):
        value, box = _count(question, sure[question.phrase], len(found.of(question.phrase)))
    else:
        missing = [phrase for phrase in question.phrases if not found.of(phrase)]
        unsure = any(len(sure[phrase]) < len(found.of(phrase)) for phrase in question.phrases)
        value, box = "unknown" if unsure else "no", list[int]()
        if not missing and not unsure:
            value, box = _locate(question, sure)
    evidence = f"Found {', '.join(_describe(phrase, sure[phrase]) for phrase in question.phrases)}."
    return VerifierAnswer(answer=value, evidence=evidence, box=box, instrument=instrument)


def _count(asked: Counted, sure: Sequence[DetectedObject], possible: int) -> tuple[AnswerValue, list[int]]:
    """Return whether so many were found, and the box of what is too much."""
    most = possible if asked.most is None else asked.most
    met = {asked.least <= number <= most for number in range(len(sure), possible + 1)}
    if len(met) > 1:
        return "unknown", []
    surplus = sorted(sure, key=lambda each: each.score)[: max(0, len(sure) - most)]
    return ("yes", []) if met == {True} else ("no", join_boxes(each.box for each in surplus) if surplus else [])


def _locate(asked: Related | Placed, sure: Mapping[str, Sequence[DetectedObject]]) -> tuple[AnswerValue, list[int]]:
    """Return whether objects are where they should be, and the box of those that are not."""
    if isinstance(asked, Placed):
        held = [_is_placed(asked, each.box) for each in sure[asked.phrase]]
        every, boxes = False, [each.box for each in sure[asked.phrase]]
    else:
        pairs = [(one.box, other.box) for one in sure[asked.phrase] for other in sure[asked.target]]
        held = [_is_related(asked, *pair) for pair in pairs]
        every, boxes = asked.every, [box for pair in pairs for box in pair]
    if all(held):
        return "yes", []
    # Of several objects it is not known which is meant, unless all are.
    is_wrong = any(each is False for each in held) if every else all(each is False for each in held)
    return ("no", join_boxes(boxes)) if is_wrong else ("unknown", [])


def _is_related(asked: Related, box: Sequence[int], target: Sequence[int]) -> bool | None:
    """Return whether two boxes stand in the relation; None if that is not clear."""
    axis = 0 if asked.relation in ("left of", "right of") else 1
    ahead = _centre(target, axis) - _centre(box, axis)
    if abs(ahead) < _CLEAR:
        return None
    return (ahead > 0) == (asked.relation in ("left of", "above"))


def _is_placed(asked: Placed, box: Sequence[int]) -> bool | None:
    """Return whether a box is in the part of the image that is asked about; None if that is not clear."""
    across, down = _is_at(asked.across, _centre(box, 0)), _is_at(asked.down, _centre(box, 1))
    return False if False in (across, down) else None if None in (across, down) else True


def _is_at(place: Across | Down, centre: float) -> bool | None:
    if place in ("centre", "middle"):
        if _MIDDLE[0] <= centre <= _MIDDLE[1]:
            return True
        return None if _NEAR_MIDDLE[0] <= centre <= _NEAR_MIDDLE[1] else False
    if place and abs(centre - _HALF) < _CLEAR:
        return None
    return not place or (centre < _HALF) == (place in ("left", "top"))


def _centre(box: Sequence[int], axis: int) -> float:
    return (box[axis] + box[axis + 2]) / 2


def _describe(phrase: str, objects: Sequence[DetectedObject]) -> str:
    places = ", ".join(str(each.box) for each in objects[:_MOST_TOLD])
    more = ", ..." if len(objects) > _MOST_TOLD else ""
    return f"{len(objects) or 'no'} {phrase!r}{f' at {places}{more}' if places else ''}"
