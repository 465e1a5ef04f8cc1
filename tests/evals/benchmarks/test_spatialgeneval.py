"""SpatialGenEval from its data to its figures."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from gems.errors import DataError, UnreadableReplyError
from gems.evals.benchmarks.spatialgeneval import _parse_letters
from gems.evals.registry import load_task
from tests.support.benchmark_samples import by_name, files_in, frozen, placed, png, prompts_of, scored_all
from tests.support.stub import StubServer

RIGHT = list("BAACBBABBA")


def reply(letters: list[str]) -> str:
    return "\n".join(f"{letter}: because" for letter in letters)


async def test_from_images_to_figures(tmp_path: Path) -> None:
    spatial, prompts = prompts_of(tmp_path, "spatial")
    turns = count()

    def brain(messages):
        """Wrong about the third question every time, and about the first one twice."""
        turn = next(turns)
        letters = [*RIGHT]
        letters[2] = "E"
        if turn in (0, 1):
            letters[0] = "D"
        return reply(letters)

    with StubServer(chat=brain) as stub:
        (score,) = await scored_all(stub, spatial, prompts, {0: png()})
        calls = stub.calls("chat")
    assert len(calls) == 5
    assert {call.body["temperature"] for call in calls} == {1}
    # Three of five are too few for the first question.
    assert score.facts["right"] == [0, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    assert score.value == 0.8
    figures = by_name(spatial.figures(prompts, [score], "en", "eyes-inhouse"))
    assert figures["spatial"].value == pytest.approx(80)
    assert figures["spatial/basic"].value == pytest.approx(50)
    assert figures["spatial/spatial"].value == pytest.approx(87.5)
    assert figures["spatial/Position"].value == 0
    assert figures["spatial"].expected == 1230


async def test_replies_that_cannot_be_read_are_asked_for_again(tmp_path: Path) -> None:
    spatial, prompts = prompts_of(tmp_path, "spatial")
    turns = count()

    def brain(messages):
        return reply(RIGHT) if next(turns) % 2 else "A: and that is all"

    with StubServer(chat=brain) as stub:
        (score,) = await scored_all(stub, spatial, prompts, {0: png()})
        assert 5 < len(stub.calls("chat")) <= 25
    assert score.value == 1


async def test_after_25_tries_it_is_unscored(tmp_path: Path) -> None:
    spatial, prompts = prompts_of(tmp_path, "spatial")
    with StubServer(chat=lambda messages: "1. B\n2. A") as stub:
        (score,) = await scored_all(stub, spatial, prompts, {0: png()})
        assert len(stub.calls("chat")) == 25
    assert score.value is None
    assert "0 of 25 replies" in score.explanation
    assert spatial.figures(prompts, [score], "en", "x")[0].value is None


async def test_export_has_exactly_the_images(tmp_path: Path) -> None:
    spatial, prompts = prompts_of(tmp_path / "data", "spatial")
    export = await spatial.export(frozen(prompts, 1), tmp_path / "out")
    assert files_in(tmp_path / "out") == ["images/000001.png", "prompts.jsonl"]
    (line,) = (tmp_path / "out" / "prompts.jsonl").read_text().splitlines()
    assert json.loads(line) == prompts[0].facts
    assert [command.split()[0] for command in export.commands] == ["rm", "python", "python"]
    # A missing image takes its line along, or all pairs behind it would be shifted.
    gone = await spatial.export(frozen(prompts, 1, missing=[prompts[0].key(0)]), tmp_path / "none")
    assert files_in(tmp_path / "none") == ["prompts.jsonl"]
    assert (tmp_path / "none" / "prompts.jsonl").read_text() == ""
    assert gone.missing == [prompts[0].key(0)]


def test_official_results(tmp_path: Path) -> None:
    spatial, prompts = prompts_of(tmp_path, "spatial")
    row = {"id": "000001", "true-or-false": [True] * 4 + [False] * 6}
    file = tmp_path / "result.jsonl"
    file.write_text(json.dumps(row) + "\n")
    figures = by_name(spatial.read_official(file, prompts, "en"))
    assert (figures["spatial"].value, figures["spatial/basic"].value) == (40, 100)
    file.write_text((json.dumps(row) + "\n") * 2)
    with pytest.raises(DataError, match="in line 1 and line 2"):
        spatial.read_official(file, prompts, "en")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record | {"answers": ["B"] * 9}, "line 1: answers"),
        (lambda record: record | {"answers": ["F"] * 10}, r"line 1: answers\.0"),
        (lambda record: record | {"id": "1"}, "line 1: id"),
    ],
)
def test_damaged_data(tmp_path: Path, change, message: str) -> None:
    path = placed(tmp_path, "spatial") / "eval" / "SpatialGenEval_T2I_Prompts.jsonl"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=message):
        load_task("spatial").prompts(tmp_path, "en")


@pytest.mark.parametrize("line", ["A or B: both", "A/B", "(A) or (C)", "A, B: both", "A-C", "A and E", "F: no", "-"])
def test_several_letters_are_no_answer(line: str) -> None:
    with pytest.raises(UnreadableReplyError, match="does not contain 10 answers"):
        _parse_letters("\n".join([line, *reply(RIGHT).splitlines()[1:]]))


@pytest.mark.parametrize(
    "line", ["A: a lamp", "**A**: because", "(A) because", "A. A lamp stands there", "A - because"]
)
def test_one_letter_in_any_dress(line: str) -> None:
    assert _parse_letters("\n".join([line, *reply(RIGHT).splitlines()[1:]]))[0] == "A"
