"""The user's prompt as requirements."""

from __future__ import annotations

from typing import Any

import pytest

from gems.errors import (
    AuthenticationError,
    ModelUnavailableError,
    RejectedRequestError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.models.schemas import RequirementReply
from gems.nodes.decomposer import MAX_REQUIREMENTS, clean_requirements, decompose, state_requirements
from tests.support.scripted_models import Desk, requirements


def stated(*given: tuple[str, list[int]]) -> list[RequirementReply]:
    return [RequirementReply(question=question, parents=parents) for question, parents in given]


def test_requirements_get_ids_in_order() -> None:
    assert clean_requirements(stated(("Is there a cat?", []), ("Is it red?", [1]))) == [
        {"id": "r1", "question": "Is there a cat?", "kind": "other", "parents": []},
        {"id": "r2", "question": "Is it red?", "kind": "other", "parents": ["r1"]},
    ]


def test_duplicates_are_one_and_their_parents_follow() -> None:
    found = clean_requirements(
        stated(("Is there a cat?", []), ("is there  a CAT", []), ("Is it red?", [2]), ("Big?", [1, 2]))
    )
    assert [item["question"] for item in found] == ["Is there a cat?", "Is it red?", "Big?"]
    assert [item["parents"] for item in found] == [[], ["r1"], ["r1"]]


def test_empty_questions_are_left_out_and_positions_stay_right() -> None:
    found = clean_requirements(stated(("  ", []), ("?", []), ("Is there a cat?", []), ("Is it red?", [3])))
    assert [(item["id"], item["parents"]) for item in found] == [("r1", []), ("r2", ["r1"])]


def test_parents_are_earlier_requirements_only() -> None:
    found = clean_requirements(stated(("A?", [1, 2, 0, -1, 99]), ("B?", [1, 1, 2])))
    assert [item["parents"] for item in found] == [[], ["r1"]]


def test_no_more_than_twenty() -> None:
    many = stated(*((f"Is there object {n}?", [n - 1]) for n in range(1, 31)))
    found = clean_requirements(many)
    assert [item["id"] for item in found] == [f"r{n}" for n in range(1, MAX_REQUIREMENTS + 1)]
    assert all(int(parent[1:]) < int(item["id"][1:]) for item in found for parent in item["parents"])


async def test_a_parent_beyond_the_limit_is_dropped() -> None:
    questions = [(f"Is there object {n}?", []) for n in range(1, 22)]
    assert clean_requirements(stated(*questions, ("Is there object 1?", [21])))[0]["parents"] == []


async def test_decomposer_reads_the_users_prompt_and_tells(desk: Desk) -> None:
    state: Any = {"prompt": "a cat", "current_prompt": "an enhanced cat"}
    update = await decompose(state, desk.work())
    assert desk.chat.asked[0].tag("user_prompt") == "a cat"
    assert [item["question"] for item in update["requirements"]] == ["Is there a cat?", "Is it red?"]
    assert desk.told("requirements")[0]["requirements"] == update["requirements"]


async def test_a_requirement_that_cannot_be_read_costs_no_other(desk: Desk) -> None:
    desk.chat.script["decompose"] = {
        "requirements": ["Is there a cat?", {"question": None}, {"question": "Is it red?", "parents": [2, 1]}]
    }
    work = desk.work()
    found = await state_requirements("a red cat", work)
    assert [(item["question"], item["parents"]) for item in found] == [("Is there a cat?", []), ("Is it red?", ["r1"])]
    assert work.warnings == []


async def test_nothing_stated_is_asked_again(desk: Desk) -> None:
    desk.chat.script["decompose"] = [{"requirements": []}, requirements("Is there a cat?")]
    work = desk.work()
    assert [item["question"] for item in await state_requirements("a cat", work)] == ["Is there a cat?"]
    assert work.warnings == []


@pytest.mark.parametrize(
    ("answers", "questions", "fault"),
    [
        ([{"requirements": []}, {"requirements": []}], 2, "stated none"),
        ([UnreadableReplyError("gibberish")], 1, "gibberish"),
        ([RejectedRequestError("no such thing")], 1, "no such thing"),
        (["I would rather not."], 1, "no JSON"),
    ],
)
async def test_one_requirement_about_the_whole_prompt_is_the_last_resort(
    desk: Desk, answers: list[Any], questions: int, fault: str
) -> None:
    desk.chat.script["decompose"] = answers
    work = desk.work()
    (only,) = await state_requirements("a {cat}", work)
    assert only == {"id": "r1", "question": "Does this image show: a {cat}?", "kind": "other", "parents": []}
    assert len(desk.chat.asked) == questions
    assert fault in work.warnings[0]
    assert [event["message"] for event in desk.told("warning")] == work.warnings


@pytest.mark.parametrize(
    "error", [UnreachableError("gone"), AuthenticationError("wrong key"), ModelUnavailableError("no such model")]
)
async def test_what_makes_every_further_call_useless_ends_the_run(desk: Desk, error: Exception) -> None:
    desk.chat.script["decompose"] = error
    with pytest.raises(type(error)):
        await state_requirements("a cat", desk.work())
