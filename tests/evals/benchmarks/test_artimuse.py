"""ArtiMuse from its data to its figures."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from gems.errors import DataError
from gems.evals.registry import load_task
from tests.support.benchmark_samples import DATA, files_in, frozen, placed, png, prompts_of, scored_all
from tests.support.stub import StubServer


async def test_from_images_to_figures(tmp_path: Path) -> None:
    artimuse, prompts = prompts_of(tmp_path, "artimuse")
    assert prompts[0].text == "Aesthetic Drawing: a photo of a kite"
    turns = count()
    with StubServer(chat=lambda messages: json.dumps([20 + 10 * next(turns)] * 8)) as stub:
        (score,) = await scored_all(stub, artimuse, prompts, {0: png()})
        assert len(stub.calls("chat")) == 3
    # (20 + 30 + 40) / 3
    assert score.value == pytest.approx(30)
    (figure,) = artimuse.figures(prompts, [score], "en", "eyes-inhouse")
    assert (figure.value, figure.scored, figure.expected) == (pytest.approx(30), 1, 553)


async def test_nonsense_is_unscored(tmp_path: Path) -> None:
    artimuse, prompts = prompts_of(tmp_path, "artimuse")
    with StubServer(chat=lambda messages: "[101, 1, 1, 1, 1, 1, 1, 1]") as stub:
        (score,) = await scored_all(stub, artimuse, prompts, {0: png()})
        assert len(stub.calls("chat")) == 9
    assert score.value is None


async def test_export(tmp_path: Path) -> None:
    artimuse, prompts = prompts_of(tmp_path / "data", "artimuse")
    # Wherever it was named from: the commands are for another folder.
    export = await artimuse.export(frozen(prompts, 1), Path("out"))
    assert files_in(tmp_path / "out") == ["00000.png"]
    assert f"--input_dir {tmp_path / 'out'}" in export.commands[0]


def test_official_scores(tmp_path: Path) -> None:
    artimuse, prompts = prompts_of(tmp_path, "artimuse")
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"0.png": 50.0, "1.png": 60.0, "2.png": None, "average_score_all": 55.0}))
    (figure,) = artimuse.read_official(file, prompts, "en")
    assert (figure.value, figure.scored) == (55, 2)
    file.write_text(json.dumps({"0.png": 500.0, "average_score_all": 500.0}))
    with pytest.raises(DataError, match=r"not in \[0, 100\]"):
        artimuse.read_official(file, prompts, "en")
    file.write_text(json.dumps({"0.png": 50.0}))
    with pytest.raises(DataError, match="no average_score_all"):
        artimuse.read_official(file, prompts, "en")


def test_the_file_of_geneval_is_another_one(tmp_path: Path) -> None:
    path = placed(tmp_path, "artimuse") / "eval" / "ArtiMuse" / "evaluation_metadata.jsonl"
    path.write_text((DATA / "geneval" / "invented.jsonl").read_text())
    with pytest.raises(DataError, match="line 1: the prompt does not start with 'Aesthetic Drawing: '"):
        load_task("artimuse").prompts(tmp_path, "en")
