"""Read and check a list of prompts (JSON Lines or CSV) as a whole before anything is generated."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.errors import GemsError, RequestError
from gems.nodes.planner import parse_skill_names
from gems.options import RunOptions, check_prompt, resolve_options
from gems.resources import Resources
from gems.state import Input
from gems.types import Profile

_MAX_REPORTED = 20


class BatchRow(BaseModel):
    """One line of the list; missing fields have the defaults of `gems run`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field("", max_length=200, description="Name of the image file; the line number by default.")
    prompt: str
    seed: int | None = None
    size: str | None = None
    profile: Profile | None = None
    max_rounds: int | None = None
    candidates: int | None = None
    negative_prompt: str | None = None
    skills: str | None = None
    max_images: int | None = None
    plateau: int | None = None
    budget_usd: float | None = None
    deadline_s: float | None = None

    def options(self) -> RunOptions:
        """Return the options that the line sets."""
        named = self.model_dump(exclude={"id", "prompt"}, exclude_none=True)
        return cast("RunOptions", named)


@dataclass(slots=True)
class BatchList:
    """The contents of a list: valid rows and errors, both by line number."""

    file: Path
    rows: dict[int, BatchRow] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)

    def take(self, number: int, value: Any) -> None:
        """Add one parsed line."""
        try:
            row = _parse_row(value, number)
        except ValueError as error:
            self.faults[number] = _error_text(error)
            return
        same = next((other for other, known in self.rows.items() if known.id == row.id), None)
        if same is not None:
            self.faults[number] = f"the id {row.id!r} is already used in line {same}"
        else:
            self.rows[number] = row

    def check(self, resources: Resources) -> None:
        """Check all rows; raises `RequestError` that lists all invalid lines, or if there are no rows."""
        for number, row in self.rows.items():
            try:
                _check_row(row, resources)
            except GemsError as error:
                self.faults[number] = str(error)
        if self.faults:
            raise RequestError(
                self._told(), hint="Nothing was generated. See `gems batch --help` for the format of lines."
            )
        if not self.rows:
            raise RequestError(
                f"{self.file} contains no prompts.",
                hint='A line is {"prompt": "..."}; a CSV has a column named prompt.',
            )

    def _told(self) -> str:
        lines = [f"line {number}: {fault}" for number, fault in sorted(self.faults.items())]
        more = [f"and {len(lines) - _MAX_REPORTED} more"] if len(lines) > _MAX_REPORTED else []
        noun = "invalid line" if len(lines) == 1 else "invalid lines"
        return "\n  ".join([f"{self.file} contains {len(lines)} {noun}:", *lines[:_MAX_REPORTED], *more])


def read_batch_list(file: Path) -> BatchList:
    """Read a JSON Lines or CSV file; raises `RequestError` if it is unreadable. Blocking."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(
            f"{file} cannot be read: {error.strerror}.", hint="Pass a .jsonl or .csv file."
        ) from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{file} is not UTF-8 text.", hint="Save it as UTF-8.") from error
    found = BatchList(file)
    for number, value in _read_csv_rows(text) if file.suffix.lower() == ".csv" else _read_json_rows(text):
        found.take(number, value)
    return found


def _check_row(row: BatchRow, resources: Resources) -> None:
    check_prompt(row.prompt)
    options = resolve_options(cast("Input", dict(row.options())), resources.context())
    if options["skills"] not in ("auto", "none"):
        parse_skill_names(options["skills"], resources.skills.current)


def _read_json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, error


def _read_csv_rows(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if None in cells or None in cells.values():
                yield reader.line_num, ValueError("the number of cells differs from the first line")
            elif any(cells.values()):
                # An empty cell means that the option is not set.
                yield reader.line_num, {name: cell for name, cell in cells.items() if cell}
    except csv.Error as error:
        yield reader.line_num, ValueError(f"invalid CSV: {error}")


def _parse_row(value: Any, number: int) -> BatchRow:
    """Return the row of a line; raises `ValueError` if it is invalid."""
    if isinstance(value, ValueError):
        raise value
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - what a line holds is a value
    row = BatchRow.model_validate(value)
    return row if row.id else row.model_copy(update={"id": f"{number:06d}"})


def _error_text(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(_field_error(fault) for fault in error.errors(include_url=False, include_input=False))


def _field_error(fault: Any) -> str:
    name = ".".join(map(str, fault["loc"]))
    return f"unknown option {name!r}" if fault["type"] == "extra_forbidden" else f"{name}: {fault['msg']}"
