"""WISE from its data to its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gems.errors import DataError
from gems.evals.registry import load_task
from tests.support.benchmark_samples import by_name, files_in, frozen, placed, png, prompts_of, said, scored_all
from tests.support.stub import StubServer

CULTURE = "WISE_legacy/data/cultural_common_sense.json"


def brain(messages):
    """Thinks aloud first, and knows what the explanation says."""
    assert "Explanation: Invented sample" in said(messages)
    return "Realism: 0 would be harsh.\n**Consistency**: 2\nRealism: 1\nAesthetic quality: 0"


async def test_from_images_to_figures(tmp_path: Path) -> None:
    wise, prompts = prompts_of(tmp_path, "wise")
    assert [prompt.id for prompt in prompts] == ["1", "401", "568", "701", "801", "901"]
    assert all("Invented sample" not in prompt.text for prompt in prompts)
    with StubServer(chat=brain) as stub:
        scores = await scored_all(stub, wise, prompts, {0: png()})
    # (0.7 * 2 + 0.2 * 1) / 2
    assert [score.value for score in scores] == [pytest.approx(0.8)] * 6
    assert scores[0].facts == {"consistency": 2, "realism": 1, "aesthetic": 0}
    figures = by_name(wise.figures(prompts, scores, "en", "eyes-inhouse"))
    assert figures["wise"].value == pytest.approx(0.8)
    assert (figures["wise"].scored, figures["wise"].expected) == (6, 1000)
    assert figures["wise/time"].expected == 167
    # Without one of the fields there is no whole.
    assert by_name(wise.figures(prompts, scores[1:], "en", "x"))["wise"].value is None


RATED = "Consistency: 2\nRealism: {}\nAesthetic: 0"
OFF_SCALE = (
    "1.5",
    "1,5",
    "3",
    "-1",
    "10",
    "2 out of 2",
    "2/2",
    "1 or 2",
    "1-2",
    "1 to 2",
    "1 and a half",
    "1\u00bd",
    ".5",
    "\u22121",
)


@pytest.mark.parametrize(
    "reply",
    [
        "It is lovely.",
        "Consistency: 2\nRealism: 1",
        "Consistency: 3\nRealism: 1",
        *map(RATED.format, OFF_SCALE),
        f"{RATED.format(1)}\nRealism: 1.5",
    ],
)
async def test_nonsense_is_unscored(tmp_path: Path, reply: str) -> None:
    wise, prompts = prompts_of(tmp_path, "wise")
    with StubServer(chat=lambda messages: reply) as stub:
        scores = await scored_all(stub, wise, prompts[:1], {0: png()})
    assert scores[0].value is None
    assert "three ratings" in scores[0].explanation


@pytest.mark.parametrize(
    "rating", ["1", "1.0", "1.", "**1**", "1 (with flaws)", "1, since it is blurred", "1 - blurred"]
)
async def test_ratings_are_read_in_any_dress(tmp_path: Path, rating: str) -> None:
    wise, prompts = prompts_of(tmp_path, "wise")
    with StubServer(chat=lambda messages: f"{RATED.format(rating)}\n\nConsistency: as the prompt says.") as stub:
        scores = await scored_all(stub, wise, prompts[:1], {0: png()})
    assert scores[0].facts == {"consistency": 2, "realism": 1, "aesthetic": 0}


async def test_export(tmp_path: Path) -> None:
    wise, prompts = prompts_of(tmp_path / "data", "wise")
    gone = prompts[1].key(0)
    export = await wise.export(frozen(prompts, 1, missing=[gone]), tmp_path / "out")
    assert files_in(tmp_path / "out") == ["1.png", "568.png", "701.png", "801.png", "901.png"]
    assert export.missing == [gone]
    assert [command.split()[1] for command in export.commands] == ["gpt_eval.py"] * 3 + ["Calculate.py"]


def test_official_scores(tmp_path: Path) -> None:
    wise, prompts = prompts_of(tmp_path / "data", "wise")
    rows = [
        {"prompt_id": number, "Subcategory": "x", "consistency": 2, "realism": 2, "aesthetic_quality": 0}
        for number in (1, 2, 401, 568, 701, 801, 901)
    ]
    rows[1] |= {"consistency": 999, "realism": 999, "aesthetic_quality": 999}
    for name, part in (("a", rows[:2]), ("b", rows[2:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (tmp_path / f"{name}_scores.jsonl").write_text(text)
    figures = by_name(wise.read_official(tmp_path, prompts, "en"))
    # (0.7 * 2 + 0.2 * 2) / 2; 999 says that a reply could not be read.
    assert figures["wise"].value == pytest.approx(0.9)
    assert figures["wise/culture"].scored == 1
    rows[0]["realism"] = 5
    (tmp_path / "a_scores.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(DataError, match=r"not in \[0, 2\]"):
        wise.read_official(tmp_path, prompts, "en")
    with pytest.raises(DataError, match="contains no"):
        wise.read_official(tmp_path / "data", prompts, "en")


def test_wise_verified_is_named(tmp_path: Path) -> None:
    folder = placed(tmp_path, "wise")
    (folder / CULTURE).rename(folder / "cultural_common_sense_verified.json")
    with pytest.raises(DataError, match="WISE_Verified") as error:
        load_task("wise").prompts(folder, "en")
    assert "files of 2025" in error.value.hint


def test_other_edition_under_the_same_name(tmp_path: Path) -> None:
    path = placed(tmp_path, "wise") / CULTURE
    (record,) = json.loads(path.read_text())
    path.write_text(json.dumps([record | {"prompt_id": 641}]))
    with pytest.raises(DataError, match="641 is not in 1 to 400: it is another edition"):
        load_task("wise").prompts(tmp_path, "en")
    # All ids are there, and the words are others.
    path.write_text(json.dumps([record | {"prompt_id": number} for number in range(1, 401)]))
    with pytest.raises(DataError, match="differs in size from the file of 2025"):
        load_task("wise").prompts(tmp_path, "en")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "line 1 is not valid JSON"),
        (lambda text: json.dumps(json.loads(text) * 2), "in record 1 and record 2"),
        (lambda text: "{}", "not a JSON array"),
        (lambda text: text.replace('"prompt_id": 1', '"prompt_id": "1"'), "record 1: prompt_id"),
    ],
)
def test_damaged_data(tmp_path: Path, change, message: str) -> None:
    path = placed(tmp_path, "wise") / CULTURE
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        load_task("wise").prompts(tmp_path, "en")
