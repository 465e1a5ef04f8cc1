"""Scoring folders: what is scored stays, and what cannot be scored is told and never zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gems.errors import AuthenticationError, ServerError, UnreachableError
from gems.evals.benchmarks.blocks_bench import BlocksBench
from gems.evals.judge import EvalJudge
from gems.evals.output_folder import EvalFolder
from gems.evals.records import BenchmarkPrompt, SampleKey, Score
from gems.evals.scoring import ScoreReport, score_folder
from tests.support.benchmark_samples import png, row, write_image
from tests.support.judges import Unasked
from tests.support.output_folders import settings

Says = Callable[[BenchmarkPrompt, Mapping[int, bytes]], float | None]


class Scripted(BlocksBench):
    """The benchmark's prompts, scored as a test wants it."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self.asked: list[str] = []

    async def score(self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
        self.asked.append(prompt.id)
        value = self._says(prompt, images)
        told = "" if value is not None else "The judge said: banana."
        facts = {"atomicity": float(prompt.facts["atomicity"])}
        return [
            Score(**prompt.key(sample)._asdict(), metric="met", value=value, facts=facts, explanation=told)
            for sample in images
        ]


async def drawn(place: Path, prompts: int, samples: int = 1, missing: tuple[str, ...] = ()) -> EvalFolder:
    folder = await EvalFolder.create(str(place), settings(limit=prompts, samples=samples))
    for prompt in BlocksBench().prompts(place, "en")[:prompts]:
        for sample in range(samples):
            key = prompt.key(sample)
            if prompt.id in missing:
                more: dict[str, Any] = {"file": "", "sha256": "", "error": "The endpoint failed."}
            else:
                file, sha = await write_image(folder, key, png(side=8 + sample))
                more = {"file": file, "sha256": sha}
            await folder.append(row(key, prompt.text, **more))
    return folder


async def scored(folder: EvalFolder, task: Scripted, **more: Any) -> ScoreReport:
    return await score_folder(folder, task, Unasked(), "truth", data=Path(), **more)


async def test_scores_and_figures_are_written(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 4)
    told: list[tuple[int, int]] = []
    report = await scored(
        folder, Scripted(lambda prompt, _: float(prompt.id < "003")), on_progress=lambda *done: told.append(done)
    )
    assert (report.scored, report.kept, report.unscored, report.missing) == (4, 0, [], [])
    assert sorted(told) == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.figures[0].value == 75.0
    assert report.figures[0].is_partial
    assert await folder.figures() == report.figures
    assert {score.prompt_id: score.value for score in await folder.scores("truth")} == {
        "000": 1.0,
        "001": 1.0,
        "002": 1.0,
        "003": 0.0,
    }


async def test_what_is_scored_is_not_asked_again(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 3)
    task = Scripted(lambda *_: 1.0)
    await scored(folder, task)
    again = await scored(folder, task)
    assert (again.scored, again.kept) == (0, 3)
    assert sorted(task.asked) == ["000", "001", "002"]
    assert again.figures[0].value == 100.0


async def test_new_and_changed_images_are_scored(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 3)
    task = Scripted(lambda *_: 1.0)
    await scored(folder, task)
    key = SampleKey("blocks-bench", "en", "001", 0)
    file, sha = await write_image(folder, key, png("blue"))
    await folder.append(row(key, "another image", file=file, sha256=sha))
    task.asked.clear()
    again = await scored(await drawn_more(tmp_path, folder), task)
    assert sorted(task.asked) == ["001", "003"]
    assert (again.scored, again.kept) == (2, 2)


async def drawn_more(place: Path, folder: EvalFolder) -> EvalFolder:
    """One more prompt."""
    more = await EvalFolder.create(str(place), folder.settings.model_copy(update={"limit": 4}))
    key = SampleKey("blocks-bench", "en", "003", 0)
    file, sha = await write_image(more, key, png())
    await more.append(row(key, "a fourth", file=file, sha256=sha))
    return more


async def test_nonsense_is_listed_and_asked_again(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 3)
    report = await scored(folder, Scripted(lambda prompt, _: None if prompt.id == "001" else 1.0))
    (lost,) = report.unscored
    assert (lost.prompt_id, lost.sample, lost.why) == ("001", 0, "The judge said: banana.")
    assert (report.figures[0].value, report.figures[0].scored) == (100.0, 2)
    task = Scripted(lambda *_: 0.0)
    again = await scored(folder, task)
    assert task.asked == ["001"]
    assert again.unscored == []
    assert again.figures[0].value == pytest.approx(100 * 2 / 3)


async def test_missing_images_are_told_and_left_out(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 3, missing=("002",))
    (tmp_path / "images" / "en" / "000_0.png").unlink()
    report = await scored(folder, Scripted(lambda *_: 1.0))
    assert [(each.prompt_id, each.why.split("/")[-1]) for each in report.missing] == [
        ("000", "000_0.png is missing."),
        ("002", "The endpoint failed."),
    ]
    assert (report.scored, report.figures[0].scored) == (1, 1)


async def test_samples_that_were_never_drawn_are_missing(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 1)
    more = await EvalFolder.create(str(tmp_path), folder.settings.model_copy(update={"samples": 2}))
    report = await scored(more, Scripted(lambda *_: 1.0))
    assert [(each.sample, each.why) for each in report.missing] == [(1, "Not generated yet.")]


async def test_a_judge_that_fails_once_leaves_its_prompt_for_later(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 2, samples=2)

    def says(prompt: BenchmarkPrompt, _: Mapping[int, bytes]) -> float:
        if prompt.id == "000":
            raise ServerError("The endpoint failed (500).")
        return 1.0

    report = await scored(folder, Scripted(says))
    assert [(each.prompt_id, each.sample) for each in report.unscored] == [("000", 0), ("000", 1)]
    assert {score.prompt_id for score in await folder.scores("truth")} == {"001"}
    assert (await scored(folder, Scripted(lambda *_: 0.0))).kept == 1


async def test_scores_of_images_that_are_no_longer_there_count_nowhere(tmp_path: Path) -> None:
    folder = await drawn(tmp_path, 2)
    assert (await scored(folder, Scripted(lambda *_: 1.0))).figures[0].scored == 2
    key = SampleKey("blocks-bench", "en", "001", 0)
    file, sha = await write_image(folder, key, png("blue"))
    await folder.append(row(key, "another image", file=file, sha256=sha))

    def says(prompt: BenchmarkPrompt, _: Mapping[int, bytes]) -> float:
        raise ServerError("The endpoint failed (500).")

    report = await scored(folder, Scripted(says))
    assert (report.figures[0].scored, [each.prompt_id for each in report.unscored]) == (1, ["001"])


@pytest.mark.parametrize("error", [UnreachableError("Nothing answers."), AuthenticationError("No.")])
async def test_what_concerns_all_prompts_ends_it(tmp_path: Path, error: Exception) -> None:
    folder = await drawn(tmp_path, 4)

    def says(prompt: BenchmarkPrompt, _: Mapping[int, bytes]) -> float:
        if prompt.id == "002":
            raise error
        return 1.0

    with pytest.raises(type(error)):
        await scored(folder, Scripted(says), concurrency=1)
    assert {score.prompt_id for score in await folder.scores("truth")} == {"000", "001"}
