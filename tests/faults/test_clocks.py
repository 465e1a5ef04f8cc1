"""A clock that goes backwards: between processes, and while a run is going on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import id as checkpoint_ids

from gems.errors import ServerError
from gems.service import Gems
from tests.support.scripted_models import checks
from tests.support.scripted_service import House, unchanging

HOUR_S = 3_600


class Clock:
    """The clock of the machine, which can be set; the monotonic one goes on as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._now_ns, self._now = time.time_ns, time.time
        self.offset_s = 0
        monkeypatch.setattr(time, "time_ns", lambda: self._now_ns() + self.offset_s * 10**9)
        monkeypatch.setattr(time, "time", lambda: self._now() + self.offset_s)

    def back(self) -> None:
        self.offset_s -= HOUR_S

    def another_process(self) -> None:
        """Which does not know the last id that was given."""
        self._patch.setattr(checkpoint_ids, "_last_v6_timestamp", None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def house(tmp_path: Path, backend: str | None) -> House:
    """A home whose third image passes."""
    house = House(tmp_path / "home")
    house.chat.script["checklist"] = [checks("no", "no"), checks("yes", "no"), *[checks("yes", "yes")] * 2]
    return house


async def failed_in_round_2(house: House, gems: Gems) -> str:
    """A run whose second drawing fails."""

    async def fail() -> None:
        raise ServerError("down")

    house.on_drawing(2, fail)
    result = await gems.run("a red cat", seed=7)
    assert (result.stop_reason, len(result.rounds)) == ("failed", 1)
    house.on_drawing(1, None)
    return result.run_id


async def test_resumed_run_goes_on_from_its_newest_state(house: House, clock: Clock) -> None:
    async with house.gems() as gems:
        run_id = await failed_in_round_2(house, gems)
    clock.back()
    clock.another_process()
    async with house.gems() as gems:
        resumed = await gems.resume(run_id)
        assert (resumed.stop_reason, len(resumed.rounds)) == ("passed", 3)
        asked = len(house.chat.asked)
        clock.back()
        clock.another_process()
        assert unchanging(await gems.show(run_id)) == unchanging(resumed)
        assert unchanging(await gems.resume(run_id)) == unchanging(resumed)
    assert len(house.chat.asked) == asked, "what came to its end is not carried on"


async def test_fork_goes_on_from_the_round_it_shares(house: House, clock: Clock) -> None:
    async with house.gems() as gems:
        run_id = await failed_in_round_2(house, gems)
        clock.back()
        clock.another_process()
        forked = await gems.fork(run_id, 1)
        assert (forked.stop_reason, len(forked.rounds)) == ("passed", 3)
        assert (await gems.show(forked.run_id)).rounds == forked.rounds


async def test_clock_that_goes_back_in_a_run_changes_nothing(
    house: House, clock: Clock, tmp_path: Path, backend: str | None
) -> None:
    async def back() -> None:
        clock.back()

    house.on_drawing(2, back)
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7, deadline_s=HOUR_S / 2)
        shown = await gems.show(result.run_id)
    assert (result.stop_reason, len(result.rounds)) == ("passed", 3)
    assert unchanging(shown) == unchanging(result)
    assert all(0 <= seconds < HOUR_S / 2 for turn in result.rounds for seconds in turn["seconds"].values())


async def test_deadline_is_counted_by_a_clock_that_is_not_set(house: House, clock: Clock) -> None:
    async def forward() -> None:
        clock.offset_s += HOUR_S

    house.on_drawing(1, forward)
    async with house.gems() as gems:
        result: Any = await gems.run("a red cat", seed=7, deadline_s=HOUR_S / 2)
    assert result.stop_reason == "passed"
