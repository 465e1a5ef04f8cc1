"""DPG-Bench from its data to its figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gems.errors import DataError, RequestError
from gems.evals.registry import load_task
from tests.support.benchmark_samples import by_name, files_in, frozen, placed, png, prompts_of, said, scored_all
from tests.support.stub import StubServer


def brain(messages):
    """There are two lemons left of something, and no teapot, which is blue all the same."""
    return "no" if "Is there a teapot" in said(messages) else "Yes."


def test_prompts(tmp_path: Path) -> None:
    _, (prompt,) = prompts_of(tmp_path, "dpg")
    assert (prompt.id, prompt.text[:21]) == ("invented_teapot", "A chipped blue teapot")
    assert prompt.facts["parents"] == {1: [0], 2: [1], 3: [0], 4: [3], 5: [1, 3]}
    # The official reader passes over the table's first row.
    assert prompt.facts["dropped"] == 1


async def test_from_images_to_figures(tmp_path: Path) -> None:
    dpg, prompts = prompts_of(tmp_path, "dpg")
    with StubServer(chat=brain) as stub:
        scores = await scored_all(stub, dpg, prompts, {0: png(), 1: png("blue")})
    # 1 is a no, so 2 and 5 count as noes: two of five are left.
    assert [score.value for score in scores] == [0.4, 0.4]
    assert scores[0].facts["answers"] == [0, 1, 1, 1, 1]
    figures = by_name(dpg.figures(prompts, scores, "en", "eyes-inhouse"))
    assert figures["dpg"].value == pytest.approx(40)
    assert (figures["dpg"].scored, figures["dpg"].expected) == (2, 4260)
    # Question 2 depends on the dropped one, so the official script leaves the only prompt out.
    assert figures["dpg/official_quirks"].value is None
    # Raw answers: entity 0 and 1, attribute 1.
    assert figures["dpg/entity"].value == 50
    assert figures["dpg/attribute"].value == 100
    assert figures["dpg/global"].value is None


async def test_nonsense_is_unscored(tmp_path: Path) -> None:
    dpg, prompts = prompts_of(tmp_path, "dpg")
    with StubServer(chat=lambda messages: "Perhaps?") as stub:
        scores = await scored_all(stub, dpg, prompts, {0: png()})
    assert scores[0].value is None
    assert by_name(dpg.figures(prompts, scores, "en", "x"))["dpg"].value is None


async def test_export_is_one_picture_of_four_tiles(tmp_path: Path) -> None:
    dpg, prompts = prompts_of(tmp_path / "data", "dpg")
    export = await dpg.export(frozen(prompts, 4), tmp_path / "out")
    assert files_in(tmp_path / "out") == ["images/invented_teapot.png"]
    with Image.open(tmp_path / "out" / "images" / "invented_teapot.png") as sheet:
        assert sheet.size == (32, 32)
        corners = [sheet.getpixel(at) for at in ((0, 0), (31, 0), (0, 31), (31, 31))]
    assert corners == [(sample * 40 + 10, 20, 30) for sample in range(4)]
    assert "--resolution 16 --pic-num 4" in export.commands[0]
    # The result must not lie among the images.
    assert f"--res-path {tmp_path / 'out' / 'results.txt'}" in export.commands[0]


async def test_a_missing_tile_leaves_the_picture_out(tmp_path: Path) -> None:
    dpg, prompts = prompts_of(tmp_path / "data", "dpg")
    export = await dpg.export(frozen(prompts, 4, missing=[prompts[0].key(2)]), tmp_path / "out")
    assert files_in(tmp_path / "out") == []
    assert export.missing == [prompts[0].key(2)]


async def test_tiles_of_several_sizes(tmp_path: Path) -> None:
    dpg, prompts = prompts_of(tmp_path / "data", "dpg")
    odd = frozen(prompts, 4, paint=lambda key: png(side=16 + key.sample))
    with pytest.raises(RequestError, match="squares of one size"):
        await dpg.export(odd, tmp_path / "out")


def test_official_results(tmp_path: Path) -> None:
    dpg, prompts = prompts_of(tmp_path, "dpg")
    file = tmp_path / "results.txt"
    text = (
        "/x/a b/invented_teapot.png, 0.4, 0.6, 1.0, 0.0, 0.5\n"
        "Model: images\nL1 category scores:\n\tentity: 75.0\n\tattribute: 50.5\n"
        "L2 category scores:\n\tentity - whole: 75.0\nImage path: /x\nSave results to: /x/results.txt\n"
        "DPG-Bench score: 50.0\n"
    )
    file.write_text(text)
    figures = by_name(dpg.read_official(file, prompts, "en"))
    assert (figures["dpg"].value, figures["dpg"].scored) == (50, 4)
    assert figures["dpg/attribute"].value == 50.5
    assert set(figures) == {"dpg", "dpg/entity", "dpg/attribute"}
    file.write_text(text.replace("DPG-Bench score", "Score"))
    with pytest.raises(DataError, match="not a result of"):
        dpg.read_official(file, prompts, "en")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(",teapot,2,1,", ",teapot,2,x,"), "line 3: dependency 'x'"),
        (lambda text: text.replace(",teapot,2,1,", ",teapot,1,0,"), "in line 2 and line 3"),
        (lambda text: text.replace("invented_teapot", "other"), "no questions for invented_teapot"),
        (lambda text: text.replace("dependency,", "parents,", 1), "lacks the column dependency"),
        (lambda text: text[: text.rindex("relation")], "line 6"),
        (lambda text: text.replace(",teapot,3,0,", ",teapot,three,0,"), "line 4: proposition_id"),
    ],
)
def test_damaged_data(tmp_path: Path, change, message: str) -> None:
    path = placed(tmp_path, "dpg") / "dpg_bench" / "dpg_bench.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        load_task("dpg").prompts(tmp_path, "en")


def test_empty_prompt(tmp_path: Path) -> None:
    path = placed(tmp_path, "dpg") / "dpg_bench" / "prompts" / "invented_teapot.txt"
    path.write_text(" \n")
    with pytest.raises(DataError, match=r"invented_teapot\.txt is empty"):
        load_task("dpg").prompts(tmp_path, "en")
