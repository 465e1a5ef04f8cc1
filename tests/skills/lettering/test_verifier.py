"""Requirements about text, answered by reading."""

from __future__ import annotations

import pytest

from gems.skills.authoring import Verifier, VerifierRequest
from gems.skills.lettering import RapidReader, TextLine, TextVerifier
from gems.types import Requirement, RequirementKind
from tests.skills.lettering.conftest import Draw


class Recited:
    """A reader that knows what it will read, and counts how often it is asked."""

    def __init__(self, *lines: str, confidence: float = 0.99) -> None:
        self.asked = 0
        self._lines = [
            TextLine(text=text, confidence=confidence, left=0, top=30 * n, right=90, bottom=30 * n + 20)
            for n, text in enumerate(lines)
        ]

    async def read(self, png: bytes) -> list[TextLine]:
        self.asked += 1
        return self._lines


def requirement(question: str, kind: RequirementKind = "text", number: int = 1) -> Requirement:
    return {"id": f"r{number}", "question": question, "kind": kind, "parents": []}


async def answered(
    verifier: Verifier, *questions: str, prompt: str = "", png: bytes = b""
) -> list[tuple[str, str]]:
    asked = [requirement(question, number=n) for n, question in enumerate(questions)]
    found = await verifier.verify(VerifierRequest(image=png, user_prompt=prompt, requirements=asked))
    return [(answer.answer, answer.evidence) for answer in found.values()]


@pytest.mark.parametrize(
    "question",
    [
        'Does the picture show the text "GO"?',
        "Does the image show the text “GO”?",
        "Is the word OPEN written on the sign?",
        'Does the sign read "Open Late"?',
        'Does the text "GRAND OPENING" appear exactly once?',
        'Is the text "RED DOOR" spelled correctly?',
        'Is the text "DON\'T PANIC" shown without spelling mistakes?',
        'Are the words "LOVE" and "PEACE" both present?',
        "Does the sign say Open Late?",
        "画面上是否写着“新年快乐”？",
    ],
)
def test_questions_about_what_is_written_are_taken(question: str) -> None:
    assert TextVerifier(Recited()).takes(requirement(question))


@pytest.mark.parametrize(
    "question",
    [
        'Is the text "GO" red?',
        'Is the text "GO" in a serif font?',
        'Is the word "GO" above the circle?',
        'Are the letters of "OPEN" large?',
        'Does the upper board read "HARBOUR TRAIL"?',
        'Does the white banner read "SALE"?',
        "Is there any text on the sign?",
        "Is the sign free of other text?",
        'Is the word "SALE" absent from the poster?',
        'Is the word "GO" written three times?',
        "“新年快乐”是红色的吗？",
    ],
)
def test_questions_about_its_look_or_absence_are_not(question: str) -> None:
    assert not TextVerifier(Recited()).takes(requirement(question))


def test_the_kind_decides_unless_writing_is_asked_for() -> None:
    verifier = TextVerifier(Recited())
    assert not verifier.takes(requirement('Is there a dog like "Rex"?', "object"))
    assert not verifier.takes(requirement('Does the sign say "GO"?', "relation"))
    assert verifier.takes(requirement('Is there a sign that says "GO"?', "object"))


async def test_right_text_is_a_yes_with_what_was_read() -> None:
    (answer,) = await answered(TextVerifier(Recited("Grand Opening")), 'Is the text "GRAND OPENING" there?')
    assert answer == ("yes", 'wanted "GRAND OPENING"; read "Grand Opening"')


async def test_wrong_text_is_a_no_that_says_what_is_wrong() -> None:
    (answer,) = await answered(TextVerifier(Recited("GRAND OPENNING")), 'Is the text "GRAND OPENING" there?')
    assert answer[0] == "no"
    assert answer[1].endswith('wrong: "OPENNING" for "OPENING"')


async def test_texts_without_marks_are_asked_for_too() -> None:
    (answer,) = await answered(TextVerifier(Recited("OPEN LATE")), "Does the sign say Open Late?")
    assert answer == ("yes", 'wanted "Open Late"; read "OPEN LATE"')


async def test_all_texts_of_a_question_must_be_there() -> None:
    (answer,) = await answered(
        TextVerifier(Recited("LOVE")), 'Are the words "LOVE" and "PEACE" both present?'
    )
    assert answer == ("no", 'wanted "PEACE"; nothing like it was read')


async def test_a_text_that_is_there_twice_is_a_no() -> None:
    (answer,) = await answered(TextVerifier(Recited("GO", "GO")), 'Does the text "GO" appear exactly once?')
    assert answer == ("no", 'wanted "GO"; read "GO"; doubled: "GO"')


async def test_a_difference_that_was_read_without_confidence_is_left_to_the_judge() -> None:
    (answer,) = await answered(TextVerifier(Recited("STORL", confidence=0.6)), 'Is "STORE" written there?')
    assert answer[0] == "unknown"


async def test_words_that_two_texts_share_are_no_repetition() -> None:
    prompt = 'a sign "OPEN DAILY" and a sign "OPEN LATE"'
    questions = ['Is the text "OPEN DAILY" there?', 'Is the text "OPEN LATE" there?']
    answers = await answered(TextVerifier(Recited("OPEN DAILY", "OPEN LATE")), *questions, prompt=prompt)
    assert [answer for answer, _ in answers] == ["yes", "yes"]


async def test_a_part_of_a_text_can_be_asked_for() -> None:
    verifier = TextVerifier(Recited("GRAND OPENING"))
    (answer,) = await answered(verifier, 'Is the word "GRAND" there?', prompt='the text "GRAND OPENING"')
    assert answer[0] == "yes"


async def test_the_picture_is_read_once_and_only_for_what_is_taken() -> None:
    reader = Recited("GO")
    assert await answered(TextVerifier(reader), 'Is the text "GO" red?') == []
    assert reader.asked == 0
    found = await answered(
        TextVerifier(reader), 'Is the text "GO" there?', 'Is the text "GO" red?', 'Is the text "NO" there?'
    )
    assert [answer for answer, _ in found] == ["yes", "no"]
    assert reader.asked == 1


async def test_pictures_are_really_read(reader: RapidReader, draw: Draw) -> None:
    questions = [
        'Is the text "GRAND OPENING" there?',
        'Is the text "Fresh Bread" there?',
        'Is "GO" written there?',
    ]
    png = draw(["GRAND OPENNING", "Fresh Bread"])
    answers = await answered(TextVerifier(reader), *questions, png=png)
    assert [answer for answer, _ in answers] == ["no", "yes", "no"]
