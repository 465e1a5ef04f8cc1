"""A run that is killed at any moment goes on in another process and pays for nothing twice.

The process is killed while a chosen request is held without an answer, so each moment is met exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gems.memory.ledger import open_ledger
from gems.options import candidate_seed
from gems.service import Gems
from gems.settings import Settings
from tests.support.pausable_models import (
    PATIENCE_S,
    Holds,
    World,
    images_asked_for,
    questions_asked,
    seen,
    text_of,
    wait_for_rows,
)
from tests.support.result_invariants import unchanging
from tests.support.run_processes import finished, worker
from tests.support.scripted_service import content
from tests.support.stub import Recorded, StubServer


@dataclass(frozen=True)
class Moment:
    """When to kill.

    Attributes:
        name: For the test's name.
        holds: Which request is without an answer then.
        drawings: How many drawings must be in the ledger by then.
        answers: How many answers must be in the ledger by then.
        candidates: Images of each round.
    """

    name: str
    holds: Holds
    drawings: int = 0
    answers: int = 0
    candidates: int = 1


def asked(task: str, number: int = 1) -> Holds:
    """The question of round `number` of a task that is asked once a round."""
    count = 0

    def holds(found: str, _messages: Any) -> bool:
        nonlocal count
        count += found == task
        return found == task and count == number

    return holds


def drawing(number: int, candidate: int = 0) -> Holds:
    """The drawing of a candidate of round `number`."""
    seed = candidate_seed(7, number, candidate)
    return lambda found, request: found == "image" and request.seed == seed


def asking_again(question: str, number: int) -> Holds:
    """The question of its own about the image of round `number`."""

    def holds(found: str, messages: Any) -> bool:
        content = messages[1]["content"] if found == "verify" else []
        return found == "verify" and question in text_of(content) and seen(content) == number

    return holds


MOMENTS = [
    Moment("before the first answer", asked("decompose")),
    Moment("first image under way", drawing(1), answers=2),
    Moment("after the first image, judging", asked("checklist", 1), drawings=1, answers=2),
    Moment("reflecting", asked("reflect", 1), drawings=1, answers=3),
    Moment("second image under way", drawing(2), drawings=1, answers=4),
    Moment("after the second image, judging", asked("checklist", 2), drawings=2, answers=4),
    Moment("asking again about what is missing", asking_again("asleep", 2), drawings=2, answers=5),
    Moment("confirming what seems complete", asked("checklist", 4), drawings=3, answers=8),
    Moment("one of three candidates under way", drawing(2, 1), drawings=5, answers=6, candidates=3),
    Moment("judging one of three candidates", asked("checklist", 5), drawings=6, answers=8, candidates=3),
]


Undisturbed = Callable[[int], tuple[dict[str, Any], list[Recorded]]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The result and the requests of a run that nothing happens to, by its candidates; carried out once."""

    @cache
    def carried_out(candidates: int) -> tuple[dict[str, Any], list[Recorded]]:
        world = World()
        with StubServer(chat=world.chat, images=world.draw) as stub:
            result = finished(tmp_path_factory.mktemp("undisturbed"), stub, candidates=candidates)
            return result, list(stub.requests)

    return carried_out


def killed(home: Path, stub: StubServer, world: World, moment: Moment) -> None:
    """Begin a run and kill it at `moment`."""
    world.hold(moment.holds)
    with worker(home, stub, candidates=moment.candidates) as process:
        assert world.held.wait(PATIENCE_S), "The request to hold never came."
        wait_for_rows(home, "drawings", moment.drawings)
        wait_for_rows(home, "answers", moment.answers)
        process.kill()
        assert process.wait(PATIENCE_S) < 0
    world.release()


async def listed(home: Path) -> list[tuple[str, str]]:
    async with Gems(Settings(home=home)) as gems:
        return [(row["run_id"], row["status"]) for row in await gems.runs()]


async def drawn_for(home: Path, run_id: str) -> list[str]:
    async with open_ledger(home / "ledger.sqlite3") as ledger:
        return [candidate["image"] for candidate in await ledger.drawings(run_id)]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name.replace(" ", "-"))
async def test_killed_run_goes_on_and_pays_for_nothing_twice(
    tmp_path: Path, stub: StubServer, world: World, moment: Moment, undisturbed: Undisturbed
) -> None:
    killed(tmp_path / "home", stub, world, moment)
    ((run_id, status),) = await listed(tmp_path / "home")
    assert status == "interrupted"
    resumed = finished(tmp_path / "home", stub, run_id)
    expected, requests = undisturbed(moment.candidates)

    assert (resumed["run_id"], resumed["stop_reason"], len(resumed["rounds"])) == (run_id, "passed", 3)
    assert unchanging(resumed) == unchanging(expected)
    assert_once_but_for_the_held(stub.requests, requests)
    images = [item["image"] for turn in resumed["rounds"] for item in turn["candidates"]]
    assert await drawn_for(tmp_path / "home", run_id) == images
    assert content(resumed["path"]).startswith(b"\x89PNG")
    assert await listed(tmp_path / "home") == [(run_id, "done")]


def assert_once_but_for_the_held(disturbed: list[Recorded], undisturbed: list[Recorded]) -> None:
    """The killed run asked what an undisturbed one asks, and again only what it got no answer to."""
    pictures, questions = images_asked_for(disturbed), questions_asked(disturbed)
    assert set(pictures) == set(images_asked_for(undisturbed))
    assert set(questions) == set(questions_asked(undisturbed))
    pictures -= images_asked_for(undisturbed)
    questions -= questions_asked(undisturbed)
    assert pictures.total() + questions.total() == 1, (pictures, questions)


async def test_run_that_is_killed_again_and_again_comes_to_its_end(
    tmp_path: Path, stub: StubServer, world: World
) -> None:
    home = tmp_path / "home"
    killed(home, stub, world, MOMENTS[1])
    ((run_id, _status),) = await listed(home)
    for holds, drawings in ((asked("reflect"), 1), (drawing(3), 2)):
        again = World()
        stub_again = StubServer(chat=again.chat, images=again.draw)
        again.hold(holds)
        with stub_again, worker(home, stub_again, run_id) as process:
            assert again.held.wait(PATIENCE_S), "The request to hold never came."
            wait_for_rows(home, "drawings", drawings)
            process.kill()
            process.wait(PATIENCE_S)
            again.release()
    result = finished(home, stub, run_id)
    assert (result["stop_reason"], len(result["rounds"]), len(result["experiences"])) == ("passed", 3, 2)
    assert result["rounds"][0]["number"] == 1
