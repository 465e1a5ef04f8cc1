"""The data files of OneIG: a table of prompts per language, and files with scoring data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from gems.errors import DataError
from gems.evals.data import check_count, check_unique, read_csv, read_json_object, require_file
from gems.evals.records import BenchmarkPrompt
from gems.evals.task import DataFile


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
