"""GenEval2, Soft-TIFA."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel

from gems.errors import DataError
from gems.evals.data import StrictModel, read_json, read_prompt_lines, validate_record
from gems.evals.export import ExportWriter
from gems.evals.judge import EvalJudge
from gems.evals.judging import ImageScore, Probability, ask_number_probability, ask_yes_probability
from gems.evals.metrics import NUMBERS, arithmetic_mean, valued_scores
from gems.evals.records import BenchmarkPrompt, Figure, Score, gather_or_cancel
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts

_COUNT_QUESTION = "How many"
_FILE = "geneval2_data.jsonl"
SKILLS = ("object", "attribute", "count", "position", "verb")
ATOMS = range(3, 11)
_PROMPTS_PER_ATOM_COUNT = 100
"""Prompts for each number of atoms."""


def geometric_mean(answers: Sequence[float]) -> float:
    """Return the geometric mean of a prompt's answers, in [0, 1]; a single 0 makes it 0."""
    if not answers:
        raise ValueError("There are no answers.")
    if min(answers) <= 0:
        return 0.0
    return math.exp(sum(math.log(answer) for answer in answers) / len(answers))


def soft_tifa_score(prompts: Sequence[float]) -> float | None:
    """Return the score in [0, 100]: the mean over prompts; None for no prompts."""
    return 100 * sum(prompts) / len(prompts) if prompts else None


def mean_by_skill(answers: Sequence[Sequence[float]], skills: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the mean of all questions of each skill, in [0, 100], regardless of prompts."""
    found: dict[str, list[float]] = defaultdict(list)
    for values, names in zip(answers, skills, strict=True):
        for value, name in zip(values, names, strict=True):
            found[name].append(value)
    return {name: 100 * arithmetic_mean(values) for name, values in found.items()}


def mean_by_atomicity(answers: Sequence[Sequence[float]], atoms: Sequence[int]) -> dict[int, float]:
    """Return the mean of the prompts' geometric means by number of atoms, in [0, 100]."""
    found: dict[int, list[float]] = defaultdict(list)
    for values, count in zip(answers, atoms, strict=True):
        found[count].append(geometric_mean(values))
    return {count: 100 * arithmetic_mean(found[count]) for count in sorted(found)}


async def _ask_answer(judge: EvalJudge, image: bytes, question: str, expected: str) -> Probability:
    text = f"{question} Answer in one word."
    if question.startswith(_COUNT_QUESTION):
        return await ask_number_probability(judge, text, image, expected)
    return await ask_yes_probability(judge, text, image)


def _least_likely(pairs: Sequence[Sequence[str]], answers: Sequence[float]) -> str:
    worst = min(range(len(answers)), key=answers.__getitem__)
    question, expected = pairs[worst]
    return f"least likely: {question} {expected} ({answers[worst]:.0%})"


class _Record(StrictModel):
    prompt: str = Field(min_length=1)
    atom_count: int = Field(ge=ATOMS.start, lt=ATOMS.stop)
    vqa_list: list[list[str]] = Field(min_length=1)
    skills: list[Literal["object", "attribute", "count", "position", "verb"]]


class _OfficialScores(RootModel[list[list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]]]):
    """The official output: the answers of each prompt, in the order of the data."""


class GenEval2(ImageTask):
    """GenEval2."""

    name = "geneval2"
    title = "GenEval2"
    size: Mapping[str, int] = {"en": 800}
    metric = "soft_tifa_gm"
    source = DataSource(
        url="https://github.com/facebookresearch/GenEval2",
        licence="CC BY-NC 4.0",
        files=[DataFile(path=_FILE, records=800, size=423_220)],
        note="Not for commercial purposes.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are line numbers from 0000."""
        # The official scorer finds images by the prompt's text.
        entries = read_prompt_lines(data, _FILE, _Record, self.size[language], lambda record: record.prompt)
        for entry in entries:
            _check_questions(entry.where, entry.record)
        return [
            self.make_prompt(language, f"{index:04d}", row.prompt, f"{row.atom_count} atoms", entry.raw)
            for index, entry in enumerate(entries)
            for row in [entry.record]
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write the images, the file that maps prompts to them, and the data of prompts with an image.

        The official scorer stops at a prompt without an image, so such prompts are left out.
        """
        written = (await export.write_first_images("images/")).values()
        mapping = await export.write_json(
            "image_filepath_data.json", {prompt.text: str(path) for prompt, path in written}
        )
        data = await export.write(_FILE, "".join(json.dumps(prompt.facts) + "\n" for prompt, _ in written))
        scores = export.folder / "scores.json"
        evaluation = ("python", "evaluation.py", "--benchmark_data", data, "--image_filepath_data", mapping)
        return [
            (*evaluation, "--method", "soft_tifa_gm", "--output_file", scores),
            ("python", "soft_tifa_analysis.py", "--benchmark_data", data, "--score_data", scores),
        ]

    async def score(self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
        """Return the geometric and the arithmetic mean of each image, in [0, 1]."""
        scores = await super().score(prompt, images, judge)
        means = []
        for score in scores:
            answers = score.facts.get("answers")
            value = arithmetic_mean(answers) if isinstance(answers, list) else None
            means.append(score.model_copy(update={"metric": "soft_tifa_am", "value": value}))
        return [*scores, *means]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Return the geometric mean of the answers, which are kept as facts."""
        pairs: Sequence[Sequence[str]] = prompt.facts["vqa_list"]
        found = await gather_or_cancel(_ask_answer(judge, image, *pair) for pair in pairs)
        answers = [answer.value for answer in found]
        return ImageScore(
            value=geometric_mean(answers),
            facts={
                "answers": answers,
                "atomicity": float(prompt.facts["atom_count"]),
                "how": " ".join(sorted({answer.how for answer in found})),
            },
            explanation=_least_likely(pairs, answers),
        )

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute geometric and arithmetic mean in [0, 100], each number of atoms, and each skill."""
        known = {prompt.id: prompt for prompt in prompts}
        found = []
        for score in valued_scores(scores, self.metric):
            answers = score.facts.get("answers")
            if score.prompt_id in known and isinstance(answers, list):
                found.append((known[score.prompt_id], answers))
        return _make_figures(figure, found)

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the `--output_file` of `evaluation.py`.

        It does not name prompts, so it must cover all of `prompts`.
        """
        lists = validate_record(str(file), read_json(file), _OfficialScores).root
        if [len(answers) for answers in lists] != [len(prompt.facts["vqa_list"]) for prompt in prompts]:
            raise DataError(
                f"{file} has answers for {len(lists)} prompts; they differ from the benchmark's data.",
                hint="Score all prompts with the data file of the export.",
            )
        return _make_figures(figure, list(zip(prompts, lists, strict=True)))


def _make_figures(figure: Figures, found: Sequence[tuple[BenchmarkPrompt, list[float]]]) -> list[Figure]:
    answers = [each for _, each in found]
    atoms = [prompt.facts["atom_count"] for prompt, _ in found]
    levels = mean_by_atomicity(answers, atoms)
    skills = mean_by_skill(answers, [prompt.facts["skills"] for prompt, _ in found])
    return [
        figure("", soft_tifa_score([geometric_mean(each) for each in answers]), len(found)),
        figure("/am", soft_tifa_score([arithmetic_mean(each) for each in answers]), len(found)),
        *(figure(f"/{level} atoms", levels.get(level), atoms.count(level), _PROMPTS_PER_ATOM_COUNT) for level in ATOMS),
        *(figure(f"/{skill}", skills.get(skill), len(found)) for skill in SKILLS),
    ]


def _check_questions(where: str, record: _Record) -> None:
    if len(record.skills) != len(record.vqa_list):
        raise DataError(f"{where}: the numbers of skills and questions differ.")
    for index, pair in enumerate(record.vqa_list):
        if len(pair) != 2:
            raise DataError(f"{where}: vqa_list.{index} is not a pair of question and answer.")
        question, answer = pair
        counts = question.startswith(_COUNT_QUESTION)
        if answer.lower() not in (NUMBERS if counts else ("yes",)):
            raise DataError(f"{where}: vqa_list.{index} has the unexpected answer {answer!r}.")


TASK = GenEval2()
