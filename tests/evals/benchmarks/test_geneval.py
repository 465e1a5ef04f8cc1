"""GenEval from its data to its figures."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest

from gems.errors import DataError, DiskFullError, OptionError, RequestError, ServerError
from gems.evals.benchmarks.geneval import combine_checks
from gems.evals.metrics import mean
from gems.evals.registry import TASKS, load_task
from tests.support.benchmark_samples import by_name, frozen, judged, placed, png, prompts_of, said
from tests.support.stub import Fault, StubServer


def brain(messages):
    """Sees three umbrellas, a kite, a bench, a green cup, and a laptop that is not orange."""
    text = said(messages)
    if "How many" in text:
        return "3" if "umbrella" in text else "One."
    return "No." if "orange" in text else "Yes, it is."


def test_registry() -> None:
    assert load_task("GenEval").name == "geneval"
    with pytest.raises(OptionError, match="Unknown benchmark: 'nonsense'") as error:
        load_task("nonsense")
    assert all(name in error.value.hint for name in TASKS)
    with pytest.raises(DataError, match="WISE_Verified"):
        load_task("WISE_Verified")


def test_formulas() -> None:
    assert combine_checks([True, True]) is True
    assert combine_checks([True, None]) is None
    assert combine_checks([None, False]) is False
    # (0.5 + 1) / 2, however many images each kind has.
    assert mean([0.5, 1.0]) == 0.75
    assert mean([]) is None


def test_prompts(tmp_path: Path) -> None:
    _, prompts = prompts_of(tmp_path, "geneval")
    assert [prompt.id for prompt in prompts] == ["00000", "00001", "00002"]
    assert [prompt.category for prompt in prompts] == ["counting", "position", "color_attr"]
    assert prompts[0].text == "a photo of three umbrellas"
    assert prompts[1].facts["include"][1]["position"] == ["below", 0]


async def test_from_images_to_figures(tmp_path: Path) -> None:
    geneval, prompts = prompts_of(tmp_path, "geneval")
    images = {sample: png() for sample in range(2)}
    with StubServer(chat=brain) as stub:
        scores = [
            score
            for prompt in prompts
            for score in await judged(stub, lambda judge, prompt=prompt: geneval.score(prompt, images, judge))
        ]
    assert [(score.prompt_id, score.sample, score.value) for score in scores] == [
        ("00000", 0, 1.0),
        ("00000", 1, 1.0),
        ("00001", 0, 1.0),
        ("00001", 1, 1.0),
        ("00002", 0, 0.0),
        ("00002", 1, 0.0),
    ]
    assert "orange" in scores[-1].explanation
    figures = geneval.figures(prompts, scores, "en", "eyes-inhouse")
    # Counting 1, position 1, color_attr 0.
    assert figures[0].value == pytest.approx(2 / 3)
    assert (figures[0].name, figures[0].scored, figures[0].expected) == ("geneval", 6, 2212)
    assert figures[0].is_partial
    assert figures[0].judge == "eyes-inhouse"
    assert by_name(figures)["geneval/color_attr"].value == 0
    assert by_name(figures)["geneval/color_attr"].expected == 400
    assert by_name(figures)["geneval/colors"].value is None


async def test_too_many_are_wrong_too(tmp_path: Path) -> None:
    geneval, prompts = prompts_of(tmp_path, "geneval")
    with StubServer(chat=lambda messages: "4") as stub:
        (score,) = await judged(stub, lambda judge: geneval.score(prompts[0], {0: png()}, judge))
    assert score.value == 0
    assert score.facts == {"counted umbrella": 4.0}
    # What is not there is asked no further question.
    assert len(stub.calls("chat")) == 1


async def test_nonsense_is_unscored(tmp_path: Path) -> None:
    geneval, prompts = prompts_of(tmp_path, "geneval")
    with StubServer(chat=lambda messages: "As a bird, I sing.") as stub:
        scores = await judged(stub, lambda judge: geneval.score(prompts[0], {0: png(), 1: png()}, judge))
    assert [score.value for score in scores] == [None, None]
    assert "unreadable" in scores[0].explanation
    assert geneval.figures(prompts, scores, "en", "eyes-inhouse")[0].value is None


async def test_a_judge_that_is_gone_is_no_score(tmp_path: Path) -> None:
    geneval, prompts = prompts_of(tmp_path, "geneval")
    with StubServer(chat=brain) as stub:
        stub.fault(Fault("500"))
        with pytest.raises(ServerError):
            await judged(stub, lambda judge: geneval.score(prompts[0], {0: png()}, judge))


async def test_export_is_as_the_official_reader_wants_it(tmp_path: Path) -> None:
    geneval, prompts = prompts_of(tmp_path / "data", "geneval")
    gone = prompts[2].key(3)
    export = await geneval.export(frozen(prompts, 4, missing=[gone]), tmp_path / "out")
    assert export.missing == [gone]
    assert export.expected == 2212
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    # The official reader takes folders of digits, and in `samples` what matches \d+\.png.
    assert folders == ["00000", "00001", "00002"]
    for folder, prompt in zip(folders, prompts, strict=True):
        assert folder.isdigit()
        line = json.loads((tmp_path / "out" / folder / "metadata.jsonl").read_text())
        assert line == prompt.facts
        names = sorted(path.name for path in (tmp_path / "out" / folder / "samples").iterdir())
        assert all(re.fullmatch(r"\d+\.png", name) for name in names)
        assert len(names) == (3 if folder == "00002" else 4)
    assert "evaluate_images.py" in export.commands[0]
    assert str(tmp_path / "out") in export.commands[0]
    with pytest.raises(RequestError, match="not an empty folder"):
        await geneval.export(frozen(prompts, 4), tmp_path / "out")


def test_official_results(tmp_path: Path) -> None:
    geneval, prompts = prompts_of(tmp_path, "geneval")
    rows = [
        {"filename": f"x/{n}.png", "tag": tag, "prompt": "p", "correct": right, "reason": ""}
        for n, (tag, right) in enumerate([("counting", True), ("counting", False), ("position", True)])
    ]
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = geneval.read_official(file, prompts, "en")
    # (1/2 + 1) / 2
    assert figures[0].value == 0.75
    assert figures[0].judge == "official"
    file.write_text("".join(json.dumps(rows[0]) + "\n" for _ in range(2)))
    with pytest.raises(DataError, match="duplicate images"):
        geneval.read_official(file, prompts, "en")
    file.write_text('{"score": 3}\n')
    with pytest.raises(DataError, match="line 1"):
        geneval.read_official(file, prompts, "en")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-30], r"line 3 is not valid JSON .* truncated"),
        (lambda text: text.replace("counting", "crowds", 1), "line 1: tag"),
        (lambda text: text.replace('"prompt": "a photo of a bench below a kite"', '"text": "x"'), "line 2: prompt"),
        (lambda text: text.replace("a photo of three", "Aesthetic Drawing: a photo of three"), "ArtiMuse"),
        (lambda text: text.replace('["below", 0]', '["below", 1]'), "line 2: include.1.position"),
        (lambda text: text * 200, "another edition"),
        (lambda text: text.replace("\n", "\n\n", 1), "line 2"),
    ],
)
def test_damaged_data(tmp_path: Path, change, message: str) -> None:
    path = placed(tmp_path, "geneval") / "prompts" / "evaluation_metadata.jsonl"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        load_task("geneval").prompts(tmp_path, "en")


def test_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"evaluation_metadata\.jsonl is missing") as error:
        load_task("geneval").prompts(tmp_path, "en")
    assert "gems eval data" in error.value.hint


def test_files_without_their_folders(tmp_path: Path) -> None:
    path = placed(tmp_path, "geneval") / "prompts" / "evaluation_metadata.jsonl"
    path.rename(tmp_path / path.name)
    assert len(load_task("geneval").prompts(tmp_path, "en")) == 3


def test_not_utf8(tmp_path: Path) -> None:
    path = placed(tmp_path, "geneval") / "prompts" / "evaluation_metadata.jsonl"
    path.write_bytes(path.read_bytes() + b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        load_task("geneval").prompts(tmp_path, "en")


async def test_no_space_for_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geneval, prompts = prompts_of(tmp_path / "data", "geneval")

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match="no space is left"):
        await geneval.export(frozen(prompts, 1), tmp_path / "out")
