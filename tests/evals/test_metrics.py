"""Formulas against values that were computed by hand; the arithmetic stands beside them."""

from __future__ import annotations

import math

import pytest

from gems.evals.benchmarks import artimuse, crea, dpg, geneval2, longtext, oneig, spatialgeneval, wise
from gems.evals.metrics import (
    TextMatch,
    arithmetic_mean,
    cascade_failures,
    fail_children,
    match_units,
    mean,
    normalize_text,
    number_spellings,
    precision,
    recall,
    spellings,
    token_probability,
)


def test_spellings() -> None:
    assert spellings("Yes") == {"yes", "Yes", " yes", " Yes"}
    assert number_spellings("four") == {"four", "Four", " four", " Four", "4", " 4"}
    assert number_spellings("many") == spellings("many")


def test_probability_of_an_answer() -> None:
    tokens = {"Yes": 0.5, " yes": 0.25, "YES": 0.1, "No": 0.15}
    assert token_probability(tokens, spellings("yes")) == 0.75
    # Two tokenizers' ways to write the blank before a word.
    assert token_probability({"\u0120Yes": 0.25, "\u2581yes": 0.5}, spellings("yes")) == 0.75
    assert token_probability({}, spellings("yes")) == 0
    assert token_probability({"yes": 0.9, "Yes": 0.2}, spellings("yes")) == 1
    assert arithmetic_mean([True, True, True, False, False]) == 0.6
    assert [arithmetic_mean([True]), arithmetic_mean([False])] == [1, 0]
    with pytest.raises(ValueError, match="no answers"):
        arithmetic_mean([])


def test_soft_tifa() -> None:
    answers = [0.5, 1.0, 0.25]
    assert arithmetic_mean(answers) == pytest.approx(1.75 / 3)
    # The cube root of 1/8.
    assert geneval2.geometric_mean(answers) == pytest.approx(0.5)
    assert geneval2.geometric_mean([1.0, 0.0, 1.0]) == 0
    assert geneval2.soft_tifa_score([0.5, 0.0, 1.0]) == 50
    assert geneval2.soft_tifa_score([]) is None
    for formula in (arithmetic_mean, geneval2.geometric_mean):
        with pytest.raises(ValueError, match="no answers"):
            formula([])


def test_soft_tifa_analysis() -> None:
    answers = [[0.5, 0.5], [1.0, 0.0, 0.25]]
    skills = [["count", "object"], ["count", "object", "count"]]
    # count: (0.5 + 1 + 0.25) / 3; object: (0.5 + 0) / 2.
    found = geneval2.mean_by_skill(answers, skills)
    assert found == {"count": pytest.approx(100 * 1.75 / 3), "object": pytest.approx(25)}
    # Of three atoms: (0.5 + 0) / 2, since a zero makes the second prompt's mean 0.
    assert geneval2.mean_by_atomicity([*answers, [1.0]], [3, 3, 10]) == {3: pytest.approx(25), 10: pytest.approx(100)}


PARENTS = {1: [0], 2: [1], 3: [2], 4: [0]}


def test_failed_parents() -> None:
    answers = {1: 0.0, 2: 1.0, 3: 1.0, 4: 1.0}
    # DPG: 1 fails, so 2 does, so 3 does. OneIG: 2 was a yes by itself, so 3 stays.
    assert cascade_failures(answers, PARENTS) == {1: 0, 2: 0, 3: 0, 4: 1}
    assert fail_children(answers, PARENTS) == {1: 0, 2: 0, 3: 1, 4: 1}
    assert dpg.tile_score(answers, PARENTS) == 0.25
    assert oneig.alignment_score(answers, PARENTS) == 0.5


def test_cascades_follow_the_order_of_the_file() -> None:
    # 1 depends on 2, which comes later and is still a yes when 1 is looked at.
    assert cascade_failures({1: 1.0, 2: 1.0, 3: 0.0}, {1: [2], 2: [3], 3: [0]}) == {1: 1, 2: 0, 3: 0}


def test_dpg_with_the_quirk_of_the_reader() -> None:
    answers = {1: 1.0, 2: 1.0, 3: 0.0}
    # Another question depends on the dropped one: the script fails there.
    assert dpg.official_tile_score(answers, {1: [0], 2: [1], 3: [0]}, dropped=1) is None
    # None does: the rest counts, (1 + 0) / 2 instead of 2 / 3.
    free = {1: [0], 2: [0], 3: [0]}
    assert dpg.official_tile_score(answers, free, dropped=1) == 0.5
    assert dpg.official_tile_score(answers, free, dropped=None) == pytest.approx(2 / 3)
    assert dpg.official_tile_score({1: 1.0}, {1: [0]}, dropped=1) is None


def test_dpg_means() -> None:
    # ((1 + 0.5) / 2 + 0) / 2
    assert dpg.dpg_score([[1.0, 0.5], [0.0]]) == 37.5
    assert dpg.dpg_score([]) is None
    answers = [{1: 1.0, 2: 0.0}, {1: 1.0}]
    tuples = [{1: "entity - whole (cup)", 2: "attribute - color (cup, red)"}, {1: "entity - part (lid)"}]
    assert dpg.mean_by_category(answers, tuples) == {"entity": 100, "attribute": 0}


def test_texts() -> None:
    assert normalize_text("Café, 3 km!\n  (été)") == "Café 3 km été"
    # "a" twice of three, "b" once, "c" never.
    assert match_units("aab", "aaabc") == TextMatch(3, 5, 3)
    both = [TextMatch(3, 5, 3), TextMatch(0, 5, 2)]
    assert recall(both) == 0.3
    assert precision(both) == 0.6
    assert recall([]) is None
    assert precision([TextMatch(0, 5, 0)]) is None


def test_longtext() -> None:
    assert longtext.compare_words("harbour TRAIL 3 km the", ["HARBOUR TRAIL, 3 KM", "the the"], "en") == TextMatch(
        5, 6, 5
    )
    # Blanks and marks go; 港口 of 港口步道.
    assert longtext.compare_words("港 口 ?", ["港口", "步道"], "zh") == TextMatch(2, 4, 2)


def test_oneig_text() -> None:
    exact = oneig.compare_text("OPEN", "OPEN")
    wrong = oneig.compare_text("Open late", "OPEN UNTIL")
    assert (exact.edits, exact.match) == (0, TextMatch(1, 1, 1))
    # Case matters: pen 3, then UNTIL against late: 5.
    assert (wrong.edits, wrong.match) == (8, TextMatch(0, 2, 2))
    # ED 4, CR 1/2, WAC 1/3: 1 - 4 * 1/2 * 2/3 / 100.
    assert oneig.text_score([exact, wrong], "en") == pytest.approx(1 - 4 * 0.5 * (2 / 3) / 100)
    assert oneig.text_score([exact, wrong], "zh") == pytest.approx(1 - 4 * 0.5 * (2 / 3) / 50)
    assert oneig.text_score([], "en") is None
    # No more than M edits count.
    assert oneig.text_score([oneig.compare_text("x" * 300, "abc")], "en") == 0


def test_oneig_text_in_chinese_counts_characters() -> None:
    found = oneig.compare_text("港 口 三", "['港口', '步道']")
    assert found.match == TextMatch(2, 4, 3)
    # 三 becomes 步, and 道 is added.
    assert found.edits == 2


def test_oneig_overall() -> None:
    five = dict(zip(oneig.DIMENSIONS, (0.8, 0.6, 0.3, 0.4, 0.2), strict=True))
    assert oneig.oneig_score(five) == pytest.approx(2.3 / 5)
    assert oneig.oneig_score(dict.fromkeys(oneig.DIMENSIONS[1:], 1.0)) is None


def test_wiscore() -> None:
    # (0.7 * 2 + 0.2 * 1 + 0.1 * 0) / 2
    assert wise.wiscore(2, 1, 0) == pytest.approx(0.8)
    assert wise.wiscore(2, 2, 2) == pytest.approx(1)
    ids = (1, 400, 401, 567, 568, 700, 701, 800, 801, 900, 901, 1000)
    named = [wise.get_field(number) for number in ids]
    assert named == [name for name in wise.FIELDS for _ in range(2)]
    for number in (0, 1001):
        with pytest.raises(ValueError, match="No prompt"):
            wise.get_field(number)


def test_wise_overall() -> None:
    fields = {"culture": 1.0, "time": 0.5, "space": 0.0, "biology": 1.0, "physics": 0.0, "chemistry": 0.5}
    # .4 + .167 / 2 + .1 + .05
    assert wise.wise_score(fields) == pytest.approx(0.6335)
    # The weights are those of the fields among all prompts.
    sizes = {name: len(ids) / 1000 for name, ids in wise.FIELDS.items()}
    assert wise.wise_score(dict.fromkeys(sizes, 1.0)) == pytest.approx(sum(sizes.values()))
    assert wise.wise_score({"culture": 1.0}) is None


def test_spatial_votes() -> None:
    replies = [list("AB"), list("AB"), list("AC"), list("AC"), list("BB")]
    # A has four of five, B three.
    assert spatialgeneval.vote(replies, ["A", "B"]) == [True, False]
    assert spatialgeneval.vote(replies, ["B", "B"], least=3) == [False, True]
    types = spatialgeneval.accuracy_by_type([[True, True, False], [True, False, False]])
    assert types == [1, 0.5, 0]
    assert (mean(types), spatialgeneval.basic_accuracy(types), spatialgeneval.spatial_accuracy(types)) == (0.5, 0.75, 0)
    assert mean(spatialgeneval.accuracy_by_type([])) is None


def test_crea_sum() -> None:
    images = [[1, 2, 3, 4, 5, 1], [3, 2, 3, 2, 5, 2]]
    found = crea.criterion_means(images)
    assert list(found.values()) == [2, 2, 3, 3, 5, 1.5]
    assert crea.crea_score(found) == 16.5
    assert crea.crea_score(crea.criterion_means([])) is None
    with pytest.raises(ValueError, match="zip"):
        crea.criterion_means([[1, 2, 3]])


def test_artimuse_mean_of_three() -> None:
    # (50 + 70 + (8 * 60 + 40) / 8) / 3
    replies = [[50.0] * 8, [70.0] * 8, [60.0] * 7 + [100.0]]
    assert artimuse.artimuse_score(replies) == pytest.approx((50 + 70 + 65) / 3)
    with pytest.raises(ValueError, match="3 replies"):
        artimuse.artimuse_score(replies[:2])
    assert not math.isnan(artimuse.artimuse_score(replies))
