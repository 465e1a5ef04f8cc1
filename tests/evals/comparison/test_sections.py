"""Harnesses side by side: numbers by hand, and judges that never mix."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from gems.errors import RequestError, StorageError
from gems.evals.comparison.entries import read_folder
from gems.evals.comparison.export import write_comparison
from gems.evals.comparison.sections import Section, build_sections
from gems.evals.comparison.table import Table
from tests.support.output_folders import INHOUSE, figure, folder_of
from tests.support.report_pages import HOSTILE, Page

FOUR = {"0": 1.0, "1": 0.0, "2": 1.0, "3": 0.0}


async def compared(*urls: str, judge: str | None = None) -> list[Section]:
    return build_sections([await read_folder(url) for url in urls], judge)


def table(section: Section, title: str) -> Table:
    return next(each for each in section.tables if each.title == title)


def column(found: Table, name: str) -> list[str]:
    return [row[found.columns.index(name)] for row in found.rows]


async def pair_of(place: Path, **more: Any) -> tuple[str, str]:
    single = await folder_of(place / "single", FOUR, **more)
    paper = await folder_of(
        place / "paper",
        {"0": 1.0, "1": 1.0, "2": 1.0, "3": 0.0},
        harness="paper",
        chat="openai:loop",
        row_more={"images": 3, "calls": 12, "input_tokens": 1000, "output_tokens": 50, "usd": 0.02},
        **more,
    )
    return single, paper


async def test_quality_cost_and_parts_by_hand(tmp_path: Path) -> None:
    (section,) = await compared(*await pair_of(tmp_path))
    assert (section.benchmark, section.language, section.judge, section.metric) == (
        "blocks-bench",
        "en",
        "truth",
        "met",
    )
    quality = table(section, "Quality")
    assert [cell.split(" (")[0] for cell in column(quality, "met")] == ["50.0 %", "75.0 %"]
    assert column(quality, "samples scored") == ["4 of 200, partial"] * 2
    cost = table(section, "Cost per sample")
    assert column(cost, "images") == ["1.00", "3.00"]
    assert column(cost, "calls") == ["0.00", "12.00"]
    assert column(cost, "tokens in") == ["0.00", "1,000"]
    assert column(cost, "US dollars")[1] == "0.02"
    atoms = table(section, "By atomicity")
    assert column(atoms, "atomicity") == ["3", "10"]
    assert [cell.split(" (")[0] for cell in column(atoms, "paper")] == ["100.0 %", "50.0 %"]
    categories = table(section, "By category")
    assert [cell.split(" (")[0] for cell in column(categories, "single")] == ["100.0 %", "0.0 %"]


async def test_pairs_are_tested_prompt_by_prompt(tmp_path: Path) -> None:
    (section,) = await compared(*await pair_of(tmp_path))
    (pair,) = [each.comparison for each in section.pairs if each.part == "all"]
    assert [(each.first, each.second) for each in section.pairs] == [("paper", "single")] * 5
    assert {each.part: (each.comparison.better, each.comparison.worse) for each in section.pairs} == {
        "all": (1, 0),
        "category/even": (0, 0),
        "category/odd": (1, 0),
        "atomicity/3": (1, 0),
        "atomicity/10": (0, 0),
    }
    assert (pair.better, pair.worse, pair.p, pair.test) == (1, 0, 1.0, "McNemar, exact")
    assert table(section, "Paired comparison by prompt").rows[0][:3] == [
        "paper against single",
        "+25.0 (+0.0 to +75.0)",
        "1 / 0",
    ]


async def test_seeds_make_one_entry(tmp_path: Path) -> None:
    urls = [
        await folder_of(tmp_path / "a", FOUR, seed=1, figures=[figure(50.0)]),
        await folder_of(tmp_path / "b", dict.fromkeys("0123", 1.0), seed=2, figures=[figure(100.0)]),
    ]
    (section,) = await compared(*urls)
    (measured,) = section.measured
    assert measured.values == {"0": 1.0, "1": 0.5, "2": 1.0, "3": 0.5}
    assert measured.quality is not None
    assert measured.quality.value == 0.75
    assert column(table(section, "Quality"), "seeds") == ["1, 2"]
    # The standard deviation of 50 and 100 is 35.4.
    assert column(table(section, "The benchmark's own figures"), "single") == ["75.0 ± 35.4"]


async def test_the_same_folder_twice_is_refused(tmp_path: Path) -> None:
    url, _ = await pair_of(tmp_path)
    with pytest.raises(RequestError, match="have the same harness and seed: single, 1"):
        await compared(url, url)


async def test_nothing_scored_is_refused(tmp_path: Path) -> None:
    url = await folder_of(tmp_path / "a", {})
    with pytest.raises(RequestError, match="Nothing to compare") as error:
        await compared(url)
    assert "gems eval score" in error.value.hint
    scored = await folder_of(tmp_path / "b", FOUR)
    with pytest.raises(RequestError, match="by somebody; there are scores by truth"):
        await compared(scored, judge="somebody")


async def test_judges_and_official_numbers_never_mix(tmp_path: Path) -> None:
    official = figure(88.0, judge="official", scored=200)
    first = await folder_of(tmp_path / "a", FOUR, figures=[official])
    second = await folder_of(tmp_path / "b", FOUR, judge=INHOUSE, harness="paper", chat="openai:loop")
    sections = await compared(first, second)
    assert [section.judge for section in sections] == ["official", INHOUSE, "truth"]
    by_official, by_model, by_truth = sections
    assert [each.quality is None for each in by_official.measured] == [True, True]
    assert column(table(by_official, "The benchmark's own figures"), "single") == ["88.0"]
    assert [each.quality is None for each in by_model.measured] == [True, False]
    assert [each.quality is None for each in by_truth.measured] == [False, True]
    (only,) = await compared(first, second, judge=INHOUSE)
    assert only.judge == INHOUSE


@pytest.mark.parametrize(
    ("chat", "judge", "said"),
    [
        ("openai:eyes", "", "also the loop's own judge in paper"),
        ("openai:loop", "openai:eyes", "also the loop's own judge in paper"),
        ("openai:eyes", "openai:other", "not the loop's own judge in any"),
        ("openai:loop", "", "not the loop's own judge in any"),
    ],
)
async def test_the_table_says_whether_the_loop_was_judged_by_its_own_judge(
    tmp_path: Path, chat: str, judge: str, said: str
) -> None:
    url = await folder_of(
        tmp_path / "a", FOUR, task="geneval", metric="geneval", harness="paper", chat=chat, judge=INHOUSE
    )
    edited = (tmp_path / "a" / "eval.json").read_text().replace('"judge": ""', f'"judge": "{judge}"')
    (tmp_path / "a" / "eval.json").write_text(edited)
    (section,) = await compared(url)
    assert said in section.notes[0]


async def test_truth_and_official_numbers_say_who_made_them(tmp_path: Path) -> None:
    url = await folder_of(tmp_path / "a", FOUR, figures=[figure(88.0, judge="official")])
    official, truth = await compared(url)
    assert official.notes[0] == "Scored by the official scorer."
    assert truth.notes[0] == "Scored by the true scenes, without a judge."


async def test_gaps_are_told_and_not_counted(tmp_path: Path) -> None:
    url = await folder_of(tmp_path / "a", {"0": 1.0, "1": None, "2": 0.0}, images=3)
    other = await folder_of(
        tmp_path / "b", {"0": 1.0}, harness="paper", row_more={"file": "", "sha256": "", "error": "No."}
    )
    (section,) = await compared(url, other)
    assert section.measured[0].quality is not None
    assert section.measured[0].quality.value == 0.5
    assert "single: samples that could not be scored: 1; they are excluded, not counted as 0." in section.notes
    assert "paper: samples without an image: 1; they are excluded, not counted as 0." in section.notes
    assert "The harnesses have different image budgets: 3, 5." in section.notes


async def test_labels_say_what_differs(tmp_path: Path) -> None:
    urls = [
        await folder_of(tmp_path / "a", FOUR, harness="paper", images=5),
        await folder_of(tmp_path / "b", FOUR, harness="paper", images=3),
        await folder_of(tmp_path / "c", FOUR, harness="single"),
    ]
    (section,) = await compared(*urls)
    labels = [each.entry.label for each in section.measured]
    assert labels == ["paper, 5 images", "paper, 3 images", "single"]


async def test_files(tmp_path: Path) -> None:
    hostile = {"0": HOSTILE, "1": "=1+1"}
    single = await folder_of(tmp_path / "single", FOUR, prompts=hostile)
    paper = await folder_of(tmp_path / "paper", dict.fromkeys("0123", 1.0), harness="paper", prompts=hostile)
    sections = await compared(single, paper)
    paths, warnings = await write_comparison(sections, tmp_path / "out", pictures=3)
    assert warnings == []
    names = ["compare.md", "compare.csv", "pairs.csv", "compare.html", "blocks-bench-en-truth.svg"]
    assert [path.name for path in paths] == names
    text = paths[0].read_text(encoding="utf-8")
    assert "](blocks-bench-en-truth.svg)" in text
    assert "| paper | 100.0 % |" in text
    (line,) = [
        each
        for each in csv.DictReader(io.StringIO(paths[1].read_text()))
        if (each["entry"], each["part"], each["metric"]) == ("single", "all", "met")
    ]
    assert (float(line["mean"]), int(line["prompts"])) == (0.5, 4)
    pair, *parts = csv.DictReader(io.StringIO(paths[2].read_text()))
    assert [each["part"].partition("/")[2] for each in parts] == ["even", "odd", "3", "10"]
    assert (pair["first"], pair["second"], float(pair["difference"])) == ("paper", "single", 0.5)
    assert paths[4].read_text().count("<svg") == 1
    again, _ = await write_comparison(sections, tmp_path / "again", pictures=3)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


async def test_the_page_needs_nothing_and_runs_nothing(tmp_path: Path) -> None:
    prompts = dict.fromkeys("0123", HOSTILE)
    single = await folder_of(tmp_path / "single", FOUR, prompts=prompts)
    paper = await folder_of(tmp_path / "paper", dict.fromkeys("0123", 1.0), harness="paper", prompts=prompts)
    (tmp_path / "paper" / "images" / "en" / "1_0.png").unlink()
    paths, _ = await write_comparison(await compared(single, paper), tmp_path / "out", pictures=3)
    html = paths[3].read_text(encoding="utf-8")
    page = Page(html)
    assert page.all("script") == []
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    # The prompts on which the two differ come first; one image is gone, and the page says so.
    assert [str(image["alt"]) for image in page.all("img")[1:]].count("By single") == 3
    assert "is missing" in page.text
    assert page.text.count("window.broken = 1") == 3
    assert "default-src 'none'" in html


async def test_without_matplotlib_there_is_no_plot_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    sections = await compared(*await pair_of(tmp_path))
    paths, warnings = await write_comparison(sections, tmp_path / "out")
    assert [path.suffix for path in paths] == [".md", ".csv", ".csv", ".html"]
    assert "gems-agent[bench]" in warnings[0]


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError):
        await write_comparison(await compared(*await pair_of(tmp_path)), tmp_path / "out")


async def test_folders_anywhere(tmp_path: Path) -> None:
    url = await folder_of("memory://compared/a", FOUR)
    (section,) = await compared(url)
    assert section.measured[0].values == FOUR
