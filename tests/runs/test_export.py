"""Training data from runs: which rows there are, and that the readers of trainers read them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from gems.errors import InvalidImageError, OptionError, RunNotFoundError
from gems.memory.run_filter import RunFilter
from gems.results import CheckedRequirement, RunResult
from gems.runs.dataset import DatasetWriter
from gems.runs.training_rows import ExportOptions, Selection, choose_split, find_pairs, pair_row, reward_rows, step_rows
from gems.service import Gems
from gems.settings import Settings
from tests.support.scripted_service import PATIENCE_S

PROMPT = "three red circles above a blue striped square"
OTHER = "a green triangle left of two yellow hearts"
ALL = ExportOptions(unconfirmed=True)


def answer(requirement: str, said: str, source: str = "judge") -> dict[str, Any]:
    return {
        "requirement": requirement,
        "answer": said,
        "evidence": f"{requirement}: {said}",
        "probability": None,
        "source": source,
    }


def turn(number: int, image: str, answers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    met = sum(item["answer"] == "yes" for item in answers) / len(answers)
    candidate = {
        "index": 0,
        "image": image,
        "seed": number,
        "width": 8,
        "height": 8,
        "model": "Tongyi-MAI/Z-Image-Turbo",
        "parameters": {},
        "seconds": 0.0,
    }
    return {
        "number": number,
        "prompt": f"drawn {number}",
        "negative_prompt": "",
        "candidates": [candidate],
        "verdicts": [{"image": image, "answers": answers, "score": met}],
        "best": 0,
        "score": met,
        "seconds": {},
        **more,
    }


def result(*rounds: dict[str, Any], names: str = "abc") -> RunResult:
    requirements = [
        {"id": name, "question": f"Is there {name}?", "kind": "count" if name == "a" else "object", "parents": []}
        | answer(name, "yes")
        for name in names
    ]
    rest: dict[str, Any] = {"stop_reason": "passed", "plan": None, "failure": None, "path": None, "image_id": None}
    rest |= {"experiences": [], "usage": {}, "options": {}, "models": {}, "warnings": [], "seconds": 0.0}
    return RunResult.model_construct(
        run_id="run",
        status="done",
        prompt=PROMPT,
        score=1.0,
        final_prompt="",
        best_round=1,
        rounds=list(rounds),  # type: ignore[arg-type]
        requirements=[CheckedRequirement.model_validate(item) for item in requirements],
        **rest,
    )


def answers(said: str, source: str = "judge") -> list[dict[str, Any]]:
    """Answers to a, b, c by their first letters: y, n, u."""
    words = {"y": "yes", "n": "no", "u": "unknown"}
    return [answer(name, words[letter], source) for name, letter in zip("abc", said, strict=True)]


# --- which rows there are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("yyy", "nyy", ("1", 1 / 3)),
        ("nny", "yyy", ("2", 2 / 3)),
        ("yyy", "yyy", None),
        ("nnn", "nnn", None),
        ("yny", "nyy", None),
        ("uyy", "nyn", ("1", 1 / 2)),
        ("uuu", "nnn", None),
        ("yuu", "nuu", ("1", 1.0)),
        ("yyn", "nny", ("1", 1 / 3)),
    ],
)
def test_pairs_compare_what_is_known_of_both(first: str, second: str, expected: Any) -> None:
    found = find_pairs(result(turn(1, "1", answers(first)), turn(2, "2", answers(second))), ALL)
    assert [(pair.chosen.image, pytest.approx(pair.margin)) for pair in found] == ([expected] if expected else [])


def test_only_what_a_second_look_confirmed_counts_by_default() -> None:
    once = result(turn(1, "1", answers("yyy")), turn(2, "2", answers("nyy")))
    twice = result(turn(1, "1", answers("yyy", "confirmation")), turn(2, "2", answers("nyy")))
    measured = result(turn(1, "1", answers("yyy", "ocr")), turn(2, "2", answers("nyy")))
    assert [len(find_pairs(each, ExportOptions())) for each in (once, twice, measured)] == [0, 1, 1]
    assert [pair.is_confirmed for pair in find_pairs(once, ALL)] == [False]
    assert [len(list(reward_rows(each, ExportOptions()))) for each in (once, twice)] == [0, 1]


def test_pairs_say_how_the_later_image_came_about() -> None:
    first = turn(1, "1", answers("nny"))
    edited = turn(2, "2", answers("yny"), action="edit", parent="1")
    redrawn = turn(3, "3", answers("yyy"), action="redraw")
    found = find_pairs(result(first, edited, redrawn), ALL)
    assert {(pair.chosen.image, pair.rejected.image): pair.relation for pair in found} == {
        ("2", "1"): "edit",
        ("3", "1"): "redraw",
        ("3", "2"): "redraw",
    }
    assert found[0].margin == max(pair.margin for pair in found)


def test_pairs_of_a_kind_and_a_margin() -> None:
    run = result(turn(1, "1", answers("yyy")), turn(2, "2", answers("nyy")), turn(3, "3", answers("ynn")))
    of_counts = ExportOptions(unconfirmed=True, kinds=("count",))
    assert [pair.rejected.image for pair in find_pairs(run, of_counts)] == ["2"]
    assert [pair.rejected.image for pair in find_pairs(run, ExportOptions(unconfirmed=True, min_margin=0.5))] == ["3"]


def test_an_image_that_was_given_is_nobodys_training_data() -> None:
    run = result(turn(1, "1", answers("nyy"), action="given"), turn(2, "2", answers("yyy"), action="edit", parent="1"))
    assert find_pairs(run, ALL) == []
    assert [row["image"] for row in reward_rows(run, ALL)] == ["2"]


def test_rows_are_under_the_users_prompt_unless_asked() -> None:
    run = result(turn(1, "1", answers("yyy")), turn(2, "2", answers("nyy")))
    (pair,) = find_pairs(run, ALL)
    assert pair_row(pair, run, ALL)["prompt"] == PROMPT
    assert pair_row(pair, run, ExportOptions(drawn_prompts=True))["prompt"] == "drawn 1"
    hashed = pair_row(pair, run, ExportOptions(hash_prompts=True))
    assert PROMPT not in json.dumps(hashed)
    assert len(hashed["prompt"]) == 64
    assert pair_row(pair, run, ALL)["chosen_licence"] == "apache-2.0"


def asked(task: str, number: int, text: str, *parts: Any) -> Any:
    question = {"round": number, "system": "Task", "parts": list(parts) or ["tell"]}
    return {"task": task, "answer": {"text": text, "question": question}}


def test_steps_say_what_came_of_them() -> None:
    run = result(turn(1, "1", answers("nny")), turn(2, "2", answers("yny")), turn(3, "3", answers("nnn")))
    steps = [asked("decompose", 1, "{}"), asked("reflect", 1, "{}"), asked("reflect", 2, "{}"), asked("refine", 3, "")]
    found = list(step_rows(run, steps, ExportOptions(harmful=True)))
    third = round(1 / 3, 6)
    assert [(row["task"], row["reward"], row["harmful"]) for row in found] == [
        ("decompose", pytest.approx(third, abs=1e-5), False),
        ("reflect", third, False),
        ("reflect", round(-2 / 3, 6), True),
        ("refine", None, False),
    ]
    assert [row["task"] for row in step_rows(run, steps, ExportOptions())] == ["decompose", "reflect", "refine"]


def test_a_checklist_that_a_later_look_overruled_is_harmful() -> None:
    run = result(turn(1, "1", answers("ynn", "confirmation")))
    questions = "1. Is there a?\n2. Is there b?\n3. Is there c?"
    reply = {
        "answers": [{"number": n, "evidence": "", "answer": said} for n, said in ((1, "yes"), (2, "yes"), (3, "no"))]
    }
    step = asked("checklist", 1, json.dumps(reply), {"image": "1", "label": ""}, questions)
    (row,) = step_rows(run, [step], ExportOptions(harmful=True))
    assert (row["reward"], row["harmful"]) == (pytest.approx(2 / 3, abs=1e-5), True)
    assert row["images"] == ["1"]
    assert list(step_rows(run, [step], ExportOptions())) == []


def test_runs_of_ties_or_of_one_image_have_no_pairs() -> None:
    selection = Selection.start("pairs", ALL)
    ties = result(*(turn(number, str(number), answers(said)) for number, said in enumerate(("yny", "nyy", "yyn"), 1)))
    for run in (ties, result(turn(1, "1", answers("yyy"))), result()):
        assert list(selection.choose(run)) == []
    assert selection.left_out == {"runs without anything to export": 3}


def test_answers_of_earlier_versions_have_no_question() -> None:
    assert list(step_rows(result(), [{"task": "reflect", "answer": {"text": ""}}], ALL)) == []  # type: ignore[list-item]


def test_a_prompt_is_in_one_split() -> None:
    splits = {"train": 0.8, "test": 0.2}
    prompts = [f"prompt number {number}" for number in range(2000)]
    found = [choose_split(prompt, splits) for prompt in prompts]
    assert 0.15 < found.count("test") / len(found) < 0.25
    assert [choose_split(f"  {prompt.upper()} ", splits) for prompt in prompts] == found
    assert {choose_split(prompt, {"all": 1.0}) for prompt in prompts} == {"all"}


@pytest.mark.parametrize(
    "splits", [{}, {"train": 0.5}, {"train": 1.5}, {"train": 0.6, "test": 0.6}, {"../x": 1.0}, {"a": 0.0, "b": 1.0}]
)
def test_splits_that_make_no_sense_are_refused(splits: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ExportOptions(splits=splits)


# --- real runs, real readers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the built-in world."""
    folder = tmp_path_factory.mktemp("export") / "home"

    async def fill() -> None:
        async with Gems(Settings(home=folder)) as gems:
            for prompt in (PROMPT, OTHER):
                for seed in range(4):
                    await gems.run(prompt, seed=seed, size="256x256")
            await gems.run(PROMPT, seed=9, size="256x256", memory=False)

    asyncio.run(fill())
    return folder


@pytest.fixture
async def gems(home: Path) -> AsyncIterator[Gems]:
    async with Gems(Settings(home=home)) as service:
        yield service


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Hugging Face's library, offline."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    return lambda folder: datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


async def test_hugging_faces_library_reads_pairs(gems: Gems, tmp_path: Path, reader: Any) -> None:
    splits = {"train": 0.5, "test": 0.5}
    done = await gems.export("pairs", tmp_path / "pairs", options=ExportOptions(unconfirmed=True, splits=splits))
    read = reader(tmp_path / "pairs")
    assert {split: rows.num_rows for split, rows in read.items()} == done.rows
    assert done.left_out["runs without memory, which were not named"] == 1
    rows = [row for split in read.values() for row in split]
    assert len(rows) == sum(done.rows.values()) > 0
    assert {row["prompt"] for row in rows} <= {PROMPT, OTHER}
    assert set(read["train"]["prompt"]).isdisjoint(read["test"]["prompt"])
    for row in rows:
        assert row["chosen"].size == row["rejected"].size == (256, 256)
        assert row["margin"] > 0
        better = [each for each in row["requirements"] if each["chosen_answer"] == "yes" != each["rejected_answer"]]
        assert better
    assert set(os.listdir(tmp_path)) == {"cache", "pairs"}


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


async def test_the_same_export_gives_the_same_bytes(gems: Gems, tmp_path: Path) -> None:
    for name in ("one", "two"):
        await gems.export("pairs", tmp_path / name, options=ALL)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert set(one) == {"README.md", "data/train.parquet"}


async def test_diffusers_example_reads_pairs(gems: Gems, tmp_path: Path, reader: Any) -> None:
    """`train_diffusion_dpo.py` opens `jpg_0` and `jpg_1`, and takes `jpg_1` for the better one where `label_0` is 0."""
    await gems.export("pairs", tmp_path / "datasets", options=ALL)
    await gems.export("pairs", tmp_path / "diffusers", layout="diffusers", options=ALL)
    ours, theirs = reader(tmp_path / "datasets")["train"], reader(tmp_path / "diffusers")["train"]
    assert set(theirs.column_names) == {"caption", "jpg_0", "jpg_1", "label_0", "label_1"}
    for known, row in zip(ours, theirs, strict=True):
        pictures = [Image.open(io.BytesIO(row[name])).convert("RGB") for name in ("jpg_0", "jpg_1")]
        better, worse = pictures[::-1] if row["label_0"] == 0 else pictures
        assert better.tobytes() == known["chosen"].convert("RGB").tobytes()
        assert worse.tobytes() == known["rejected"].convert("RGB").tobytes()
        assert row["caption"] == known["prompt"]


async def test_pairs_for_verl_omni(gems: Gems, tmp_path: Path) -> None:
    """By its documented columns; the tensors depend on the model, and its script computes them."""
    await gems.export("pairs", tmp_path / "pairs", layout="verl-omni", options=ALL)
    rows = pq.read_table(tmp_path / "pairs" / "data" / "train.parquet").to_pylist()
    assert rows
    for row in rows:
        assert row["win_score"] > row["lose_score"]
        assert row["extra_info"]["raw_prompt"] == row["prompt"][0]["content"]
        for name in ("img_win", "img_lose"):
            with Image.open(tmp_path / "pairs" / "data" / row[name]) as picture:
                assert picture.size == (256, 256)


def test_the_winner_for_verl_omni_has_the_higher_score(tmp_path: Path) -> None:
    """Its reader refuses others; of all requirements the rejected image here meets more."""
    run = result(turn(1, "1", answers("yuu")), turn(2, "2", answers("nyy")))
    (pair,) = find_pairs(run, ALL)
    with DatasetWriter(tmp_path / "out", "pairs", "verl-omni", ALL) as writer:
        writer.add("train", pair_row(pair, run, ALL), {"1": png(8), "2": png(16)})
        writer.finish({})
    (row,) = pq.read_table(tmp_path / "out" / "data" / "train.parquet").to_pylist()
    assert (row["win_score"], row["lose_score"]) == (1.0, 0.0)


async def test_rewards_and_steps_are_read(gems: Gems, tmp_path: Path, reader: Any) -> None:
    await gems.export("rewards", tmp_path / "rewards", options=ALL)
    rewards = reader(tmp_path / "rewards")["train"]
    for row in rewards:
        met = sum(label["answer"] == "yes" for label in row["labels"])
        assert row["score"] == pytest.approx(met / len(row["labels"]))
    await gems.export("trajectories", tmp_path / "steps")
    steps = reader(tmp_path / "steps")["train"]
    assert {"planner", "judge"} <= set(steps["role"])
    for row in steps:
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row["completion"][0]["content"][0]["text"]
        pictures = [part for message in row["prompt"] for part in message["content"] if part["type"] == "image"]
        assert len(pictures) == len(row["images"])


async def test_most_rows_of_a_prompt(gems: Gems, tmp_path: Path) -> None:
    done = await gems.export("rewards", tmp_path / "rewards", options=ExportOptions(unconfirmed=True, per_prompt=1))
    assert done.rows == {"train": 2}
    assert done.left_out["beyond the most of a prompt"] > 0


async def test_runs_that_are_named_and_other_owners(gems: Gems, tmp_path: Path) -> None:
    (row,) = [row for row in await gems.runs() if not row["options"]["memory"]]
    done = await gems.export("rewards", tmp_path / "named", runs=[row["run_id"], row["run_id"]], options=ALL)
    assert done.runs == 1
    assert sum(done.rows.values()) > 0
    other = await gems.export("rewards", tmp_path / "other", owner="ada", options=ALL)
    assert other.rows == {"train": 0}
    assert other.left_out["runs of another owner"] == 9
    with pytest.raises(RunNotFoundError):
        await gems.export("rewards", tmp_path / "absent", runs=["absent"])
    assert not (tmp_path / "absent").exists()


async def test_nothing_is_written_where_there_are_no_rows(gems: Gems, tmp_path: Path) -> None:
    done = await gems.export("pairs", tmp_path / "none", wanted=RunFilter(text="nothing of the kind"))
    assert (done.folder, done.runs, done.rows) == ("", 0, {"train": 0})
    assert os.listdir(tmp_path) == []


async def test_splits_without_rows_are_no_splits(gems: Gems, tmp_path: Path, reader: Any) -> None:
    options = ExportOptions(unconfirmed=True, splits={"train": 0.001, "test": 0.998, "rest": 0.001})
    await gems.export("rewards", tmp_path / "rewards", options=options)
    assert set(reader(tmp_path / "rewards")) == {"test"}


async def test_images_that_are_gone_or_damaged_are_told(gems: Gems, home: Path, tmp_path: Path) -> None:
    before = await gems.export("rewards", tmp_path / "before", options=ALL)
    rows = pq.read_table(tmp_path / "before" / "data" / "train.parquet", columns=["image_id"]).to_pylist()
    gone, damaged = (home / "images" / row["image_id"][:2] / f"{row['image_id']}.png" for row in rows[:2])
    kept = {path: path.read_bytes() for path in (gone, damaged)}
    try:
        gone.unlink()
        damaged.write_bytes(kept[damaged][:-20])
        after = await gems.export("rewards", tmp_path / "after", options=ALL)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    lost = after.left_out["rows whose images are gone or damaged"]
    assert lost >= 2
    assert after.rows["train"] == before.rows["train"] - lost


# --- files ---------------------------------------------------------------------------------------------------------


def png(size: int = 8, **texts: str) -> bytes:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    out = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(out, "PNG", pnginfo=info)
    return out.getvalue()


def row_of(image: str) -> dict[str, Any]:
    return {"prompt": "p", "image": image, "confirmed": True, "labels": [], "run": "r"}


def test_metadata_of_images_is_removed(tmp_path: Path) -> None:
    tagged = png(prompt="a secret prompt")
    with DatasetWriter(tmp_path / "out", "rewards", "datasets", ALL) as writer:
        writer.add("train", row_of("1"), {"1": tagged})
        for broken in (b"", b"GIF89a", tagged[:40], tagged[:-6]):
            with pytest.raises(InvalidImageError):
                writer.add("train", row_of("2"), {"2": broken})
        writer.finish({})
    (row,) = pq.read_table(tmp_path / "out" / "data" / "train.parquet").to_pylist()
    plain = row["image"]["bytes"]
    assert b"secret" in tagged
    assert b"secret" not in plain
    assert Image.open(io.BytesIO(plain)).tobytes() == Image.open(io.BytesIO(tagged)).tobytes()


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def write() -> None:
        with DatasetWriter(tmp_path / "out", "rewards", "datasets", ALL) as writer:
            writer.add("train", row_of("1"), {"1": png()})
            raise StopError

    with pytest.raises(StopError):
        write()
    assert list(tmp_path.iterdir()) == []


async def test_an_export_that_is_cancelled_at_its_end_is_whole(
    gems: Gems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, begun, may_end = DatasetWriter.finish, threading.Event(), threading.Event()

    def wait_and_finish(self: DatasetWriter, left_out: Any) -> None:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        finish(self, left_out)

    monkeypatch.setattr(DatasetWriter, "finish", wait_and_finish)
    exporting = asyncio.create_task(gems.export("rewards", tmp_path / "out", options=ALL))
    assert await asyncio.to_thread(begun.wait, PATIENCE_S)
    exporting.cancel()
    await asyncio.wait([exporting], timeout=0.1)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await exporting
    assert os.listdir(tmp_path) == ["out"]
    assert set(contents(tmp_path / "out")) == {"README.md", "data/train.parquet"}
    assert pq.read_table(tmp_path / "out" / "data").num_rows > 0


def test_images_of_different_sizes_are_a_pair(tmp_path: Path, reader: Any) -> None:
    run = result(turn(1, "1", answers("yyy")), turn(2, "2", answers("nyy"), action="edit", parent="1"))
    (pair,) = find_pairs(run, ALL)
    with DatasetWriter(tmp_path / "out", "pairs", "datasets", ALL) as writer:
        writer.add("train", pair_row(pair, run, ALL), {"1": png(8), "2": png(16)})
        writer.finish({})
    (row,) = reader(tmp_path / "out")["train"]
    assert (row["chosen"].size, row["rejected"].size) == ((8, 8), (16, 16))


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="not empty"):
        DatasetWriter(tmp_path, "pairs", "datasets", ALL)
    with pytest.raises(OptionError, match="not empty"):
        DatasetWriter(tmp_path / "file", "pairs", "datasets", ALL)
    with pytest.raises(OptionError, match="have no layout"):
        DatasetWriter(tmp_path / "new", "rewards", "diffusers", ALL)


def test_rows_are_written_in_groups_so_that_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gems.runs.dataset._GROUP_ROWS", 10)
    with DatasetWriter(tmp_path / "out", "rewards", "datasets", ALL) as writer:
        for number in range(35):
            writer.add("train", row_of(str(number)), {str(number): png()})
            assert sum(map(len, writer._pending.values())) < 10
        writer.finish({})
    read = pq.ParquetFile(tmp_path / "out" / "data" / "train.parquet")
    assert [read.metadata.row_group(number).num_rows for number in range(read.num_row_groups)] == [10, 10, 10, 5]
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~mask
