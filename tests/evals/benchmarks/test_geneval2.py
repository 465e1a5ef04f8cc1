"""GenEval2 from its data to its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gems.errors import DataError
from gems.evals.registry import load_task
from tests.support.benchmark_samples import by_name, files_in, frozen, judged, placed, png, prompts_of, said, scored_all
from tests.support.stub import StubServer

ANSWERS = {"foxes are in": "Three", "lanterns are in": "two", "purple": "No"}


def brain(messages):
    """Three foxes, two lanterns, and none is purple; all else is so."""
    return next((answer for words, answer in ANSWERS.items() if words in said(messages)), "Yes")


async def test_from_images_to_figures(tmp_path: Path) -> None:
    geneval2, prompts = prompts_of(tmp_path, "geneval2")
    with StubServer(chat=brain, logprobs=True) as stub:
        scores = await scored_all(stub, geneval2, prompts, {0: png()})
        asked = stub.calls("chat")[0].body
    # One token, with the probabilities of the likely ones.
    assert (asked["max_tokens"], asked["temperature"], asked["top_logprobs"]) == (1, 0, 20)
    gm, am = scores
    assert (gm.metric, am.metric) == ("soft_tifa_gm", "soft_tifa_am")
    # The stub puts 95 % on what it says and 4 % on the other of yes and no; one lantern gets nothing.
    assert gm.facts["answers"] == pytest.approx([0.95, 0.95, 0.95, 0.95, 0, 0.04, 0.95])
    assert (gm.facts["how"], gm.facts["atomicity"]) == ("logprobs", 6.0)
    assert gm.value == 0
    assert am.value == pytest.approx((5 * 0.95 + 0.04) / 7)
    figures = by_name(geneval2.figures(prompts, scores, "en", "eyes-inhouse"))
    assert figures["geneval2"].value == 0
    assert figures["geneval2"].expected == 800
    assert figures["geneval2/am"].value == pytest.approx(100 * (5 * 0.95 + 0.04) / 7)
    # count: (.95 + 0) / 2; attribute: (.95 + .04) / 2
    assert figures["geneval2/count"].value == pytest.approx(47.5)
    assert figures["geneval2/attribute"].value == pytest.approx(49.5)
    assert figures["geneval2/verb"].value is None
    assert (figures["geneval2/6 atoms"].scored, figures["geneval2/6 atoms"].expected) == (1, 100)


async def test_without_probabilities_several_answers_stand_for_them(tmp_path: Path) -> None:
    geneval2, prompts = prompts_of(tmp_path, "geneval2")
    with StubServer(chat=brain) as stub:
        gm, _ = await scored_all(stub, geneval2, prompts, {0: png()})
        # One question each, and five more of each.
        assert len(stub.calls("chat")) == 7 * 6
        assert {call.body["temperature"] for call in stub.calls("chat")} == {0, 1}
    assert gm.facts["answers"] == [1, 1, 1, 1, 0, 0, 1]
    assert gm.facts["how"] == "frequency"
    with StubServer(chat=brain) as stub:
        scores = await judged(stub, lambda judge: geneval2.score(prompts[0], {0: png()}, judge), samples=1)
        assert len(stub.calls("chat")) == 7
    assert scores[0].facts["how"] == "hard"


@pytest.mark.parametrize("logprobs", [True, False])
async def test_nonsense_is_unscored(tmp_path: Path, logprobs: bool) -> None:
    geneval2, prompts = prompts_of(tmp_path, "geneval2")
    with StubServer(chat=lambda messages: "Bananas", logprobs=logprobs) as stub:
        scores = await scored_all(stub, geneval2, prompts, {0: png()})
    assert [score.value for score in scores] == [None, None]
    assert all(score.explanation for score in scores)
    assert by_name(geneval2.figures(prompts, scores, "en", "x"))["geneval2"].value is None


async def test_export(tmp_path: Path) -> None:
    geneval2, prompts = prompts_of(tmp_path / "data", "geneval2")
    export = await geneval2.export(frozen(prompts, 1), tmp_path / "out")
    mapping = "image_filepath_data.json"
    assert files_in(tmp_path / "out") == ["geneval2_data.jsonl", mapping, "images/0000.png"]
    paths = json.loads((tmp_path / "out" / mapping).read_text())
    # Every prompt of the data file is a key, and every value a file.
    lines = (tmp_path / "out" / "geneval2_data.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == list(paths)
    assert list(paths.values()) == [str(tmp_path / "out" / "images" / "0000.png")]
    assert "--method soft_tifa_gm" in export.commands[0]
    assert "soft_tifa_analysis.py" in export.commands[1]
    gone = await geneval2.export(frozen(prompts, 1, missing=[prompts[0].key(0)]), tmp_path / "none")
    assert gone.missing == [prompts[0].key(0)]
    assert json.loads((tmp_path / "none" / mapping).read_text()) == {}


def test_official_scores(tmp_path: Path) -> None:
    geneval2, prompts = prompts_of(tmp_path, "geneval2")
    file = tmp_path / "scores.json"
    file.write_text(json.dumps([[0.5, 1, 1, 1, 1, 1, 0.5]]))
    figures = by_name(geneval2.read_official(file, prompts, "en"))
    # The seventh root of 1/4.
    assert figures["geneval2"].value == pytest.approx(100 * 0.25 ** (1 / 7))
    assert figures["geneval2"].judge == "official"
    file.write_text(json.dumps([[0.5, 1]]))
    with pytest.raises(DataError, match="they differ from the benchmark's data"):
        geneval2.read_official(file, prompts, "en")
    file.write_text('{"a": 1}')
    with pytest.raises(DataError, match="valid list"):
        geneval2.read_official(file, prompts, "en")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text * 2, "in line 1 and line 2"),
        (lambda text: text.replace('"count", "attribute"', '"count"', 1), "the numbers of skills and questions differ"),
        (lambda text: text.replace('"three"', '"lots"'), r"vqa_list\.0 has the unexpected answer 'lots'"),
        (lambda text: text.replace('"atom_count": 6', '"atom_count": 60'), "line 1: atom_count"),
        (lambda text: text.replace('"prompt":', '"Prompt":'), "line 1: prompt"),
    ],
)
def test_damaged_data(tmp_path: Path, change, message: str) -> None:
    path = placed(tmp_path, "geneval2") / "geneval2_data.jsonl"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        load_task("geneval2").prompts(tmp_path, "en")
