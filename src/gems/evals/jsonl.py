"""Append-only JSON Lines files on a disk or in an object store. All methods block."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gems.errors import DataError
from gems.evals.records import first_error
from gems.memory.file_store import FileStore
from gems.memory.sqlite import storage_error

M = TypeVar("M", bound=BaseModel)
_PART_LINES = 200
"""Lines per part; the current part is rewritten on each append, since object stores cannot append."""
_PART_NAME = re.compile(r"\.(\d{6})\.jsonl")


class JsonLines:
    """An append-only JSON Lines file with a single writer.

    On a disk it is the file STEM.jsonl, in an object store a series of numbered parts.
    """

    def __init__(self, store: FileStore, stem: str) -> None:
        self._store, self._stem = store, stem
        self._part: list[str] = []
        self._number = 0
        self._mended = False

    def read(self, form: type[M]) -> tuple[list[M], str]:
        """Return all lines in order, and a warning if the last one is incomplete (else empty).

        Raises `DataError` if another line is damaged or invalid.
        """
        lines: list[M] = []
        note = ""
        names = self._names()
        for name in names:
            place = f"{self._store.label}/{name}"
            # Nothing depends on a line that was incomplete when its process was killed.
            found, half = _parse_lines(self._store.read(name), place, name == names[-1])
            lines += [_validate(line, form, place) for line in found]
            note = half or note
        return lines, note

    def append(self, lines: Sequence[str]) -> None:
        """Append lines atomically and durably; raises `DiskFullError` or `StorageError`."""
        if self._store.folder is not None:
            self._append_to_file(self._store.folder / f"{self._stem}.jsonl", lines)
        else:
            self._append_to_parts(lines)

    def _names(self) -> list[str]:
        folder, _, base = self._stem.rpartition("/")
        prefix = f"{folder}/" if folder else ""
        return [
            prefix + name
            for name in self._store.names(folder)
            if name == f"{base}.jsonl" or (name.startswith(base) and _PART_NAME.fullmatch(name[len(base) :]))
        ]

    def _append_to_file(self, path: Path, lines: Sequence[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                if not self._mended:
                    _repair_last_line(file)
                    self._mended = True
                size = file.seek(0, os.SEEK_END)
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), size)
                    raise
        except OSError as error:
            raise storage_error(error, path) from error

    def _append_to_parts(self, lines: Sequence[str]) -> None:
        if not self._number or len(self._part) >= _PART_LINES:
            found = [match for name in self._names() if (match := _PART_NAME.search(name))]
            self._number = max((int(match.group(1)) for match in found), default=0) + 1
            self._part = []
        part = [*self._part, *lines]
        text = "".join(f"{line}\n" for line in part)
        self._store.write(f"{self._stem}.{self._number:06d}.jsonl", text.encode())
        self._part = part


def _validate(line: dict[str, Any], form: type[M], place: str) -> M:
    try:
        return form.model_validate(line)
    except ValidationError as error:
        raise DataError(
            f"Invalid line in {place} ({first_error(error)}): {json.dumps(line)[:200]}",
            hint="The file is damaged or was written by another version of GEMS.",
        ) from error


def _parse_lines(data: bytes, place: str, is_last: bool) -> tuple[list[dict[str, Any]], str]:
    whole, _, tail = data.rpartition(b"\n")
    lines = [*whole.split(b"\n"), tail]
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            if is_last and number == len(lines):
                return found, f"The last line of {place} is incomplete and ignored."
            raise DataError(
                f"Line {number} of {place} is damaged: {error}.",
                hint="Remove the line; its sample is then processed again.",
            ) from error
        if not isinstance(value, dict):
            raise DataError(f"Line {number} of {place} is not a JSON object.", hint="Remove the line.")
        found.append(value)
    return found, ""


def _repair_last_line(file: Any) -> None:
    """Remove an incomplete last line, or terminate a complete one."""
    file.seek(0)
    data: bytes = file.read()
    tail = data.rpartition(b"\n")[2]
    if not tail:
        return
    try:
        json.loads(tail)
    except ValueError:
        os.ftruncate(file.fileno(), len(data) - len(tail))
    else:
        file.write(b"\n")
        file.flush()
