"""blocks-bench: 200 prompts for the built-in world, scored by the true scene of each image.

It needs no data, key or judge, so that no judge's errors hide or create differences between harnesses. It
says nothing about real image models.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from gems.errors import InvalidImageError, RequestError
from gems.evals.judge import EvalJudge
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.scorers.drawn_scene import Fact, read_scene, shows_fact
from gems.evals.task import DataSource, Export, SampleSet

NAME, LANGUAGE = "blocks-bench", "en"
MET_METRIC, SHARE_METRIC = "met", "met_share"
_KINDS = ("object", "count", "colour", "size", "texture", "relation", "text", "background")
_NO_OFFICIAL_SCORER = "blocks-bench has no official scorer: the true scenes of its images are known."
_SCORE_HINT = "Score it with `gems eval score`; it needs no judge."


class BlocksBench:
    """blocks-bench as a `Task`."""

    name = NAME
    title = "blocks-bench"
    languages: Sequence[str] = (LANGUAGE,)
    samples_per_prompt = 1
    source = DataSource(url="included in GEMS", licence="Apache-2.0", files=())
    size: Mapping[str, int] = {LANGUAGE: 200}
    metric = MET_METRIC
    truth = "truth"
    """The judge name in its scores."""

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return all 200 prompts from the package; any number of first ones is balanced."""
        text = files("gems.evals.benchmarks").joinpath("blocks_bench.jsonl").read_text(encoding="utf-8")
        return [_make_prompt(json.loads(line), language) for line in text.splitlines()]

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Raise `RequestError`: there is no official scorer."""
        raise RequestError(_NO_OFFICIAL_SCORER, hint=_SCORE_HINT)

    def read_official(
        self,
        file: Path,
        prompts: Sequence[BenchmarkPrompt],
        language: str,
    ) -> list[Figure]:
        """Raise `RequestError`: there is no official scorer."""
        raise RequestError(_NO_OFFICIAL_SCORER, hint=_SCORE_HINT)

    async def score(
        self,
        prompt: BenchmarkPrompt,
        images: Mapping[int, bytes],
        judge: EvalJudge,
    ) -> list[Score]:
        """Score each image twice: whether all requirements are met, and the share that is."""
        return [
            score
            for sample, png in images.items()
            for score in await asyncio.to_thread(_score_image, prompt, sample, png)
        ]

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute percentages of met prompts and requirements, also by category, atomicity and kind."""
        known = {prompt.id for prompt in prompts}
        valued = [score for score in scores if score.value is not None and score.prompt_id in known]
        samples = 1 + max((score.sample for score in valued), default=0)
        met = [score for score in valued if score.metric == MET_METRIC]
        figure_list = _FigureList(language, judge, samples * self.size[LANGUAGE], len(met))
        figure_list.add("", [score.value for score in met])
        figure_list.add("/requirements", [score.value for score in valued if score.metric == SHARE_METRIC])
        for category in dict.fromkeys(prompt.category for prompt in prompts):
            figure_list.add(
                f"/category/{category}", [score.value for score in met if score.category == category]
            )
        for level in sorted({int(prompt.facts["atomicity"]) for prompt in prompts}):
            found = [score.value for score in met if score.facts["atomicity"] == level]
            figure_list.add(f"/atomicity/{level}", found)
        for kind in _KINDS:
            figure_list.add(
                f"/requirement/{kind}", [value for score in met for value in _get_answers(score, kind)]
            )
        return figure_list.figures


class _FigureList:
    """Collects the figures of one language."""

    def __init__(self, language: str, judge: str, expected: int, scored: int) -> None:
        self._language, self._judge = language, judge
        self._expected, self._scored = expected, scored
        self.figures: list[Figure] = []

    def add(self, part: str, values: Sequence[float | None]) -> None:
        """Add a mean in percent; each figure counts all scored samples."""
        known = [value for value in values if value is not None]
        figure = Figure(
            benchmark=NAME,
            language=self._language,
            name=f"{NAME}{part}",
            value=100 * fmean(known) if known else None,
            scored=self._scored,
            expected=self._expected,
            judge=self._judge,
        )
        self.figures.append(figure)


def _make_prompt(record: Mapping[str, Any], language: str) -> BenchmarkPrompt:
    return BenchmarkPrompt(
        benchmark=NAME,
        language=language,
        id=record["id"],
        text=record["prompt"],
        category=record["category"],
        facts={"atomicity": record["atomicity"], "requirements": record["requirements"]},
    )


def _score_image(prompt: BenchmarkPrompt, sample: int, png: bytes) -> list[Score]:
    facts = [Fact.model_validate(item) for item in prompt.facts["requirements"]]
    atomicity = float(prompt.facts["atomicity"])
    try:
        scene = read_scene(png)
    except InvalidImageError as error:
        explanation_text = error.message
        return [
            _make_score(prompt, sample, name, None, {"atomicity": atomicity}, explanation_text)
            for name in (MET_METRIC, SHARE_METRIC)
        ]
    answers = [shows_fact(scene, fact) for fact in facts]
    kinds: defaultdict[str, list[float]] = defaultdict(list)
    for fact, answer in zip(facts, answers, strict=True):
        kinds[fact.kind].append(float(answer))
    missed = [describe_fact(fact) for fact, answer in zip(facts, answers, strict=True) if not answer]
    explanation_text = f"Not met: {'; '.join(missed)}." if missed else ""
    return [
        _make_score(
            prompt,
            sample,
            MET_METRIC,
            float(all(answers)),
            {"atomicity": atomicity, **kinds},
            explanation_text,
        ),
        _make_score(prompt, sample, SHARE_METRIC, fmean(answers), {"atomicity": atomicity}, explanation_text),
    ]


def _make_score(
    prompt: BenchmarkPrompt,
    sample: int,
    metric: str,
    value: float | None,
    facts: dict[str, float | str | list[float]],
    explanation: str,
) -> Score:
    return Score(
        **prompt.key(sample)._asdict(),
        metric=metric,
        value=value,
        category=prompt.category,
        facts=facts,
        explanation=explanation,
    )


def _get_answers(score: Score, kind: str) -> list[float]:
    found = score.facts.get(kind, [])
    return found if isinstance(found, list) else []


def describe_fact(fact: Fact) -> str:
    """Describe a fact in words, for instance `colour of circle red`."""
    if fact.kind == "relation":
        return f"{fact.shape} {fact.value} {fact.target}"
    if fact.kind in ("text", "background"):
        return f"{fact.kind} {fact.value}"
    return f"{fact.kind} of {fact.shape}{f' {fact.value}' if fact.value else ''}"


TASK = BlocksBench()
