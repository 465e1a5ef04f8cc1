"""Runs that were interrupted, cancelled or failed, and how they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gems.errors import InternalError, RunBusyError, RunCancelledError, ServerError, UnreachableError
from gems.events import ImageDrawn, Reflected, Started
from gems.service import Gems
from tests.support.older_home import OLD_NAMES, downgrade, kept_names
from tests.support.scripted_models import Asked, checks, settings_at
from tests.support.scripted_service import PATIENCE_S, House, Pause, held_elsewhere, told, unchanging

SECOND = "second look"


def third_time_lucky() -> Callable[[Asked], dict[str, Any]]:
    """Judges the third picture it is shown to meet everything, whenever and however often it is asked."""
    known: dict[str, int] = {}
    verdicts = (checks("no", "no"), checks("no", "no"), checks("yes", "yes"))
    return lambda asked: verdicts[known.setdefault(asked.pictures[0], len(known))]


@pytest.fixture
def house(tmp_path: Path, backend: str | None) -> House:
    """A home whose judge is content with the third round."""
    house = House(tmp_path / "home")
    house.chat.script["checklist"] = third_time_lucky()
    return house


async def undisturbed(tmp_path: Path) -> dict[str, Any]:
    """What the run comes to when nothing happens to it."""
    other = House(tmp_path / "undisturbed")
    other.chat.script["checklist"] = third_time_lucky()
    async with other.gems() as gems:
        return unchanging(await gems.run("a red cat", seed=7))


async def cancelled_at(house: House, gems: Gems, image: int, by: Gems | None = None) -> Any:
    """The result of a run that is cancelled while its `image`th image is drawn."""
    pause = Pause()
    house.on_drawing(image, pause)
    run = asyncio.ensure_future(gems.run("a red cat", seed=7))
    await pause.wait()
    (row,) = await gems.runs()
    assert row["status"] == "running"
    await (by or gems).cancel(row["run_id"])
    result = await asyncio.wait_for(run, PATIENCE_S)
    house.on_drawing(1, None)
    return result


async def test_cancelled_run_hands_back_its_best_and_goes_on(house: House, tmp_path: Path) -> None:
    async with house.gems() as gems:
        result = await cancelled_at(house, gems, 2)
        assert (result.stop_reason, len(result.rounds), result.status) == ("cancelled", 1, "done")
        assert result.image.size == (64, 64)
        resumed = await gems.resume(result.run_id)
    assert unchanging(resumed) == await undisturbed(tmp_path)
    # The drawing that was broken off is the only one that is asked for again.
    assert [house.drawn().count(place) for place in dict.fromkeys(house.drawn())] == [1, 2, 1]


async def test_another_service_of_the_home_can_cancel(house: House) -> None:
    async with house.gems() as gems, house.gems() as other:
        result = await cancelled_at(house, gems, 2, by=other)
    assert result.stop_reason == "cancelled"


async def test_cancelled_before_the_first_image(house: House) -> None:
    async with house.gems() as gems:
        with pytest.raises(RunCancelledError) as caught:
            await cancelled_at(house, gems, 1)
        house.on_drawing(1, None)
        assert (await gems.resume(caught.value.run_id)).stop_reason == "passed"


async def test_run_that_nobody_works_on_is_left_as_it_is(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        await gems.cancel(result.run_id)
        assert not await gems.resources.ledger.cancel_requested(result.run_id)
        assert (await gems.show(result.run_id)).stop_reason == "passed"


async def test_finished_run_is_handed_back_unchanged(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        house.chat.asked.clear()
        house.generator.requests.clear()
        events = await told(gems.stream_resume(result.run_id))
        assert [event.type for event in events] == ["started", "finished"]
        again = await gems.resume(result.run_id)
    assert again.model_dump() == result.model_dump()
    assert (house.chat.asked, house.generator.requests) == ([], [])


async def test_failed_run_goes_on_at_the_node_that_failed(house: House, tmp_path: Path) -> None:
    async def fail() -> None:
        raise ServerError("down")

    house.on_drawing(2, fail)
    async with house.gems() as gems:
        failed = await gems.run("a red cat", seed=7)
        assert failed.stop_reason == "failed"
        house.on_drawing(1, None)
        events = await told(gems.stream_resume(failed.run_id))
    assert isinstance(events[0], Started)
    assert events[0].resumed
    assert [event.round for event in events if isinstance(event, ImageDrawn)] == [2, 3]
    assert unchanging(events[-1].result) == await undisturbed(tmp_path)  # type: ignore[union-attr]


def second_look_fails(right: Any) -> Any:
    """What `right` says to the first look at each picture; a second one finds the endpoint down."""
    shown: set[str] = set()

    def answer(asked: Asked) -> Any:
        if asked.pictures[-1] in shown:
            return ServerError("down")
        shown.add(asked.pictures[-1])
        return right(asked) if callable(right) else right

    return answer


@pytest.mark.parametrize(("which", "times"), [("checklist", 1), ("reflect", 1), (SECOND, 1)])
async def test_failed_question_is_asked_again_and_no_other(
    house: House, tmp_path: Path, which: str, times: int
) -> None:
    task = "checklist" if which == SECOND else which
    right = house.chat.script[task]
    house.chat.script[task] = second_look_fails(right) if which == SECOND else ServerError("down")
    async with house.gems() as gems:
        failed = await gems.run("a red cat", seed=7)
        assert (failed.stop_reason, failed.failure and failed.failure["error"]) == ("failed", "ServerError")
        assert failed.image.size == (64, 64)
        house.chat.script[task] = right
        resumed = await gems.resume(failed.run_id)
    assert unchanging(resumed) == await undisturbed(tmp_path)
    assert len(house.drawn()) == len(set(house.drawn())) == 3
    asked = [(question.task, question.text, question.pictures) for question in house.chat.asked]
    # The last looks at what failed before ask the same twice.
    assert len(asked) - len(set(asked)) == times + 1


@pytest.mark.parametrize("node", ["reflect", "checklist", "generator"])
async def test_runs_of_an_older_home_resume_and_fork(
    house: House, tmp_path: Path, backend: str | None, node: str
) -> None:
    async def gone() -> None:
        raise UnreachableError("down")

    right = house.chat.script.get(node)
    if node == "generator":
        house.on_drawing(1, gone)
    else:
        house.chat.script[node] = UnreachableError("down")
    async with house.gems() as gems:
        if node == "generator":
            with pytest.raises(UnreachableError) as caught:
                await gems.run("a red cat", seed=7)
            run = caught.value.run_id
        else:
            run = (await gems.run("a red cat", seed=7)).run_id
            house.chat.script[node] = right
    house.on_drawing(1, None)
    downgrade(house.home, backend)
    assert kept_names(house.home, backend) <= set(OLD_NAMES.values())
    async with house.gems() as gems:
        resumed = await gems.resume(run)
    assert unchanging(resumed) == await undisturbed(tmp_path)
    assert kept_names(house.home, backend) <= set(OLD_NAMES)
    # The reasoning of the judge is a delta channel, whose newest value may be only in the writes.
    thoughts = [asked.tag("thought") for asked in house.chat.asked if asked.task == "reflect"]
    assert thoughts
    assert set(thoughts) == {"I looked at it."}
    downgrade(house.home, backend)
    async with house.gems() as gems:
        assert (await gems.show(run)).model_dump() == resumed.model_dump()
        forked = await gems.fork(run, 1, prompt="a blue cat")
    assert forked.rounds[0] == resumed.rounds[0]


async def test_run_that_failed_before_its_first_image_goes_on(house: House, tmp_path: Path) -> None:
    async def gone() -> None:
        raise UnreachableError("nobody answers")

    house.on_drawing(1, gone)
    async with house.gems() as gems:
        with pytest.raises(UnreachableError) as caught:
            await gems.run("a red cat", seed=7)
        house.on_drawing(1, None)
        resumed = await gems.resume(caught.value.run_id)
    assert unchanging(resumed) == await undisturbed(tmp_path)


async def test_run_that_was_killed_before_its_first_checkpoint_begins_as_asked(house: House, tmp_path: Path) -> None:
    async with house.gems() as gems:
        options = gems._resolve_options({"seed": 7}, None)
        await gems.resources.ledger.begin("killed", "a red cat", options, gems.resources.models())
        resumed = await gems.resume("killed")
    assert unchanging(resumed) == await undisturbed(tmp_path)


async def test_consumer_that_stops_listening_interrupts_the_run(house: House, tmp_path: Path) -> None:
    async with house.gems() as gems:
        async with aclosing(gems.stream("a red cat", seed=7)) as events:
            async for event in events:
                if isinstance(event, Reflected):
                    break
        (row,) = await gems.runs()
        assert row["status"] == "interrupted"
        resumed = await gems.resume(row["run_id"])
    assert unchanging(resumed) == await undisturbed(tmp_path)
    # A drawing that was under way when the consumer left may be asked for again; none that was finished.
    assert house.drawn().count(("a red cat", 7)) == 1


async def test_cancelled_task_interrupts_the_run(house: House, tmp_path: Path) -> None:
    pause = Pause()
    house.on_drawing(2, pause)
    async with house.gems() as gems:
        run = asyncio.ensure_future(gems.run("a red cat", seed=7))
        await pause.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, PATIENCE_S)
        (row,) = await gems.resources.ledger.runs()
        assert row["status"] == "interrupted"
        house.on_drawing(1, None)
        resumed = await gems.resume(row["run_id"])
    assert unchanging(resumed) == await undisturbed(tmp_path)


async def test_run_goes_on_in_another_service(house: House, tmp_path: Path) -> None:
    pause = Pause()
    house.on_drawing(3, pause)
    async with house.gems() as gems:
        run = asyncio.ensure_future(gems.run("a red cat", seed=7))
        await pause.wait()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        (row,) = await gems.runs()
    house.on_drawing(1, None)
    async with house.gems() as gems:
        resumed = await gems.resume(row["run_id"])
    assert unchanging(resumed) == await undisturbed(tmp_path)


async def test_other_models_are_named_and_recorded(house: House) -> None:
    house.never_pass()
    house.chat.script["reflect"] = ServerError("down")
    async with house.gems() as gems:
        begun = await gems.run("a red cat", seed=7, max_rounds=2)
    other = House(house.home)
    other.generator.capabilities = replace(other.generator.capabilities, model="another")
    async with other.gems() as gems:
        resumed = await gems.resume(begun.run_id)
        again = await gems.resume(begun.run_id)
    assert [w for w in resumed.warnings if "generator was flat and is now another" in w]
    assert resumed.models["generator"] == "another"
    # Handing back what is finished draws nothing, with whatever models.
    assert again.warnings == [w for w in resumed.warnings if "other models" not in w]


async def test_service_that_is_not_open_says_so(house: House) -> None:
    with pytest.raises(InternalError, match="async with"):
        await Gems(settings_at(house.home)).run("a red cat")


async def test_own_chat_model_leaves_named_roles_alone(house: House) -> None:
    settings = settings_at(house.home, judge={"model": "blocks"})
    async with Gems(settings, chat=house.chat, generator=house.generator) as gems:
        assert gems.resources.models() == {
            "planner": "ScriptedChat",
            "judge": "blocks",
            "reflector": "ScriptedChat",
            "generator": "flat",
        }


async def test_two_cannot_go_on_with_the_same_run(house: House) -> None:
    async with house.gems() as gems:
        result = await cancelled_at(house, gems, 2)
        async with house.gems() as other, aclosing(gems.stream_resume(result.run_id)) as events:
            await anext(events)
            for service in (gems, other):
                with pytest.raises(RunBusyError):
                    await service.resume(result.run_id)
        assert (await gems.resume(result.run_id)).stop_reason == "passed"


async def test_run_of_another_process_is_busy(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        with held_elsewhere(gems.settings.locks_path, result.run_id):
            with pytest.raises(RunBusyError, match=result.run_id):
                await gems.resume(result.run_id)
            await gems.cancel(result.run_id)
            assert await gems.resources.ledger.cancel_requested(result.run_id)
        assert (await gems.resume(result.run_id)).stop_reason == "passed"
