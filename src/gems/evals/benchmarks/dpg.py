"""DPG-Bench."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from gems.errors import DataError, RequestError
from gems.evals.data import DataRecord, check_count, check_unique, read_csv, read_text, require_file
from gems.evals.export import ExportWriter, check_square, make_grid
from gems.evals.judge import EvalJudge
from gems.evals.judging import ImageScore, get_answers, score_questions
from gems.evals.metrics import Parents, cascade_failures, group_by, valued_scores, values_by
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts

PROMPTS_FOLDER = "dpg_bench/prompts/"
QUESTIONS_FILE = "dpg_bench/dpg_bench.csv"
_PARENTS_PATTERN = re.compile(r"\s*\d+\s*(?:,\s*\d+\s*)*")
CATEGORIES = ("global", "entity", "attribute", "relation", "other")
_SCORE_LINE = re.compile(r"^DPG-Bench score: ([\d.]+)\s*$", re.MULTILINE)
_CATEGORY_LINE = re.compile(r"^\t(\w+): ([\d.]+)\s*$", re.MULTILINE)
_IMAGE_LINE = re.compile(r"^\S.*\.png((?:, [\d.]+)+)\s*$", re.MULTILINE)


def tile_score(answers: Mapping[int, float], parents: Parents) -> float:
    """Return the share of a tile's yes answers, in [0, 1], after cascading failed parents.

    Unknown parents are ignored. Raises `ZeroDivisionError` for no questions.
    """
    known = {question: [each for each in above if each in answers] for question, above in parents.items()}
    found = cascade_failures(answers, known)
    return sum(found.values()) / len(found)


def official_tile_score(answers: Mapping[int, float], parents: Parents, dropped: int | None) -> float | None:
    """Return the score of the official script; None if it fails and leaves the prompt out.

    `dropped` is the question that its reader drops because it skips the file's first row; None for none.
    """
    kept = {question: answer for question, answer in answers.items() if question != dropped}
    try:
        found = cascade_failures(kept, {question: above for question, above in parents.items() if question in kept})
        return sum(found.values()) / len(found)
    except (KeyError, ZeroDivisionError):
        return None


def dpg_score(prompts: Iterable[Sequence[float]]) -> float | None:
    """Return the score in [0, 100]: the mean over prompts of the mean over tiles; None for no prompts."""
    means = [sum(tiles) / len(tiles) for tiles in prompts if tiles]
    return 100 * sum(means) / len(means) if means else None


def mean_by_category(answers: Iterable[Mapping[int, float]], tuples: Iterable[Mapping[int, str]]) -> dict[str, float]:
    """Return the mean of raw answers by category, in [0, 100], over all questions.

    Answers are those of each prompt's last tile. `tuples` holds for instance `entity - whole (teapot)` by
    question; the part before the dash is the category.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for values, named in zip(answers, tuples, strict=True):
        for question, value in values.items():
            found[named[question].partition("(")[0].partition("-")[0].strip()].append(value)
    return {name: 100 * sum(values) / len(values) for name, values in found.items()}


class _Question(BaseModel):
    item_id: str = Field(min_length=1)
    proposition_id: int = Field(ge=1)
    dependency: str
    tuple: str = Field(min_length=1)
    question_natural_language: str = Field(min_length=1)


def _question_facts(entries: Sequence[DataRecord[_Question]]) -> dict[str, object]:
    return {
        "questions": {each.record.proposition_id: each.record.question_natural_language for each in entries},
        "parents": {each.record.proposition_id: _parse_parents(each) for each in entries},
        "tuples": {each.record.proposition_id: each.record.tuple for each in entries},
    }


def _parse_parents(entry: DataRecord[_Question]) -> list[int]:
    if not _PARENTS_PATTERN.fullmatch(entry.record.dependency):
        raise DataError(f"{entry.where}: dependency {entry.record.dependency!r} is not a list of questions.")
    return [int(number) for number in entry.record.dependency.split(",")]


class DPGBench(ImageTask):
    """DPG-Bench."""

    name = "dpg"
    title = "DPG-Bench"
    samples_per_prompt = 4
    size: Mapping[str, int] = {"en": 1065}
    metric = "dpg"
    source = DataSource(
        url="https://github.com/TencentQQGYLab/ELLA",
        licence="Apache-2.0",
        files=[DataFile(path=PROMPTS_FOLDER, records=1065, size=434_471), DataFile(path=QUESTIONS_FILE, records=None)],
        note="The official reader drops the first question of the table; figures are given for both.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts with their questions; ids and order are those of the files."""
        folder = require_file(data, PROMPTS_FOLDER)
        texts = {path.stem: read_text(path).strip() for path in sorted(folder.glob("*.txt"))}
        check_count(folder, len(texts), self.size[language])
        empty = [name for name, text in texts.items() if not text]
        if empty or not texts:
            what = f"{folder / empty[0]}.txt is empty" if empty else f"{folder} contains no prompts"
            raise DataError(f"{what}.")
        table = require_file(data, QUESTIONS_FILE)
        entries = read_csv(table, _Question, _Question.model_fields)
        check_unique(entries, lambda row: (row.item_id, row.proposition_id))
        questions: dict[str, list[DataRecord[_Question]]] = defaultdict(list)
        for entry in entries:
            questions[entry.record.item_id].append(entry)
        lacking = [name for name in texts if name not in questions]
        if lacking:
            raise DataError(f"{table} has no questions for {', '.join(lacking[:5])}.")
        # The official reader skips the first row after the header.
        first = entries[0].record
        dropped = {first.item_id: first.proposition_id}
        return [
            self.make_prompt(
                language, name, text, facts=_question_facts(questions[name]) | {"dropped": dropped.get(name)}
            )
            for name, text in texts.items()
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write one sheet of four tiles for each prompt with all four images.

        Raises `RequestError` if images are not square or differ in size.
        """
        sides: set[int] = set()
        async for prompt, images in export.each():
            tiles = [image for image in images if image is not None]
            if len(tiles) == len(images):
                sides.add(await check_square(tiles, prompt.id))
                await export.write(f"images/{prompt.id}.png", await asyncio.to_thread(make_grid, tiles, "PNG"))
        if len(sides) > 1:
            shown = ", ".join(map(str, sorted(sides)))
            raise RequestError(
                f"The images have different sizes ({shown} pixels); the official scorer needs a single size.",
                hint="Generate all of them in one size.",
            )
        scoring = ("accelerate", "launch", "dpg_bench/compute_dpg_bench.py")
        images_are = ("--image-root-path", export.folder / "images", "--resolution", next(iter(sides), 1024))
        results = export.folder / "results.txt"
        return [(*scoring, *images_are, "--pic-num", export.samples, "--res-path", results)]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Return the share of yes answers, in [0, 1]; raw answers are kept as facts."""
        return await score_questions(prompt, image, judge, tile_score)

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the score in [0, 100], the score with the official reader's quirks, and each category."""
        known = {prompt.id: prompt for prompt in prompts}
        found = [each for each in valued_scores(scores, self.metric) if each.prompt_id in known]
        groups = group_by(found, lambda score: score.prompt_id)
        last = {name: max(group, key=lambda score: score.sample) for name, group in groups.items()}
        categories = mean_by_category(
            [get_answers(score, known[name].facts) for name, score in last.items()],
            [known[name].facts["tuples"] for name in last],
        )
        plain = dpg_score(values_by(found, lambda score: score.prompt_id).values())
        quirky = dpg_score(_official_tiles(known[name], group) for name, group in groups.items())
        return [
            figure("", plain, len(found)),
            figure("/official_quirks", quirky, len(found)),
            *(figure(f"/{name}", categories.get(name), len(found)) for name in CATEGORIES),
        ]

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the `--res-path` of `compute_dpg_bench.py`."""
        text = read_text(file)
        totals = _SCORE_LINE.findall(text)
        images = _IMAGE_LINE.findall(text)
        if len(totals) != 1 or not images:
            raise DataError(f"{file} is not a result of compute_dpg_bench.py.")
        # The path is followed by the tiles and their mean.
        count = sum(line.count(",") - 1 for line in images)
        first_level = text.partition("L1 category scores:")[2].partition("L2 category scores:")[0]
        categories = {name: float(value) for name, value in _CATEGORY_LINE.findall(first_level)}
        return [
            figure("", float(totals[0]), count),
            *(figure(f"/{name}", value, count) for name, value in categories.items()),
        ]


def _official_tiles(prompt: BenchmarkPrompt, scores: Sequence[Score]) -> list[float]:
    """Return the tile scores of the official script; empty if it leaves the prompt out."""
    facts = prompt.facts
    tiles = [official_tile_score(get_answers(score, facts), facts["parents"], facts["dropped"]) for score in scores]
    return [value for value in tiles if value is not None]


TASK = DPGBench()
