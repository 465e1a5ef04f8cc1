"""Forks: what is shared is shared, and nothing of it is paid for again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gems.errors import GemsError, OptionError, PromptError, RunBusyError, RunNotFoundError, StorageError
from gems.events import ImageDrawn, Started
from gems.results import RunResult
from gems.service import Gems
from tests.support.scripted_models import Asked, checks
from tests.support.scripted_service import FILES_ONLY, PATIENCE_S, House, Pause, held_elsewhere, told


def climbing(*verdicts: dict[str, Any]) -> Callable[[Asked], dict[str, Any]]:
    """Judges each new picture by the next of `verdicts`, all others by the last."""
    known: dict[str, int] = {}

    def judge(asked: Asked) -> dict[str, Any]:
        place = known.setdefault(asked.pictures[0], len(known))
        return verdicts[min(place, len(verdicts) - 1)]

    return judge


@pytest.fixture
def house(tmp_path: Path, backend: str | None) -> House:
    """A home whose judge is never content."""
    house = House(tmp_path / "home")
    house.chat.script["checklist"] = climbing(checks("no", "no"), checks("yes", "no"))
    return house


def forget_what_was_asked(house: House) -> None:
    house.chat.asked.clear()
    house.generator.requests.clear()


async def everything_about(gems: Gems, run_id: str) -> tuple[Any, ...]:
    states = gems._graph.aget_state_history({"configurable": {"thread_id": run_id}})
    row = await gems.resources.ledger.run(run_id)
    return row, await gems.resources.ledger.drawings(run_id), [state async for state in states]


async def source(gems: Gems, **more: Any) -> RunResult:
    return await gems.run("a red cat", **{"seed": 7, "max_rounds": 3} | more)


async def test_fork_shares_the_history_and_pays_for_none_of_it(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        before = await everything_about(gems, run.run_id)
        forget_what_was_asked(house)
        fork = await gems.fork(run.run_id, 2, "a blue cat")
        assert house.drawn() == [("a blue cat", run.rounds[2]["candidates"][0]["seed"])]
        assert house.chat.tasks() == ["checklist", "verify"]
        assert fork.rounds[:2] == run.rounds[:2]
        assert (fork.experiences, len(fork.rounds)) == (run.experiences, 3)
        assert fork.run_id != run.run_id
        assert fork.forked_from == {"run_id": run.run_id, "round": 2}
        assert (await gems.show(fork.run_id)).forked_from == fork.forked_from
        assert await everything_about(gems, run.run_id) == before
        listed = [(row["run_id"], row["forked_from"]) for row in await gems.runs()]
    assert listed == [(fork.run_id, fork.forked_from), (run.run_id, None)]


async def test_fork_has_a_ledger_of_its_own(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        fork = await gems.fork(run.run_id, 1, "a blue cat")
        drawn = [c for turn in fork.rounds for c in turn["candidates"]]
        assert await gems.resources.ledger.drawings(fork.run_id) == drawn
        assert (await gems.resources.ledger.run(fork.run_id) or {})["options"] == run.options


async def test_without_a_prompt_the_reflectors_own_is_drawn(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        forget_what_was_asked(house)
        fork = await gems.fork(run.run_id, 2, seed=8)
        assert house.chat.about("reflect") == []
    assert [turn["prompt"] for turn in fork.rounds] == [turn["prompt"] for turn in run.rounds]
    assert fork.rounds[2]["candidates"][0]["seed"] != run.rounds[2]["candidates"][0]["seed"]
    assert fork.options["seed"] == 8


async def test_last_round_is_reflected_upon_first(house: House) -> None:
    """The source ended there, so that its reflector never had a turn: only that is asked, and once."""
    async with house.gems() as gems:
        run = await source(gems)
        forget_what_was_asked(house)
        fork = await gems.fork(run.run_id, 3)
    assert house.chat.tasks() == ["reflect", "checklist", "verify"]
    assert [e["round"] for e in fork.experiences] == [1, 2, 3]
    assert fork.rounds[3]["prompt"] == fork.experiences[2]["next_prompt"] == "a red cat more more more"
    # Where the source's options leave no room, there is one round more.
    assert (fork.options["max_rounds"], fork.stop_reason) == (4, "max_rounds")


async def test_last_round_goes_on_with_a_prompt(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        forget_what_was_asked(house)
        fork = await gems.fork(run.run_id, 3, "a blue cat", max_rounds=5)
    assert house.chat.tasks() == ["checklist", "verify", "reflect", "checklist", "verify"]
    assert [turn["prompt"] for turn in fork.rounds[3:]] == ["a blue cat", "a blue cat more"]


async def test_fork_of_a_fork_at_an_earlier_round(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        first = await gems.fork(run.run_id, 2, "a blue cat")
        await gems.delete(run.run_id)
        second = await gems.fork(first.run_id, 1, "a green cat")
        third = await gems.fork(first.run_id, 3, "a black cat")
    assert second.rounds[0] == run.rounds[0]
    assert [turn["prompt"] for turn in second.rounds] == ["a red cat", "a green cat", "a green cat more"]
    assert third.rounds[:3] == first.rounds


async def test_usage_counts_what_is_shared(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        fork = await gems.fork(run.run_id, 2, "a blue cat")
    assert fork.usage["generator"]["calls"] == 3
    assert fork.usage["judge"]["calls"] == run.usage["judge"]["calls"]


@pytest.mark.parametrize(
    ("number", "prompt", "options", "error", "said"),
    [
        (0, None, {}, OptionError, "has 3 judged rounds"),
        (4, None, {}, OptionError, "has 3 judged rounds"),
        (2, None, {"max_rounds": 2}, OptionError, "leave none after round 2"),
        (2, None, {"max_images": 2}, OptionError, "leave none after the 2"),
        (2, None, {"candidates": 99}, OptionError, "candidates"),
        (2, " ", {}, PromptError, "empty"),
    ],
)
async def test_wrong_wishes_leave_nothing_behind(
    house: House, number: int, prompt: str | None, options: Any, error: type[GemsError], said: str
) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        forget_what_was_asked(house)
        with pytest.raises(error, match=said):
            await gems.fork(run.run_id, number, prompt, **options)
        assert [row["run_id"] for row in await gems.runs()] == [run.run_id]
        assert await gems.resources.ledger.unlisted() == {}
        with pytest.raises(RunNotFoundError):
            await gems.fork("nothing", 1)
    assert (house.chat.asked, house.generator.requests) == ([], [])


async def test_round_that_lacks_nothing_needs_a_prompt(house: House) -> None:
    house.chat.script["checklist"] = checks("yes", "yes")
    async with house.gems() as gems:
        run = await source(gems)
        with pytest.raises(OptionError, match="--prompt"):
            await gems.fork(run.run_id, 1)
        fork = await gems.fork(run.run_id, 1, "a blue cat")
    assert [turn["prompt"] for turn in fork.rounds] == ["a red cat", "a blue cat"]
    assert (fork.stop_reason, fork.best_round) == ("passed", 1)


async def test_fork_is_told_as_it_happens_and_can_be_resumed(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        pause = Pause()
        house.on_drawing(2, pause)
        forking = asyncio.ensure_future(told(gems.stream_fork(run.run_id, 1, "a blue cat")))
        await pause.wait()
        forking.cancel()
        await asyncio.gather(forking, return_exceptions=True)
        house.on_drawing(1, None)
        newest = (await gems.runs(1))[0]
        assert (newest["status"], newest["forked_from"]) == ("interrupted", {"run_id": run.run_id, "round": 1})
        events = await told(gems.stream_resume(newest["run_id"]))
    assert isinstance(events[0], Started)
    assert [event.round for event in events if isinstance(event, ImageDrawn)] == [3]
    assert house.drawn().count(("a blue cat", run.rounds[1]["candidates"][0]["seed"])) == 1


async def test_run_that_goes_on_can_be_forked(house: House) -> None:
    async with house.gems() as gems:
        pause = Pause()
        house.on_drawing(3, pause)
        running = asyncio.ensure_future(source(gems))
        await pause.wait()
        house.on_drawing(1, None)
        (row,) = await gems.runs()
        # Checkpoints are written beside the loop: the store may be behind it.
        async with asyncio.timeout(PATIENCE_S):
            while not (await gems.show(row["run_id"])).rounds:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        fork = await gems.fork(row["run_id"], 1, "a blue cat")
        assert len(fork.rounds) == 3
        await gems.cancel(row["run_id"])
        result = await asyncio.wait_for(running, PATIENCE_S)
    assert (result.stop_reason, len(result.rounds)) == ("cancelled", 2)


async def test_run_that_is_being_deleted_cannot_be_forked(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        with held_elsewhere(gems.settings.locks_path, run.run_id), pytest.raises(RunBusyError):
            await gems.fork(run.run_id, 1)


@FILES_ONLY
async def test_fork_that_cannot_be_written_leaves_nothing(house: House) -> None:
    async with house.gems() as gems:
        run = await source(gems)
        saver: Any = gems.resources.checkpointer
        # The copy breaks off halfway.
        await saver.conn.execute(
            "CREATE TRIGGER full BEFORE INSERT ON checkpoints WHEN (SELECT count(*) FROM checkpoints WHERE"
            " thread_id = new.thread_id) = 3 BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
        with pytest.raises(StorageError):
            await gems.fork(run.run_id, 2, "a blue cat")
        async with saver.conn.execute("SELECT DISTINCT thread_id FROM checkpoints") as cursor:
            assert [row[0] for row in await cursor.fetchall()] == [run.run_id]
        assert [row["run_id"] for row in await gems.runs()] == [run.run_id]
        assert await gems.resources.ledger.unlisted() == {}
