"""OneIG-Bench from its data to its figures, in both languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gems.errors import DataError
from gems.evals.benchmarks.oneig import count_expected_images
from gems.evals.registry import load_task
from tests.support.benchmark_samples import by_name, files_in, frozen, placed, png, prompts_of, said, scored_all
from tests.support.stub import StubServer


def brain(messages):
    """No map; half of the answer; a good watercolour; and one word of the poster."""
    text = said(messages)
    if "JSON array" in text:
        return "[80]" if "watercolor" in text else "[50]"
    if "Write down all text" in text:
        return "OPEN"
    return "no" if "Is there a map" in text else "yes"


def test_prompts(tmp_path: Path) -> None:
    oneig, english = prompts_of(tmp_path, "oneig")
    assert [prompt.id for prompt in english] == ["object_000", "text_000", "reasoning_000", "anime_000"]
    assert english[0].facts["parents"] == {1: [0], 2: [1], 3: [0], 4: [0], 5: [1, 3]}
    assert english[1].facts["text_content"] == "['OPEN UNTIL NINE', 'Ring the bell twice']"
    assert english[3].facts["style"] == "watercolor"
    assert [prompt.id for prompt in oneig.prompts(tmp_path, "zh")] == ["object_000", "multilingualism_000"]


def test_sizes_are_those_of_the_benchmark() -> None:
    assert count_expected_images("en") == {
        "alignment": 4 * (245 + 244 + 206),
        "text": 800,
        "reasoning": 900,
        "style": 456,
        "diversity": 4480,
    }
    assert count_expected_images("zh")["alignment"] == 4 * (245 + 244 + 206 + 200)
    assert count_expected_images("zh")["diversity"] == 5280


async def test_from_images_to_figures(tmp_path: Path) -> None:
    oneig, prompts = prompts_of(tmp_path, "oneig")
    with StubServer(chat=brain) as stub:
        scores = await scored_all(stub, oneig, prompts, {0: png("black"), 1: png("white")})
    figures = by_name(oneig.figures(prompts, scores, "en", "eyes-inhouse"))
    # Question 3 is a no and takes 5 along: three of five are left, for both prompts with questions.
    assert figures["oneig/alignment"].value == pytest.approx(0.6)
    assert figures["oneig/alignment"].scored == 4
    # 31 more characters, none exact, one of seven words: 1 - 31 * 6/7 / 100.
    assert figures["oneig/text"].value == pytest.approx(1 - 31 * (6 / 7) / 100)
    assert figures["oneig/reasoning"].value == 0.5
    assert figures["oneig/style"].value == 0.8
    # Black and white are opposites.
    assert figures["oneig/diversity"].value == pytest.approx(1, abs=0.001)
    assert (figures["oneig/diversity"].scored, figures["oneig/diversity"].expected) == (8, 4480)
    five = (0.6, 1 - 31 * (6 / 7) / 100, 0.5, 0.8, figures["oneig/diversity"].value)
    assert figures["oneig"].value == pytest.approx(sum(five) / 5)
    assert (figures["oneig"].scored, figures["oneig"].expected) == (8, 4480)


async def test_the_same_picture_twice_has_no_diversity(tmp_path: Path) -> None:
    oneig, prompts = prompts_of(tmp_path, "oneig", "zh")
    grey = png((127, 128, 127))
    with StubServer(chat=brain) as stub:
        scores = await scored_all(stub, oneig, prompts, {0: grey, 1: grey, 2: grey})
    figures = by_name(oneig.figures(prompts, scores, "zh", "x"))
    assert figures["oneig/diversity"].value == pytest.approx(0, abs=1e-9)
    assert figures["oneig/diversity"].scored == 6
    # The invented Chinese prompts have no text, reasoning or style: there is no whole.
    assert figures["oneig"].value is None


async def test_nonsense_is_unscored(tmp_path: Path) -> None:
    oneig, prompts = prompts_of(tmp_path, "oneig")
    with StubServer(chat=lambda messages: "Who knows?") as stub:
        scores = await scored_all(stub, oneig, [prompts[0], *prompts[2:]], {0: png()})
    assert {score.metric for score in scores} == {"alignment", "reasoning", "style"}
    assert [score.value for score in scores] == [None] * 4
    figures = by_name(oneig.figures(prompts, scores, "en", "x"))
    assert (figures["oneig/alignment"].value, figures["oneig"].scored) == (None, 0)


async def test_export(tmp_path: Path) -> None:
    oneig, english = prompts_of(tmp_path / "data", "oneig")
    chinese = oneig.prompts(tmp_path / "data", "zh")
    gone = [english[0].key(1), *(english[1].key(sample) for sample in range(4))]
    export = await oneig.export(frozen([*english, *chinese], 4, missing=gone), tmp_path / "out")
    # One file for each id, below what the official scorers take as folder, kind and model.
    assert files_in(tmp_path / "out") == [
        "en/anime/gems-single/000.webp",
        "en/object/gems-single/000.webp",
        "en/reasoning/gems-single/000.webp",
        "zh/multilingualism/gems-single/000.webp",
        "zh/object/gems-single/000.webp",
    ]
    assert export.missing == gone
    with Image.open(tmp_path / "out" / "en" / "object" / "gems-single" / "000.webp") as sheet:
        assert (sheet.format, sheet.size) == ("WEBP", (32, 32))
        # The official scorers leave a tile out where every pixel is black.
        assert sheet.crop((16, 0, 32, 16)).getcolors() == [(256, (0, 0, 0))]
        assert sheet.getpixel((0, 0)) == (10, 20, 30)
    alignment = [command for command in export.commands if "alignment_score" in command]
    assert alignment[0].endswith("--class_items anime human object")
    assert alignment[1].endswith("--class_items anime human object multilingualism")
    assert all("--image_grid 2,2" in command for command in export.commands)


def official(folder: Path, dimension: str, column: str, value: str, prompts: int, year: int = 2026) -> None:
    time = f"{year}-01-01_10-00-00"
    table = folder / f"{dimension}_score_EN_{time}.csv"
    table.write_text(f",{column}\nmodel,{value}\n")
    rows = "".join(f"object_{number:03d},0.5\n" for number in range(prompts))
    each = folder / f"{dimension}_prompt_score_EN_{time}.csv"
    each.write_text(f",model\n{rows}object_999,\n")


def test_official_results(tmp_path: Path) -> None:
    oneig, prompts = prompts_of(tmp_path / "data", "oneig")
    columns = ("alignment", "text score", "reasoning", "style", "total average")
    dimensions = ("alignment", "text", "reasoning", "style", "diversity")
    results = tmp_path / "results"
    results.mkdir()
    with pytest.raises(DataError, match="contains no results"):
        oneig.read_official(results, prompts, "en")
    for index, (dimension, column) in enumerate(zip(dimensions, columns, strict=True)):
        official(results, dimension, column, f"0.{index + 1}", prompts=index + 1)
    official(results, "text", "text score", "0.7", prompts=3, year=2027)
    figures = by_name(oneig.read_official(results, prompts, "en"))
    # The newer text score counts: (.1 + .7 + .3 + .4 + .5) / 5
    assert figures["oneig"].value == pytest.approx(0.4)
    assert (figures["oneig/text"].value, figures["oneig/text"].scored) == (0.7, 12)
    assert (figures["oneig"].scored, figures["oneig"].judge) == (20, "official")
    (results / "style_score_EN_2026-01-01_10-00-00.csv").write_text(",style\na,0.1\nb,0.2\n")
    with pytest.raises(DataError, match="2 models"):
        oneig.read_official(results, prompts, "en")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("OneIG-Bench.csv", lambda text: text.replace("Object,000", "Object,0"), "line 2: id"),
        ("OneIG-Bench.csv", lambda text: text.replace("General_Object", "Objects"), "'Objects' is unknown"),
        (
            "OneIG-Bench.csv",
            lambda text: text[: text.index(",watercolor\n")],
            "line 5 has a different number of fields",
        ),
        ("OneIG-Bench.csv", lambda text: text.replace("prompt_en", "prompt"), "lacks the column prompt_en"),
        ("OneIG-Bench.csv", lambda text: text + text.split("\n")[1], r"in line 2 and line 6"),
        ("gt_answer.json", lambda text: text.replace("000", "001"), "has no entry for 000"),
        ("gt_answer.json", lambda text: text.rstrip()[:-1], "truncated"),
        ("Q_D/object.json", lambda text: text.replace("dependency", "parents"), "dependency is not a JSON"),
        ("Q_D/object.json", lambda text: json.dumps({"000": {"question": "{}", "dependency": "{}"}}), "wrong type"),
    ],
)
def test_damaged_data(tmp_path: Path, file: str, change, message: str) -> None:
    path = placed(tmp_path, "oneig") / file
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        load_task("oneig").prompts(tmp_path, "en")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    (placed(tmp_path, "oneig") / "style.csv").unlink()
    with pytest.raises(DataError, match=r"style\.csv is missing"):
        load_task("oneig").prompts(tmp_path, "en")
    assert len(load_task("oneig").prompts(tmp_path, "zh")) == 2
