"""OneIG-Bench: five dimensions, their data files, and the results of the official scorers."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from rapidfuzz.distance import Levenshtein

from gems.errors import DataError
from gems.evals.data import check_count, check_unique, read_csv, read_json_object, require_file
from gems.evals.export import ExportWriter, make_grid
from gems.evals.judge import EvalJudge
from gems.evals.judging import (
    Facts,
    ImageScore,
    ask_text,
    make_score,
    parse_ratings,
    read_image_text,
    score_questions,
    score_samples,
)
from gems.evals.metrics import (
    Parents,
    TextMatch,
    fail_children,
    is_chinese,
    match_units,
    mean,
    normalize_text,
    number_facts,
    valued_scores,
    values_by,
)
from gems.evals.records import BenchmarkPrompt, Figure, Score, gather_or_cancel
from gems.evals.task import Commands, DataFile, DataSource, Figures, Prompts, Task
from gems.models.images import open_flat

DIMENSIONS = ("alignment", "text", "reasoning", "style", "diversity")
MAX_EDITS: Mapping[str, int] = {"en": 100, "zh": 50}
"""Number of edits from which a text counts as completely wrong, by language."""
_THUMBNAIL_SIDE = 16
_REASONING_PROMPT = """\
An image was drawn to show the answer to a task. Say how much of the answer it shows rightly.

Answer: {answer}

100 means that everything the answer says can be seen and nothing contradicts it, 50 that about half can \
be seen, 0 that the image has nothing to do with it. Looks do not count. Reply with a JSON array of one \
number from 0 to 100, for example [40]."""
_STYLE_PROMPT = """\
How well does the image keep to the style named {style!r}? Judge its lines, colours, \
materials and light, not what it shows.

100 means that it could stand as an example of this style, 50 that some of its marks are there, 0 that it \
is of another style. Reply with a JSON array of one number from 0 to 100, for example [40]."""
_TEXT_FACTS = ("edits", "matched", "wanted", "found")
STYLE_PROMPTS = 114
"""Number of prompts that ask for a style."""
SIZE = {"en": 1120, "zh": 1320}
TABLES = {"en": "OneIG-Bench.csv", "zh": "OneIG-Bench-ZH.csv"}
_COLUMN = {"en": "prompt_en", "zh": "prompt_cn"}
_FILE_SUFFIX = {"en": "", "zh": "_zh"}
_STYLES = "scripts/style/style.csv"
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
_SCORE_COLUMNS = {
    "alignment": "alignment",
    "text": "text score",
    "reasoning": "reasoning",
    "style": "style",
    "diversity": "total average",
}
_TILES_PER_PROMPT = 4
_ONE_MODEL_HINT = "Use a separate results folder for each model."


def alignment_score(answers: Mapping[int, float], parents: Parents) -> float:
    """Return the share of yes answers, in [0, 1]; a question with a failed parent counts as no."""
    found = fail_children(answers, parents)
    return sum(found.values()) / len(found)


@dataclass(frozen=True, slots=True)
class TextComparison:
    """Edit distance in characters, and common words, or characters if the expected text is Chinese."""

    edits: int
    match: TextMatch


def compare_text(found: str, wanted: str) -> TextComparison:
    """Compare the text read in an image with the expected one; case-sensitive."""
    read, given = _normalize_language(found), _normalize_language(wanted)
    match = match_units(read, given) if is_chinese(given) else match_units(read.split(), given.split())
    return TextComparison(Levenshtein.distance(read, given), match)


def text_score(comparisons: Sequence[TextComparison], language: str) -> float | None:
    """Return the text score in [0, 1] over images; None without expected text.

    It is 1 - min(M, ED) (1 - CR) (1 - WAC) / M with the mean edit distance ED, the share of exact texts CR,
    the share of expected units that were read WAC, and M by language.
    """
    units = sum(each.match.wanted for each in comparisons)
    if not comparisons or not units:
        return None
    most = MAX_EDITS[language]
    edits = sum(each.edits for each in comparisons) / len(comparisons)
    exact = sum(each.edits == 0 for each in comparisons) / len(comparisons)
    read = sum(each.match.matched for each in comparisons) / units
    return 1 - min(most, edits) * (1 - exact) * (1 - read) / most


def oneig_score(dimensions: Mapping[str, float]) -> float | None:
    """Return the mean of the five dimensions, in [0, 1]; None if one is missing."""
    if not all(name in dimensions for name in DIMENSIONS):
        return None
    return sum(dimensions[name] for name in DIMENSIONS) / len(DIMENSIONS)


def _normalize_language(written: str) -> str:
    plain = normalize_text(written)
    return plain.replace(" ", "") if is_chinese(plain) else plain


async def score_diversity(prompt: BenchmarkPrompt, images: Mapping[int, bytes]) -> list[Score]:
    """Return the mean distance of all pairs, in [0, 1], as one score; none for fewer than two images.

    Not comparable with the official distance, DreamSim, which recognizes the contents of images.
    """
    if len(images) < 2:
        return []
    distances = await asyncio.to_thread(_pair_distances, list(images.values()))
    facts: Facts = {"distances": distances, "embedding": "thumbnails"}
    return [make_score(prompt, 0, "diversity", ImageScore(value=mean(distances), facts=facts))]


def _pair_distances(images: Sequence[bytes]) -> list[float]:
    embeddings = [_embed_thumbnail(image) for image in images]
    return [float(np.clip((1 - first @ second) / 2, 0, 1)) for first, second in combinations(embeddings, 2)]


def _embed_thumbnail(image: bytes) -> NDArray[Any]:
    """Return the colours of a thumbnail as a unit vector."""
    small = open_flat(image).resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.BOX)
    # Around middle grey, so that opposite pictures are as far apart as can be. The last component is for
    # pictures that are grey all over, which have no direction else.
    centred = np.append(np.asarray(small, dtype=np.float64).ravel() / 255 - 0.5, 0.1)
    return np.asarray(centred / np.linalg.norm(centred))


async def _rate_image(judge: EvalJudge, text: str, image: bytes) -> ImageScore:
    """Rate an image, in [0, 1]; not comparable with the official distances of embeddings."""
    reply = await ask_text(judge, text, image)
    (rating,) = parse_ratings(reply, 1, 0, 100)
    return ImageScore(value=rating / 100, explanation=reply)


async def _score_text(prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
    """Return the text formula for an image, in [0, 1]; the figures pool the counts in the facts."""
    read = await read_image_text(judge, image)
    found = await asyncio.to_thread(compare_text, read, prompt.facts["text_content"])
    counts = (found.edits, found.match.matched, found.match.wanted, found.match.found)
    return ImageScore(
        value=text_score([found], prompt.language),
        facts={name: float(count) for name, count in zip(_TEXT_FACTS, counts, strict=True)},
        explanation=read,
    )


def _get_comparison(score: Score) -> TextComparison:
    """Return the comparison behind a score; raises `ValueError` if it has none."""
    edits, *counts = map(int, number_facts(score, _TEXT_FACTS))
    return TextComparison(edits, TextMatch(*counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of prompts: folder name of the official scorers, number of prompts, scored dimension."""

    folder: str
    count: int
    dimension: str
    """`diversity` is scored too."""


KINDS: Mapping[str, Kind] = {
    "Anime_Stylization": Kind(folder="anime", count=245, dimension="alignment"),
    "Portrait": Kind(folder="human", count=244, dimension="alignment"),
    "General_Object": Kind(folder="object", count=206, dimension="alignment"),
    "Text_Rendering": Kind(folder="text", count=200, dimension="text"),
    "Knowledge_Reasoning": Kind(folder="reasoning", count=225, dimension="reasoning"),
    "Multilingualism": Kind(folder="multilingualism", count=200, dimension="alignment"),
}
"""By name in the table; the last one is Chinese only."""


class _Row(BaseModel):
    category: str
    id: str = Field(pattern=r"^\d{3}$")


class _TextRow(BaseModel):
    id: str = Field(pattern=r"^\d{3}$")
    text_content: str = Field(min_length=1)


class _StyleRow(BaseModel):
    id: str = Field(pattern=r"^\d{3}$")
    style: str = Field(alias="class")


def kinds_in(language: str) -> dict[str, Kind]:
    """Return the kinds of prompts in a language."""
    return {name: kind for name, kind in KINDS.items() if language == "zh" or name != "Multilingualism"}


class _ScorerFiles:
    """The files with scoring data, each read on first use."""

    def __init__(self, data: Path, language: str) -> None:
        self._data, self._language = data, language
        self._entries: dict[str, Mapping[str, Any]] = {}

    def facts(self, category: str, kind: Kind, name: str) -> dict[str, Any]:
        """Return the scoring data of a prompt; raises `DataError` if a file lacks it."""
        path = _scorer_path(kind, self._language)
        common: dict[str, Any] = {"id": name, "folder": kind.folder}
        if kind.dimension == "text":
            return common | {"text_content": self._entry(path, name, _read_texts)}
        if kind.dimension == "reasoning":
            return common | {"gt_answer": self._entry(path, name, read_json_object)}
        found: dict[str, Any] = common | self._entry(path, name, _read_questions)
        style = self._entry(_STYLES, name, _read_styles) if category == "Anime_Stylization" else ""
        return found | {"style": style} if style else found

    def _entry(self, path: str, name: str, read: Callable[[Path], Mapping[str, Any]]) -> Any:
        file = require_file(self._data, path)
        if path not in self._entries:
            self._entries[path] = read(file)
        if name not in self._entries[path]:
            raise DataError(f"{file} has no entry for {name}.")
        return self._entries[path][name]


def _scorer_path(kind: Kind, language: str) -> str:
    tail = _FILE_SUFFIX[language]
    return {
        "alignment": f"scripts/alignment/Q_D/{kind.folder}{tail}.json",
        "text": f"scripts/text/text_content{tail}.csv",
        "reasoning": f"scripts/reasoning/gt_answer{tail}.json",
    }[kind.dimension]


def _list_data_files() -> Iterator[DataFile]:
    for language, size in (("en", 378_082), ("zh", 375_669)):
        yield DataFile(path=TABLES[language], records=SIZE[language], size=size, language=language)
    for language in SIZE:
        for kind in kinds_in(language).values():
            path = _scorer_path(kind, language)
            size = _FILE_SIZES[Path(path).name]
            yield DataFile(path=path, records=kind.count, size=size, language=language)
    yield DataFile(path=_STYLES, records=KINDS["Anime_Stylization"].count, size=_FILE_SIZES["style.csv"])


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
    check_unique(entries, lambda row: row.id)
    return {entry.record.id: entry.record.text_content for entry in entries}


def _read_styles(path: Path) -> dict[str, str]:
    entries = read_csv(path, _StyleRow, ("id", "class"))
    check_unique(entries, lambda row: row.id)
    styles = {entry.record.id: entry.record.style.strip() for entry in entries}
    return {name: "" if style == "nan" else style for name, style in styles.items()}


class _AnyRow(BaseModel):
    """A row of a table whose columns are named after models."""


def _read_value(path: Path, column: str) -> float:
    entries = read_csv(path, _AnyRow, [column])
    if len(entries) != 1:
        raise DataError(f"{path} has {len(entries)} models.", hint=_ONE_MODEL_HINT)
    text = entries[0].raw[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: {text!r} is not a number.")
    return value


def _count_scored(path: Path) -> int:
    """Count the prompts with a score."""
    if not path.is_file():
        raise DataError(f"{path} is missing, so the number of scored prompts is unknown.")
    entries = read_csv(path, _AnyRow, ())
    values = [list(entry.raw.values())[1:] for entry in entries]
    if any(len(each) != 1 for each in values):
        raise DataError(f"{path} covers several models.", hint=_ONE_MODEL_HINT)
    return sum(each[0].strip() not in ("", "nan", "None") for each in values)


class OneIG(Task):
    """OneIG-Bench."""

    name = "oneig"
    title = "OneIG-Bench"
    languages = ("en", "zh")
    samples_per_prompt = 4
    size: Mapping[str, int] = SIZE
    metric = "alignment"
    source = DataSource(
        url="https://github.com/OneIG-Bench/OneIG-Benchmark",
        licence="CC BY-NC 4.0 by the data's card; none in the repository",
        files=list(_list_data_files()),
        note="Not for commercial purposes.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are the official name of the kind and the benchmark's id."""
        path = require_file(data, TABLES[language])
        column = _COLUMN[language]
        entries = read_csv(path, _Row, ("category", "id", column))
        check_count(path, len(entries), SIZE[language])
        check_unique(entries, lambda row: (row.category, row.id))
        kinds, sides = kinds_in(language), _ScorerFiles(data, language)
        prompts = []
        for entry in entries:
            category, name, text = entry.record.category, entry.record.id, entry.raw[column]
            kind = kinds.get(category)
            if kind is None or not text.strip():
                what = f"category {category!r} is unknown" if kind is None else "the prompt is empty"
                raise DataError(f"{entry.where}: {what}.")
            facts = sides.facts(category, kind, name)
            prompts.append(self.make_prompt(language, f"{kind.folder}_{name}", text, category, facts))
        return prompts

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write one sheet of four tiles per prompt, by language, kind and model.

        Missing tiles are black, which the official scorers leave out, and are reported as missing. Prompts
        without any image have no sheet.
        """
        async for prompt, images in export.each():
            if any(image is not None for image in images):
                name = f"{prompt.language}/{prompt.facts['folder']}/{export.model}/{prompt.facts['id']}.webp"
                await export.write(name, await asyncio.to_thread(make_grid, images, "WEBP"))
        return [each for language in export.languages for each in _scoring_commands(export, language)]

    async def score(self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
        """Score the dimensions that the prompt has scoring data for."""
        facts = prompt.facts
        scorers: dict[str, Callable[[bytes], Awaitable[ImageScore]]] = {}
        if "questions" in facts:
            scorers["alignment"] = lambda image: score_questions(prompt, image, judge, alignment_score)
        if "text_content" in facts:
            scorers["text"] = lambda image: _score_text(prompt, image, judge)
        if "gt_answer" in facts:
            task = _REASONING_PROMPT.format(answer=facts["gt_answer"])
            scorers["reasoning"] = lambda image: _rate_image(judge, task, image)
        if "style" in facts:
            wanted = _STYLE_PROMPT.format(style=str(facts["style"]).replace("_", " "))
            scorers["style"] = lambda image: _rate_image(judge, wanted, image)
        found = await gather_or_cancel(
            [
                score_diversity(prompt, images),
                *(score_samples(prompt, images, name, scorer) for name, scorer in scorers.items()),
            ]
        )
        return [score for scores in found for score in scores]

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the mean of the five dimensions, in [0, 1], which needs all of them, then each."""
        values: dict[str, float | None] = {}
        counts = {}
        for dimension in DIMENSIONS:
            found = valued_scores(scores, dimension)
            if dimension == "text":
                values[dimension] = text_score([_get_comparison(score) for score in found], figure.language)
            else:
                by_prompt = values_by(found, lambda score: score.prompt_id)
                values[dimension] = mean(sum(each) / len(each) for each in by_prompt.values())
            counts[dimension] = len(found)
            if dimension == "diversity":
                counts[dimension] = sum(_count_compared_images(score) for score in found)
        # Images all of whose scores have a value.
        own = [score for score in scores if score.metric in DIMENSIONS]
        judged = {score.key for score in own if score.metric != "diversity"}
        complete = judged - {score.key for score in own if score.value is None}
        return _make_figures(figure, values, counts, len(complete))

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the `results` folder of the official scorers.

        It must be of one model; the newest run of each scorer counts.
        """
        values: dict[str, float | None] = {}
        counts: dict[str, int] = {}
        for dimension in DIMENSIONS:
            name = f"{dimension}_score_{figure.language.upper()}"
            # File names end in the time.
            tables = sorted([*file.glob(f"{name}.csv"), *file.glob(f"{name}_*.csv")])
            if tables:
                table = tables[-1]
                values[dimension] = _read_value(table, _SCORE_COLUMNS[dimension])
                each = table.with_name(table.name.replace("_score_", "_prompt_score_", 1))
                counts[dimension] = _count_scored(each) * _TILES_PER_PROMPT
        if not values:
            raise DataError(f"{file} contains no results such as alignment_score_{figure.language.upper()}_TIME.csv.")
        # Diversity covers every prompt.
        return _make_figures(figure, values, counts, counts.get("diversity", 0))


def _make_figures(
    figure: Figures, values: Mapping[str, float | None], counts: Mapping[str, int], scored: int
) -> list[Figure]:
    known = {name: value for name, value in values.items() if value is not None}
    expected = count_expected_images(figure.language)
    return [
        figure("", oneig_score(known), scored),
        *(figure(f"/{name}", values.get(name), counts.get(name, 0), expected[name]) for name in DIMENSIONS),
    ]


def count_expected_images(language: str) -> dict[str, int]:
    """Return the images of the complete benchmark for each dimension."""
    counts = dict.fromkeys(DIMENSIONS, 0)
    for kind in kinds_in(language).values():
        counts[kind.dimension] += kind.count
        counts["diversity"] += kind.count
    counts["style"] = STYLE_PROMPTS
    return {name: count * OneIG.samples_per_prompt for name, count in counts.items()}


def _count_compared_images(score: Score) -> int:
    """Count the images behind a diversity score: n images have n (n - 1) / 2 pairs."""
    distances = score.facts.get("distances")
    pairs = len(distances) if isinstance(distances, list) else 0
    return next(n for n in range(pairs + 2) if n * (n - 1) // 2 >= pairs)


def _scoring_commands(export: ExportWriter, language: str) -> Commands:
    images = export.folder / language
    kinds = kinds_in(language).values()
    everything = [kind.folder for kind in kinds]
    aligned = [kind.folder for kind in kinds if kind.dimension == "alignment"]
    columns = "2,2" if export.samples > 1 else "1,1"

    def scoring(name: str) -> tuple[str, ...]:
        command = ("python", "-m", f"scripts.{name}.{name}_score", "--mode", language.upper())
        return *command, "--model_names", export.model, "--image_grid", columns, "--image_dirname"

    return [
        (*scoring("alignment"), images, "--class_items", *aligned),
        (*scoring("text"), images / "text"),
        (*scoring("reasoning"), images / "reasoning"),
        (*scoring("style"), images / "anime"),
        (*scoring("diversity"), images, "--class_items", *everything),
    ]


TASK = OneIG()
