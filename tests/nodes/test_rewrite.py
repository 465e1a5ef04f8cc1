"""A prompt made better, with all that the user asked for still in it."""

from __future__ import annotations

from typing import Any

import pytest

from gems.errors import RejectedRequestError, UnreachableError
from gems.nodes.rewrite import MAX_PROMPT, QUESTIONS_PREFIX, RestoredPrompt, enhance, put_words_first, restore_lost
from gems.types import Requirement
from tests.support.scripted_models import Desk

USER = "a red cat on a mat"
CAT, RED, MAT = "Is there a cat?", "Is it red?", "Is there a mat?"
OWN: list[Requirement] = [
    {"id": f"r{n}", "question": question, "kind": "other", "parents": []}
    for n, question in enumerate((CAT, RED, MAT), 1)
]
ADDED: Requirement = {"id": "r4", "question": "Is it sharp?", "kind": "other", "parents": [], "skill": "x"}
NOTHING: dict[str, Any] = {"lost": [], "prompt": ""}


def lost(*numbers: int, how: str = "dropped", prompt: str = "") -> dict[str, Any]:
    return {"lost": [{"number": number, "how": how} for number in numbers], "prompt": prompt}


async def kept(desk: Desk, answer: Any, prompt: str = "a cat", user: str = USER) -> RestoredPrompt:
    desk.chat.script["keep"] = answer
    return await restore_lost(prompt, user, [*OWN, ADDED], desk.work())


@pytest.mark.parametrize(
    ("answers", "prompt", "restored"),
    [
        ([NOTHING], "a cat", ()),
        ([lost(2, prompt="a red cat"), NOTHING], "a red cat", (RED,)),
        ([lost(2), NOTHING], f"a cat\n{QUESTIONS_PREFIX} {RED}", (RED,)),
        ([lost(2, 3, prompt="a cat"), NOTHING], f"a cat\n{QUESTIONS_PREFIX} {RED} {MAT}", (RED, MAT)),
        ([lost(2, prompt="a red cat"), lost(3)], f"a red cat\n{QUESTIONS_PREFIX} {MAT}", (RED, MAT)),
        ([lost(2, prompt="a red cat"), lost(2, prompt="a third")], f"a red cat\n{QUESTIONS_PREFIX} {RED}", (RED,)),
        ([lost(1, how="contradicted")], USER, (CAT,)),
        ([lost(1, how="contradicted", prompt="a cat again"), NOTHING], "a cat again", (CAT,)),
        ([lost(1, how="contradicted", prompt="a dog"), lost(1, how="contradicted")], USER, (CAT,)),
        ([lost(0, 4, 9, prompt="nonsense")], "a cat", ()),
        ([lost(2, prompt="x" * (MAX_PROMPT + 1))], f"a cat\n{QUESTIONS_PREFIX} {RED}", (RED,)),
    ],
)
async def test_what_was_lost_is_put_back(
    answers: list[Any], prompt: str, restored: tuple[str, ...], desk: Desk
) -> None:
    assert await kept(desk, list(answers)) == RestoredPrompt(prompt, restored)


@pytest.mark.parametrize(
    ("prompt", "drawn"),
    [
        ("a cat", f"{USER}\na cat"),
        (USER, USER),
        ("Outdoors, a red  cat\non a mat, at noon", "Outdoors, a red  cat\non a mat, at noon"),
        ("A red cat on a mat", f"{USER}\nA red cat on a mat"),
        (" ", USER),
        ("x" * MAX_PROMPT, USER),
    ],
)
def test_words_of_the_user_stand_first_unless_they_are_there(prompt: str, drawn: str) -> None:
    assert put_words_first(prompt, USER) == drawn


async def test_the_checker_is_shown_what_the_user_asked_for_only(desk: Desk) -> None:
    await kept(desk, NOTHING, prompt="a dog")
    (asked,) = desk.chat.asked
    assert asked.tag("user_prompt") == USER
    assert asked.tag("new_prompt") == "a dog"
    assert asked.lines("questions") == [f"1. {CAT}", f"2. {RED}", f"3. {MAT}"]


@pytest.mark.parametrize("answer", [RejectedRequestError("no"), "no JSON", {"lost": "?!", "prompt": 5}, {"lost": [{}]}])
async def test_a_checker_that_does_not_answer_usably(answer: Any, desk: Desk) -> None:
    desk.chat.script["keep"] = answer
    work = desk.work()
    found = await restore_lost("a cat", f'{USER} named "TOM"', OWN, work)
    assert found == RestoredPrompt('a cat\nThe picture shows the text "TOM".')
    assert len(work.warnings) == isinstance(answer, RejectedRequestError | str)


async def test_a_model_that_is_gone_ends_the_run(desk: Desk) -> None:
    with pytest.raises(UnreachableError):
        await kept(desk, UnreachableError("gone"))


@pytest.mark.parametrize(
    ("user", "prompt", "gone"),
    [
        ('a sign "OPEN 24/7"', "a sign OPEN 24/7", []),
        ('a sign "OPEN 24/7"', 'a sign "Open 24/7"', ["OPEN 24/7"]),
        ("a sign “Café”", "a sign “Cafe”", ["Café"]),
        ("ein Schild „Zum Löwen“", "ein Schild", ["Zum Löwen"]),
        ("une affiche «Été»", "une affiche", ["Été"]),
        ("招牌「開門」『大吉』", "招牌", ["開門", "大吉"]),
        ("a sign 'Closed' and ‘Don’t’", "a sign", ["Closed", "Don’t"]),  # noqa: RUF001
        ("the cat's mat and the dogs' bowl", "a mat and a bowl", []),
        ('twice "A" and "A", then ""', "nothing", ["A"]),
    ],
)
async def test_quoted_texts_stay_letter_by_letter(user: str, prompt: str, gone: list[str], desk: Desk) -> None:
    found = await kept(desk, NOTHING, prompt, user)
    named = ", ".join(f'"{text}"' for text in gone)
    assert found.prompt == (f"{prompt}\nThe picture shows the text {named}." if gone else prompt)


async def test_nothing_is_asked_where_nothing_can_be_lost(desk: Desk) -> None:
    assert await restore_lost(f" {USER}\n", USER, OWN, desk.work()) == RestoredPrompt(f" {USER}\n")
    assert await restore_lost("a dog", USER, OWN, desk.work(profile="paper")) == RestoredPrompt("a dog")
    assert desk.chat.asked == []


async def test_a_prompt_of_any_length_is_not_taken(desk: Desk) -> None:
    desk.chat.script["enhance"] = {"prompt": "x" * (MAX_PROMPT + 1)}
    work = desk.work()
    assert await enhance("a cat", "Be vivid.", work) == "a cat"
    assert "20,001" in work.warnings[0]
