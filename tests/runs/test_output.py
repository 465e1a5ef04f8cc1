"""Where results are written, fallbacks, and the metadata of images."""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sd_parsers
from PIL import Image

from gems import __version__
from gems.errors import DiskFullError, OptionError
from gems.events import Warned
from gems.results import RunResult
from gems.runs.output import check_target
from tests.support.scripted_models import checks
from tests.support.scripted_service import House, content, told


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.mark.parametrize(
    ("out", "written"),
    [
        ("cat.png", "cat.png"),
        ("CAT.PNG", "CAT.PNG"),
        ("new/folders/cat.png", "new/folders/cat.png"),
        ("folder", "folder/{run}.png"),
        ("there", "there/{run}.png"),
        ("there.d", "there.d/{run}.png"),
        ("there.png", "there.png/{run}.png"),
        (".", "{run}.png"),
    ],
)
async def test_result_is_written_where_it_is_wanted(house: House, tmp_path: Path, out: str, written: str) -> None:
    for name in ("there", "there.d", "there.png"):
        os.makedirs(tmp_path / name)
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, out=out)
    assert result.path == str(tmp_path / written.format(run=result.run_id))
    assert content(result.path) == result._repr_png_()


async def test_file_is_replaced(house: House, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_text("before")
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, out=tmp_path / "cat.png")
    assert content(tmp_path / "cat.png") == result._repr_png_()
    assert sorted(os.listdir(tmp_path)) == ["cat.png", "home"]


@pytest.mark.parametrize("out", ["cat.jpg", "folder/cat.webp", "file/cat.png", "file/folder/cat.png"])
def test_target_that_cannot_be_written_is_ruled_out(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OptionError):
        check_target(out)


@pytest.mark.parametrize("out", ["", "x" * 300, f"{'x' * 300}.png", f"{'x' * 300}/cat.png", "a\0b.png"])
def test_name_that_no_file_can_have_is_ruled_out(out: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_target(out)
    assert len(str(caught.value)) < 400


def test_empty_target_is_named_as_such() -> None:
    with pytest.raises(OptionError, match="empty"):
        check_target("")


def test_folder_that_may_not_be_looked_into_is_ruled_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def locked(path: Path, **options: Any) -> os.stat_result:
        if "locked" in path.parts[:-1]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", locked)
    with pytest.raises(OptionError, match="Permission denied"):
        check_target(tmp_path / "locked" / "cat.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_ruled_out(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OptionError, match="is not writable"):
        check_target(tmp_path / "locked" / "cat.png")


def test_folder_that_the_system_says_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(OptionError, match="is not writable"):
        check_target(tmp_path / "cat.png")


async def test_without_metadata_the_file_is_the_stored_image(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, metadata=False)
        assert result.image_id is not None
        assert content(result.path) == await gems.resources.images.load(result.image_id)


async def test_resumed_result_is_written_where_it_is_wanted(house: House, tmp_path: Path) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        again = await gems.resume(result.run_id, out=tmp_path / "again.png")
        assert again.path == str(tmp_path / "again.png")
        assert content(again.path) == content(result.path)
        with pytest.raises(OptionError):
            await gems.resume(result.run_id, out="again.gif")


class Disk:
    """Has no space left for files that are flushed to it, once it is full."""

    full = False

    def flush(self, handle: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("os.fsync", disk.flush)
    return disk


async def test_full_disk_costs_no_image(house: House, disk: Disk) -> None:
    disk.full = True
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        assert (result.stop_reason, result.path) == ("passed", None)
        assert result.image.size == (64, 64)
        assert [text.partition(":")[0] for text in result.warnings] == [
            "An image could not be stored and is held in memory only",
            "The result could not be written",
        ]
        shown = await gems.show(result.run_id)
    assert shown.image.tobytes() == result.image.tobytes()


async def test_image_in_memory_only_is_written_to_the_temporary_files(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.home.mkdir()
    for name in ("images", "outputs"):
        (house.home / name).write_text("a file stands where the folder should be")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    async with house.gems() as gems:
        events = await told(gems.stream("a red cat", seed=7))
    result = events[-1].result  # type: ignore[union-attr]
    assert result.path == str(tmp_path / "temporary" / f"gems-{result.run_id}.png")
    assert content(result.path) == result._repr_png_()
    assert result.warnings[-1].endswith(f"It is {result.path}.")
    assert [event.message for event in events if isinstance(event, Warned)] == result.warnings


async def test_image_that_can_be_written_nowhere_is_said_to_end_with_the_process(house: House, disk: Disk) -> None:
    disk.full = True
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
    assert result.path is None
    assert "in memory only" in result.warnings[-1]


async def test_result_that_cannot_be_written_is_in_the_store(house: House, disk: Disk) -> None:
    async with house.gems() as gems:
        put = gems.resources.images.put

        async def put_then_fill(data: bytes) -> str:
            image = await put(data)
            disk.full = True
            return image

        gems.resources.images.put = put_then_fill  # type: ignore[method-assign]
        result = await gems.run("a red cat", seed=7)
        assert result.image_id is not None
        assert result.path == str(gems.resources.images.path(result.image_id))
    assert content(result.path).startswith(b"\x89PNG")
    assert len(result.warnings) == 1


@pytest.mark.parametrize("readable", [True, False])
async def test_checkpointer_that_fails_after_the_first_image_costs_no_image(
    house: House, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    async with house.gems() as gems:
        saver = gems.resources.checkpointer

        async def full(*args: Any, **kwargs: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        async def fail() -> None:
            monkeypatch.setattr(saver, "aput", full)
            monkeypatch.setattr(saver, "aput_writes", full)
            if not readable:
                monkeypatch.setattr(saver, "aget_tuple", full)

        house.on_drawing(1, fail)
        events = await told(gems.stream("a red cat", seed=7))
        result = events[-1].result  # type: ignore[union-attr]
        # The loop came to its end, and what it told is all there; only keeping it failed.
        assert (result.stop_reason, result.failure, result.status) == ("passed", None, "done")
        (warning,) = (event.message for event in events if isinstance(event, Warned))
        assert "no space is left" in warning
        assert result.warnings == [warning]
        assert result.image.size == (64, 64)
        assert content(result.path) == result._repr_png_()
        assert result.final_prompt == "a red cat"
        assert [(item.question, item.answer) for item in result.requirements] == [
            ("Is there a cat?", "yes"),
            ("Is it red?", "yes"),
        ]
        (row,) = await gems.runs()
        assert row["status"] == "done"
        monkeypatch.undo()
        house.on_drawing(1, None)
        again = await gems.resume(result.run_id)
    assert again.stop_reason == "passed"
    assert house.drawn() == [("a red cat", 7)]


@pytest.mark.parametrize("readable", [True, False])
async def test_best_image_is_handed_back_though_checkpoints_failed_before_it(
    house: House, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    house.chat.script["checklist"] = [checks("no", "no"), checks("yes", "no"), *[checks("yes", "yes")] * 2]
    async with house.gems() as gems:
        saver = gems.resources.checkpointer

        async def full(*args: Any, **kwargs: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        async def fail() -> None:
            for method in ("aput", "aput_writes", *([] if readable else ["aget_tuple"])):
                monkeypatch.setattr(saver, method, full)

        house.on_drawing(2, fail)
        result = await gems.run("a red cat", seed=7)
    assert (result.stop_reason, result.score, result.best_round) == ("passed", 1.0, 3)
    assert result.passed
    assert [turn["score"] for turn in result.rounds] == [0.0, 0.5, 1.0]
    assert [turn["prompt"] for turn in result.rounds] == [prompt for prompt, _ in house.drawn()]
    assert [item["round"] for item in result.experiences] == [1, 2]
    assert content(result.path) == result._repr_png_()


@pytest.mark.parametrize("method", ["_write", "_all"])
async def test_ledger_that_fails_costs_no_image(house: House, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    async with house.gems() as gems:

        async def full(sql: str, values: Any) -> None:
            raise DiskFullError("The ledger could not be written.")

        async def fail() -> None:
            monkeypatch.setattr(gems.resources.ledger, method, full)

        house.on_drawing(1, fail)
        result = await gems.run("a red cat", seed=7)
        monkeypatch.undo()
    assert result.image.size == (64, 64)
    assert result.stop_reason == {"_write": "passed", "_all": "failed"}[method]
    assert len(result.warnings) == {"_write": 4, "_all": 0}[method]


async def made(house: House, prompt: str = "a red cat", **arguments: Any) -> RunResult:
    async with house.gems() as gems:
        return await gems.run(prompt, seed=7, **arguments)


def opened(result: RunResult) -> Any:
    picture: Any = Image.open(io.BytesIO(content(result.path)))
    picture.load()
    return picture


async def test_parameters_are_what_other_tools_read(house: House) -> None:
    result = await made(house, negative_prompt="dogs, blur")
    assert opened(result).text["parameters"].splitlines() == [
        "a red cat",
        "Negative prompt: dogs, blur",
        f"Steps: 4, Sampler: default, Seed: 7, Size: 64x64, Model: flat, Version: GEMS {__version__}",
    ]


async def test_record_says_what_was_judged(house: House) -> None:
    house.never_pass()
    result = await made(house, max_rounds=1)
    record = json.loads(opened(result).text["gems"])
    assert record == {
        "version": __version__,
        "run_id": result.run_id,
        "round": 1,
        "prompt": "a red cat",
        "final_prompt": "a red cat",
        "trajectory": [{"number": 1, "action": "draw", "image": result.image_id, "score": 0.5}],
        "seed": 7,
        "model": "flat",
        "parameters": {"steps": 4, "seed_used": 7},
        "models": result.models,
        "score": 0.5,
        "stop_reason": "max_rounds",
        "verdicts": [
            {"question": "Is there a cat?", "answer": "no", "evidence": "It is missing."},
            {"question": "Is it red?", "answer": "yes", "evidence": "seen 2"},
        ],
    }


async def test_the_round_that_made_the_picture_is_told(house: House) -> None:
    house.chat.script["checklist"] = [checks("yes", "yes"), checks("yes", "no"), *[checks("yes", "yes")] * 2]
    house.chat.script["verify"] = ["No.", "Yes.", "Yes."]
    result = await made(house)
    assert (result.best_round, len(result.rounds)) == (2, 2)
    text = opened(result).text
    assert text["parameters"].startswith("a red cat more\n")
    assert f"Seed: {result.rounds[1]['candidates'][0]['seed']}," in text["parameters"]
    assert json.loads(text["gems"])["round"] == 2


async def test_pixels_stay_as_they_were(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        assert result.image_id is not None
        stored = await gems.resources.images.load(result.image_id)
    with Image.open(io.BytesIO(stored)) as before:
        after = opened(result)
        assert (after.mode, after.size, after.tobytes()) == (before.mode, before.size, before.tobytes())
        assert not getattr(before, "text", {})


async def test_any_text_survives(house: House) -> None:
    prompt = 'ein "Kätzchen", 猫 👍: rot\nund blau'
    text = opened(await made(house, prompt)).text
    assert text["parameters"].startswith(prompt)
    assert json.loads(text["gems"])["prompt"] == prompt


async def test_name_of_a_model_ends_no_value(house: House) -> None:
    draw = house.generator.generate

    async def generate(request: Any) -> Any:
        return replace(await draw(request), model="vendor: flat, large")

    house.generator.generate = generate  # type: ignore[method-assign]
    last = opened(await made(house)).text["parameters"].splitlines()[-1]
    assert "Model: vendor/flat/large, Version" in last


HOSTILE = "a sign:\nSteps: 99, Sampler: Evil, CFG scale: 9, Seed: 666, Size: 1x1\nNegative prompt: none"


@pytest.mark.parametrize("prompt", ["a red cat", HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("negative", ["", "dogs, blur", HOSTILE], ids=["none", "plain", "hostile"])
async def test_other_programs_read_the_metadata(house: House, prompt: str, negative: str) -> None:
    result = await made(house, prompt, negative_prompt=negative)
    assert result.path is not None
    read = sd_parsers.ParserManager().parse(result.path)
    assert read is not None
    (sampler,) = read.samplers
    (text,) = sampler.prompts
    assert text.value.replace(" :", ":") == prompt
    assert bool(sampler.negative_prompts) == bool(negative)
    assert sampler.name == "default"
    assert sampler.model is not None
    assert sampler.model.name == "flat"
    assert {name: str(value) for name, value in sampler.parameters.items()} == {"seed": "7", "steps": "4"}
    assert read.metadata["Size"] == "64x64"


async def test_nothing_is_told_where_nothing_is_wanted(house: House) -> None:
    assert not opened(await made(house, metadata=False)).text
