"""Progress on the terminal: the live display, its state, and the lines of benchmarks."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gems.apps.cli.display import LiveDisplay, Marks, answers_table, format_progress, show_progress
from gems.apps.cli.options import View
from gems.apps.run_view import RunView
from gems.evals.jobs import JobResult
from gems.evals.runner import JobProgress
from gems.events import Event, ImageDrawn, Judged, Reflected, RequirementsListed, Started, StepDone, Warned
from gems.types import Answer, Requirement, Verdict


def requirement(number: int) -> Requirement:
    return {"id": f"r{number}", "question": f"Is thing {number} there?", "kind": "object", "parents": []}


def verdict(image: str, answers: str) -> Verdict:
    """`y`, `n` and `u` for the answers."""
    words: dict[str, Any] = {"y": "yes", "n": "no", "u": "unknown"}
    told: list[Answer] = [
        {"requirement": f"r{i}", "answer": words[a], "evidence": "seen", "probability": None, "source": "judge"}
        for i, a in enumerate(answers, 1)
    ]
    return {"image": image, "answers": told, "score": answers.count("y") / len(answers)}


def judged(number: int, *answers: str, best: int = 0) -> Judged:
    verdicts = [verdict(f"image{number}{i}", each) for i, each in enumerate(answers)]
    return Judged(round=number, verdicts=verdicts, best=best, score=verdicts[best]["score"])


def story_of(*events: Event) -> RunView:
    story = RunView("many things")
    for event in events:
        story.take(event)
    return story


LISTED = RequirementsListed(requirements=[requirement(1), requirement(2)])


def printed(renderable: Any, width: int = 80, encoding: str = "utf-8") -> list[str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    Console(file=out, width=width).print(renderable)
    out.seek(0)
    return [line.rstrip() for line in out.read().splitlines()]


def test_the_best_candidate_of_a_round_is_shown() -> None:
    story = story_of(LISTED, judged(1, "nn", "yn", best=1))
    assert story.round(1).image == "image11"
    assert story.round(1).score == 0.5


def test_best_so_far_keeps_the_earlier_of_a_tie() -> None:
    story = story_of(LISTED, judged(1, "nn"), judged(2, "yn"), judged(3, "ny"))
    assert story.best is not None
    assert story.best.number == 2


def test_what_goes_on() -> None:
    story = story_of(Started(run_id="r"), LISTED, StepDone(round=2, candidate=1, done=3, total=8))
    assert (story.doing, story.steps) == ("drawing round 2", {1: (3, 8)})
    story.take(judged(2, "yn"))
    assert story.steps == {}
    story.take(Reflected(experience={"round": 2, "text": "say more", "next_prompt": "p"}))
    assert (story.doing, story.round(2).learned) == ("drawing round 3", "say more")


def test_table_of_answers() -> None:
    story = story_of(LISTED, judged(1, "yn"), judged(2, "yu"), judged(3, "yy"))
    heading, first, second, score = printed(answers_table(story, Marks("utf-8"), 80))
    assert heading.split() == ["requirement", "1", "2", "3"]
    assert first.split() == ["Is", "thing", "1", "there?", "✓", "✓", "✓"]
    assert second.split() == ["Is", "thing", "2", "there?", "✗", "?", "✓"]
    assert score.split() == ["percent", "met", "50", "50", "100"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_table_fits_and_keeps_the_newest_rounds(width: int) -> None:
    long = {**requirement(2), "question": "Is there " + "something " * 30 + "?"}
    listed = RequirementsListed(requirements=[requirement(1), long])  # type: ignore[list-item]
    story = story_of(listed, *(judged(number, "yn") for number in range(1, 51)))
    lines = printed(answers_table(story, Marks("utf-8"), width), width)
    assert max(map(len, lines)) <= width
    assert lines[0].split()[-2:] == ["49", "50"]
    assert "✓" in lines[1]
    assert "something" in lines[2]


def test_terminals_without_ticks() -> None:
    story = story_of(LISTED, judged(1, "yn"))
    lines = printed(answers_table(story, Marks("ascii"), 80), encoding="ascii")
    assert lines[1].endswith("+")
    assert lines[2].endswith("-")


def test_live_display_shows_everything() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=30, color_system=None)
    story = story_of()
    drawn: Any = {
        "index": 0, "image": "image10", "seed": 1, "width": 8, "height": 8,
        "model": "m", "parameters": {}, "seconds": 0.1,
    }  # fmt: skip
    events: list[Event] = [
        Started(run_id="20260101-000000-abcdef"),
        LISTED,
        StepDone(round=1, candidate=0, done=3, total=8),
        ImageDrawn(round=1, prompt="p", candidate=drawn, path="/images/image10"),
        judged(1, "yn"),
        Reflected(experience={"round": 1, "text": "say more \x1b[31m", "next_prompt": "p"}),
        Warned(message="something broke"),
    ]
    with LiveDisplay(console, story, lambda image: Path("/images") / image) as display:
        for event in events:
            story.take(event)
            display.tell(event, story)
        display.note("asked again")
    shown = out.getvalue()
    for part in (
        "run 20260101-000000-abcdef", "many things", "step 3 of 8", "drawing round 1", "judging round 1",
        "round 1  1 of 2 met", "/images/image10", "say more \ufffd[31m", "warning: something broke",
        "best so far: round 1, 50%", "asked again", "Is thing 2 there?",
    ):  # fmt: skip
        assert part in shown
    assert "\x1b[31m" not in shown


def ending(name: str, *, error: str = "", images: int = 2, usd: float | None = 0.25) -> JobResult:
    return JobResult(name=name, error=error, images=images, calls=1, usd=usd)


def tally() -> JobProgress:
    return JobProgress(
        total=10, done=2, done_before=2, images=4, spent={"a": 0.5, "b": 0.5}, started=time.monotonic() - 4
    )


def test_rate_images_cost_and_time_left() -> None:
    counted = tally()
    assert format_progress(counted) == "2.00 images each, $1.00"
    counted.add(ending("c"))
    counted.add(ending("d", images=4))
    assert format_progress(counted).startswith("2.50 images each, $1.50, 0.5/s, 0:00:12 left")
    counted.add(ending("e", error="It broke."))
    assert "1 failed" in format_progress(counted)


def test_what_failed_and_was_tried_again_counts_once() -> None:
    counted = tally()
    counted.add(ending("c", error="It broke.", images=1, usd=0.125))
    assert (counted.usd, len(counted.failed), counted.done) == (1.125, 1, 2)
    counted.add(ending("c"))
    assert (counted.usd, counted.failed, counted.done) == (1.25, {}, 3)


def test_cost_that_is_not_known_is_not_told() -> None:
    counted = tally()
    counted.add(ending("c", usd=None))
    assert counted.usd is None
    assert "$" not in format_progress(counted)
    counted = tally()
    counted.add(ending("c", usd=None, images=0, error="Nothing began."))
    assert counted.usd is None, "a call was made, and nobody knows what it cost"


def test_nothing_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("samples", View()) as tell:
        tell(tally())
    assert capsys.readouterr() == ("", "")
