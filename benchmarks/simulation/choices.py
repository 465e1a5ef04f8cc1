"""What each choice of the policy is worth, one at a time, and its rules together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.simulation.measuring import RULES, Job, Tally, carried_out, difference
from benchmarks.simulation.world import Editor, Errors, Nature

_USUAL = Errors(0.05, 0.05)
_ELSEWHERE = 1_000_000
"""First prompt of those on which no rule was chosen."""
LOSSY = Nature(lost=0.04, unasked=0.02)
WORLDS = {
    "usual": LOSSY,
    "wordings hardly help": replace(LOSSY, gain=0.1),
    "wordings help strongly": replace(LOSSY, gain=1.2),
    "easier": replace(LOSSY, easiness=5.0, spread=4.0),
}
"""The last one so that five rounds of drawing anew need as many images as in other people's simulations: about 2.7."""
JUDGES = {"never": Errors(), "5 %": _USUAL, "5 %, half repeated": Errors(0.05, 0.05, 0.5)}
_FIVE: dict[str, Any] = {"max_rounds": 5, "plateau": 7, "repair": "never"}
_ALL: dict[str, Any] = {"plateau": None}
_REDRAWING = 4
"""Place of the row that every editor is compared with: all rules, and nothing is mended."""
EDITORS = {f"editor that fixes {fixes:.0%}": Editor(fixes) for fixes in (0.3, 0.45, 0.6, 0.75)} | {
    "the 45 % one, places often wrong": Editor(0.45, noisy=0.15, misplaced=0.15)
}


def rules(count: int, workers: int) -> list[dict[str, Any]]:
    """Each rule alone and all of them, without and with editors, against five rounds of drawing anew."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("none", {"options": _FIVE, "without": RULES}),
        ("own words", {"options": _FIVE, "without": ("look",)}),
        ("early stop", {"options": _ALL, "without": RULES}),
        ("last look", {"options": _FIVE, "without": ("words",)}),
        ("all", {"options": _ALL}),
        *((f"all, {name}", {"options": _ALL, "editor": editor}) for name, editor in EDITORS.items()),
    ]
    cases = [(world, judge, kind) for world in WORLDS for judge in JUDGES for kind in kinds]
    jobs = [
        Job("rules", JUDGES[judge], _ELSEWHERE, count, nature=WORLDS[world], **how) for world, judge, (_, how) in cases
    ]
    tallies = [Tally.of([course.after() for course in courses]) for courses in carried_out(jobs, workers)]
    rows = []
    for number, ((world, judge, (rule, how)), tally) in enumerate(zip(cases, tallies, strict=True)):
        first = number - number % len(kinds)
        row = {"world": world, "errs": judge, "rules": rule} | tally.report() | difference(tally, tallies[first])
        if "editor" in how:
            redrawn = difference(tally, tallies[first + _REDRAWING])
            row |= {name.replace("more_met", "over_redrawing"): value for name, value in redrawn.items()}
        rows.append(row)
    return rows


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
