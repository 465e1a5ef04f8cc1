"""Which texts a prompt wants written."""

from __future__ import annotations

import pytest

from gems.skills.lettering import wanted_texts
from gems.skills.lettering.wanted_text import texts_asked

QUOTED = [
    ('three red circles and the word "GO"', ["GO"]),
    ("a sign “Grand Opening”, one „Guten Tag“ and one «Bonjour»", ["Grand Opening", "Guten Tag", "Bonjour"]),
    ("a poster 'Don't Stop' next to the dogs' house, and it doesn't matter", ["Don't Stop"]),
    ("a poster ‘Don’t Stop’ by the dogs’ house", ["Don’t Stop"]),
    ("a shop 'The Dogs' Home' in the rain", ["The Dogs' Home"]),
    ("posters 'BUS' and 'TRAM'", ["BUS", "TRAM"]),
    ("a label with `v2.0` on it", ["v2.0"]),
    ("「新年快乐」的横幅，旁边是『平安』", ["新年快乐", "平安"]),
    ("封面上写着《红楼梦》的书", ["红楼梦"]),
    ('写着"开业大吉"的招牌', ["开业大吉"]),
    ('a poster "LINE ONE\n  LINE TWO"', ["LINE ONE\nLINE TWO"]),
    ('a 24" monitor that shows "HELLO"', ["HELLO"]),
    ('a sign that says "OPEN," and a door', ["OPEN"]),
    ('"GO" on the left and "go" on the right', ["GO"]),
    ("a mug, its inscription “the “best” dad”", ["the “best"]),
    ('a button with "?"', ["?"]),
    ('the word "LOVE" and the word HOPE', ["LOVE", "HOPE"]),
    ('a sign that clearly reads, in bold letters, "FRESH BREWS"', ["FRESH BREWS"]),
    ('a café called "Luna"', ["Luna"]),
    ('a dog called "Rex" with the name "Rex" on its collar', ["Rex"]),
    ('a sign with no text other than "GO"', ["GO"]),
    ('a shirt with \\"HELLO\\" on it', ["HELLO"]),
]
CAPITALS = [
    ("the word GO", ["GO"]),
    ("the words HAPPY BIRTHDAY on a cake", ["HAPPY BIRTHDAY"]),
    ("a door reading EXIT", ["EXIT"]),
    ("with the text HELLO WORLD", ["HELLO WORLD"]),
    ("the letters ABC floating in space", ["ABC"]),
    ("a neon sign OPEN 24/7 above a bar", ["OPEN 24/7"]),
    ("the word STOP on 3 boards", ["STOP"]),
    ("an arrow marked EXIT", ["EXIT"]),
    ("墙上印着“平安”字样", ["平安"]),
]
ASKED = [
    ("Does the sign say Open Late?", ["Open Late"]),
    ("Is the word OPEN written on the sign?", ["OPEN"]),
    ("Is the caption “we are home” shown?", ["we are home"]),
    ("横幅上是否写着“欢迎光临”？", ["欢迎光临"]),
    ("Does the sign say Please wash your hands?", []),
    ("Does the shop sign read Bed and Breakfast?", []),
    ("Is the text below the logo red?", []),
]
NONE = [
    "",
    "a red cat",
    "a man reading a book",
    "a woman reading Harry Potter",
    "reading glasses on a table",
    "a couple reading the newspaper at breakfast",
    "a girl saying goodbye to her mother",
    "a letter from her mother",
    "a word cloud about dogs",
    "a man in a shirt that says nothing",
    "a poster about the year 2050",
    "a sign that says Open Late in red",
    "写有停车场的牌子",
    "the title is red",
    "a message in a bottle",
    "a name tag on his shirt",
    "a logo for a coffee shop",
    "a labelled diagram of a cell",
    "a well marked path through the forest",
    "an old book with letters on the cover",
    "the words are in red",
    "text below the logo in red",
    "an elegant title page with no text",
    "a text message on a phone",
    "the number of people is three",
    "a photo titled at an angle",
    "The Eiffel Tower painted on a plate",
    "a street scene in New York City at night",
    "the dogs' tails and the cats' ears, '90s music and rock 'n' roll",
    "a cat named Tom and a dog named Rex",
    'a dog called "Rex"',
    '"cyberpunk" style city',
    'a landscape inspired by "Dune"',
    'a poster without the word "SALE"',
    "a poster without the word SALE",
    'a monitor of 24" and a desk of 60"',
    "一个人在看《红楼梦》",
    "一只红色的猫",
    "男孩写着作业",
]


@pytest.mark.parametrize(("prompt", "texts"), QUOTED)
def test_quoted_texts_are_found(prompt: str, texts: list[str]) -> None:
    assert wanted_texts(prompt) == texts


@pytest.mark.parametrize(("prompt", "texts"), CAPITALS)
def test_capitals_without_marks_are_found(prompt: str, texts: list[str]) -> None:
    assert wanted_texts(prompt) == texts


@pytest.mark.parametrize(("question", "texts"), ASKED)
def test_questions_name_whole_texts(question: str, texts: list[str]) -> None:
    assert texts_asked(question) == texts


@pytest.mark.parametrize("prompt", NONE)
def test_prompts_without_text_have_none(prompt: str) -> None:
    assert wanted_texts(prompt) == []


def test_order_is_that_of_the_prompt() -> None:
    prompt = 'the word ONE, then "TWO", then the word THREE'
    assert wanted_texts(prompt) == ["ONE", "TWO", "THREE"]


def test_a_long_text_is_one_text() -> None:
    line = "Bread is baked here every morning, and nobody leaves hungry. " * 8
    assert wanted_texts(f'a menu that reads "{line.strip()}"') == [line.strip()]
