"""Benchmarks' data files, read strictly: what is missing or damaged is told with its place.

Too few records are no damage, since parts of a benchmark may be run; figures say then that they are partial.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from gems.errors import DataError

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class DataRecord(Generic[M]):
    """One record of a file.

    Attributes:
        place: For messages, for instance `line 17`.
        raw: As the file has it.
        record: The same, checked.
    """

    place: str
    raw: dict[str, Any]
    record: M


def find_file(data: Path, path: str) -> Path | None:
    """Where a file or folder lies: as in the official repository, or with fewer of the folders above it.

    So a clone of the repository can be the data folder, and so can one with nothing but the files.
    """
    parts = PurePosixPath(path).parts
    places = (data.joinpath(*parts[first:]) for first in range(len(parts)))
    return next((place for place in places if place.exists()), None)


def require_file(data: Path, path: str) -> Path:
    """As `located`.

    Raises:
        DataError: it is not there.
    """
    found = find_file(data, path)
    if found is None:
        raise DataError(f"{data / path} is missing.")
    return found


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        DataError: it cannot be read, or is not in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8: byte {error.start} cannot be read.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def read_json_lines(path: Path, form: type[M]) -> list[DataRecord[M]]:
    """The records of a JSON Lines file.

    Raises:
        DataError: a line is truncated, or lacks something; it is named.
    """
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [
        _validated(path, f"line {number}", _parse_json(path, line, number), form)
        for number, line in enumerate(lines, 1)
    ]


def read_json_array(path: Path, form: type[M]) -> list[DataRecord[M]]:
    """The records of a file that is one JSON array; see `lines_of`."""
    found = read_json(path)
    if not isinstance(found, list):
        raise DataError(f"{path} is no JSON array.")
    return [_validated(path, f"record {number}", raw, form) for number, raw in enumerate(found, 1)]


def read_json_object(path: Path) -> dict[str, Any]:
    """A file that is one JSON object.

    Raises:
        DataError: it is none, or names something twice.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} is no JSON object.")
    return found


def read_json(path: Path) -> Any:
    """A file that is one JSON value.

    Raises:
        DataError: it is none, or is truncated; the line is named.
    """
    return _parse_json(path, read_text(path))


def read_csv(path: Path, form: type[M], columns: Iterable[str]) -> list[DataRecord[M]]:
    """The rows of a CSV file with a heading.

    Raises:
        DataError: a column is missing, or a row has too few or too many fields; its line is named.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        lacking = [name for name in columns if name not in (reader.fieldnames or ())]
        if lacking:
            raise DataError(f"{path} has no column {', '.join(lacking)}.")
        return [_csv_record(path, reader.line_num, row, form) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path} line {reader.reader.line_num}: {error}.") from None


def check_unique(path: Path, entries: Sequence[DataRecord[Any]], ids: Sequence[Hashable]) -> None:
    """Check that no id comes twice.

    Raises:
        DataError: one does; both places are named.
    """
    first: dict[Hashable, str] = {}
    for entry, name in zip(entries, ids, strict=True):
        if name in first:
            raise DataError(f"{path}: the id {name} is in {first[name]} and again in {entry.place}.")
        first[name] = entry.place


def check_count(path: Path, found: int, most: int) -> None:
    """Check that a file has no more records than the benchmark.

    Raises:
        DataError: it has, so that it is another edition.
    """
    if found > most:
        raise DataError(f"{path} has {found:,} records and the benchmark {most:,}: it is another edition.")


def _parse_json(path: Path, text: str, number: int | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    except json.JSONDecodeError as error:
        place = number if number is not None else error.lineno
        ends = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated")
        cut = " It seems to be cut off." if ends else ""
        raise DataError(f"{path} line {place} is no JSON ({error.msg}).{cut}") from None
    except (ValueError, RecursionError) as error:
        where = f"{path} line {number}" if number is not None else str(path)
        raise DataError(f"{where} is no JSON that can be used: {error}.") from None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python keeps the last of several, so that a repeated id would go unnoticed.
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _csv_record(path: Path, number: int, row: Mapping[Any, Any], form: type[M]) -> DataRecord[M]:
    if None in row or None in row.values():
        raise DataError(f"{path} line {number} has not as many fields as the heading.")
    return _validated(path, f"line {number}", dict(row), form)


def _validated(path: Path, place: str, raw: Any, form: type[M]) -> DataRecord[M]:
    return DataRecord(place, raw, validate_record(f"{path} {place}", raw, form))


def validate_record(where: str, raw: Any, form: type[M]) -> M:
    """A record in the form it must have.

    Args:
        where: For the message.
        raw: As the file has it.
        form: What it must be.

    Raises:
        DataError: it is not.
    """
    try:
        return form.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise DataError(f"{where}: {f'{name}: ' if name else ''}{fault['msg']}.") from None
