"""A complete verdict whose confirmation fails: kept, told as a failure, and confirmed by a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gems.errors import RefusedError, ServerError
from gems.graphs.loop import RECURSION_LIMIT
from tests.support.graph_runs import carried_out, compiled, config
from tests.support.scripted_models import Desk, checks
from tests.support.scripted_service import House, unchanging


class Judging:
    """Finds both missing in the first picture it is shown and nothing in later ones.

    Attributes:
        second: What it says to second looks instead: an error, or answers in turn.
    """

    def __init__(self, chat: Any) -> None:
        self.second: Any = None
        self._known: list[str] = []
        chat.script["checklist"] = self

    def __call__(self, asked: Any) -> Any:
        picture = asked.pictures[0]
        if picture not in self._known:
            self._known.append(picture)
        elif isinstance(self.second, Exception):
            return self.second
        elif self.second:
            return self.second.pop(0)
        return checks("no", "no") if picture == self._known[0] else checks("yes", "yes")


def answers(turn: Any) -> list[tuple[str, str]]:
    return [(answer["answer"], answer["source"]) for answer in turn["verdicts"][turn["best"]]["answers"]]


async def reopened(graph: Any, desk: Desk) -> dict[str, Any]:
    """What a run whose judge failed comes to when it goes on, as the service lets it."""
    await graph.aupdate_state(config(), {"stop_reason": None, "failure": None}, as_node="generator")
    output: dict[str, Any] = await graph.ainvoke(
        None, config() | {"recursion_limit": RECURSION_LIMIT}, context=desk.context
    )
    return output


@pytest.mark.parametrize(("error", "reason"), [(ServerError("down"), "failed"), (RefusedError("never"), "refused")])
async def test_the_verdict_is_kept_and_the_run_has_not_passed(desk: Desk, error: Exception, reason: str) -> None:
    Judging(desk.chat).second = error
    # What is refused as a list is asked one by one.
    desk.chat.script["verify"] = error
    output = await carried_out(desk)
    assert (output["stop_reason"], output["best_round"], output["score"]) == (reason, 2, 1.0)
    assert output["image"] == output["rounds"][1]["candidates"][0]["image"]
    assert answers(output["rounds"][1]) == [("yes", "judge")] * 2
    failure = output["failure"]
    assert (failure["node"], failure["error"]) == ("judge", type(error).__name__)
    assert "could not be confirmed" in failure["message"]
    assert not output.get("drawn")


async def test_a_resumed_run_only_confirms(desk: Desk) -> None:
    judging = Judging(desk.chat)
    judging.second = ServerError("down")
    graph = compiled()
    await carried_out(desk, graph)
    judging.second = None
    desk.chat.asked.clear()
    output = await reopened(graph, desk)
    assert (output["stop_reason"], output["failure"], output["best_round"]) == ("passed", None, 2)
    assert [turn["number"] for turn in output["rounds"]] == [1, 2]
    assert answers(output["rounds"][1]) == [("yes", "confirmation")] * 2
    # Both failed in the first round.
    assert desk.chat.tasks() == ["checklist"] * 3
    assert len(desk.generator.requests) == 2
    assert set(output["rounds"][1]["seconds"]) == {"generator", "judge"}


async def test_what_is_not_confirmed_later_is_drawn_again(desk: Desk) -> None:
    judging = Judging(desk.chat)
    judging.second = ServerError("down")
    graph = compiled()
    await carried_out(desk, graph)
    judging.second = [checks("no", "yes")]
    desk.chat.script["verify"] = ["No. It is blue."]
    output = await reopened(graph, desk)
    assert [turn["score"] for turn in output["rounds"]] == [0.0, 0.5, 1.0]
    assert (output["stop_reason"], output["best_round"]) == ("passed", 3)
    assert len(desk.generator.requests) == 3


async def test_a_confirmation_that_fails_again_changes_nothing(desk: Desk) -> None:
    Judging(desk.chat).second = ServerError("down")
    graph = compiled()
    first = await carried_out(desk, graph)
    again = await reopened(graph, desk)
    assert (again["stop_reason"], again["failure"]) == ("failed", first["failure"])
    assert [answers(turn) for turn in again["rounds"]] == [answers(turn) for turn in first["rounds"]]


async def test_candidates_that_were_refuted_before_stay_refuted(desk: Desk) -> None:
    """The confirmation fails at the second candidate; a resumed run does not ask about the first again."""
    complete = checks("yes", "yes")
    desk.chat.script["checklist"] = [complete, complete, checks("no", "no"), ServerError("down")]
    desk.chat.script["verify"] = ["No.", "No."]
    graph = compiled()
    output = await carried_out(desk, graph, candidates=2)
    (turn,) = output["rounds"]
    assert (turn["best"], [verdict["score"] for verdict in turn["verdicts"]]) == (1, [0.0, 1.0])
    desk.chat.script["checklist"] = [complete]
    output = await reopened(graph, desk)
    assert (output["stop_reason"], output["rounds"][0]["best"]) == ("passed", 1)


async def test_the_service_goes_on_in_another_process(tmp_path: Path) -> None:
    house, other = House(tmp_path / "home"), House(tmp_path / "undisturbed")
    judging = Judging(house.chat)
    judging.second = ServerError("down")
    Judging(other.chat)
    async with house.gems() as gems:
        broken = await gems.run("a red cat", seed=7)
        assert (broken.stop_reason, broken.status, broken.best_round) == ("failed", "failed", 2)
        assert (await gems.show(broken.run_id)).rounds == broken.rounds
    judging.second = None
    asked = len(house.chat.asked)
    async with house.gems() as gems, other.gems() as undisturbed:
        resumed = await gems.resume(broken.run_id)
        assert unchanging(await gems.show(broken.run_id)) == unchanging(resumed)
        assert unchanging(resumed) == unchanging(await undisturbed.run("a red cat", seed=7))
    assert house.chat.tasks()[asked:] == ["checklist"] * 3
    assert len(house.drawn()) == 2
