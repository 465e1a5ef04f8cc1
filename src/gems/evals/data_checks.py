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
        description="Where it lies in the folder; of what is missing, where it is in the official repository."
    )
    status: FileStatus = Field(
        description="`ok`; `partial`: it has fewer records than the whole benchmark; `differs`: as many, but "
        "its size is another one, as that of another edition; `missing`; `optional`: missing, and not needed."
    )
    records: int | None = Field(description="Records found; null where they cannot be counted.")
    records_expected: int | None = Field(description="Records of the whole; null where that is not known.")
    size: int | None = Field(description="Bytes; null where it is missing.")
    size_expected: int | None = Field(description="Bytes of the known edition; null where it is not known.")


class PromptCheck(BaseModel):
    """The prompts that a task reads from its data."""

    model_config = ConfigDict(frozen=True)

    language: str
    prompts: int = Field(description="Prompts that could be read.")
    expected: int = Field(description="Prompts of the whole benchmark.")
    error: str = Field(description="Why they cannot be read; empty where they can.")


class DataCheck(BaseModel):
    """The data of one benchmark."""

    model_config = ConfigDict(frozen=True)

    task: str
    title: str
    url: str = Field(description="Where the data come from.")
    licence: str
    note: str
    folder: str = Field(description="Where they are looked for.")
    ok: bool = Field(description="Whether the whole benchmark is in place, as the task knows it.")
    files: list[FileCheck]
    prompts: list[PromptCheck]


class DataReport(BaseModel):
    """The data of several benchmarks."""

    model_config = ConfigDict(frozen=True)

    ok: bool = Field(description="Whether all of them are in place.")
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
        # The hint of most would send people here, where they are already.
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
        # What is wrong with it is said where the task reads it.
        return None
    return len(found) if isinstance(found, list | Mapping) else None
