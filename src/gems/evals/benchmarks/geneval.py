"""GenEval: short prompts about objects, their number, colour and place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import DataError
from gems.evals.benchmarks.export import Exporting
from gems.evals.benchmarks.metrics import Figures, by, mean, scored, value_of
from gems.evals.data import Entry, at_most, lines_of, needed
from gems.evals.formulas.geneval import overall
from gems.evals.judge import OFFICIAL
from gems.evals.records import Figure, Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers import geneval as scorer
from gems.evals.task import DataFile, DataSource, Export, Frozen

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
"""What the prompts of ArtiMuse begin with, which are else the same."""
_FILE = "prompts/evaluation_metadata.jsonl"


class _Wanted(BaseModel):
    """One kind of object that is asked for, or forbidden from a number on."""

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
    include: list[_Wanted] = Field(min_length=1)
    exclude: list[_Wanted] = Field(default_factory=list)


class _OfficialRow(BaseModel):
    """One image in the official result."""

    tag: Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
    correct: bool
    filename: str


def numbered(benchmark: str, language: str, entries: Sequence[Entry[GenEvalRecord]]) -> list[BenchmarkPrompt]:
    """The prompts of such a file, whose ids are the lines' numbers from 00000."""
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
    """See `gems.evals.task.Task`."""

    name = "geneval"
    title = "GenEval"
    languages: Sequence[str] = ("en",)
    samples_per_prompt = 4
    size: Mapping[str, int] = {"en": 553}
    metric = scorer.METRIC
    score = staticmethod(scorer.score)
    source = DataSource(
        url="https://github.com/djghosh13/geneval",
        licence="MIT",
        files=[DataFile(path=_FILE, records=553, size=85_209)],
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """See `Task.prompts`; ids are the lines' numbers from 00000."""
        path = needed(data, _FILE)
        entries = lines_of(path, GenEvalRecord)
        at_most(path, len(entries), self.size[language])
        if any(entry.record.prompt.startswith(AESTHETIC) for entry in entries):
            raise DataError(f"{path} holds the prompts of ArtiMuse, which begin with {AESTHETIC!r}.")
        for entry in entries:
            _check_positions(f"{path} {entry.place}", entry.record)
        return numbered(self.name, language, entries)

    async def export(self, frozen: Frozen, folder: Path) -> Export:
        """A folder for each prompt, with its line of the data and its samples."""
        export = Exporting(self, frozen, folder)
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
        """The mean over kinds, in [0, 1], then each kind; every kind must have images for the whole."""
        found = by(scored(scores, self.metric, language), lambda score: score.category)
        rates = {tag: [value_of(score) for score in group] for tag, group in found.items()}
        return self._figures(rates, language, judge)

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """See `Task.read_official`; takes what `evaluate_images.py` writes, a line for each image."""
        entries = lines_of(file, _OfficialRow)
        names = [entry.record.filename for entry in entries]
        if len(set(names)) < len(names):
            raise DataError(f"{file} holds an image twice.", hint="Score into a new file.")
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
            figure(self.name, overall(means), sum(counts.values()), whole),
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
            raise DataError(f"{where}: include.{index}.position names no earlier object.")


TASK = GenEval()
