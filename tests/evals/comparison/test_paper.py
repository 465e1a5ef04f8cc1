"""The paper's numbers, averages and settings, and its tables with one's own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gems.errors import OptionError
from gems.evals.comparison.entries import read_folder
from gems.evals.comparison.paper import (
    ABLATION,
    COLUMN_TITLES,
    DOWNSTREAM,
    MAINSTREAM,
    PAPER_METHODS,
    PAPER_ROWS,
    PaperRow,
    downstream_average,
    mainstream_average,
    paper_tables,
)
from gems.evals.comparison.table import Table
from gems.evals.generator_profiles import PROFILES, generator_profile
from gems.models.generators.diffusers.presets import find_recipe
from tests.support.output_folders import INHOUSE, figure, folder_of

Z = "diffusers:z-image-turbo"


async def official(place: Path, benchmark: str, value: float, **more: Any) -> str:
    """A folder with one figure."""
    made = {name: more.pop(name) for name in ("judge", "scored") if name in more}
    return await with_figures(place, benchmark, {"en": value}, made, **more)


async def with_figures(
    place: Path, benchmark: str, values: Mapping[str, float], made: Mapping[str, Any], **more: Any
) -> str:
    whole = {"judge": "official", "scored": 800, "expected": 800, "benchmark": benchmark, "name": benchmark}
    figures = [figure(value, language=language, **(whole | made)) for language, value in values.items()]
    settings = {"task": benchmark, "generator": Z, "languages": tuple(values)} | more
    return await folder_of(place, {}, figures=figures, **settings)


async def tables(*urls: str) -> list[Table]:
    return paper_tables([await read_folder(url) for url in urls])


def row(found: Table, method: str, model: str = "Z-Image-Turbo") -> dict[str, list[str]]:
    """A row's cells by column; `ours` stands behind each of the paper's."""
    (cells,) = [each for each in found.rows if each[0] == model and each[1].startswith(method)]
    pairs = zip(found.columns[2::2], zip(cells[2::2], cells[3::2], strict=True), strict=True)
    return {name: list(pair) for name, pair in pairs}


async def test_without_folders_it_is_the_papers_alone() -> None:
    first, second, ablation = await tables()
    assert [len(table.rows) for table in (first, second, ablation)] == [len(PAPER_ROWS), len(PAPER_ROWS), 4]
    gems = row(first, "GEMS")
    assert gems["GenEval2"] == ["63.50", ""]
    assert gems["average"] == ["74.51", ""]
    assert row(second, "GEMS", "Qwen-Image-2512")["CREA"] == ["24.01", ""]
    assert all(cell == "" for table in (first, second) for each in table.rows for cell in each[3::2])


async def test_official_numbers_stand_beside_the_papers(tmp_path: Path) -> None:
    first, _, ablation = await tables(
        await official(tmp_path / "a", "geneval2", 61.25, harness="paper", chat="openai:x"),
        await official(tmp_path / "b", "geneval2", 30.5, harness="single", scored=40),
        await official(tmp_path / "c", "geneval", 0.85, harness="balanced", chat="openai:x"),
    )
    assert row(first, "GEMS / paper")["GenEval2"] == ["63.50", "61.25"]
    assert row(first, "original / single")["GenEval2"] == ["31.00", "30.50*"]
    assert row(first, "balanced")["GenEval"] == ["", "0.850"]
    assert "partial" in first.notes[0]
    assert [cells[2] for cells in ablation.rows] == ["30.50*", "", "", "61.25"]


async def test_averages_need_every_benchmark(tmp_path: Path) -> None:
    theirs: dict[str, dict[str, float]] = {}
    for column in (*MAINSTREAM, *DOWNSTREAM):
        benchmark, language = column.split("/")
        theirs.setdefault(benchmark, {})[language] = PAPER_ROWS[6].values[column]
    urls = [await with_figures(tmp_path / name, name, values, {}, harness="paper") for name, values in theirs.items()]
    first, second, _ = await tables(*urls)
    assert row(first, "GEMS / paper")["average"] == ["74.51", "74.51"]
    assert row(second, "GEMS / paper")["average"] == ["72.44", "72.44"]
    fewer, *_ = await tables(*urls[1:])
    assert row(fewer, "GEMS / paper")["average"] == ["74.51", ""]


async def test_in_house_numbers_stand_apart_and_name_their_judge(tmp_path: Path) -> None:
    first, second, _, inhouse = await tables(
        await official(tmp_path / "a", "geneval", 0.61, harness="paper", judge=INHOUSE, chat="openai:eyes")
    )
    assert all(cell == "" for table in (first, second) for each in table.rows for cell in each[3::2])
    assert inhouse.title == f"Table 1: mainstream, in house by {INHOUSE}"
    (cells,) = inhouse.rows
    assert cells[:2] == ["Z-Image-Turbo", "paper"]
    assert cells[2:4] == ["0.610", ""]
    assert "also the loop's own judge in paper" in inhouse.notes[0]
    assert "Not comparable with the paper's numbers" in inhouse.notes[0]


async def test_other_generators_have_rows_of_their_own(tmp_path: Path) -> None:
    first, *_ = await tables(
        await official(tmp_path / "a", "wise", 0.7, harness="paper", generator="openai:gpt-image-1")
    )
    assert row(first, "paper", "openai:gpt-image-1")["WISE"] == ["", "0.700"]


async def test_the_built_in_benchmark_is_not_in_the_paper(tmp_path: Path) -> None:
    first, second, _ = await tables(await folder_of(tmp_path / "a", {"0": 1.0}, figures=[figure(100.0)]))
    assert len(first.rows) == len(second.rows) == len(PAPER_ROWS)


def test_methods_are_those_of_the_paper() -> None:
    assert set(PAPER_METHODS.values()) <= {row.method for row in PAPER_ROWS}


@pytest.mark.parametrize("row", PAPER_ROWS, ids=lambda row: f"{row.model} {row.method}")
def test_the_averages_come_out_of_the_rows(row: PaperRow) -> None:
    assert mainstream_average(row.values) == pytest.approx(row.mainstream, abs=0.0051)
    assert downstream_average(row.values) == pytest.approx(row.downstream, abs=0.0051)


def test_averages_by_hand() -> None:
    # (77 + 31 + 85.08 + 51.35 + 57) / 5 and (92.2 + 58.7 + 39.4667 + 43.27) / 4
    first = PAPER_ROWS[0].values
    assert mainstream_average(first) == pytest.approx(60.286)
    assert downstream_average(first) == pytest.approx(58.409, abs=0.001)


def test_no_average_without_all() -> None:
    assert mainstream_average(dict.fromkeys(MAINSTREAM[1:], 1.0)) is None
    assert downstream_average(dict.fromkeys(DOWNSTREAM[1:], 1.0)) is None


def test_rows_are_whole() -> None:
    assert len(PAPER_ROWS) == 14
    assert set(COLUMN_TITLES) == {*MAINSTREAM, *DOWNSTREAM}
    assert all(set(row.values) == set(COLUMN_TITLES) for row in PAPER_ROWS)
    best = [row.values["geneval2/en"] for row in PAPER_ROWS if row.method == "GEMS"]
    assert best == [63.5, 70.4]
    assert ABLATION["loop, memory and skills"] == best[0]


def test_generator_profiles() -> None:
    paper = generator_profile("paper", "diffusers:qwen-image")
    assert paper is not None
    assert (paper.size, paper.steps, paper.guidance, paper.negative_prompt) == ("1328x1328", 50, 4.0, "")
    recommended = generator_profile("recommended", "openai:Qwen/Qwen-Image-2512@http://h/v1")
    assert recommended is not None
    assert (recommended.true_cfg_scale, recommended.negative_prompt) == (4.0, " ")
    turbo = generator_profile("paper", "diffusers:Tongyi-MAI/Z-Image-Turbo")
    assert turbo is not None
    assert (turbo.size, turbo.steps, turbo.guidance) == ("1024x1024", 9, 0.0)
    assert generator_profile("paper", "blocks") is None
    assert generator_profile("paper", "openai:other@http://z-image/v1") is None
    with pytest.raises(OptionError, match="Unknown generator profile: 'best'"):
        generator_profile("best", "blocks")


def test_presets_draw_as_the_profiles_say() -> None:
    pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
    for profiles in PROFILES.values():
        for profile in profiles.values():
            recipe = find_recipe(profile.preset)
            named = "guidance_scale" if profile.true_cfg_scale is None else "true_cfg_scale"
            assert recipe.guidance_argument == named
            assert recipe.heeds_negative(profile.guidance) == bool(profile.negative_prompt)
