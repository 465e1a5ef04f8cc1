"""LongText-Bench from its data to its figures, in both languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gems.errors import DataError
from gems.evals.registry import load_task
from tests.support.benchmark_samples import by_name, files_in, frozen, placed, png, prompts_of, scored_all
from tests.support.stub import StubServer


async def test_english(tmp_path: Path) -> None:
    longtext, prompts = prompts_of(tmp_path, "longtext")
    with StubServer(chat=lambda messages: "Harbour Trail, 3 km!\nMind the the tide") as stub:
        scores = await scored_all(stub, longtext, prompts, {0: png(), 1: png("blue")})
    # HARBOUR TRAIL 3 KM Mind the incoming tide: all but incoming; one "the" too many is read.
    assert [score.value for score in scores] == [7 / 8, 7 / 8]
    assert scores[0].facts == {"matched": 7, "wanted": 8, "found": 8}
    figures = by_name(longtext.figures(prompts, scores, "en", "eyes-inhouse"))
    assert figures["longtext"].value == 7 / 8
    assert figures["longtext/precision"].value == 14 / 16
    assert (figures["longtext"].scored, figures["longtext"].expected) == (2, 640)
    assert figures["longtext/sign"].expected == 80


async def test_chinese(tmp_path: Path) -> None:
    longtext, prompts = prompts_of(tmp_path, "longtext", "zh")
    assert prompts[0].key(0).language == "zh"
    with StubServer(chat=lambda messages: "港口 三公里") as stub:
        scores = await scored_all(stub, longtext, prompts, {0: png()})
    # Five of the eleven characters 港口步道三公里注意涨潮.
    assert scores[0].value == pytest.approx(5 / 11)
    assert longtext.figures(prompts, scores, "en", "x")[0].value is None
    assert longtext.figures(prompts, scores, "zh", "x")[0].value == pytest.approx(5 / 11)


async def test_no_text_is_a_zero_and_no_answer_is_none(tmp_path: Path) -> None:
    longtext, prompts = prompts_of(tmp_path, "longtext")
    with StubServer(chat=lambda messages: "No text recognized.") as stub:
        (score,) = await scored_all(stub, longtext, prompts, {0: png()})
    assert score.value == 0
    with StubServer(chat=lambda messages: "  ") as stub:
        (score,) = await scored_all(stub, longtext, prompts, {0: png()})
    assert score.value is None


async def test_export(tmp_path: Path) -> None:
    longtext, english = prompts_of(tmp_path / "data", "longtext")
    chinese = longtext.prompts(tmp_path / "data", "zh")
    gone = english[0].key(1)
    export = await longtext.export(frozen([*english, *chinese], 4, missing=[gone]), tmp_path / "out")
    # Samples are numbered from 1, and the id before the underscore is an integer.
    assert files_in(tmp_path / "out") == [
        *(f"en/0000_{number}.png" for number in (1, 3, 4)),
        *(f"zh/0000_{number}.png" for number in (1, 2, 3, 4)),
    ]
    assert (export.missing, export.expected) == ([gone], 1280)
    assert "summary_scores.py results_en/results.jsonl --mode en" in export.commands[2]
    assert "--mode zh" in export.commands[5]


def test_official_results(tmp_path: Path) -> None:
    longtext, prompts = prompts_of(tmp_path, "longtext")
    rows = [
        {"image": f"x/0000_{n}.png", "match_word_count": found, "gt_word_count": 8} for n, found in ((1, 8), (2, 2))
    ]
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (figure,) = longtext.read_official(file, prompts, "en")
    assert (figure.value, figure.scored, figure.judge) == (10 / 16, 2, "official")
    file.write_text(json.dumps(rows[0] | {"match_word_count": 9}))
    with pytest.raises(DataError, match="more words match"):
        longtext.read_official(file, prompts, "en")


def test_damaged_data(tmp_path: Path) -> None:
    path = placed(tmp_path, "longtext") / "textbench" / "text_prompts.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match="duplicate id 0 in line 1 and line 2"):
        load_task("longtext").prompts(tmp_path, "en")
    path.unlink()
    with pytest.raises(DataError, match=r"text_prompts\.jsonl is missing"):
        load_task("longtext").prompts(tmp_path, "en")
    assert len(load_task("longtext").prompts(tmp_path, "zh")) == 1
