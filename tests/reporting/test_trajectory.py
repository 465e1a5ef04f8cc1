"""Rounds as a tree."""

from __future__ import annotations

from typing import Any

from gems.reporting.trajectory import build_tree, by_number, describe_round, has_branches
from gems.types import Round, build_answer, build_verdict

QUESTION: Any = {"id": "r1", "question": "Is it red?", "kind": "attribute", "parents": []}


def turn(number: int, image: str, **origin: Any) -> Round:
    found: Any = {
        "number": number,
        "prompt": "a red cat",
        "negative_prompt": "",
        "candidates": [],
        "verdicts": [build_verdict(image, [build_answer(QUESTION, "no", "")])],
        "best": 0,
        "score": 0.0,
        "seconds": {},
    }
    return found | origin


def test_changed_images_stand_below_those_that_they_were_made_from() -> None:
    rounds = [
        turn(1, "a", action="given"),
        turn(2, "b", action="edit", parent="a"),
        turn(3, "c", action="redraw"),
        turn(4, "d", action="inpaint", parent="b"),
        turn(5, "e", action="edit", parent="a"),
    ]
    roots = build_tree(rounds)
    assert [branch.turn["number"] for branch in roots] == [1, 3]
    assert [branch.turn["number"] for branch in roots[0].children] == [2, 5]
    assert {number: branch.parent for number, branch in by_number(roots).items()} == {
        1: None,
        2: 1,
        3: None,
        4: 2,
        5: 1,
    }
    assert has_branches(rounds)
    assert not has_branches([rounds[0], rounds[2]])


def test_image_that_an_editor_left_as_it_was_has_the_round_that_made_it() -> None:
    rounds = [turn(1, "a"), turn(2, "a", action="edit", parent="a"), turn(3, "b", action="edit", parent="a")]
    assert [branch.parent for branch in by_number(build_tree(rounds)).values()] == [None, 1, 1]


def test_image_that_was_taken_back_and_made_again() -> None:
    rounds = [turn(1, "a"), turn(2, "b", parent="a", taken=False), turn(3, "b", parent="a"), turn(4, "c", parent="b")]
    assert by_number(build_tree(rounds))[4].parent == 3


def test_parent_that_is_no_image_of_the_run() -> None:
    (branch,) = build_tree([turn(1, "a", action="edit", parent="f" * 64)])
    assert describe_round(branch, {}) == "edited from image ffffffffffff"


def test_rounds_are_described() -> None:
    first = turn(1, "a")
    mended = turn(2, "b", action="inpaint", parent="a", boxes=[[1, 2, 3, 4]], mask="m", repaired=["r1"], by="person")
    redrawn = turn(3, "c", action="redraw", abandoned="edit", taken=False)
    branches = by_number(build_tree([first, mended, redrawn]))
    assert [describe_round(branch, {"r1": "Is it red?"}) for branch in branches.values()] == [
        "drawn",
        "painted in from round 1, within a mask, at [1, 2, 3, 4], as a person wanted, for: Is it red?",
        "drawn anew, since it could not be edited, taken back by a person",
    ]
