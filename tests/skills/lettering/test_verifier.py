"""Text that was read compared with text that is wanted, and requirements answered by it."""

from __future__ import annotations

import pytest
from PIL import Image

from gems.models.images import encode_png
from gems.skills.authoring import Verifier, VerifierRequest
from gems.skills.lettering import Comparison, RapidReader, TextLine, TextVerifier, compare, told
from gems.types import Requirement, RequirementKind
from tests.skills.lettering.conftest import Draw

PAPER = encode_png(Image.new("RGB", (100, 200)))


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


async def answered(verifier: Verifier, *questions: str, prompt: str = "", png: bytes = PAPER) -> list[tuple[str, str]]:
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
    (answer,) = await answered(TextVerifier(Recited("LOVE")), 'Are the words "LOVE" and "PEACE" both present?')
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


async def test_texts_that_only_requirements_quote_are_compared_together() -> None:
    prompt = "a sign for open daily and a sign for open late"
    questions = ['Is the text "Open Daily" there?', 'Is the text "Open Late" there?']
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
    questions = ['Is the text "GRAND OPENING" there?', 'Is the text "Fresh Bread" there?', 'Is "GO" written there?']
    png = draw(["GRAND OPENNING", "Fresh Bread"])
    answers = await answered(TextVerifier(reader), *questions, png=png)
    assert [answer for answer, _ in answers] == ["no", "yes", "no"]


def one(wanted: str, *lines: str) -> Comparison:
    return compare([wanted], lines)[0]


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ("GO", ["go"]),
        ("GRAND OPENING", ["GRAND", "OPENING"]),
        ("Grand\nOpening", ["GRAND OPENING!"]),
        ("GRAND OPENING", ["Grand", "50% off", "Opening"]),
        ("HELLO WORLD", ["HELLOWORLD"]),
        ("HELLO WORLD", ["HEL LO", "WORLD"]),
        ("well-known", ["well known"]),
        ("Don’t stop", ["Don't stop."]),
        ("ROOM 101", ["R00M 1O1"]),
        ("ＡＢＣ", ["ABC"]),
        ("新年快乐", ["新年", "快乐"]),
        ("本地烘焙，始于1998", ["本地烘焙", "始于1998"]),
        ("新年 GOOD LUCK", ["新年GOOD LUCK"]),
        ("?", ["?"]),
    ],
)
def test_what_a_reader_cannot_tell_is_no_fault(wanted: str, lines: list[str]) -> None:
    found = one(wanted, *lines)
    assert (found.is_met, found.distance, found.recall) == (True, 0, 1)
    assert (found.missing, found.wrong, found.doubled) == ((), (), ())


def test_a_wrong_word_is_named_with_what_it_should_be() -> None:
    found = one("GRAND OPENING", "GRAND OPENNING")
    assert found.wrong == (("OPENING", "OPENNING"),)
    assert (found.missing, found.recall, found.is_met) == ((), 0.5, False)
    assert found.distance == pytest.approx(1 / 13)
    assert told(found) == ('wanted "GRAND OPENING"; read "GRAND OPENNING"; wrong: "OPENNING" for "OPENING"')


def test_swapped_letters_are_wrong() -> None:
    assert one("STORE", "STROE").wrong == (("STORE", "STROE"),)


def test_a_missing_word_is_named() -> None:
    found = one("Fresh Bread Daily", "Fresh Daily")
    assert (found.missing, found.found, found.recall) == (("Bread",), "Fresh Daily", pytest.approx(2 / 3))
    assert 'missing: "Bread"' in told(found)


def test_a_text_that_is_not_there() -> None:
    found = one("GO", "SOMETHING ELSE")
    assert (found.found, found.distance, found.recall, found.missing) == ("", 1.0, 0.0, ("GO",))
    assert told(found) == 'wanted "GO"; nothing like it was read'


@pytest.mark.parametrize(
    ("wanted", "lines", "doubled"),
    [
        ("GO", ["GO", "GO"], ("GO",)),
        ("GO", ["GOGO"], ("GO",)),
        ("GRAND OPENING", ["GRAND GRAND OPENING"], ("GRAND",)),
        ("GRAND OPENING", ["GRAND OPENING", "opening"], ("opening",)),
        ("GRAND OPENING", ["GRAND OPENING", "GRAND", "OPENING"], ("GRAND OPENING",)),
        ("新年快乐", ["新年快乐", "新年快乐"], ("新年快乐",)),
        ("新年快乐", ["新新年快乐"], ("新",)),
    ],
)
def test_repetitions_are_faults(wanted: str, lines: list[str], doubled: tuple[str, ...]) -> None:
    found = one(wanted, *lines)
    assert (found.doubled, found.is_met) == (doubled, False)
    assert f'doubled: "{doubled[0]}"' in told(found)


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ("GO", ["GO", "Tickets", "and more"]),
        ("THE BEST COFFEE", ["THE BEST COFFEE", "since the year of the dragon"]),
        ("A", ["A", "such a day"]),
        ("新年快乐", ["新年快乐", "新品上市"]),
    ],
)
def test_other_words_cost_nothing(wanted: str, lines: list[str]) -> None:
    assert one(wanted, *lines).is_met


def test_words_within_a_line_of_the_text_are_a_fault() -> None:
    found = one("HAPPY BIRTHDAY", "HAPPY NEW BIRTHDAY")
    assert (found.found, found.recall, found.is_met) == ("HAPPY NEW BIRTHDAY", 1, False)
    assert told(found).endswith("words in another order, or others between them")


def test_words_in_another_order_are_there_but_not_right() -> None:
    found = one("OPEN DAILY", "DAILY OPEN")
    assert (found.recall, found.missing, found.is_met) == (1, (), False)


@pytest.mark.parametrize(
    ("lines", "wrong", "missing"),
    [(["新年快东"], (("乐", "东"),), ()), (["薪年快乐"], (("新", "薪"),), ()), (["新快乐"], (), ("年",))],
)
def test_chinese_goes_by_characters(
    lines: list[str], wrong: tuple[tuple[str, str], ...], missing: tuple[str, ...]
) -> None:
    found = one("新年快乐", *lines)
    assert (found.wrong, found.missing, found.recall) == (wrong, missing, 0.75)


@pytest.mark.parametrize(("wanted", "read"), [("Café", "Cafe"), ("10:30", "1030"), ("3.50", "350")])
def test_accents_and_points_in_numbers_count(wanted: str, read: str) -> None:
    assert not one(wanted, read).is_met


def test_what_is_read_once_serves_one_text() -> None:
    short, long = compare(["OPEN", "OPEN LATE"], ["OPEN LATE"])
    assert (short.is_met, long.is_met) == (False, True)
    short, long = compare(["OPEN", "OPEN LATE"], ["OPEN LATE", "Open"])
    assert (short.is_met, short.doubled, long.is_met, long.doubled) == (True, (), True, ())


def test_an_exact_text_goes_before_one_that_only_looks_like_it() -> None:
    stop, shop = compare(["STOP", "SHOP"], ["SHOP"])
    assert (stop.found, shop.is_met) == ("", True)


def test_two_columns_are_told_apart() -> None:
    left, right = compare(["Fresh Bread", "Cold Milk"], ["Fresh", "Cold", "Bread", "Milk"])
    assert left.is_met
    assert right.is_met


def test_nothing_wanted_and_nothing_read() -> None:
    assert compare([], ["GO"]) == []
    assert one("GO").missing == ("GO",)


@pytest.mark.parametrize("read", ["", "word " * 300, "wrod " * 200])
def test_what_is_told_fits_one_line(read: str) -> None:
    line = told(one("word\n" * 200, read))
    assert len(line) <= 300
    assert "\n" not in line


@pytest.mark.parametrize(
    ("lines", "box"),
    [
        (("GRAND", "OPENNING"), [0, 150, 900, 250]),
        (("GRAND OPENING", "TODAY", "TODAY"), [0, 150, 900, 400]),
        (("sale", "GRAND OPENING"), [0, 150, 900, 250]),
        (("sale",), []),
        ((), []),
    ],
)
async def test_a_no_has_the_place_of_the_wrong_words(lines: tuple[str, ...], box: list[int]) -> None:
    asked = [requirement('Does the image show the text "GRAND OPENING TODAY"?', number=1)]
    if "OPENNING" in lines:
        asked = [requirement('Does the image show the text "GRAND OPENING"?', number=1)]
    request = VerifierRequest(image=PAPER, user_prompt="", requirements=asked)
    answer = (await TextVerifier(Recited(*lines)).verify(request))["r1"]
    assert (answer.answer, answer.instrument, list(answer.box)) == ("no", "ocr", box)
