"""What each choice of the policy is worth, one at a time."""

from __future__ import annotations

from typing import Any

from benchmarks.simulation.measuring import Job, Tally, carried_out
from benchmarks.simulation.world import Errors

_USUAL = Errors(0.05, 0.05)


def looks(count: int, workers: int) -> list[dict[str, Any]]:
    """How many noes are asked about again before they are believed; five rounds at most."""
    jobs = [
        Job("ours", Errors(0.05, 0.05, correlation), 0, count, {"max_rounds": 5}, doubted)
        for correlation in (0.0, 0.5)
        for doubted in (0, 1, 2, 3)
    ]
    return [
        {"doubted": job.doubted, "correlation": job.errors.correlation} | _ended(courses)
        for job, courses in zip(jobs, carried_out(jobs, workers), strict=True)
    ]


def candidates(count: int, workers: int) -> list[dict[str, Any]]:
    """Several images of each prompt, at the same number of images."""
    jobs = [
        Job("ours", _USUAL, 0, count, {"max_rounds": most, "max_images": most, "candidates": number})
        for most in (4, 8)
        for number in (1, 2, 4)
    ]
    return [
        {"budget": job.options["max_images"], "candidates": job.options["candidates"]} | _ended(courses)
        for job, courses in zip(jobs, carried_out(jobs, workers), strict=True)
    ]


def patience(count: int, workers: int) -> list[dict[str, Any]]:
    """After how many rounds without a better score to stop; twelve rounds at most, 0 for never."""
    jobs = [Job("ours", _USUAL, 0, count, {"max_rounds": 12, "plateau": rounds}) for rounds in (4, 5, 6, 7, 0)]
    return [
        {"plateau": job.options["plateau"]} | _ended(courses)
        for job, courses in zip(jobs, carried_out(jobs, workers), strict=True)
    ]


def uneven(count: int, workers: int) -> list[dict[str, Any]]:
    """A judge that errs more in one direction; five rounds at most."""
    rates = (0.0, 0.05, 0.1)
    jobs = [
        Job(policy, Errors(false_yes, false_no), 0, count, {"max_rounds": 5})
        for false_yes in rates
        for false_no in rates
        for policy in ("paper", "ours")
    ]
    return [
        {"policy": job.policy, "false_yes": job.errors.false_yes, "false_no": job.errors.false_no} | _ended(courses)
        for job, courses in zip(jobs, carried_out(jobs, workers), strict=True)
    ]


def _ended(courses: list[Any]) -> dict[str, Any]:
    return Tally.of([course.after() for course in courses]).report()
