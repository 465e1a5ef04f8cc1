"""OneIG: prompts, export, official."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from gems.errors import DataError
from gems.evals.benchmarks.export import ExportWriter, make_grid, model_folder_name
from gems.evals.benchmarks.metrics import Figures, mean, prompt_means, valued_scores
from gems.evals.benchmarks.oneig_scoring import (
    ALIGNMENT,
    DIMENSIONS,
    DIVERSITY,
    get_comparison,
    oneig_score,
    score_alignment,
    score_diversity,
    score_reasoning,
    score_style,
    score_text,
    text_score,
)
from gems.evals.data import check_count, check_unique, read_csv, read_json_object, require_file
from gems.evals.judge import OFFICIAL, EvalJudge
from gems.evals.records import BenchmarkPrompt, Figure, Score, gather_or_cancel
from gems.evals.task import DataFile, DataSource, Export, SampleSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of prompts.

    Attributes:
        folder: Its name in the official scorers.
        count: Number of prompts.
        dimension: The scored dimension besides diversity.
    """

    folder: str
    count: int
    dimension: str


KINDS: Mapping[str, Kind] = {
    "Anime_Stylization": Kind(folder="anime", count=245, dimension="alignment"),
    "Portrait": Kind(folder="human", count=244, dimension="alignment"),
    "General_Object": Kind(folder="object", count=206, dimension="alignment"),
    "Text_Rendering": Kind(folder="text", count=200, dimension="text"),
    "Knowledge_Reasoning": Kind(folder="reasoning", count=225, dimension="reasoning"),
    "Multilingualism": Kind(folder="multilingualism", count=200, dimension="alignment"),
}
"""By name in the table; the last one is Chinese only."""
STYLE_PROMPTS = 114
"""Number of prompts that ask for a style."""
SIZE = {"en": 1120, "zh": 1320}
TABLES = {"en": "OneIG-Bench.csv", "zh": "OneIG-Bench-ZH.csv"}
_COLUMN = {"en": "prompt_en", "zh": "prompt_cn"}
_FILE_SUFFIX = {"en": "", "zh": "_zh"}
_QUESTIONS, _TEXTS, _ANSWERS = "scripts/alignment/Q_D/", "scripts/text/", "scripts/reasoning/"
_STYLES = "scripts/style/style.csv"
_NO_STYLE = ("", "nan")
_FILE_SIZES = {
    "anime.json": 240_912,
    "anime_zh.json": 250_389,
    "human.json": 233_346,
    "human_zh.json": 248_770,
    "object.json": 179_650,
    "object_zh.json": 185_005,
    "multilingualism_zh.json": 148_469,
    "gt_answer.json": 141_383,
    "gt_answer_zh.json": 94_881,
    "text_content.csv": 97_314,
    "text_content_zh.csv": 89_199,
    "style.csv": 3_127,
}
"""Bytes of the files with scoring data."""


class _Row(BaseModel):
    """One prompt."""

    category: str
    id: str = Field(pattern=r"^\d{3}$")


class _TextRow(BaseModel):
    """The text that a prompt asks for."""

    id: str = Field(pattern=r"^\d{3}$")
    text_content: str = Field(min_length=1)


class _StyleRow(BaseModel):
    """The style that a prompt asks for."""

    id: str = Field(pattern=r"^\d{3}$")
    style: str = Field(alias="class")


def list_data_files() -> list[DataFile]:
    """Return all files with their record counts."""
    sizes = {"en": 378_082, "zh": 375_669}
    return [
        *(DataFile(path=TABLES[each], records=SIZE[each], size=sizes[each], language=each) for each in SIZE),
        *(file for language in SIZE for file in _scorer_files(language)),
        DataFile(path=_STYLES, records=KINDS["Anime_Stylization"].count, size=_FILE_SIZES["style.csv"]),
    ]


def kinds_in(language: str) -> dict[str, Kind]:
    """Return the kinds of prompts in a language."""
    return {name: kind for name, kind in KINDS.items() if language == "zh" or name != "Multilingualism"}


def read_prompts(data: Path, benchmark: str, language: str) -> list[BenchmarkPrompt]:
    """Read the prompts with their scoring data; raises `DataError`."""
    path = require_file(data, TABLES[language])
    column = _COLUMN[language]
    entries = read_csv(path, _Row, ("category", "id", column))
    check_count(path, len(entries), SIZE[language])
    check_unique(path, entries, [(entry.record.category, entry.record.id) for entry in entries])
    kinds, sides = kinds_in(language), _ScorerFiles(data, language)
    prompts = []
    for entry in entries:
        kind, text = kinds.get(entry.record.category), entry.raw[column]
        if kind is None or not text.strip():
            what = f"category {entry.record.category!r} is unknown" if kind is None else "the prompt is empty"
            raise DataError(f"{path} {entry.location}: {what}.")
        prompts.append(
            BenchmarkPrompt(
                benchmark=benchmark,
                language=language,
                id=f"{kind.folder}_{entry.record.id}",
                text=text,
                category=entry.record.category,
                facts=sides.facts(entry.record.category, kind, entry.record.id),
            )
        )
    return prompts


class _ScorerFiles:
    """The files with scoring data, each read on first use."""

    def __init__(self, data: Path, language: str) -> None:
        self._data, self._tail = data, _FILE_SUFFIX[language]
        self._read: dict[str, Mapping[str, Any]] = {}

    def facts(self, category: str, kind: Kind, name: str) -> dict[str, Any]:
        """Return the scoring data of a prompt; raises `DataError` if a file lacks it."""
        found: dict[str, Any] = {"id": name, "folder": kind.folder}
        if kind.dimension == "alignment":
            found |= self._of(f"{_QUESTIONS}{kind.folder}{self._tail}.json", name, _read_questions)
        elif kind.dimension == "text":
            found["text_content"] = self._of(f"{_TEXTS}text_content{self._tail}.csv", name, _read_texts)
        else:
            found["gt_answer"] = self._of(f"{_ANSWERS}gt_answer{self._tail}.json", name, read_json_object)
        if category == "Anime_Stylization":
            style = self._of(_STYLES, name, _read_styles)
            found |= {"style": style} if style else {}
        return found

    def _of(self, path: str, name: str, read: Callable[[Path], Mapping[str, Any]]) -> Any:
        file = require_file(self._data, path)
        if path not in self._read:
            self._read[path] = read(file)
        if name not in self._read[path]:
            raise DataError(f"{file} has no entry for {name}.")
        return self._read[path][name]


def _scorer_files(language: str) -> Iterator[DataFile]:
    tail = _FILE_SUFFIX[language]
    for kind in kinds_in(language).values():
        path = {
            "alignment": f"{_QUESTIONS}{kind.folder}{tail}.json",
            "text": f"{_TEXTS}text_content{tail}.csv",
            "reasoning": f"{_ANSWERS}gt_answer{tail}.json",
        }[kind.dimension]
        yield DataFile(path=path, records=kind.count, size=_FILE_SIZES[Path(path).name], language=language)


def _read_questions(path: Path) -> dict[str, dict[str, Any]]:
    """Read questions and parents by prompt; the file holds both as JSON strings."""
    return {
        name: {
            "questions": _parse_numbered(path, name, "question", entry, str),
            "parents": _parse_numbered(path, name, "dependency", entry, list),
        }
        for name, entry in read_json_object(path).items()
    }


def _parse_numbered(path: Path, name: str, field: str, entry: Any, kind: type) -> dict[int, Any]:
    value: Any = entry.get(field) if isinstance(entry, dict) else None
    try:
        found = json.loads(value) if isinstance(value, str) else value
        numbered = {int(number): each for number, each in found.items()}
    except (ValueError, AttributeError):
        raise DataError(f"{path} {name}: {field} is not a JSON object with numbers as keys.") from None
    if not numbered or not all(isinstance(each, kind) for each in numbered.values()):
        raise DataError(f"{path} {name}: {field} is empty or has values of the wrong type.")
    return numbered


def _read_texts(path: Path) -> dict[str, str]:
    entries = read_csv(path, _TextRow, ("id", "text_content"))
    check_unique(path, entries, [entry.record.id for entry in entries])
    return {entry.record.id: entry.record.text_content for entry in entries}


def _read_styles(path: Path) -> dict[str, str]:
    entries = read_csv(path, _StyleRow, ("id", "class"))
    check_unique(path, entries, [entry.record.id for entry in entries])
    return {
        entry.record.id: "" if entry.record.style.strip() in _NO_STYLE else entry.record.style.strip()
        for entry in entries
    }


_SCORE_COLUMNS = {
    "alignment": "alignment",
    "text": "text score",
    "reasoning": "reasoning",
    "style": "style",
    "diversity": "total average",
}
_TILES_PER_PROMPT = 4
_ONE_MODEL_HINT = "Use a separate results folder for each model."


class _AnyRow(BaseModel):
    """A row of a table whose columns are named after models."""


def read_official_figures(folder: Path, language: str, expected: Mapping[str, int]) -> list[Figure]:
    """Read the figures of a `results` folder; `expected` holds the images of each dimension.

    Raises `DataError` if there is no result, a table is invalid, or it covers several models.
    """
    figure = Figures(benchmark="oneig", language=language, judge=OFFICIAL)
    values, parts, counts = {}, [], {}
    for dimension in DIMENSIONS:
        table = _find_newest(folder, f"{dimension}_score_{language.upper()}")
        if table is None:
            parts.append(figure(f"oneig/{dimension}", None, 0, expected[dimension]))
            continue
        values[dimension] = _read_value(table, _SCORE_COLUMNS[dimension])
        prompts = table.with_name(table.name.replace("_score_", "_prompt_score_", 1))
        counts[dimension] = _count_scored(prompts) * _TILES_PER_PROMPT
        parts.append(figure(f"oneig/{dimension}", values[dimension], counts[dimension], expected[dimension]))
    if not values:
        raise DataError(f"{folder} contains no results such as alignment_score_{language.upper()}_TIME.csv.")
    # Diversity covers every prompt.
    return [figure("oneig", oneig_score(values), counts.get("diversity", 0), expected["diversity"]), *parts]


def _find_newest(folder: Path, name: str) -> Path | None:
    """Return the newest table with this name; file names end in the time."""
    found = sorted([*folder.glob(f"{name}.csv"), *folder.glob(f"{name}_*.csv")])
    return found[-1] if found else None


def _read_value(path: Path, column: str) -> float:
    entries = read_csv(path, _AnyRow, [column])
    if len(entries) != 1:
        raise DataError(f"{path} has {len(entries)} models.", hint=_ONE_MODEL_HINT)
    return _parse_finite(path, entries[0].raw[column])


def _count_scored(path: Path) -> int:
    """Count the prompts with a score."""
    if not path.is_file():
        raise DataError(f"{path} is missing, so the number of scored prompts is unknown.")
    entries = read_csv(path, _AnyRow, ())
    values = [list(entry.raw.values())[1:] for entry in entries]
    if any(len(each) != 1 for each in values):
        raise DataError(f"{path} covers several models.", hint=_ONE_MODEL_HINT)
    return sum(each[0].strip() not in ("", "nan", "None") for each in values)


def _parse_finite(path: Path, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: {text!r} is not a number.")
    return value


class OneIG:
    """OneIG-Bench as a `Task`."""

    name = "oneig"
    title = "OneIG-Bench"
    languages: Sequence[str] = ("en", "zh")
    samples_per_prompt = 4
    size: Mapping[str, int] = SIZE
    metric = ALIGNMENT
    source = DataSource(
        url="https://github.com/OneIG-Bench/OneIG-Benchmark",
        licence="CC BY-NC 4.0 by the data's card; none in the repository",
        files=list_data_files(),
        note="Not for commercial purposes.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are the official name of the kind and the benchmark's id."""
        return read_prompts(data, self.name, language)

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write one sheet of four tiles per prompt, by language, kind and model.

        Missing tiles are black, which the official scorers leave out, and are reported as missing. Prompts
        without any image have no sheet.
        """
        export = ExportWriter(self, sample_set, folder)
        folder = await export.begin()
        model = model_folder_name(sample_set)
        async for prompt, images in export.each():
            if any(image is not None for image in images):
                sheet, _ = await make_grid(images, "WEBP")
                name = f"{prompt.language}/{prompt.facts['folder']}/{model}/{prompt.facts['id']}.webp"
                await export.write(name, sheet)
        columns = "2,2" if export.samples > 1 else "1,1"
        languages = dict.fromkeys(prompt.language for prompt in sample_set.prompts)
        return export.done(
            *(each for language in languages for each in _scoring_commands(folder, language, model, columns))
        )

    async def score(
        self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
    ) -> list[Score]:
        """Score the dimensions that the prompt has scoring data for."""
        scorers = [score_diversity(prompt, images)]
        if "questions" in prompt.facts:
            scorers.append(score_alignment(prompt, images, judge))
        if "text_content" in prompt.facts:
            scorers.append(score_text(prompt, images, judge))
        if "gt_answer" in prompt.facts:
            scorers.append(score_reasoning(prompt, images, judge))
        if "style" in prompt.facts:
            scorers.append(score_style(prompt, images, judge))
        return [score for scores in await gather_or_cancel(scorers) for score in scores]

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute the mean of the five dimensions, in [0, 1], which needs all of them, then each."""
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        expected = count_expected_images(language)
        values, parts = {}, []
        for dimension in DIMENSIONS:
            found = valued_scores(scores, dimension, language)
            if dimension == "text":
                value = text_score([get_comparison(score) for score in found], language)
            else:
                value = mean(prompt_means(found).values())
            if value is not None:
                values[dimension] = value
            count = len(found)
            if dimension == "diversity":
                count = sum(_count_compared_images(score) for score in found)
            parts.append(figure(f"{self.name}/{dimension}", value, count, expected[dimension]))
        whole = self.size[language] * self.samples_per_prompt
        return [figure(self.name, oneig_score(values), _count_fully_scored(scores, language), whole), *parts]

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Read the `results` folder of the official scorers.

        It must be of one model; the newest run of each scorer counts.
        """
        return read_official_figures(file, language, count_expected_images(language))


def count_expected_images(language: str) -> dict[str, int]:
    """Return the images of the complete benchmark for each dimension."""
    counts = dict.fromkeys(DIMENSIONS, 0)
    for kind in kinds_in(language).values():
        counts[kind.dimension] += kind.count
        counts["diversity"] += kind.count
    counts["style"] = STYLE_PROMPTS
    return {name: count * OneIG.samples_per_prompt for name, count in counts.items()}


def _count_fully_scored(scores: Sequence[Score], language: str) -> int:
    """Count the images all of whose scores have a value."""
    own = [score for score in scores if score.language == language and score.metric in DIMENSIONS]
    judged = {score.key for score in own if score.metric != DIVERSITY}
    return len(judged - {score.key for score in own if score.value is None})


def _count_compared_images(score: Score) -> int:
    """Count the images behind a diversity score: n images have n (n - 1) / 2 pairs."""
    distances = score.facts.get("distances")
    pairs = len(distances) if isinstance(distances, list) else 0
    return next(n for n in range(pairs + 2) if n * (n - 1) // 2 >= pairs)


def _scoring_commands(folder: Path, language: str, model: str, columns: str) -> list[Sequence[object]]:
    images, mode = folder / language, language.upper()
    aligned = [kind.folder for kind in kinds_in(language).values() if kind.dimension == "alignment"]
    everything = [kind.folder for kind in kinds_in(language).values()]
    common = ("--mode", mode, "--model_names", model, "--image_grid", columns, "--image_dirname")

    def scoring(name: str) -> tuple[str, ...]:
        return "python", "-m", f"scripts.{name}.{name}_score", *common

    return [
        (*scoring("alignment"), images, "--class_items", *aligned),
        (*scoring("text"), images / "text"),
        (*scoring("reasoning"), images / "reasoning"),
        (*scoring("style"), images / "anime"),
        (*scoring("diversity"), images, "--class_items", *everything),
    ]


TASK = OneIG()
