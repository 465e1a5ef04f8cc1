"""Boxes of faults are checked by a detector, and grown to whole objects."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gems.errors import RunCancelledError, UnreachableError
from gems.generation import ImageRequest
from gems.models.detectors.base import DetectedObject, Detections
from gems.nodes.boxes import FAILED, check_boxes, grow_box
from gems.nodes.checklist import Judgement
from gems.types import Answer, Requirement, RequirementKind
from tests.support.detectors import FixedDetector
from tests.support.scripted_models import Desk
from tests.support.stub.models import flat_picture

CAT, OTHER = [100, 100, 300, 400], [600, 100, 800, 400]
REQUIREMENTS: list[Requirement] = [
    {"id": "r1", "question": "Are there exactly two cats?", "kind": "count", "parents": []},
    {"id": "r2", "question": "Are the cats black?", "kind": "attribute", "parents": ["r1"]},
    {"id": "r3", "question": "Is the light soft?", "kind": "style", "parents": []},
]


def no(requirement: str, box: list[int] | None = None, **more: Any) -> Answer:
    answer: Any = {"requirement": requirement, "answer": "no", "evidence": "", "probability": None, "source": "judge"}
    return answer | ({"box": box} if box else {}) | more


def finds(*boxes: list[int], score: float = 0.9) -> FixedDetector:
    return FixedDetector(lambda _: Detections(objects=tuple(DetectedObject("cat", score, box) for box in boxes)))


async def checked(desk: Desk, detector: FixedDetector | None, *answers: Answer, **more: Any) -> list[Answer]:
    image = await desk.context.images.put(flat_picture(ImageRequest(prompt="a", seed=1, width=64, height=64)))
    desk.context = replace(desk.context, detector=detector)
    work = desk.work(**more)
    found = (await check_boxes(image, Judgement(list(answers)), REQUIREMENTS, work)).answers
    assert all(not message.startswith(FAILED) for message in work.warnings)
    return found


@pytest.mark.parametrize(
    ("box", "objects", "kind", "grown"),
    [
        ([150, 150, 200, 200], [CAT, OTHER], "attribute", CAT),
        ([50, 150, 200, 200], [CAT], "attribute", [50, 100, 300, 400]),
        ([250, 150, 650, 200], [CAT, OTHER], "count", [250, 150, 650, 200]),
        ([150, 150, 650, 200], [CAT, OTHER], "count", [100, 100, 650, 400]),
        ([400, 700, 500, 900], [CAT], "attribute", CAT),
        ([400, 700, 500, 900], [CAT, OTHER], "attribute", []),
        ([400, 700, 500, 900], [], "attribute", []),
        ([400, 700, 500, 900], [], "object", [400, 700, 500, 900]),
        ([400, 700, 500, 900], [CAT, OTHER], "count", [400, 700, 500, 900]),
        ([0, 0, 1000, 1000], [CAT], "relation", [0, 0, 1000, 1000]),
    ],
)
def test_boxes_grow_to_whole_objects_and_doubtful_ones_go(
    box: list[int], objects: Sequence[list[int]], kind: RequirementKind, grown: list[int]
) -> None:
    assert grow_box(box, objects, kind) == grown


async def test_all_boxes_are_checked_by_one_look(desk: Desk) -> None:
    detector = finds(CAT)
    first, second, third = await checked(
        desk, detector, no("r1", [150, 150, 200, 200]), no("r2", [700, 700, 800, 800]), no("r3", [1, 1, 9, 9])
    )
    assert (first["box"], first["placed_by"]) == (CAT, "fixed")
    assert (second["box"], second["placed_by"]) == (CAT, "fixed")
    assert third == no("r3", [1, 1, 9, 9])
    assert detector.asked == [("cat",)]


async def test_a_place_that_stays_doubtful_is_left_out(desk: Desk) -> None:
    (answer,) = await checked(desk, finds(CAT, OTHER), no("r2", [400, 700, 500, 900]))
    assert answer == no("r2")
    (unsure,) = await checked(desk, finds(CAT, score=0.2), no("r1", [150, 150, 200, 200]))
    assert unsure["box"] == [150, 150, 200, 200]


async def test_nothing_is_looked_for_without_need(desk: Desk) -> None:
    detector = finds(CAT)
    kept = [no("r1"), no("r2", CAT, placed_by="ocr"), no("r3", [1, 1, 9, 9])]
    assert await checked(desk, detector, *kept) == kept
    assert await checked(desk, None, no("r1", [1, 1, 9, 9])) == [no("r1", [1, 1, 9, 9])]
    assert await checked(desk, detector, no("r1", [1, 1, 9, 9]), profile="paper") == [no("r1", [1, 1, 9, 9])]
    assert detector.asked == []


async def test_what_the_detector_cannot_look_for_keeps_its_box(desk: Desk) -> None:
    detector = FixedDetector(lambda _: Detections(objects=(), undecided=frozenset(["cat"])))
    assert await checked(desk, detector, no("r2", [1, 1, 9, 9])) == [no("r2", [1, 1, 9, 9])]


async def test_a_detector_that_fails_is_told_once(desk: Desk) -> None:
    image = await desk.context.images.put(flat_picture(ImageRequest(prompt="a", seed=1, width=64, height=64)))
    desk.context = replace(desk.context, detector=FixedDetector(lambda _: UnreachableError("It is down.")))
    work, given = desk.work(), Judgement([no("r1", [1, 1, 9, 9])])
    for _ in range(2):
        assert await check_boxes(image, given, REQUIREMENTS, work) == given
    assert [message.partition(" Run")[0] for message in work.warnings] == [f"{FAILED} It is down."]
    later = desk.work()
    assert await check_boxes(image, given, REQUIREMENTS, later, work.warnings) == given
    assert later.warnings == []


async def test_a_run_that_ends_keeps_what_it_knows(desk: Desk) -> None:
    image = await desk.context.images.put(flat_picture(ImageRequest(prompt="a", seed=1, width=64, height=64)))
    desk.context = replace(desk.context, detector=FixedDetector(lambda _: RunCancelledError("Cancelled.")))
    work, given = desk.work(), Judgement([no("r1", [1, 1, 9, 9])])
    assert await check_boxes(image, given, REQUIREMENTS, work) == given
    assert work.warnings == []
