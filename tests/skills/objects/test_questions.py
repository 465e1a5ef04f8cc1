"""Which questions boxes can answer."""

import time

import pytest

from gems.skills.objects import Counted, Placed, Related, find_phrases, parse_question
from gems.skills.objects.questions import ObjectQuestion
from gems.types import Requirement, RequirementKind


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is there a dog?", Counted("dog", 1)),
        ("Is there an orange  tabby cat in the image?", Counted("orange tabby cat", 1)),
        ("Are there apples?", Counted("apple", 1)),
        ("Are there any buses?", Counted("bus", 1)),
        ("Are there exactly three red apples?", Counted("red apple", 3, 3)),
        ("Are there THREE cherries?", Counted("cherry", 3, 3)),
        ("Is there exactly one glass in this picture?", Counted("glass", 1, 1)),
        ("Is there only one witch?", Counted("witch", 1, 1)),
        ("Is there a single tree?", Counted("tree", 1, 1)),
        ("Are there at least two boxes visible?", Counted("box", 2)),
        ("Are there 12 birds in total?", Counted("bird", 12, 12)),
        ("Does the image show a small brown dog?", Counted("small brown dog", 1)),
        ("Does the picture contain exactly four people?", Counted("person", 4, 4)),
        ("Are exactly two wooden chairs shown?", Counted("wooden chair", 2, 2)),
        ("Is the image free of dogs?", Counted("dog", 0, 0)),
        ("Are there no cars?", Counted("car", 0, 0)),
        ("Is the cat to the left of the dog?", Related("cat", "left of", "dog")),
        ("Is a cat on the right side of the dog in the image?", Related("cat", "right of", "dog")),
        ("Is the red circle left of the blue square?", Related("red circle", "left of", "blue square")),
        ("Are all red circles above the square?", Related("red circle", "above", "square", every=True)),
        ("Is the vase positioned below the lamp?", Related("vase", "below", "lamp")),
        ("Is the lamp in the upper left corner of the image?", Placed("lamp", "left", "top")),
        ("Is the moon at the top right?", Placed("moon", "right", "top")),
        ("Is the cup on the right side of the picture?", Placed("cup", "right")),
        ("Is the cup on the left-hand side?", Placed("cup", "left")),
        ("Is the boat placed at the bottom?", Placed("boat", "", "bottom")),
        ("Is the boat in the center of the image?", Placed("boat", "centre", "middle")),
    ],
)
def test_what_boxes_can_answer(question: str, expected: ObjectQuestion) -> None:
    assert parse_question(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "",
        "a dog",
        "Is the cat black?",
        "Are there three apples on the table?",
        "Is there a dog chasing a ball?",
        "Is there a man with a hat?",
        "Is there a cup of tea?",
        "How many cats are there?",
        "Are there three or more cats?",
        "Are there more than three cats?",
        "Are there exactly two cats and one dog?",
        "Are there exactly no cats?",
        "Is there a red circle? And a dog?",
        "Is the background blue?",
        "Is there a sign?",
        "Is there any text in the image?",
        "Is the book in the centre of the table?",
        "Is the cat on the table?",
        "Is the cat under the table?",
        "Is the cat left of the cat?",
        "Is the cat behind the dog?",
        "Is there a painting above the sofa?",
        "画面上有三只猫吗？",
        "Is there a " + "very " * 50 + "old dog?",
    ],
)
def test_what_is_the_judges(question: str) -> None:
    assert parse_question(question) is None


def test_long_questions_take_no_time() -> None:
    started = time.monotonic()
    for text in ("is the " + "a " * 5_000 + "?", "are there " + "exactly " * 3_000 + "?", "is there a " + "x" * 20_000):
        assert parse_question(text) is None
    assert time.monotonic() - started < 2


def item(name: str, question: str, kind: RequirementKind = "object", *parents: str) -> Requirement:
    return {"id": name, "question": question, "kind": kind, "parents": list(parents)}


def test_phrases_are_the_questions_own_or_its_parents() -> None:
    listed = [
        item("r1", "Are there exactly two cats?", "count"),
        item("r2", "Are the cats black?", "attribute", "r1"),
        item("r3", "Is it cosy?", "style"),
        item("r4", "Is the cat left of the dog?", "relation", "r1"),
        item("r5", "Is it a rainy day?", "other", "r9", "r3"),
    ]
    assert [find_phrases(each, listed) for each in listed] == [("cat",), ("cat",), (), ("cat", "dog"), ()]
