"""What runs measure of instruments, boxes and probabilities."""

from typing import Any

import pytest

from gems.memory.export import format_line, read_line
from gems.memory.measurements import (
    calibrate,
    count_boxes,
    count_looks,
    count_rechecks,
    expected_score,
    find_box_outcomes,
    find_looks,
    measurement_ops,
)
from gems.types import Requirement, best_verdict, build_verdict

REQUIREMENTS: list[Requirement] = [
    {"id": "r1", "question": "Are there two cats?", "kind": "count", "parents": []},
    {"id": "r2", "question": "Is it red?", "kind": "attribute", "parents": []},
]


def answer(said: str, name: str = "r1", **more: Any) -> Any:
    return {"requirement": name, "answer": said, "evidence": "", "probability": None, "source": "judge"} | more


def finding(instrument: str, judge: str) -> dict[str, Any]:
    return {"finding": {"instrument": "owl", "answer": instrument, "judge": judge}}


def turn(number: int, *answers: Any, image: str = "", **more: Any) -> Any:
    verdict = build_verdict(image or f"image{number}", list(answers))
    return {"number": number, "verdicts": [verdict], "best": 0, "score": verdict["score"]} | more


@pytest.mark.parametrize(
    ("said", "instrument", "judge", "right"),
    [
        ("yes", "yes", "yes", ["both"]),
        ("no", "no", "no", ["both"]),
        ("no", "no", "yes", ["instrument"]),
        ("yes", "no", "yes", ["judge"]),
        ("no", "no", "unknown", []),
        ("unknown", "no", "yes", []),
    ],
)
def test_who_was_right(said: str, instrument: str, judge: str, right: list[str]) -> None:
    found = find_looks(turn(1, answer(said, **finding(instrument, judge)), answer("yes", "r2")), REQUIREMENTS)
    assert found == [{"instrument": "owl", "kind": "count", "right": each} for each in right]


def test_what_another_requirement_or_image_decided_is_not_counted() -> None:
    torn = answer("no", **finding("yes", "no"))
    assert find_looks(turn(1, torn | {"source": "parent"}), REQUIREMENTS) == []
    assert len(find_looks(turn(2, torn, image="same", parent="other"), REQUIREMENTS)) == 1
    assert find_looks(turn(2, torn, image="same", parent="same"), REQUIREMENTS) == []


@pytest.mark.parametrize(
    ("before", "more", "found"),
    [
        ({"box": [0, 0, 9, 9]}, {}, [("judge", True)]),
        ({"box": [0, 0, 9, 9], "placed_by": "ocr"}, {}, [("ocr", True)]),
        ({"box": [0, 0, 9, 9]}, {"boxes": []}, []),
        ({"box": [0, 0, 9, 9]}, {"by": "person"}, []),
        ({"box": [0, 0, 9, 9]}, {"parent": "deleted"}, []),
        ({}, {}, []),
    ],
)
def test_how_good_boxes_were(before: dict[str, Any], more: dict[str, Any], found: list[tuple[str, bool]]) -> None:
    first = turn(1, answer("no", **before), answer("no", "r2", box=[1, 1, 2, 2]))
    mended = {"parent": "image1", "boxes": [[0, 0, 9, 9]], "repaired": ["r1"], "action": "inpaint"}
    second = turn(2, answer("yes"), answer("no", "r2"), **mended | more)
    outcomes = find_box_outcomes([first], second, REQUIREMENTS)
    assert [(each["placed_by"], each["fixed"]) for each in outcomes] == found
    assert all(each["kind"] == "count" for each in outcomes)
    assert find_box_outcomes([], first, REQUIREMENTS) == []


def test_a_round_is_kept_where_something_was_measured_and_comes_back_from_an_export() -> None:
    looked = answer("no", rechecks=[{"probability": 0.97, "met": False}], **finding("no", "yes"))
    rounds = [turn(1, answer("yes")), turn(2, looked)]
    state = {"prompt": "two cats", "requirements": REQUIREMENTS, "rounds": rounds}
    (op,) = measurement_ops(state, "run", "flat", "qwen")
    assert (op["id"], op["namespace"], op["key"]) == ("measurement/run/2", ["measurements", "flat"], "run:2")
    line = format_line("measurement", op["key"], op["value"])
    assert read_line(line) == ("measurement", "run:2", op["value"])
    assert read_line(line.replace('"right": "instrument"', '"right": "judge"'))[2]["looks"][0]["right"] == "judge"
    with pytest.raises(ValueError, match="right"):
        read_line(line.replace('"right": "instrument"', '"right": "me"'))


def test_counts() -> None:
    looks: Any = [{"instrument": "owl", "kind": "count", "right": right} for right in ("both", "both", "judge")]
    assert count_looks(looks) == {"owl": {"count": {"agreed": 2, "instrument": 0, "judge": 1}}}
    boxes: Any = [{"placed_by": "judge", "kind": "count", "fixed": fixed} for fixed in (True, False, False)]
    assert count_boxes(boxes) == {"judge": {"count": {"fixed": 1, "edits": 3}}}
    assert count_rechecks([]) == []


def test_probabilities_are_calibrated_by_later_looks() -> None:
    seen = [{"probability": 0.95, "met": n < 10} for n in range(20)] + [{"probability": 1.0, "met": True}] * 20
    tallies = count_rechecks(seen)  # type: ignore[arg-type]
    assert tallies == [
        {"least": 0.9, "most": 0.99, "looks": 20, "confirmed": 10},
        {"least": 0.99, "most": 1.0, "looks": 20, "confirmed": 20},
    ]
    assert calibrate(0.95, tallies) == pytest.approx((10 + 4 * 0.95) / 24)
    assert calibrate(0.995, tallies) > 0.99
    assert calibrate(0.7, tallies) == calibrate(0.7, []) == pytest.approx(0.7)
    assert [calibrate(edge, []) for edge in (0.0, 1.0)] == [0.0, 1.0]


def test_of_equal_images_the_likelier_one_is_best() -> None:
    doubtful, sure = answer("yes", probability=0.6), answer("yes", probability=0.999)
    scores = [expected_score([each, answer("no", "r2")], []) for each in (doubtful, sure)]
    assert scores == pytest.approx([0.3, 0.4995])
    assert expected_score([answer("yes"), answer("no", "r2")], []) is None
    verdicts = [build_verdict(name, [each, answer("no", "r2")]) for name, each in (("a", doubtful), ("b", sure))]
    assert best_verdict(verdicts) == 0
    for verdict, likely in zip(verdicts, scores, strict=True):
        assert likely is not None
        verdict["likely"] = likely
    assert best_verdict(verdicts) == 1
    unknown = build_verdict("u", [answer("yes"), answer("no", "r2")])
    assert best_verdict([*verdicts, unknown]) == best_verdict([unknown, *verdicts]) == 0, (
        "nothing is known of all three"
    )
    confirmed = build_verdict("c", [answer("yes", source="confirmation"), answer("no", "r2")])
    assert best_verdict([*verdicts, confirmed]) == 2
