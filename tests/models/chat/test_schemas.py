"""The forms of answers: what is asked for strictly and read tolerantly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gems.models.chat.schemas import (
    AnswerReply,
    ChecklistReply,
    RequirementReply,
    RequirementsReply,
    SkillChoice,
    read_box,
)


def checked(**more: Any) -> AnswerReply:
    """The only answer of a checklist."""
    given = {"number": 1, "answer": "yes", "evidence": "seen"} | more
    (only,) = ChecklistReply.model_validate({"answers": [given]}).answers
    return only


def stated(**more: Any) -> RequirementReply:
    """The only requirement of a list."""
    given = {"question": "Is it red?", "kind": "attribute", "parents": []} | more
    (only,) = RequirementsReply.model_validate({"requirements": [given]}).requirements
    return only


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("Yes", "yes"),
        ("yes.", "yes"),
        ("**NO**", "no"),
        (True, "yes"),
        (False, "no"),
        ("Unknown", "unknown"),
        ("N/A", "unknown"),
        ("partially", "no"),
        ("yes, no or unknown", "unknown"),
        ("yes|no|unknown", "unknown"),
        (None, "unknown"),
        (["yes"], "unknown"),
        ("", "unknown"),
    ],
)
def test_answers_are_words_of_ours(given: Any, read: str) -> None:
    assert checked(answer=given).answer == read


@pytest.mark.parametrize(("given", "read"), [(2, 2), ("2", 2), ("2.", 2), ("Question 2", 2), (2.0, 2)])
def test_numbers_are_read(given: Any, read: int) -> None:
    assert checked(number=given).number == read


@pytest.mark.parametrize(("given", "read"), [(None, ""), (3, "3"), ("as it is", "as it is")])
def test_evidence_may_be_missing(given: Any, read: str) -> None:
    assert checked(evidence=given).evidence == read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("Attribute", "attribute"),
        (" count ", "count"),
        ("color", "other"),
        (None, "other"),
        (3, "other"),
        (["text"], "other"),
    ],
)
def test_kinds_are_words_of_ours(given: Any, read: str) -> None:
    assert stated(kind=given).kind == read


@pytest.mark.parametrize(
    ("given", "read"), [(None, []), (1, [1]), ("1", [1]), ([1, "2.", None, "none", True, {}], [1, 2]), ([], [])]
)
def test_parents_are_positions(given: Any, read: list[int]) -> None:
    assert stated(parents=given).parents == read


@pytest.mark.parametrize("given", [None, 3, {}, [["spatial"]], [{"title": "x"}]])
def test_what_names_no_skill_is_no_skill(given: Any) -> None:
    assert SkillChoice.model_validate({"skills": given, "why": None}) == SkillChoice(skills=[])


@pytest.mark.parametrize(
    "given",
    [
        "spatial",
        ["spatial: Where things stand."],
        [{"name": "spatial", "why": "x"}],
        {"name": "spatial"},
        {"spatial": "x"},
    ],
)
def test_names_of_skills_in_other_dresses(given: Any) -> None:
    assert SkillChoice.model_validate({"skills": given}).skills == ["spatial"]


def test_bad_answers_are_left_out() -> None:
    good = {"number": 2, "answer": "no", "evidence": "none", "box": []}
    answers: list[Any] = ["yes", None, {"number": None, "answer": "yes"}, {"answer": "yes"}, good]
    read = ChecklistReply.model_validate({"answers": answers}).answers
    assert [item.model_dump() for item in read] == [good]
    assert ChecklistReply.model_validate({"answers": good}).answers == read


def test_bad_requirements_keep_their_places() -> None:
    """Parents are positions: those of the others must stay right."""
    given = ["Is there a cat?", {"kind": "object"}, {"question": "Is it red?", "parents": 1}]
    read = RequirementsReply.model_validate({"requirements": given}).requirements
    assert [(item.question, item.parents) for item in read] == [("Is there a cat?", []), ("", []), ("Is it red?", [1])]
    (only,) = RequirementsReply.model_validate({"requirements": "Is it red?"}).requirements
    assert only.question == "Is it red?"


@pytest.mark.parametrize("given", [None, [3, None], ["a", "b"], [{"answer": "yes"}], "yes"])
def test_answers_of_which_none_can_be_used_are_unreadable(given: Any) -> None:
    with pytest.raises(ValidationError):
        ChecklistReply.model_validate({"answers": given})


@pytest.mark.parametrize("given", [None, [3, None], [{"kind": "object"}], 3])
def test_requirements_of_which_none_can_be_used_are_unreadable(given: Any) -> None:
    with pytest.raises(ValidationError):
        RequirementsReply.model_validate({"requirements": given})


def test_an_empty_list_is_read_as_one() -> None:
    assert RequirementsReply.model_validate({"requirements": []}).requirements == []
    assert ChecklistReply.model_validate({"answers": []}).answers == []


def test_servers_are_asked_for_the_exact_form() -> None:
    answer = AnswerReply.model_json_schema()
    assert answer["required"] == ["number", "answer"]
    assert answer["properties"]["number"]["type"] == "integer"
    assert answer["properties"]["answer"]["enum"] == ["yes", "no", "unknown"]
    assert answer["properties"]["evidence"]["type"] == "string"
    requirement = RequirementReply.model_json_schema()
    assert requirement["required"] == ["question"]
    assert "style" in requirement["properties"]["kind"]["enum"]
    assert requirement["properties"]["parents"]["items"] == {"type": "integer"}
    assert SkillChoice.model_json_schema()["properties"]["skills"]["items"] == {"type": "string"}
    for form, name in ((ChecklistReply, "answers"), (RequirementsReply, "requirements")):
        schema = form.model_json_schema()
        assert schema["required"] == [name]
        assert schema["properties"][name]["type"] == "array"
        assert "$ref" in json.dumps(schema["properties"][name]["items"])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([100, 200, 300, 400], [100, 200, 300, 400]),
        ([0.1, 0.2, 0.3, 0.4], [100, 200, 300, 400]),
        ([300, 400, 100, 200], [100, 200, 300, 400]),
        ([100, 400, 300, 200], [100, 200, 300, 400]),
        ([[100, 200], [300, 400]], [100, 200, 300, 400]),
        ([[100, 200, 300, 400]], [100, 200, 300, 400]),
        ("[100, 200, 300, 400]", [100, 200, 300, 400]),
        ({"x1": 100, "y1": 200, "x2": 300, "y2": 400}, [100, 200, 300, 400]),
        ({"Left": 100, "Top": 200, "Right": 300, "Bottom": 400}, [100, 200, 300, 400]),
        ({"x": 100, "y": 200, "width": 200, "height": 200}, [100, 200, 300, 400]),
        ({"bbox_2d": [100, 200, 300, 400]}, [100, 200, 300, 400]),
        ({"box_2d": [200, 100, 400, 300]}, [100, 200, 300, 400]),
        ([0, 0, 1, 1], [0, 0, 1000, 1000]),
        ([0, 0, 1000, 1000], [0, 0, 1000, 1000]),
        # Outside, in pixels, without an area, or no box at all.
        ([-5, 0, 300, 400], []),
        ([100, 200, 1300, 400], []),
        ([1024, 1024, 2048, 2048], []),
        ([100, 200, 100, 400], []),
        ([100, 200, 300], []),
        ([100, 200, 300, 400, 500], []),
        ([100, 200, 300, float("nan")], []),
        ([100, 200, 300, float("inf")], []),
        ([True, False, True, True], []),
        ([100, 200, None, 400], []),
        ({"x": 1, "y": 2}, []),
        ({"box_2d": "none"}, []),
        ({"box": {"box": {"box": []}}}, []),
        ("everywhere", []),
        ("1" * 5_000, []),
        (None, []),
        (7, []),
    ],
)
def test_boxes_are_read_or_refused(given: Any, read: list[int]) -> None:
    assert read_box(given) == read
    answer = {"number": 1, "answer": "no", "evidence": "none"}
    assert AnswerReply.model_validate(answer | {"box": given}).box == read


def test_boxes_have_other_names() -> None:
    answer = {"number": 1, "answer": "no", "evidence": "none"}
    assert AnswerReply.model_validate(answer | {"box_2d": [200, 100, 400, 300]}).box == [100, 200, 300, 400]
    assert AnswerReply.model_validate(answer | {"bbox": [100, 200, 300, 400], "box": []}).box == [100, 200, 300, 400]
    assert AnswerReply.model_validate(answer | {"box": [1, 2, 3, 4], "bbox_2d": [9, 9, 99, 99]}).box == [1, 2, 3, 4]
