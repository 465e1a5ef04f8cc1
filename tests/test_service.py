"""Runs carried out, told as they happen, listed and shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gems.errors import (
    GemsError,
    OptionError,
    PromptError,
    RejectedRequestError,
    RunNotFoundError,
    ServerError,
    SizeError,
    UnreachableError,
)
from gems.events import Finished, ImageDrawn, Judged, Started, Stopped, Warned
from gems.memory.locks import is_run_locked
from gems.memory.run_filter import RunFilter
from gems.service import Gems
from gems.skills.models import Skill
from gems.types import RunStatus
from tests.support.scripted_models import FlatGenerator, ScriptedChat, checks, opened_gems, settings_at
from tests.support.scripted_service import House, content, removed, told, unchanging


@pytest.fixture
def house(tmp_path: Path, backend: str | None) -> House:
    return House(tmp_path / "home")


async def test_result_says_everything(house: House) -> None:
    house.chat.script["checklist"] = [checks("yes", "no"), *[checks("yes", "yes")] * 2]
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, negative_prompt="dogs")
    assert (result.status, result.stop_reason, result.score, result.best_round) == ("done", "passed", 1.0, 2)
    assert (result.prompt, result.final_prompt) == ("a red cat", "a red cat more")
    assert [(item.question, item.answer, item.source) for item in result.requirements] == [
        ("Is there a cat?", "yes", "confirmation"),
        ("Is it red?", "yes", "confirmation"),
    ]
    assert result.passed
    more_than_was_checked = result.model_copy(update={"stop_reason": "undecided"})
    assert not more_than_was_checked.passed
    assert [turn["score"] for turn in result.rounds] == [0.5, 1.0]
    assert (result.options["seed"], result.options["negative_prompt"]) == (7, "dogs")
    assert result.models == {
        "planner": "ScriptedChat",
        "judge": "ScriptedChat",
        "reflector": "ScriptedChat",
        "generator": "flat",
    }
    assert result.usage["generator"]["calls"] == 2
    assert result.image.size == (64, 64)
    assert result.path == str(house.home / "outputs" / f"{result.run_id}.png")
    assert content(result.path) == result._repr_png_()
    assert (result.failure, result.warnings) == (None, [])


async def test_events_come_in_order_and_complete(house: House) -> None:
    house.chat.script["checklist"] = [checks("no", "no")] * 2 + [checks("yes", "yes")] * 5
    async with house.gems() as gems:
        events = await told(gems.stream("a red cat", seed=7, candidates=2))
    kinds = [event.type for event in events]
    assert kinds[0] == "started"
    # The requirements are listed while the first images are drawn.
    assert kinds.index("requirements") < kinds.index("verdicts")
    kinds.remove("requirements")
    assert kinds[1] == "planned"
    assert kinds[2:] == ["image"] * 2 + ["verdicts", "experience"] + ["image"] * 2 + ["verdicts", "stopped", "finished"]
    assert {event.run_id for event in events} == {events[0].run_id}
    assert isinstance(events[0], Started)
    assert not events[0].resumed
    last = events[-1]
    assert isinstance(last, Finished)
    drawn = [event for event in events if isinstance(event, ImageDrawn)]
    assert [event.round for event in drawn] == [1, 1, 2, 2]
    assert all(content(event.path).startswith(b"\x89PNG") for event in drawn)
    judged = [event for event in events if isinstance(event, Judged)]
    assert [event.verdicts for event in judged] == [turn["verdicts"] for turn in last.result.rounds]
    (stopped,) = (event for event in events if isinstance(event, Stopped))
    assert (stopped.image, stopped.score) == (last.result.image_id, 1.0)


async def test_run_is_listed_and_shown(house: House) -> None:
    async with house.gems() as gems:
        first = await gems.run("a red cat", seed=7)
        second = await gems.run("a blue dog", seed=7)
        rows = await gems.runs()
        shown = await gems.show(first.run_id)
        assert [row["run_id"] for row in await gems.runs(1)] == [second.run_id]
    assert {row["run_id"] for row in rows} == {first.run_id, second.run_id}
    assert {row["status"] for row in rows} == {"done"}
    row = next(row for row in rows if row["run_id"] == first.run_id)
    assert row["summary"] == {
        "score": 1.0,
        "stop_reason": "passed",
        "rounds": 1,
        "images": 1,
        "image": first.image_id,
        "path": first.path,
        "calls": sum(first.usage[role]["calls"] for role in first.usage if role != "generator"),
        "usd": None,
    }
    assert shown.model_dump() == first.model_dump()
    assert shown.image.tobytes() == first.image.tobytes()


async def test_shown_run_whose_file_is_gone_points_into_the_store(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        removed(result.path)
        shown = await gems.show(result.run_id)
    assert shown.path is not None
    assert result.image_id is not None
    assert Path(shown.path).name == f"{result.image_id}.png"


@pytest.mark.parametrize("bad", ["", "20260101-000000-abcdef", "../../etc/passwd", "x" * 500, "a\0b"])
async def test_unknown_run(house: House, bad: str) -> None:
    async with house.gems() as gems:
        for doing in (gems.resume, gems.cancel, gems.show):
            with pytest.raises(RunNotFoundError):
                await doing(bad)
    assert not (house.home / "locks").exists()


@pytest.mark.parametrize(
    ("prompt", "arguments", "error"),
    [
        ("", {}, PromptError),
        ("a cat", {"max_rounds": 0}, OptionError),
        ("a cat", {"size": "1x1"}, SizeError),
        ("a cat", {"skills": "cooking"}, OptionError),
        ("a cat", {"budget_usd": 1.0}, OptionError),
        ("a cat", {"out": "picture.jpg"}, OptionError),
    ],
)
async def test_bad_request_costs_nothing(house: House, prompt: str, arguments: Any, error: type[GemsError]) -> None:
    async with house.gems() as gems:
        with pytest.raises(error) as caught:
            await gems.run(prompt, **arguments)
        assert await gems.runs() == []
    assert caught.value.run_id == ""
    assert (house.chat.asked, house.generator.requests) == ([], [])


async def test_budget_needs_known_prices(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    priced = settings.chat.model_copy(update={"input_usd_per_million": 1_000.0, "output_usd_per_million": 2_000.0})
    generator = FlatGenerator(price_usd=0.5)
    async with Gems(settings.model_copy(update={"chat": priced}), chat=ScriptedChat(), generator=generator) as gems:
        result = await gems.run("a red cat", seed=7, budget_usd=5)
    # 5 questions of 10 tokens in and 5 out, and an image.
    spent = sum(share["usd"] or 0 for share in result.usage.values())
    assert spent == pytest.approx(0.5 + 5 * (10 * 0.001 + 5 * 0.002))


async def test_same_seed_gives_the_same_run(house: House) -> None:
    house.never_pass()
    async with house.gems() as gems:
        first = await gems.run("a red cat", seed=7, candidates=2, max_rounds=3)
        second = await gems.run("a red cat", seed=7, candidates=2, max_rounds=3)
        other = await gems.run("a red cat", seed=8, candidates=2, max_rounds=3)
    assert first.run_id != second.run_id
    assert unchanging(first) == unchanging(second)
    assert len(house.generator.requests) == 18
    images = [{c["image"] for turn in run.rounds for c in turn["candidates"]} for run in (first, other)]
    assert not images[0] & images[1]


async def test_runs_go_side_by_side(house: House) -> None:
    together = asyncio.Barrier(3)

    async def meet() -> None:
        await asyncio.wait_for(together.wait(), 30)

    house.generator.before = lambda request: meet()
    async with house.gems() as gems:
        results = await asyncio.gather(*(gems.run(f"cat {n}", seed=n) for n in range(3)))
    assert [result.prompt for result in results] == ["cat 0", "cat 1", "cat 2"]
    assert len({result.run_id for result in results}) == 3


async def test_error_before_the_first_image_names_the_run(house: House) -> None:
    house.chat.script["decompose"] = UnreachableError("nobody answers")
    async with house.gems() as gems:
        with pytest.raises(UnreachableError) as caught:
            await gems.run("a red cat", seed=7)
        (row,) = await gems.runs()
        assert (row["run_id"], row["status"]) == (caught.value.run_id, "failed")
        shown = await gems.show(row["run_id"])
    assert (shown.image_id, shown.path, shown.score, shown.best_round) == (None, None, 0.0, 0)
    with pytest.raises(ValueError, match="no image"):
        _ = shown.image


async def test_fault_after_the_first_image_hands_it_back(house: House) -> None:
    house.never_pass()

    async def fail() -> None:
        raise ServerError("down")

    house.on_drawing(2, fail)
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        (row,) = await gems.runs()
    assert (result.stop_reason, result.status, row["status"]) == ("failed", "failed", "failed")
    assert result.failure is not None
    assert (result.failure["node"], result.failure["error"]) == ("generator", "ServerError")
    assert result.image.size == (64, 64)


async def test_run_that_no_process_works_on_was_interrupted(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        await gems.resources.ledger.mark(result.run_id, "running")
        assert [row["status"] for row in await gems.runs()] == ["interrupted"]
        assert (await gems.show(result.run_id)).status == "interrupted"


async def test_a_run_that_ends_while_it_is_looked_at_was_not_interrupted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        ledger = gems.resources.ledger

        async def end(run_id: str) -> bool:
            await ledger.mark(run_id, "done")
            return False

        monkeypatch.setattr(gems.resources.locks, "is_locked", end)
        wishes: list[tuple[RunStatus | None, list[str]]] = [(None, ["done"]), ("interrupted", []), ("running", [])]
        for wanted, found in wishes:
            await ledger.mark(result.run_id, "running")
            assert [row["status"] for row in await gems.runs(wanted=RunFilter(status=wanted))] == found
        await ledger.mark(result.run_id, "running")
        assert (await gems.show(result.run_id)).status == "done"


async def test_what_skills_tell_is_heard(house: House) -> None:
    skill = Skill(name="spatial", description="Where things stand.", body="Say where.")
    house.chat.script["enhance"] = RejectedRequestError("not like this")
    async with opened_gems(house.home, house.chat, house.generator, [skill]) as gems:
        events = await told(gems.stream("a red cat", seed=7, skills="spatial"))
    (warned,) = (event for event in events if isinstance(event, Warned))
    assert "not like this" in warned.message
    assert events[-1].result.warnings == [warned.message]  # type: ignore[union-attr]


async def test_lock_is_let_go_of_after_every_end(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        house.chat.script["decompose"] = ServerError("down")
        house.chat.script["checklist"] = ServerError("down")
        failed = await gems.run("a red cat", seed=7)
    for run in (result, failed):
        assert not is_run_locked(house.home / "locks", run.run_id)


async def test_run_can_be_named_and_its_name_is_taken_once(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", new_id="my-run.1")
        assert result.run_id == "my-run.1"
        with pytest.raises(OptionError, match=r"The run 'my-run\.1' already exists"):
            await gems.run("a red cat", new_id="my-run.1")
        for name in ("../x", "", ".x", "a/b", "x" * 101):
            with pytest.raises(OptionError, match="Invalid run id"):
                await gems.run("a red cat", new_id=name)
        assert [row["run_id"] for row in await gems.runs()] == ["my-run.1"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("widht", "size='WIDTHxHEIGHT'"),
        ("height", "size='WIDTHxHEIGHT'"),
        ("sed", "Did you mean seed?"),
        ("max_round", "Did you mean max_rounds?"),
        ("negativ_prompt", "Did you mean negative_prompt?"),
        ("Seed", "Did you mean seed?"),
        ("xyz", "There are "),
    ],
)
async def test_an_unknown_option_is_an_error_with_a_suggestion(name: str, hint: str, house: House) -> None:
    given: Any = {name: 5}
    async with house.gems() as gems:
        with pytest.raises(OptionError, match=repr(name)) as raised:
            await gems.run("a red cat", **given)
        assert hint in raised.value.hint
        assert await gems.runs() == []


@pytest.mark.parametrize("name", ["widht", "size", "skills", "source"])
async def test_a_fork_takes_no_option_that_it_would_ignore(name: str, house: House) -> None:
    given: Any = {name: "64x64"}
    async with house.gems() as gems:
        done = await gems.run("a red cat")
        with pytest.raises(OptionError, match=repr(name)):
            await gems.fork(done.run_id, 1, **given)
        assert len(await gems.runs()) == 1


@pytest.mark.parametrize("how", ["deleted", "emptied"])
async def test_a_run_whose_checkpoints_are_lost_is_told_as_such(tmp_path: Path, how: str) -> None:
    house = House(tmp_path / "home")
    house.never_pass()
    async with house.gems() as gems:
        before = await gems.run("a red cat", seed=7, max_rounds=2)
        checkpoints = gems.settings.checkpoints_path
    for path in sorted(checkpoints.parent.glob(f"{checkpoints.name}*")):
        path.unlink() if how == "deleted" else path.write_bytes(b"")
    async with house.gems() as gems:
        found = await gems.show(before.run_id)
        assert found.image_id == before.image_id
        assert [c["image"] for turn in found.rounds for c in turn["candidates"]].count(before.image_id) == 1
        (warning,) = found.warnings
        assert "checkpoints" in warning
        assert f"with a score of {before.score:.2f}" in warning
        assert "Only the images of this run are known (2)" in warning
