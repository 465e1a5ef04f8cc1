"""The data files of DPG-Bench: a text file per prompt, and one table of all questions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from gems.errors import DataError
from gems.evals.data import DataRecord, check_count, check_unique, read_csv, read_text, require_file
from gems.evals.samples import BenchmarkPrompt

PROMPTS_FOLDER = "dpg_bench/prompts/"
QUESTIONS_FILE = "dpg_bench/dpg_bench.csv"
_PARENTS_PATTERN = re.compile(r"\s*\d+\s*(?:,\s*\d+\s*)*")


class _Question(BaseModel):
    """One row of the table."""

    item_id: str = Field(min_length=1)
    proposition_id: int = Field(ge=1)
    dependency: str
    tuple: str = Field(min_length=1)
    question_natural_language: str = Field(min_length=1)


def read_prompts(data: Path, benchmark: str, most: int) -> list[BenchmarkPrompt]:
    """Read the prompts with their questions; `most` is the size of the benchmark. Raises `DataError`."""
    folder = require_file(data, PROMPTS_FOLDER)
    texts = {path.stem: read_text(path).strip() for path in sorted(folder.glob("*.txt"))}
    check_count(folder, len(texts), most)
    empty = [name for name, text in texts.items() if not text]
    if empty or not texts:
        what = f"{folder / empty[0]}.txt is empty" if empty else f"{folder} contains no prompts"
        raise DataError(f"{what}.")
    table = require_file(data, QUESTIONS_FILE)
    entries = read_csv(table, _Question, _Question.model_fields)
    check_unique(table, entries, [(entry.record.item_id, entry.record.proposition_id) for entry in entries])
    questions: dict[str, list[DataRecord[_Question]]] = defaultdict(list)
    for entry in entries:
        questions[entry.record.item_id].append(entry)
    lacking = [name for name in texts if name not in questions]
    if lacking:
        raise DataError(f"{table} has no questions for {', '.join(lacking[:5])}.")
    # The official reader skips the first row after the header.
    first = entries[0].record
    return [
        BenchmarkPrompt(
            benchmark=benchmark,
            language="en",
            id=name,
            text=text,
            facts=_question_facts(table, questions[name])
            | {"dropped": first.proposition_id if first.item_id == name else None},
        )
        for name, text in texts.items()
    ]


def _question_facts(table: Path, entries: Sequence[DataRecord[_Question]]) -> dict[str, object]:
    return {
        "questions": {each.record.proposition_id: each.record.question_natural_language for each in entries},
        "parents": {each.record.proposition_id: _parse_parents(table, each) for each in entries},
        "tuples": {each.record.proposition_id: each.record.tuple for each in entries},
    }


def _parse_parents(table: Path, entry: DataRecord[_Question]) -> list[int]:
    if not _PARENTS_PATTERN.fullmatch(entry.record.dependency):
        raise DataError(
            f"{table} {entry.location}: dependency {entry.record.dependency!r} is not a list of questions."
        )
    return [int(number) for number in entry.record.dependency.split(",")]
