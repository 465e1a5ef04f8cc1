"""Wanted against read."""

from __future__ import annotations

import pytest

from gems.skills.lettering import Comparison, compare, told


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
    [
        (["新年快东"], (("乐", "东"),), ()),
        (["薪年快乐"], (("新", "薪"),), ()),
        (["新快乐"], (), ("年",)),
    ],
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
