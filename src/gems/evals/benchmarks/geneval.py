"""GenEval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field

from gems.errors import DataError
from gems.evals.data import StrictModel, read_json_lines, read_prompt_lines
from gems.evals.export import ExportWriter
from gems.evals.judge import EvalJudge
from gems.evals.judging import ImageScore, ask_number, ask_yes_no, try_answer
from gems.evals.metrics import mean, valued_scores, values_by
from gems.evals.records import BenchmarkPrompt, Figure, Score, gather_or_cancel
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts

AESTHETIC = "Aesthetic Drawing: "
"""Prefix of ArtiMuse's prompts, which are otherwise the same."""
_GENEVAL_FILE = "prompts/evaluation_metadata.jsonl"


def combine_checks(checks: Sequence[bool | None]) -> bool | None:
    """Return whether all checks hold: False if one failed, else None if one is unknown."""
    if False in checks:
        return False
    return None if None in checks else True


def _attribute_questions(include: Sequence[Mapping[str, Any]]) -> list[str]:
    questions = []
    for item in include:
        if color := item.get("color"):
            questions.append(f"Is the {item['class']} in the image {color}?")
        if place := item.get("position"):
            relation, other = place
            questions.append(f"In the image, is the {item['class']} {relation} the {include[other]['class']}?")
    return questions


def _explain_checks(checks: Mapping[str, bool | None]) -> str:
    wrong = [what for what, holds in checks.items() if holds is False]
    unknown = [what for what, holds in checks.items() if holds is None]
    groups = (("not so", wrong), ("unreadable", unknown))
    return ", ".join(f"{how}: {'; '.join(what)}" for how, what in groups if what)


_Tag = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
TAGS = dict(zip(get_args(_Tag), (80, 99, 80, 94, 100, 100), strict=True))
"""Prompts of each kind."""


class _ObjectSpec(StrictModel):
    kind: str = Field(alias="class", min_length=1)
    count: int = Field(ge=1)
    color: str | None = None
    position: Annotated[list[str | int], Field(min_length=2, max_length=2)] | None = None


class GenEvalRecord(StrictModel):
    """One line of the file."""

    tag: _Tag
    prompt: str = Field(min_length=1)
    include: list[_ObjectSpec] = Field(min_length=1)
    exclude: list[_ObjectSpec] = Field(default_factory=list)


class _OfficialRow(BaseModel):
    tag: _Tag
    correct: bool
    filename: str


class GenEval(ImageTask):
    """GenEval."""

    name = "geneval"
    title = "GenEval"
    samples_per_prompt = 4
    size: Mapping[str, int] = {"en": 553}
    metric = "geneval"
    source = DataSource(
        url="https://github.com/djghosh13/geneval",
        licence="MIT",
        files=[DataFile(path=_GENEVAL_FILE, records=553, size=85_209)],
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are line numbers from 00000."""
        entries = read_prompt_lines(data, _GENEVAL_FILE, GenEvalRecord, self.size[language])
        for entry in entries:
            if entry.record.prompt.startswith(AESTHETIC):
                raise DataError(f"{entry.path} contains the prompts of ArtiMuse, which start with {AESTHETIC!r}.")
            _check_positions(entry.where, entry.record)
        return [
            self.make_prompt(language, f"{index:05d}", entry.record.prompt, entry.record.tag, entry.raw)
            for index, entry in enumerate(entries)
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write a folder per prompt with its data line and its samples."""
        async for prompt, sample, image in export.each_image():
            await export.write(f"{prompt.id}/metadata.jsonl", json.dumps(prompt.facts) + "\n")
            await export.write(f"{prompt.id}/samples/{sample:04d}.png", image)
        results = "results.jsonl"
        scoring = ("python", "evaluation/evaluate_images.py", export.folder, "--outfile", results)
        return [(*scoring, "--model-path", "DETECTOR"), ("python", "evaluation/summary_scores.py", results)]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Return 1 if every check holds, else 0."""
        include, exclude = prompt.facts["include"], prompt.facts.get("exclude") or []
        names = list(dict.fromkeys(item["class"] for item in [*include, *exclude]))
        asked = "How many objects of the kind {!r} can be seen in the image?"
        counted = await gather_or_cancel(try_answer(ask_number(judge, asked.format(name), image)) for name in names)
        counts = {name: each if isinstance(each, int) else None for name, each in zip(names, counted, strict=True)}
        checks: dict[str, bool | None] = {}
        for item in include:
            found = counts[item["class"]]
            checks[f"{item['count']} {item['class']}"] = None if found is None else found >= item["count"]
        for item in exclude:
            found = counts[item["class"]]
            checks[f"fewer than {item['count']} {item['class']}"] = None if found is None else found < item["count"]
        # Missing objects have neither colour nor position.
        if False not in checks.values():
            questions = _attribute_questions(include)
            answers = await gather_or_cancel(try_answer(ask_yes_no(judge, each, image)) for each in questions)
            for asked, answer in zip(questions, answers, strict=True):
                checks[asked] = answer if isinstance(answer, bool) else None
        right = combine_checks(list(checks.values()))
        return ImageScore(
            value=None if right is None else float(right),
            facts={f"counted {name}": float(count) for name, count in counts.items() if count is not None},
            explanation=_explain_checks(checks),
        )

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the mean over kinds, in [0, 1], which needs images of every kind, then each kind."""
        return self._make_figures(figure, values_by(valued_scores(scores, self.metric), lambda score: score.category))

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the output of `evaluate_images.py`, one line per image."""
        rows = [entry.record for entry in read_json_lines(file, _OfficialRow)]
        if len({row.filename for row in rows}) < len(rows):
            raise DataError(f"{file} contains duplicate images.", hint="Score into a new file.")
        rates: dict[str, list[float]] = {}
        for row in rows:
            rates.setdefault(row.tag, []).append(float(row.correct))
        return self._make_figures(figure, rates)

    def _make_figures(self, figure: Figures, rates: Mapping[str, Sequence[float]]) -> list[Figure]:
        means = [sum(values) / len(values) for values in rates.values()]
        expected = {tag: size * self.samples_per_prompt for tag, size in TAGS.items()}
        scored = sum(map(len, rates.values()))
        return [figure("", mean(means), scored), *figure.parts(rates, expected)]


def _check_positions(where: str, record: GenEvalRecord) -> None:
    for index, item in enumerate(record.include):
        if item.position is None:
            continue
        relation, other = item.position
        if not isinstance(relation, str) or not isinstance(other, int) or not 0 <= other < index:
            raise DataError(f"{where}: include.{index}.position does not refer to an earlier object.")


TASK = GenEval()
