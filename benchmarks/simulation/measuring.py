"""Many runs of each policy, and what they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
from scipy import stats

from benchmarks.simulation.running import Course, Ending, Memory, run
from benchmarks.simulation.world import NATURE, Editor, Errors, Nature, painting
from gems.nodes import judge, reflector
from gems.nodes.rewrite import RestoredPrompt

BUDGETS = (1, 2, 3, 4, 5, 6, 8)
MOST = max(BUDGETS)
Policy = Literal["single", "best_of", "paper", "ours"]
POLICIES: tuple[Policy, ...] = ("single", "best_of", "paper", "ours")
_CHUNK = 250
_OPTIONS: dict[str, dict[str, Any]] = {
    # Both single shot and best of N are one round of the paper's judge.
    "best_of": {"profile": "paper", "max_rounds": 1, "candidates": MOST},
    "paper": {"profile": "paper", "max_rounds": MOST},
    # At equal budgets: what giving up early is worth has a table of its own.
    "ours": {"profile": "balanced", "max_rounds": MOST, "plateau": 7},
    "rules": {"profile": "balanced"},
}


Rule = Literal["words", "look"]
RULES: tuple[Rule, ...] = ("words", "look")
"""The user's own words in every prompt; one more look at what failed before. Options switch off the other rules."""


async def _restore_nothing(prompt: str, *_: Any) -> RestoredPrompt:
    return RestoredPrompt(prompt)


async def _see_nothing(_image: str, judgement: judge.Judgement, *_: Any) -> judge.Judgement:
    return judgement


_SWITCHED_OFF: dict[Rule, list[tuple[Any, str, Any]]] = {
    "words": [(reflector, "keeps_words", lambda *_: False), (reflector, "restore_lost", _restore_nothing)],
    "look": [(judge, "once_failed", lambda *_: []), (judge, "look_for_damage", _see_nothing)],
}


@dataclass(frozen=True, slots=True)
class Job:
    """Runs of one kind.

    Attributes:
        policy: `best_of`, `paper`, `ours` with as many rounds as are allowed, or `rules` with the defaults of a run.
        errors: How the judge errs.
        first: Number of the first prompt.
        count: How many prompts.
        options: What differs from the policy's own options.
        doubted: So many noes are asked about again; None for as many as the product does.
        nature: The numbers of the world.
        editor: How images are changed; None for a generator that only draws.
        without: Rules that are switched off, of `RULES`.
    """

    policy: str
    errors: Errors
    first: int
    count: int
    options: dict[str, Any] = field(default_factory=dict)
    doubted: int | None = None
    nature: Nature = NATURE
    editor: Editor | None = None
    without: tuple[Rule, ...] = ()

    def courses(self) -> list[Course]:
        """Carry the runs out."""
        return asyncio.run(self._courses())

    async def _courses(self) -> list[Course]:
        options = _OPTIONS[self.policy] | self.options
        with ExitStack() as changed:
            if self.doubted is not None:
                changed.enter_context(patch.object(judge, "MAX_DOUBTFUL", self.doubted))
            for rule in self.without:
                for place, name, value in _SWITCHED_OFF[rule]:
                    changed.enter_context(patch.object(place, name, value))
            memory = Memory() if self.editor else None
            return [
                await run(painting(number, self.nature), self.errors, self.editor, memory, **options)
                for number in range(self.first, self.first + self.count)
            ]


@dataclass(slots=True)
class Tally:
    """Endings of the same policy on prompts in order."""

    met: np.ndarray
    passed: np.ndarray
    images: float
    calls: float

    @classmethod
    def of(cls, endings: Sequence[Ending]) -> Tally:
        """Count them."""
        return cls(
            np.array([ending.met for ending in endings]),
            np.array([ending.passed for ending in endings]),
            sum(ending.images for ending in endings) / len(endings),
            sum(ending.calls for ending in endings) / len(endings),
        )

    @property
    def wrong(self) -> np.ndarray:
        """Which prompts were called passed although something is missing."""
        return self.passed & ~self.met

    def report(self) -> dict[str, Any]:
        """Shares in [0, 1] with intervals of 95 % confidence."""
        passed, wrong = int(self.passed.sum()), int(self.wrong.sum())
        return {
            "prompts": len(self.met),
            "met": float(self.met.mean()),
            "met_interval": interval(int(self.met.sum()), len(self.met)),
            "passed": float(self.passed.mean()),
            "false_passed": float(self.wrong.mean()),
            "false_passed_interval": interval(wrong, len(self.met)),
            "false_of_passed": wrong / passed if passed else 0.0,
            "false_of_passed_interval": interval(wrong, passed),
            "images": self.images,
            "calls": self.calls,
        }


def interval(found: int, count: int) -> list[float]:
    """Wilson's interval of 95 % confidence for a share."""
    if not count:
        return [0.0, 1.0]
    low, high = stats.binomtest(found, count).proportion_ci(method="wilson")
    return [float(low), float(high)]


def difference(ours: Tally, other: Tally) -> dict[str, Any]:
    """By how much more prompts are met, on the same luck, with an interval of 95 % confidence."""
    each = ours.met.astype(float) - other.met.astype(float)
    if not each.any():
        return {"more_met": 0.0, "more_met_interval": [0.0, 0.0]}
    low, high = stats.ttest_1samp(each, 0).confidence_interval()
    return {"more_met": float(each.mean()), "more_met_interval": [float(low), float(high)]}


def carried_out(jobs: Sequence[Job], workers: int) -> list[list[Course]]:
    """The courses of each job, cut into pieces for several processes."""
    pieces, owners = list[Job](), list[int]()
    for number, job in enumerate(jobs):
        for first in range(job.first, job.first + job.count, _CHUNK):
            count = min(_CHUNK, job.first + job.count - first)
            values = {
                name: getattr(job, name)
                for name in ("policy", "errors", "options", "doubted", "nature", "editor", "without")
            }
            pieces.append(Job(first=first, count=count, **values))
            owners.append(number)
    found: list[list[Course]] = [[] for _ in jobs]
    for owner, courses in zip(owners, _each(pieces, workers), strict=True):
        found[owner] += courses
    return found


def _each(jobs: Sequence[Job], workers: int) -> Iterable[list[Course]]:
    if workers == 1:
        return [job.courses() for job in jobs]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(Job.courses, jobs))


def compared(errors: Errors, count: int, workers: int = 1, nature: Nature = NATURE) -> dict[str, Any]:
    """All policies under one judge, by budget."""
    jobs = [Job(policy, errors, 0, count, nature=nature) for policy in ("best_of", "paper", "ours")]
    best_of, paper, ours = carried_out(jobs, workers)
    cells = []
    for budget in BUDGETS:
        tallies: dict[Policy, Tally] = {
            "single": Tally.of([course.best_of(1) for course in best_of]),
            "best_of": Tally.of([course.best_of(budget) for course in best_of]),
            "paper": Tally.of([course.after(budget) for course in paper]),
            "ours": Tally.of([course.after(budget) for course in ours]),
        }
        figures = {name: tally.report() for name, tally in tallies.items()}
        cells.append({"budget": budget, **figures, **difference(tallies["ours"], tallies["paper"])})
    return {**asdict(errors), "cells": cells}


def within_bounds(cells: Sequence[dict[str, Any]]) -> bool:
    """At every budget a third of the paper's false passes at most, and its true share at least."""
    return all(
        cell["ours"]["met"] >= cell["paper"]["met"]
        and all(3 * cell["ours"][share] <= cell["paper"][share] for share in ("false_passed", "false_of_passed"))
        for cell in cells
    )
