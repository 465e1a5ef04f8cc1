"""The output folder on a disk and on a store that cannot append."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gems.errors import ConfigurationError, DataError, DiskFullError, ImageMissingError, RequestError
from gems.evals import jsonl
from gems.evals.output_folder import EvalFolder, EvalSettings, image_name
from gems.evals.records import BenchmarkPrompt, Figure, SampleKey, SampleRow, Score
from tests.support.benchmark_samples import write_image

SETTINGS = EvalSettings(
    task="geneval", languages=("en",), harness="single", generator="blocks", images=5, samples=2, seed=7
)


def row(number: int = 0, **changed: Any) -> SampleRow:
    usual: dict[str, Any] = {
        "benchmark": "geneval", "language": "en", "prompt_id": f"{number:05d}", "sample": 0, "seed": 1,
        "prompt": "a cat", "harness": "single", "generator": "blocks", "generator_profile": "", "chat": "",
    }  # fmt: skip
    return SampleRow(**(usual | changed))


@pytest.fixture(params=["disk", "objects"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "disk" else f"memory://{uuid4().hex}/out"


async def test_newest_row_of_a_sample_counts(url: str) -> None:
    folder = await EvalFolder.create(url, SETTINGS)
    await folder.append(row(0, error="it broke"))
    await folder.append(row(1, rounds=2))
    again = await EvalFolder.create(url, SETTINGS)
    await again.append(row(0, rounds=3))
    found = await (await EvalFolder.open(url)).rows()
    assert [(key.prompt_id, kept.rounds, kept.error) for key, kept in found.items()] == [
        ("00000", 3, ""),
        ("00001", 2, ""),
    ]


async def test_many_rows_make_several_parts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_PART_LINES", 3)
    folder = await EvalFolder.create(url, SETTINGS)
    for number in range(10):
        await folder.append(row(number))
    assert len(await folder.rows()) == 10


async def test_image_is_read_back_and_a_changed_one_is_noticed(url: str) -> None:
    folder = await EvalFolder.create(url, SETTINGS)
    name, sha = await write_image(folder, row().key, b"a picture")
    kept = row(file=name, sha256=sha)
    assert await folder.image(kept) == b"a picture"
    await write_image(folder, row().key, b"another one")
    with pytest.raises(ImageMissingError, match="was changed"):
        await folder.image(kept)
    with pytest.raises(ImageMissingError, match="is missing"):
        await folder.image(row(1, file="images/en/00001_0.png", sha256=sha))
    with pytest.raises(ImageMissingError, match="has no image: it broke"):
        await folder.image(row(error="it broke"))


@pytest.mark.parametrize("hostile", ["../../x", "/etc/passwd", "..", "a\\b", "", "C:x", "x" * 400, "ä\0"])
def test_no_id_leads_out_of_the_folder(hostile: str) -> None:
    name = image_name(SampleKey("geneval", hostile, hostile, 0))
    first, language, file = name.split("/")
    assert first == "images"
    assert language not in ("", ".", "..")
    assert not set("\\:\0") & set(language + file)
    assert len(file) < 200


def test_different_ids_have_different_files() -> None:
    ids = ["a/b", "a%2Fb", "a_1", "a", "x" * 400, "x" * 401, ".a", "%2Ea"]
    names = {image_name(SampleKey("t", "en", name, sample)) for name in ids for sample in (0, 1)}
    assert len(names) == 2 * len(ids)


async def test_half_written_last_line_is_told_and_written_over(tmp_path: Path) -> None:
    folder = await EvalFolder.create(str(tmp_path), SETTINGS)
    await folder.append(row(0))
    with (tmp_path / "manifest.jsonl").open("ab") as file:
        file.write(row(1).model_dump_json().encode()[:40])
    again = await EvalFolder.open(str(tmp_path))
    assert len(await again.rows()) == 1
    assert "is incomplete" in again.warnings[0]
    await again.append(row(2))
    after = await EvalFolder.open(str(tmp_path))
    assert [key.prompt_id for key in await after.rows()] == ["00000", "00002"]
    assert after.warnings == []


async def test_last_line_that_only_lacks_its_end_is_kept(tmp_path: Path) -> None:
    await EvalFolder.create(str(tmp_path), SETTINGS)
    (tmp_path / "manifest.jsonl").write_text(row(0).model_dump_json())
    folder = await EvalFolder.open(str(tmp_path))
    await folder.append(row(1))
    assert len(await folder.rows()) == 2
    assert folder.warnings == []


async def test_damaged_line_in_the_middle_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = await EvalFolder.create(url, SETTINGS)
    monkeypatch.setattr(SampleRow, "model_dump_json", lambda self: '{"benchmark": "gene')
    await folder.append(row(0))
    monkeypatch.undo()
    await folder.append(row(1))
    with pytest.raises(DataError, match=r"Line 1 of .*manifest.*jsonl is damaged"):
        await (await EvalFolder.open(url)).rows()


async def test_line_of_something_else_is_named(url: str) -> None:
    folder = await EvalFolder.create(url, SETTINGS)
    await folder.append(Score(benchmark="b", language="en", prompt_id="1", sample=0, metric="m", value=1))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="Invalid line in"):
        await folder.rows()


async def test_full_disk_leaves_the_manifest_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = await EvalFolder.create(str(tmp_path), SETTINGS)
    await folder.append(row(0))
    before = (tmp_path / "manifest.jsonl").read_bytes()

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        await folder.append(row(1))
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    with pytest.raises(DiskFullError):
        await write_image(folder, row().key, b"a picture")
    assert not list((tmp_path / "images").rglob("*.png"))
    monkeypatch.undo()
    await folder.append(row(1))
    assert len(await folder.rows()) == 2


async def test_folder_of_other_settings_is_refused_with_what_differs(url: str) -> None:
    await EvalFolder.create(url, SETTINGS)
    other = SETTINGS.model_copy(update={"task": "wise", "seed": 8})
    with pytest.raises(
        RequestError, match=r"task is 'geneval' in the folder, 'wise' now; seed is 7 in the folder, 8 now"
    ):
        await EvalFolder.create(url, other)


async def test_more_samples_can_be_added_and_fewer_are_refused(url: str) -> None:
    await EvalFolder.create(url, SETTINGS.model_copy(update={"limit": 3}))
    await EvalFolder.create(url, SETTINGS.model_copy(update={"limit": 5, "samples": 4}))
    whole = SETTINGS.model_copy(update={"limit": None, "samples": 4})
    assert (await EvalFolder.create(url, whole)).settings.limit is None
    with pytest.raises(RequestError, match="limit is None in the folder, 5 now"):
        await EvalFolder.create(url, whole.model_copy(update={"limit": 5}))
    settings = (await EvalFolder.open(url)).settings
    assert settings == whole.model_copy(update={"id": settings.id})
    assert settings.id


async def test_what_is_no_output_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"not an output folder: it contains no eval\.json"):
        await EvalFolder.open(str(tmp_path))
    (tmp_path / "eval.json").write_text('{"task": 3}')
    with pytest.raises(DataError, match=r"eval\.json is invalid"):
        await EvalFolder.open(str(tmp_path))
    with pytest.raises(ConfigurationError, match="not among those that store files"):
        await EvalFolder.open("nonsense://x")


async def test_scores_and_figures_by_judge(url: str) -> None:
    folder = await EvalFolder.create(url, SETTINGS)
    judge = "openai:Qwen/Qwen3-VL@http://127.0.0.1:8000/v1-inhouse"

    def score(value: float | None, metric: str = "m") -> Score:
        return Score(benchmark="geneval", language="en", prompt_id="00000", sample=0, metric=metric, value=value)

    await folder.write_scores(judge, [score(None), score(1, "other")])
    await folder.write_scores(judge, [score(0.5)])
    await folder.write_scores("truth", [score(0.25)])
    assert [(s.metric, s.value) for s in await folder.scores(judge)] == [("m", 0.5), ("other", 1)]
    assert sorted(await folder.judges()) == sorted([judge, "truth"])
    figure = Figure(benchmark="geneval", language="en", name="geneval", value=0.5, scored=1, expected=2, judge=judge)
    await folder.write_figures(judge, [figure])
    await folder.write_figures(judge, [figure.model_copy(update={"value": 0.75})])
    await folder.write_figures("truth", [figure.model_copy(update={"judge": "truth"})])
    assert {(f.judge, f.value) for f in await folder.figures()} == {(judge, 0.75), ("truth", 0.5)}


async def test_frozen_holds_rows_of_the_prompts_alone(url: str) -> None:
    folder = await EvalFolder.create(url, SETTINGS)
    for number, sample in ((0, 0), (0, 1), (0, 2), (1, 0)):
        await folder.append(row(number, sample=sample))
    prompt = BenchmarkPrompt(benchmark="geneval", language="en", id="00000", text="a cat")
    frozen = await folder.sample_set([prompt])
    assert [key.sample for key in frozen.rows] == [0, 1]
