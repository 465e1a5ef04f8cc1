"""Decisions of persons, given to the service: on a waiting run, and as the first step of a fork."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gems.errors import AnswerNeededError, EditingUnsupportedError, OptionError
from gems.models.images import decode_image, encode_png
from gems.results import RunResult
from gems.service import Gems
from tests.support.scripted_models import failing
from tests.support.scripted_service import House


def mask_of(*box: int) -> str:
    picture = Image.new("L", (64, 64), 0)
    picture.paste(255, box)
    return base64.b64encode(encode_png(picture)).decode()


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A home whose judge always misses something, and whose generator edits."""
    house = House(tmp_path / "home")
    house.edits()
    house.chat.script |= {"checklist": failing(1), "verify": "no"}
    return house


async def asked(gems: Gems, **given: Any) -> tuple[str, Any]:
    """The id of a run that waits for a person, and its question."""
    with pytest.raises(AnswerNeededError, match="Round 1 meets 1 of 2") as caught:
        await gems.run("a red cat", seed=7, ask=True, **given)
    assert f"gems resume {caught.value.run_id} --answer" in caught.value.hint
    return caught.value.run_id, caught.value.question


async def test_decision_goes_on_and_pays_for_nothing_twice(house: House) -> None:
    async with house.gems() as gems:
        run_id, question = await asked(gems)
        with pytest.raises(AnswerNeededError, match="Round 2 meets") as caught:
            await gems.resume(run_id, {"instruction": "make it red", "mask": mask_of(8, 8, 40, 40)})
        assert caught.value.question["round"] == 2
        result = await gems.resume(run_id, "accept")
        assert (result.stop_reason, result.best_round, result.passed) == ("accepted", 2, False)
        turn = result.rounds[1]
        assert (turn["by"], turn["parent"]) == ("person", question["image"])
        await outside_is_kept(gems, turn["parent"], result.image_id or "", (8, 8, 40, 40))
    assert len(house.drawn()) == 2


async def outside_is_kept(gems: Gems, parent: str, child: str, box: tuple[int, int, int, int]) -> None:
    before, after = [decode_image(await gems.resources.images.load(image), "test") for image in (parent, child)]
    assert before.tobytes() != after.tobytes()
    for picture in (before, after):
        picture.paste((0, 0, 0), box)
    assert before.tobytes() == after.tobytes()


async def test_run_waits_for_its_person_in_another_process(house: House) -> None:
    async with house.gems() as gems:
        run_id, _ = await asked(gems)
        assert [row["status"] for row in await gems.runs()] == ["interrupted"]
    async with house.gems() as gems:
        with pytest.raises(AnswerNeededError, match="Round 1 meets 1 of 2"):
            await gems.resume(run_id)
        with pytest.raises(OptionError, match="no action"):
            await gems.resume(run_id, {"action": "paint"})  # type: ignore[typeddict-item]
        assert (await gems.resume(run_id, "accept")).stop_reason == "accepted"


async def test_id_of_a_stored_image_is_no_mask(house: House) -> None:
    async with house.gems() as gems:
        run_id, question = await asked(gems)
        with pytest.raises(OptionError, match="not a complete image"):
            await gems.resume(run_id, {"mask": question["image"], "instruction": "x"})


async def finished(gems: Gems, **given: Any) -> RunResult:
    return await gems.run("a red cat", **{"seed": 7, "max_rounds": 2, "repair": "never"} | given)


async def test_fork_begins_with_what_a_person_wants(house: House) -> None:
    async with house.gems() as gems:
        run = await finished(gems)
        first = run.rounds[0]["candidates"][0]["image"]
        fork = await gems.fork(
            run.run_id, 2, decision={"parent": first, "mask": mask_of(0, 0, 32, 64), "instruction": "make it red"}
        )
        turn = fork.rounds[2]
        assert (turn["parent"], turn["instruction"], turn["by"]) == (first, "make it red", "person")
        await outside_is_kept(gems, first, turn["candidates"][0]["image"], (0, 0, 32, 64))
        assert fork.best_round == 3
        # What a person painted belongs to both runs.
        mask = turn["mask"]
        second = await gems.fork(fork.run_id, 3, "a blue cat")
        await gems.delete(fork.run_id)
        assert second.rounds[2]["mask"] == mask
        assert await gems.resources.images.load(mask)
        assert (await gems.gc(dry_run=True)).images == 0


async def test_fork_goes_on_from_what_was_accepted(house: House) -> None:
    async with house.gems() as gems:
        run_id, _ = await asked(gems)
        run = await gems.resume(run_id, "accept")
        fork = await gems.fork(run.run_id, 1, decision={"instruction": "make it red"}, ask=False, max_rounds=2)
        assert (fork.stop_reason, fork.best_round) == ("max_rounds", 2)
        assert "taken" not in fork.rounds[0]
        assert (await gems.show(run.run_id)).rounds[0]["taken"] is True


@pytest.mark.parametrize(
    ("decision", "fault"),
    [
        ({"action": "accept"}, "cannot begin with accept"),
        ({"action": "edit", "parent": "nowhere"}, "no image of this run"),
        ({"action": "edit", "mask": "AAAA"}, "not a complete image"),
    ],
)
async def test_decision_that_cannot_begin_a_fork(house: House, decision: Any, fault: str) -> None:
    async with house.gems() as gems:
        run = await finished(gems)
        with pytest.raises(OptionError, match=fault):
            await gems.fork(run.run_id, 1, decision=decision)
        assert len(await gems.runs()) == 1


async def test_fork_has_a_prompt_or_a_decision(house: House) -> None:
    async with house.gems() as gems:
        run = await finished(gems)
        with pytest.raises(OptionError, match="a prompt or a decision"):
            await gems.fork(run.run_id, 1, "a blue cat", decision={"instruction": "make it red"})


async def test_generator_that_cannot_edit(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    house.never_pass()
    async with house.gems() as gems:
        run = await finished(gems)
        with pytest.raises(EditingUnsupportedError):
            await gems.fork(run.run_id, 1, decision={"instruction": "make it red"})
