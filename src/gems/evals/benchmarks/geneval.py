"""GenEval."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import DataError, RefusedError, UnreadableReplyError
from gems.evals.benchmarks.export import ExportWriter
from gems.evals.benchmarks.judging import ImageScore, ask_number, ask_yes_no, score_samples
from gems.evals.benchmarks.metrics import Figures, get_value, group_by, mean, valued_scores
from gems.evals.data import DataRecord, check_count, read_json_lines, require_file
from gems.evals.judge import OFFICIAL, EvalJudge
from gems.evals.records import BenchmarkPrompt, Figure, Score, gather_or_cancel
from gems.evals.task import DataFile, DataSource, Export, SampleSet


def combine_checks(checks: Sequence[bool | None]) -> bool | None:
    """Return whether all checks hold: False if one failed, else None if one is unknown."""
    if False in checks:
        return False
    return None if None in checks else True


def geneval_score(rates: Mapping[str, float]) -> float | None:
    """Return the score in [0, 1]: the unweighted mean of the rates by kind; None for no rates."""
    return sum(rates.values()) / len(rates) if rates else None


T = TypeVar("T")
GENEVAL_METRIC = "geneval"


async def score_geneval(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return 1 for an image where every check holds, else 0; one score per image."""
    return await score_samples(
        prompt, images, GENEVAL_METRIC, lambda image: _score_geneval_image(prompt.facts, image, judge)
    )


async def _score_geneval_image(facts: Mapping[str, Any], image: bytes, judge: EvalJudge) -> ImageScore:
    include, exclude = facts["include"], facts.get("exclude") or []
    names = list(dict.fromkeys(item["class"] for item in [*include, *exclude]))
    counted = await gather_or_cancel(_answer_or_none(_count_objects(judge, name, image)) for name in names)
    counts = dict(zip(names, counted, strict=True))
    checks: dict[str, bool | None] = {}
    for item in include:
        found = counts[item["class"]]
        checks[f"{item['count']} {item['class']}"] = None if found is None else found >= item["count"]
    for item in exclude:
        found = counts[item["class"]]
        checks[f"fewer than {item['count']} {item['class']}"] = (
            None if found is None else found < item["count"]
        )
    # Missing objects have neither colour nor position.
    if False not in checks.values():
        questions = _attribute_questions(include)
        answers = await gather_or_cancel(
            _answer_or_none(ask_yes_no(judge, each, image)) for each in questions
        )
        checks |= dict(zip(questions, answers, strict=True))
    right = combine_checks(list(checks.values()))
    return ImageScore(
        value=None if right is None else float(right),
        facts={f"counted {name}": float(count) for name, count in counts.items() if count is not None},
        explanation=_explain_checks(checks),
    )


async def _count_objects(judge: EvalJudge, name: str, image: bytes) -> int:
    return await ask_number(judge, f"How many objects of the kind {name!r} can be seen in the image?", image)


def _attribute_questions(include: Sequence[Mapping[str, Any]]) -> list[str]:
    questions = []
    for item in include:
        if color := item.get("color"):
            questions.append(f"Is the {item['class']} in the image {color}?")
        if place := item.get("position"):
            relation, other = place
            questions.append(
                f"In the image, is the {item['class']} {relation} the {include[other]['class']}?"
            )
    return questions


async def _answer_or_none(answer: Awaitable[T]) -> T | None:
    """Return an answer; None if it is unreadable or refused."""
    try:
        return await answer
    except (UnreadableReplyError, RefusedError):
        return None


def _explain_checks(checks: Mapping[str, bool | None]) -> str:
    wrong = [what for what, holds in checks.items() if holds is False]
    unknown = [what for what, holds in checks.items() if holds is None]
    groups = (("not so", wrong), ("unreadable", unknown))
    return ", ".join(f"{how}: {'; '.join(what)}" for how, what in groups if what)


TAGS = {
    "single_object": 80,
    "two_object": 99,
    "counting": 80,
    "colors": 94,
    "position": 100,
    "color_attr": 100,
}
"""Prompts of each kind."""
AESTHETIC = "Aesthetic Drawing: "
"""Prefix of ArtiMuse's prompts, which are otherwise the same."""
_GENEVAL_FILE = "prompts/evaluation_metadata.jsonl"


class _ObjectSpec(BaseModel):
    """A kind of object that is required, or excluded from a count on."""

    model_config = ConfigDict(strict=True)

    kind: str = Field(alias="class", min_length=1)
    count: int = Field(ge=1)
    color: str | None = None
    position: Annotated[list[str | int], Field(min_length=2, max_length=2)] | None = None


class GenEvalRecord(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(strict=True)

    tag: Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
    prompt: str = Field(min_length=1)
    include: list[_ObjectSpec] = Field(min_length=1)
    exclude: list[_ObjectSpec] = Field(default_factory=list)


class _OfficialRow(BaseModel):
    """One image in the official result."""

    tag: Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
    correct: bool
    filename: str


def make_prompts(
    benchmark: str, language: str, entries: Sequence[DataRecord[GenEvalRecord]]
) -> list[BenchmarkPrompt]:
    """Build the prompts of a file; ids are line numbers from 00000."""
    return [
        BenchmarkPrompt(
            benchmark=benchmark,
            language=language,
            id=f"{index:05d}",
            text=entry.record.prompt,
            category=entry.record.tag,
            facts=entry.raw,
        )
        for index, entry in enumerate(entries)
    ]


class GenEval:
    """GenEval as a `Task`."""

    name = "geneval"
    title = "GenEval"
    languages: Sequence[str] = ("en",)
    samples_per_prompt = 4
    size: Mapping[str, int] = {"en": 553}
    metric = GENEVAL_METRIC
    score = staticmethod(score_geneval)
    source = DataSource(
        url="https://github.com/djghosh13/geneval",
        licence="MIT",
        files=[DataFile(path=_GENEVAL_FILE, records=553, size=85_209)],
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are line numbers from 00000."""
        path = require_file(data, _GENEVAL_FILE)
        entries = read_json_lines(path, GenEvalRecord)
        check_count(path, len(entries), self.size[language])
        if any(entry.record.prompt.startswith(AESTHETIC) for entry in entries):
            raise DataError(f"{path} contains the prompts of ArtiMuse, which start with {AESTHETIC!r}.")
        for entry in entries:
            _check_positions(f"{path} {entry.location}", entry.record)
        return make_prompts(self.name, language, entries)

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write a folder per prompt with its data line and its samples."""
        export = ExportWriter(self, sample_set, folder)
        folder = await export.begin()
        async for prompt, images in export.each():
            if any(image is not None for image in images):
                await export.write(f"{prompt.id}/metadata.jsonl", json.dumps(prompt.facts) + "\n")
            for sample, image in enumerate(images):
                if image is not None:
                    await export.write(f"{prompt.id}/samples/{sample:04d}.png", image)
        results = "results.jsonl"
        scoring = ("python", "evaluation/evaluate_images.py", folder, "--outfile", results)
        return export.done(
            (*scoring, "--model-path", "DETECTOR"), ("python", "evaluation/summary_scores.py", results)
        )

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute the mean over kinds, in [0, 1], which needs images of every kind, then each kind."""
        found = group_by(valued_scores(scores, self.metric, language), lambda score: score.category)
        rates = {tag: [get_value(score) for score in group] for tag, group in found.items()}
        return self._figures(rates, language, judge)

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Read the output of `evaluate_images.py`, one line per image."""
        entries = read_json_lines(file, _OfficialRow)
        names = [entry.record.filename for entry in entries]
        if len(set(names)) < len(names):
            raise DataError(f"{file} contains duplicate images.", hint="Score into a new file.")
        rates: dict[str, list[float]] = {}
        for entry in entries:
            rates.setdefault(entry.record.tag, []).append(float(entry.record.correct))
        return self._figures(rates, language, OFFICIAL)

    def _figures(self, rates: Mapping[str, list[float]], language: str, judge: str) -> list[Figure]:
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        means = {tag: sum(values) / len(values) for tag, values in rates.items() if values}
        counts = {tag: len(rates.get(tag, ())) for tag in TAGS}
        whole = self.size[language] * self.samples_per_prompt
        return [
            figure(self.name, geneval_score(means), sum(counts.values()), whole),
            *(
                figure(f"{self.name}/{tag}", mean(rates.get(tag, ())), counts[tag], size * 4)
                for tag, size in TAGS.items()
            ),
        ]


def _check_positions(where: str, record: GenEvalRecord) -> None:
    for index, item in enumerate(record.include):
        if item.position is None:
            continue
        relation, other = item.position
        if not isinstance(relation, str) or not isinstance(other, int) or not 0 <= other < index:
            raise DataError(f"{where}: include.{index}.position does not refer to an earlier object.")


TASK = GenEval()
