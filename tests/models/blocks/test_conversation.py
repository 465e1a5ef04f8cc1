"""Follow-ups in the built-in world."""

from __future__ import annotations

import pytest

from gems.models.blocks.conversation import read_follow_up, revise_prompt
from gems.models.blocks.prompt_spec import parse_prompt

FIRST = "Person: three red circles above a blue square\nProgram (picture 1):\n"
SECOND = f"{FIRST}Person: make the square striped\nProgram (picture 2):\n"


def read(talk: str, message: str) -> tuple[str, int]:
    reply = read_follow_up(f"{talk}Person: {message}", message)
    return reply.kind, reply.picture


@pytest.mark.parametrize("message", ["a yellow star", "two green stars and a moon", 'a sign that says "GO"'])
def test_a_request_of_its_own(message: str) -> None:
    assert read(SECOND, message) == ("new", 0)


@pytest.mark.parametrize(
    ("message", "picture"),
    [
        ("now make it green", 2),
        ("make the circles green", 2),
        ("remove the square", 2),
        ("please add a yellow star", 2),
        ("Can you turn them all purple?", 2),
        ("the first one, but blue", 1),
        ("change the background of picture 1 to pink", 1),
    ],
)
def test_a_change(message: str, picture: int) -> None:
    assert read(SECOND, message) == ("change", picture)


@pytest.mark.parametrize("message", ["again", "again, without the square", "try once more", "another one"])
def test_again(message: str) -> None:
    assert read(SECOND, message) == ("again", 2)


def test_there_is_nothing_to_follow_up_on() -> None:
    assert read("", "make the circles green") == ("new", 0)


def test_what_it_is_is_named_for_the_editor() -> None:
    assert read_follow_up(f"{FIRST}Person: x", "now make it green").instruction == "make the circles green"
    assert read_follow_up(f"{FIRST}Person: x", "make the square green").instruction == "make the square green"


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (
            "make the circles green",
            "three green circles and a blue square. the green circles are above the blue square",
        ),
        ("again, without the square", "three red circles"),
        ("add a yellow star", "three red circles above a blue square, a yellow star"),
        ("make the background pink", "three red circles above a blue square, a pink background"),
        ("again", "three red circles above a blue square"),
    ],
)
def test_the_whole_prompt(instruction: str, expected: str) -> None:
    revised, wanted = (
        parse_prompt(revise_prompt("three red circles above a blue square", instruction)),
        parse_prompt(expected),
    )
    assert [(g.noun, g.count, g.attributes) for g in revised.groups] == [
        (g.noun, g.count, g.attributes) for g in wanted.groups
    ]
    assert (revised.relations, revised.background) == (wanted.relations, wanted.background)
    assert revised.unknown == ()


def test_a_request_that_was_not_drawn_counts() -> None:
    reply = read_follow_up("Person: a red circle\nProgram:\nPerson: make it green", "make it green")
    assert (reply.kind, reply.prompt) == ("change", "a green circle")
