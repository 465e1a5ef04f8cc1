"""Read and check data files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.errors import DataError
from gems.evals.records import first_error
from gems.evals.task import DataFile, Task

M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """A record whose values must have the right types."""

    model_config = ConfigDict(strict=True)


@dataclass(frozen=True, slots=True)
class DataRecord(Generic[M]):
    """One record: its location in a file (for instance `line 17`), its raw value and the validated model."""

    path: Path
    location: str
    raw: dict[str, Any]
    record: M

    @property
    def where(self) -> str:
        """File and location, for messages."""
        return f"{self.path} {self.location}"


def find_file(data: Path, path: str) -> Path | None:
    """Return the path of a file or folder, or None.

    `path` is that in the official repository; fewer of its parent folders are tried too, so that a clone of
    the repository works as well as a folder with only the files.
    """
    parts = PurePosixPath(path).parts
    candidates = (data.joinpath(*parts[first:]) for first in range(len(parts)))
    return next((each for each in candidates if each.exists()), None)


def require_file(data: Path, path: str) -> Path:
    """Return the path like `find_file`; raises `DataError` if it is missing."""
    found = find_file(data, path)
    if found is None:
        raise DataError(f"{data / path} is missing.")
    return found


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file; raises `DataError` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8: byte {error.start} cannot be read.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def read_json_lines(path: Path, form: type[M]) -> list[DataRecord[M]]:
    """Return the records of a JSON Lines file; raises `DataError` that names the invalid line."""
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [
        _validated(path, f"line {number}", _parse_json(path, line, number), form)
        for number, line in enumerate(lines, 1)
    ]


def read_prompt_lines(
    data: Path, name: str, form: type[M], most: int, id_of: Callable[[M], Hashable] | None = None
) -> list[DataRecord[M]]:
    """Return the records of a benchmark's JSON Lines file, at most `most`, with unique ids.

    Raises `DataError` if the file is missing, invalid, or of another edition.
    """
    path = require_file(data, name)
    entries = read_json_lines(path, form)
    check_count(path, len(entries), most)
    if id_of is not None:
        check_unique(entries, id_of)
    return entries


def read_json_array(path: Path, form: type[M]) -> list[DataRecord[M]]:
    """Return the records of a file that is one JSON array; raises `DataError`."""
    found = read_json(path)
    if not isinstance(found, list):
        raise DataError(f"{path} is not a JSON array.")
    return [_validated(path, f"record {number}", raw, form) for number, raw in enumerate(found, 1)]


def read_json_object(path: Path) -> dict[str, Any]:
    """Return a file that is one JSON object without duplicate keys; raises `DataError`."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a JSON object.")
    return found


def read_json(path: Path) -> Any:
    """Return the JSON value of a file; raises `DataError` that names the invalid line."""
    return _parse_json(path, read_text(path))


def read_csv(path: Path, form: type[M], columns: Iterable[str]) -> list[DataRecord[M]]:
    """Return the rows of a CSV file with a header.

    Raises `DataError` if a column is missing or a row has too few or too many fields.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        lacking = [name for name in columns if name not in (reader.fieldnames or ())]
        if lacking:
            raise DataError(f"{path} lacks the column {', '.join(lacking)}.")
        found = []
        for row in reader:
            location = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{path} {location} has a different number of fields than the header.")
            found.append(_validated(path, location, row, form))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.reader.line_num}: {error}.") from None
    return found


def check_unique(entries: Sequence[DataRecord[M]], id_of: Callable[[M], Hashable]) -> None:
    """Check that the ids are unique; raises `DataError` that names both places."""
    first: dict[Hashable, str] = {}
    for entry in entries:
        name = id_of(entry.record)
        if name in first:
            raise DataError(f"{entry.path}: duplicate id {name} in {first[name]} and {entry.location}.")
        first[name] = entry.location


def check_count(path: Path, found: int, most: int) -> None:
    """Check that a file has no more records than the benchmark; raises `DataError`."""
    if found > most:
        raise DataError(f"{path} has {found:,} records, but the benchmark has {most:,}: it is another edition.")


def _parse_json(path: Path, text: str, number: int | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    except json.JSONDecodeError as error:
        location = number if number is not None else error.lineno
        ends = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated")
        cut = " It seems to be truncated." if ends else ""
        raise DataError(f"{path} line {location} is not valid JSON ({error.msg}).{cut}") from None
    except (ValueError, RecursionError) as error:
        where = f"{path} line {number}" if number is not None else str(path)
        raise DataError(f"{where} is not usable JSON: {error}.") from None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python keeps the last of several, so that a repeated id would go unnoticed.
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is duplicated")
    return found


def _validated(path: Path, location: str, raw: Any, form: type[M]) -> DataRecord[M]:
    return DataRecord(path, location, raw, validate_record(f"{path} {location}", raw, form))


def validate_record(where: str, raw: Any, form: type[M]) -> M:
    """Validate a record; raises `DataError` that starts with `where`."""
    try:
        return form.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{where}: {first_error(error)}.") from None


FileStatus = Literal["ok", "partial", "differs", "missing", "optional"]


class FileCheck(BaseModel):
    """One file or folder of a benchmark."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="Path in the folder; for missing files, the path in the official repository.")
    status: FileStatus = Field(
        description="`ok`; `partial`: fewer records than the complete benchmark; `differs`: other number of "
        "records or other size, as in another edition; `missing`; `optional`: missing, but not needed."
    )
    records: int | None = Field(description="Records found; null if they cannot be counted.")
    records_expected: int | None = Field(description="Records of the complete file; null if unknown.")
    size: int | None = Field(description="Bytes; null if missing.")
    size_expected: int | None = Field(description="Bytes of the supported edition; null if unknown.")


class PromptCheck(BaseModel):
    """The prompts that a task reads from its data."""

    model_config = ConfigDict(frozen=True)

    language: str
    prompts: int = Field(description="Readable prompts.")
    expected: int = Field(description="Prompts of the complete benchmark.")
    error: str = Field(description="Why they cannot be read; empty if they can.")


class DataCheck(BaseModel):
    """The data of one benchmark."""

    model_config = ConfigDict(frozen=True)

    task: str
    title: str
    url: str = Field(description="Download page of the data.")
    licence: str
    note: str
    folder: str = Field(description="Folder of the data.")
    ok: bool = Field(description="Whether the complete benchmark is present in the supported edition.")
    files: list[FileCheck]
    prompts: list[PromptCheck]


class DataReport(BaseModel):
    """The data of several benchmarks."""

    model_config = ConfigDict(frozen=True)

    ok: bool = Field(description="Whether all of them are complete.")
    benchmarks: list[DataCheck]


def check_data(task: Task, folder: Path) -> DataCheck:
    """Check the data of a benchmark. Blocking: reads all files."""
    source = task.source
    files = [_check_file(folder, file) for file in source.files]
    prompts = []
    for language, expected in task.size.items():
        count, error = 0, ""
        try:
            count = len(task.prompts(folder, language))
        except DataError as fault:
            # The default hint recommends this very command.
            error = fault.message if fault.hint == DataError.default_hint else str(fault)
        prompts.append(PromptCheck(language=language, prompts=count, expected=expected, error=error))
    whole = all(not each.error and each.prompts == each.expected for each in prompts)
    return DataCheck(
        task=task.name,
        title=task.title,
        url=source.url,
        licence=source.licence,
        note=source.note,
        folder=str(folder),
        ok=whole and all(file.status in ("ok", "optional") for file in files),
        files=files,
        prompts=prompts,
    )


def _check_file(folder: Path, file: DataFile) -> FileCheck:
    found = find_file(folder, file.path)
    records, sizes = (None, ()) if found is None else _measure(found)
    return FileCheck(
        path=file.path if found is None else found.relative_to(folder).as_posix(),
        status=_file_status(file, records, sizes),
        records=records,
        records_expected=file.records,
        size=sizes[0] if sizes else None,
        size_expected=file.size,
    )


def _file_status(file: DataFile, records: int | None, sizes: Sequence[int]) -> FileStatus:
    if not sizes:
        return "optional" if file.optional else "missing"
    if file.records is not None and records is not None and records < file.records:
        return "partial"
    known = file.size is None or file.size in sizes
    return "ok" if known and (file.records is None or records == file.records) else "differs"


def _measure(path: Path) -> tuple[int | None, Sequence[int]]:
    """Return the record count (None if unknown) and the possible sizes in bytes.

    Sizes are given for the file as it is and with Unix and Windows line ends, since Git may convert them.
    """
    if path.is_dir():
        texts = [text.read_bytes() for text in path.glob("*.txt")]
        return len(texts), [sum(sizes) for sizes in zip(*map(_possible_sizes, texts), strict=True)] or [0]
    data = path.read_bytes()
    return _count_records(path.suffix, data), _possible_sizes(data)


def _possible_sizes(data: bytes) -> tuple[int, int, int]:
    unix = data.replace(b"\r\n", b"\n")
    return len(data), len(unix), len(unix) + unix.count(b"\n")


def _count_records(suffix: str, data: bytes) -> int | None:
    try:
        text = data.decode("utf-8-sig")
        if suffix == ".jsonl":
            return len(text.splitlines())
        if suffix == ".csv":
            return sum(1 for _ in csv.DictReader(io.StringIO(text, newline="")))
        found = json.loads(text)
    except (ValueError, RecursionError, csv.Error):
        # The error is reported when the task reads the file.
        return None
    return len(found) if isinstance(found, list | Mapping) else None
