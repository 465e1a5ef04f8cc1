"""CREA from its data to its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gems.errors import DataError
from gems.evals.registry import load_task
from tests.support.benchmark_samples import by_name, files_in, frozen, placed, png, prompts_of, said, scored_all
from tests.support.stub import StubServer


async def test_from_images_to_figures(tmp_path: Path) -> None:
    crea, prompts = prompts_of(tmp_path, "crea")

    def brain(messages):
        assert "Target prompt: a creative lantern" in said(messages)
        return "It is [a] lantern.\n```json\n[1, 2, 3, 4, 5, 2]\n```"

    with StubServer(chat=brain) as stub:
        scores = await scored_all(stub, crea, prompts, {0: png(), 1: png("blue")})
    assert [score.value for score in scores] == [17, 17]
    figures = by_name(crea.figures(prompts, scores, "en", "eyes-inhouse"))
    assert figures["crea"].value == 17
    assert (figures["crea"].scored, figures["crea"].expected) == (2, 300)
    assert figures["crea/unexpected"].value == 5


@pytest.mark.parametrize("reply", ["[1, 2, 3]", "[1, 2, 3, 4, 5, 6]", "[1, 2, 3, 4, 5, true]", "twelve", "[" * 999])
async def test_nonsense_is_unscored(tmp_path: Path, reply: str) -> None:
    crea, prompts = prompts_of(tmp_path, "crea")
    with StubServer(chat=lambda messages: reply) as stub:
        (score,) = await scored_all(stub, crea, prompts, {0: png()})
    assert score.value is None
    assert crea.figures(prompts, [score], "en", "x")[0].value is None


def test_the_prompts_are_built_in(tmp_path: Path) -> None:
    prompts = load_task("crea").prompts(tmp_path / "nowhere", "en")
    assert len(prompts) == 12
    assert prompts[0].text == "a creative couch"
    assert prompts[-1].id == "umbrella"


async def test_export(tmp_path: Path) -> None:
    crea, prompts = prompts_of(tmp_path / "data", "crea")
    gone = prompts[0].key(7)
    export = await crea.export(frozen(prompts, 25, missing=[gone]), tmp_path / "out")
    mapping = json.loads((tmp_path / "out" / "image_paths.json").read_text())
    assert list(mapping) == ["a creative lantern"]
    assert len(mapping["a creative lantern"]) == 24
    names = [name for name in files_in(tmp_path / "out") if name.endswith(".png")]
    assert sorted(mapping["a creative lantern"]) == [str(tmp_path / "out" / name) for name in names]
    assert (export.missing, export.expected) == ([gone], 300)


def test_official_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crea, prompts = prompts_of(tmp_path, "crea")
    rows = [{"prompt": "p", "image_path": str(n), "scores": [n] * 6} for n in (1, 3, 7)]
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(rows))
    figures = by_name(crea.read_official(file, prompts, "en"))
    # 7 is no rating; 6 * (1 + 3) / 2
    assert (figures["crea"].value, figures["crea"].scored) == (12, 2)
    assert "1 of 3 images are unscored, since a score is not in [1, 5]: 7" in caplog.text
    file.write_text(json.dumps([{"scores": [1]}]))
    with pytest.raises(DataError, match=r"0\.image_path"):
        crea.read_official(file, prompts, "en")


def test_damaged_data(tmp_path: Path) -> None:
    path = placed(tmp_path, "crea") / "eval" / "CREA" / "data.jsonl"
    path.write_text('{"prompt": "a boring lantern"}\n')
    with pytest.raises(DataError, match="line 1: prompt"):
        load_task("crea").prompts(tmp_path, "en")
    path.write_text('{"prompt": "a creative lantern"}\n' * 2)
    with pytest.raises(DataError, match="in line 1 and line 2"):
        load_task("crea").prompts(tmp_path, "en")
