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
from gems.models.chat.schemas import MAX_REQUIREMENTS, RequirementReply
from gems.nodes.decomposer import (
    await_requirements,
    clean_requirements,
    complete_requirements,
    decompose,
    open_questions,
    state_requirements,
    to_question,
)
from tests.support.scripted_models import Desk, requirements


async def listed(state: Any, work: Any) -> Any:
    """The update of the node, and of what waits for it."""
    update = await decompose(state, work)
    assert update == {"requirements": [], "unchecked": [], "listing": True}
    return await await_requirements(state | update, work)


def stated(*given: tuple[str, list[int]]) -> list[RequirementReply]:
    return [RequirementReply(question=question, parents=parents) for question, parents in given]


def test_requirements_get_ids_in_order() -> None:
    kept, left_over = clean_requirements(stated(("Is there a cat?", []), ("Is it red?", [1])))
    assert left_over == []
    assert kept == [
        {"id": "r1", "question": "Is there a cat?", "kind": "other", "parents": []},
        {"id": "r2", "question": "Is it red?", "kind": "other", "parents": ["r1"]},
    ]


def test_duplicates_are_one_and_their_parents_follow() -> None:
    found, _ = clean_requirements(
        stated(("Is there a cat?", []), ("is there  a CAT", []), ("Is it red?", [2]), ("Big?", [1, 2]))
    )
    assert [item["question"] for item in found] == ["Is there a cat?", "Is it red?", "Big?"]
    assert [item["parents"] for item in found] == [[], ["r1"], ["r1"]]


def test_empty_questions_are_left_out_and_positions_stay_right() -> None:
    found, _ = clean_requirements(stated(("  ", []), ("?", []), ("Is there a cat?", []), ("Is it red?", [3])))
    assert [(item["id"], item["parents"]) for item in found] == [("r1", []), ("r2", ["r1"])]


def test_parents_are_earlier_requirements_only() -> None:
    found, _ = clean_requirements(stated(("A?", [1, 2, 0, -1, 99]), ("B?", [1, 1, 2])))
    assert [item["parents"] for item in found] == [[], ["r1"]]


def test_no_more_than_sixty() -> None:
    many = stated(*((f"Is there object {n}?", [n - 1]) for n in range(1, 71)))
    found, left_over = clean_requirements(many)
    assert left_over == [f"Is there object {n}?" for n in range(61, 71)]
    assert [item["id"] for item in found] == [f"r{n}" for n in range(1, MAX_REQUIREMENTS + 1)]
    assert all(int(parent[1:]) < int(item["id"][1:]) for item in found for parent in item["parents"])


async def test_a_parent_beyond_the_limit_is_dropped() -> None:
    questions = [(f"Is there object {n}?", []) for n in range(1, 62)]
    kept, _ = clean_requirements(stated(*questions, ("Is there object 1?", [61])))
    assert kept[0]["parents"] == []


async def test_decomposer_reads_the_users_prompt_and_tells(desk: Desk) -> None:
    state: Any = {"prompt": "a cat", "current_prompt": "an enhanced cat"}
    update = await listed(state, desk.work())
    assert desk.chat.asked[0].tag("user_prompt") == "a cat"
    assert [item["question"] for item in update["requirements"]] == ["Is there a cat?", "Is it red?"]
    assert desk.told("requirements")[0]["requirements"] == update["requirements"]


async def test_a_requirement_that_cannot_be_read_costs_no_other(desk: Desk) -> None:
    desk.chat.script["decompose"] = {
        "requirements": ["Is there a cat?", {"question": None}, {"question": "Is it red?", "parents": [2, 1]}]
    }
    work = desk.work()
    found, _ = await state_requirements("a red cat", work)
    assert [(item["question"], item["parents"]) for item in found] == [("Is there a cat?", []), ("Is it red?", ["r1"])]
    assert work.warnings == []


async def test_nothing_stated_is_asked_again(desk: Desk) -> None:
    desk.chat.script["decompose"] = [{"requirements": []}, requirements("Is there a cat?")]
    work = desk.work()
    found, _ = await state_requirements("a cat", work)
    assert [item["question"] for item in found] == ["Is there a cat?"]
    assert work.warnings == []


@pytest.mark.parametrize(
    ("answers", "questions", "fault"),
    [
        ([{"requirements": []}, {"requirements": []}], 2, "stated none"),
        ([UnreadableReplyError("gibberish")], 1, "gibberish"),
        ([RejectedRequestError("no such thing")] * 2, 2, "no such thing"),
        (["I would rather not."], 1, "no JSON"),
    ],
)
async def test_one_requirement_about_the_whole_prompt_is_the_last_resort(
    desk: Desk, answers: list[Any], questions: int, fault: str
) -> None:
    desk.chat.script["decompose"] = answers
    work = desk.work()
    (only,), _ = await state_requirements("a {cat}", work)
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


async def test_what_is_beyond_the_limit_is_named(desk: Desk) -> None:
    desk.chat.script["decompose"] = requirements(*(f"Is there object {n}?" for n in range(1, 63)))
    work = desk.work()
    update = await listed({"prompt": "many objects"}, work)
    assert update["unchecked"] == ["Is there object 61?", "Is there object 62?"]
    assert len(update["requirements"]) == MAX_REQUIREMENTS
    assert "Is there object 61? Is there object 62?" in work.warnings[0]


async def test_what_the_requirements_leave_out_is_added(desk: Desk) -> None:
    known: Any = [{"id": "r1", "question": "Is there a cat?", "kind": "object", "parents": []}]
    added = [
        {"question": "is there a  cat", "parents": []},
        {"question": "Is there a dog?", "kind": "object", "parents": []},
        {"question": "Is the dog red?", "kind": "attribute", "parents": [3, 1, 9]},
        {"question": "How many dogs are there?"},
    ]
    desk.chat.script["complete"] = {"requirements": added}
    update = await complete_requirements({"prompt": "a cat and a red dog", "requirements": known}, desk.work())
    assert [(item["id"], item["question"], item["parents"]) for item in update["requirements"]] == [
        ("r1", "Is there a cat?", []),
        ("r2", "Is there a dog?", []),
        ("r3", "Is the dog red?", ["r2", "r1"]),
    ]
    assert desk.told("requirements")[0]["requirements"] == update["requirements"]
    assert desk.chat.about("complete")[0].lines("questions") == ["1. Is there a cat?"]


async def test_an_image_is_not_lost_where_completeness_cannot_be_asked(desk: Desk) -> None:
    known: Any = [{"id": "r1", "question": "Is there a cat?", "kind": "object", "parents": []}]
    desk.chat.script["complete"] = UnreachableError("gone")
    work = desk.work()
    assert await complete_requirements({"prompt": "a cat", "requirements": known}, work) == {}
    assert "gone" in work.warnings[0]


async def test_open_questions_are_asked_for_again(desk: Desk) -> None:
    desk.chat.script["decompose"] = [
        requirements("How many cats are there?", "Is it red?"),
        requirements("Are there exactly two cats?", "Is it red?"),
    ]
    found, _ = await state_requirements("two red cats", desk.work())
    assert [item["question"] for item in found] == ["Are there exactly two cats?", "Is it red?"]


@pytest.mark.parametrize(
    ("question", "is_open"),
    [
        ("How many stars are there?", True),
        ("What colour is the cat?", True),
        ("Welche Farbe hat die Katze?", True),
        ("¿Cuántas estrellas hay?", True),
        ("Combien d'étoiles y a-t-il ?", True),
        ("Quantas estrelas há?", True),
        ("Сколько звёзд на картинке?", True),
        ("图中有多少颗星星?", True),
        ("星はいくつありますか?", True),
        ("별이 몇 개 있나요?", True),
        ("Are there exactly three stars?", False),
        ("Does the picture show what the sign says?", False),
        ("Is the cat where the dog was?", False),
        ("Gibt es genau drei Sterne?", False),
        ("¿Hay tres estrellas?", False),
        ("图中有三颗星星吗?", False),
        ("星は三つありますか?", False),
        ("Whatever else there is, is there a cat?", False),
    ],
)
def test_open_questions_in_the_languages_of_prompts(question: str, is_open: bool) -> None:
    asked: Any = [{"id": "r1", "question": question, "kind": "other", "parents": []}]
    assert bool(open_questions(asked)) is is_open


@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        ("Is there a cat?", "Is there a cat?"),
        ("is there a cat", "is there a cat"),
        ("The cat is red.", "Is this true of the image: The cat is red?"),
        ("go", ""),
        ("three", ""),
        ("Gibt es eine Katze", "Gibt es eine Katze"),
        ("图中有一只猫吗", "图中有一只猫吗"),
    ],
)
def test_statements_become_questions(stated: str, asked: str) -> None:
    assert to_question(stated) == asked
