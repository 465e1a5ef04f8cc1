"""What a skill hands back, checked before the run goes on with it."""

from __future__ import annotations

from typing import Any

import pytest

from gems.errors import SkillError
from gems.nodes.rewrite import MAX_PROMPT
from gems.nodes.skills import MAX_EXTRA, apply_result, check_usage, skip_skill, used_skills
from gems.types import NO_USAGE
from tests.support.scripted_models import OPTIONS, Desk

STATE: Any = {
    "prompt": "a cat",
    "current_prompt": "a cat drawn",
    "options": OPTIONS | {"sized": False},
    "requirements": [{"id": "r1", "question": "Is there a cat?", "kind": "object", "parents": []}],
}

OLDER: Any = {name: value for name, value in NO_USAGE.items() if not name.startswith("wasted")}
"""A usage as skills reported it before waste was counted."""


def asks(*questions: str) -> dict[str, Any]:
    return {"extra_requirements": [{"question": question} for question in questions]}


@pytest.mark.parametrize(
    ("result", "prompt"), [({}, "a cat drawn"), ({"prompt": " "}, "a cat drawn"), ({"prompt": " a lion "}, "a lion")]
)
def test_prompt(result: Any, prompt: str, desk: Desk) -> None:
    update = apply_result("mine", result, STATE, desk.work())
    assert update["current_prompt"] == ("a cat\na lion" if prompt == "a lion" else prompt)
    assert update["skill_uses"] == [
        {"name": "mine", "prompt": prompt, "restored": [], "requirements": [], "drawing": {}, "fault": ""}
    ]
    assert [event["use"] for event in desk.told("skill")] == update["skill_uses"]


def test_requirements_are_appended_with_ids_of_their_own(desk: Desk) -> None:
    result = {"extra_requirements": [{"question": " Is it\nsharp? ", "kind": "style"}, {"question": "B?", "kind": 5}]}
    update = apply_result("mine", result, STATE, desk.work())
    assert update["requirements"][1:] == [
        {"id": "r2", "question": "Is it sharp?", "kind": "style", "parents": [], "skill": "mine"},
        {"id": "r3", "question": "B?", "kind": "other", "parents": [], "skill": "mine"},
    ]
    assert update["skill_uses"][0]["requirements"] == ["r2", "r3"]
    assert desk.told("requirements")[0]["requirements"] == update["requirements"]


def test_what_is_asked_already_is_not_asked_again(desk: Desk) -> None:
    update = apply_result("mine", asks("is there  a CAT", "Is it red?", "is it red"), STATE, desk.work())
    assert [item["question"] for item in update["requirements"][1:]] == ["Is it red?"]
    assert "requirements" not in apply_result("mine", asks("Is there a cat?"), STATE, desk.work())


@pytest.mark.parametrize("count", [MAX_EXTRA, MAX_EXTRA + 1])
def test_ten_requirements_at_most(count: int, desk: Desk) -> None:
    work = desk.work()
    update = apply_result("mine", asks(*(f"Is {n} there?" for n in range(count))), STATE, work)
    assert len(update["requirements"]) == 1 + MAX_EXTRA
    assert len(work.warnings) == count - MAX_EXTRA


def test_settings_of_skills_come_together(desk: Desk) -> None:
    given = STATE | {"generation_overrides": {"steps": 4, "negative_prompt": "blur"}}
    result = {"drawing": {"steps": 8, "negative_prompt": "noise", "size": "96x96"}}
    update = apply_result("mine", result, given, desk.work())
    assert update["generation_overrides"] == {"steps": 4, "negative_prompt": "blur, noise", "size": "96x96"}
    assert update["skill_uses"][0]["drawing"] == result["drawing"]


def test_size_that_cannot_be_drawn_is_told(desk: Desk) -> None:
    work = desk.work()
    update = apply_result("mine", {"prompt": "a lion", "drawing": {"size": "9x9"}}, STATE, work)
    assert (update["current_prompt"], "generation_overrides" in update) == ("a cat\na lion", False)
    assert "flat does not support 9x9" in work.warnings[0]


@pytest.mark.parametrize(
    "result",
    [
        {"prompt": 5},
        {"prompt": None},
        {"prompt": "\ud800"},
        {"prompt": "x" * (MAX_PROMPT + 1)},
        {"extra_requirements": "x"},
        {"extra_requirements": {"question": "x"}},
        {"extra_requirements": ["Is it red?"]},
        asks(""),
        asks("x" * 501),
        asks("\ud800"),
        {"extra_requirements": [{"question": 5}]},
        {"drawing": "nonsense"},
        {"drawing": {"steps": "many"}},
        {"restored": 5},
        {"restored": "a text"},
    ],
)
def test_what_has_not_the_form_is_a_fault(result: Any, desk: Desk) -> None:
    with pytest.raises(SkillError):
        apply_result("mine", result, STATE, desk.work())
    assert desk.events == []


def test_a_skill_that_is_left_out_is_told(desk: Desk) -> None:
    work = desk.work()
    update = skip_skill("mine", "It broke.", STATE, work)
    assert "current_prompt" not in update
    assert update["skill_uses"][0]["fault"] == "It broke."
    assert work.warnings == ["The run continues without the skill mine: It broke."]
    assert used_skills(STATE | update) == []
    assert used_skills(STATE | apply_result("mine", {}, STATE | update, work)) == ["mine"]


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ({}, ({}, [])),
        ({"usage": {"planner": NO_USAGE}, "warnings": ["a"]}, ({"planner": NO_USAGE}, ["a"])),
        ({"usage": {"planner": OLDER}}, ({"planner": OLDER}, [])),
        ({"usage": {"planner": NO_USAGE | {"usd": None}}}, ({"planner": NO_USAGE | {"usd": None}}, [])),
        ({"usage": "x", "warnings": "abc"}, ({}, [])),
        ({"usage": {"planner": {}, 5: NO_USAGE}, "warnings": [5, "b"]}, ({}, ["b"])),
        ({"usage": {"planner": NO_USAGE | {"calls": "many"}}, "warnings": 5}, ({}, [])),
    ],
)
def test_accounts_that_make_no_sense_are_not_kept(result: Any, kept: Any) -> None:
    assert check_usage(result) == kept
