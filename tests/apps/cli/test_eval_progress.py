"""What is told while a benchmark is drawn, and where it is not."""

from __future__ import annotations

import time

import pytest

from gems.apps.cli.display import format_progress, show_progress
from gems.apps.cli.options import View
from gems.evals.jobs import Job, JobResult
from gems.evals.runner import JobProgress


def ending(name: str, *, error: str = "", images: int = 2, usd: float | None = 0.25) -> JobResult:
    job = Job(name=name, run_id=f"run-{name}", prompt="a cat", options={}, file=f"{name}.png")
    return JobResult(job=job, error=error, images=images, calls=1, usd=usd)


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
