"""Check which data files of the benchmarks are present and whether the tasks can read them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import DataError
from gems.evals.data import find_file
from gems.evals.task import DataFile, Task

FileStatus = Literal["ok", "partial", "differs", "missing", "optional"]


class FileCheck(BaseModel):
    """One file or folder of a benchmark."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(
        description="Path in the folder; for missing files, the path in the official repository."
    )
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
    prompts = [_check_prompts(task, folder, language) for language in task.languages]
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


def _check_prompts(task: Task, folder: Path, language: str) -> PromptCheck:
    count, error = 0, ""
    try:
        count = len(task.prompts(folder, language))
    except DataError as fault:
        # The default hint recommends this very command.
        error = fault.message if fault.hint == DataError.default_hint else str(fault)
    return PromptCheck(language=language, prompts=count, expected=task.size[language], error=error)


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
