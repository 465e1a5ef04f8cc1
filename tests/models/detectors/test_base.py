"""What is made of what a detector found."""

import math
from typing import Any

import pytest

from gems.errors import UnreadableReplyError
from gems.models.detectors.base import (
    MOST_OBJECTS,
    DetectionRequest,
    Detections,
    join_boxes,
    select_objects,
    share_covered,
)

SIZE = (200, 100)


def select(*found: tuple[str, Any, Any], threshold: float = 0.3) -> Detections:
    request = DetectionRequest(image=b"", phrases=("cat", "dog"))
    return select_objects(found, request, SIZE, threshold=threshold, detector="The detector")


def test_boxes_are_in_thousandths_and_the_likeliest_comes_first() -> None:
    chosen = select(("cat", 0.5, (0, 0, 100, 50)), ("dog", 0.9, (100, 50, 200, 100)))
    assert [(each.phrase, each.box) for each in chosen.objects] == [
        ("dog", [500, 500, 1000, 1000]),
        ("cat", [0, 0, 500, 500]),
    ]
    assert chosen.of("cat")[0].score == 0.5


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((100, 50, 0, 0), [0, 0, 500, 500]),
        ((100, 0, 0, 50), [0, 0, 500, 500]),
        ((-40, -9.5, 100, 50), [0, 0, 500, 500]),
        ((100, 50, 999, 1e9), [500, 500, 1000, 1000]),
    ],
)
def test_a_box_is_turned_and_cut(box: tuple[float, ...], kept: list[int]) -> None:
    assert [each.box for each in select(("cat", 0.9, box)).objects] == [kept]


@pytest.mark.parametrize(
    "strange",
    [
        ("cat", 0.9, (300, 0, 400, 50)),
        ("cat", 0.9, (10, 10, 10, 50)),
        ("cat", 0.9, (math.nan, 0, 10, 10)),
        ("cat", 0.9, (0, 0, math.inf, 10)),
        ("cat", 0.9, (0, 0, 10)),
        ("cat", 0.9, (0, 0, "10", True)),
        ("cat", math.nan, (0, 0, 10, 10)),
        ("cat", 1.5, (0, 0, 10, 10)),
        ("cat", None, (0, 0, 10, 10)),
        ("sofa", 0.9, (0, 0, 10, 10)),
    ],
)
def test_what_is_no_object_is_left_out_and_alone_is_no_answer(strange: tuple[str, Any, Any]) -> None:
    assert [each.phrase for each in select(strange, ("dog", 0.9, (0, 0, 10, 10))).objects] == ["dog"]
    with pytest.raises(UnreadableReplyError, match="The detector found 1 objects, of which none can be used"):
        select(strange)


def test_nothing_found_is_an_answer() -> None:
    assert select() == Detections(objects=())


def test_an_object_counts_once_and_unlikely_ones_not_at_all() -> None:
    twice = (("cat", 0.6, (0, 0, 100, 50)), ("cat", 0.9, (4, 2, 104, 52)))
    chosen = select(*twice, ("dog", 0.9, (0, 0, 100, 50)), ("cat", 0.14, (150, 60, 190, 90)))
    assert [(each.phrase, each.score) for each in chosen.objects] == [("cat", 0.9), ("dog", 0.9)]
    possible = select(*twice, ("cat", 0.16, (150, 60, 190, 90)))
    assert [each.score for each in possible.of("cat")] == [0.9, 0.16]


def test_a_thousand_objects_are_no_answer_for_their_phrase() -> None:
    many = [("cat", 0.9, (x * 5, y * 4, x * 5 + 4, y * 4 + 3)) for x in range(40) for y in range(25)]
    assert len(many) > MOST_OBJECTS
    chosen = select(*many, ("dog", 0.9, (0, 0, 10, 10)))
    assert chosen.undecided == {"cat"}
    assert [each.phrase for each in chosen.objects] == ["dog"]


def test_boxes_cover_and_join() -> None:
    assert share_covered([0, 0, 100, 100], [50, 0, 150, 100]) == 0.5
    assert share_covered([0, 0, 1000, 1000], [10, 10, 20, 20]) == 1
    assert share_covered([0, 0, 10, 10], [10, 10, 20, 20]) == 0
    assert join_boxes([[10, 40, 20, 50], [0, 45, 15, 90]]) == [0, 40, 20, 90]
