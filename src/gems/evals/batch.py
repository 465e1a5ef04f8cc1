"""The list of `gems batch`, and the run of its rows."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from gems.errors import GemsError, RequestError
from gems.evals.jobs import Job, JobResult
from gems.evals.jsonl import JsonLines
from gems.evals.output_folder import EvalSettings, FolderSettings, safe_name
from gems.evals.records import JobOutcome
from gems.evals.runner import JobRunner
from gems.memory.file_store import FileStore
from gems.nodes.planner import parse_skill_names
from gems.options import RunOptions, check_prompt, derived_seed, given_options, resolve_options, with_options
from gems.resources import Resources

_MAX_REPORTED = 20
_IDENTITY = (
    *("id", "prompt", "seed", "size", "profile", "max_rounds", "candidates", "negative_prompt", "skills"),
    *("max_images", "plateau", "budget_usd", "deadline_s"),
)
"""Order of the fields in run ids, which folders of earlier versions contain."""


@with_options("batch")
class BatchRow(BaseModel):
    """One line of the list; missing fields have the defaults of `gems run`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field("", max_length=200, description="Name of the image file; the line number by default.")
    prompt: str


@dataclass(slots=True)
class BatchList:
    """The contents of a list: valid rows and errors, both by line number."""

    file: Path
    rows: dict[int, BatchRow] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)

    def take(self, number: int, value: Any) -> None:
        """Add one parsed line, or the error of a line that could not be parsed."""
        try:
            if isinstance(value, ValueError):
                raise value
            if not isinstance(value, dict):
                raise ValueError("not a JSON object")  # noqa: TRY004, TRY301 - what a line holds is a value
            row = BatchRow.model_validate(value)
            row = row if row.id else row.model_copy(update={"id": f"{number:06d}"})
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            self.faults[number] = "; ".join(map(_describe_fault, faults))
        except ValueError as error:
            self.faults[number] = str(error)
        else:
            same = next((other for other, known in self.rows.items() if known.id == row.id), None)
            if same is not None:
                self.faults[number] = f"the id {row.id!r} is already used in line {same}"
            else:
                self.rows[number] = row

    def check(self, resources: Resources) -> None:
        """Check all rows; raises `RequestError` that lists all invalid lines, or if there are no rows."""
        for number, row in self.rows.items():
            try:
                check_prompt(row.prompt)
                options = resolve_options(given_options(row), resources.context())
                if options["skills"] not in ("auto", "none"):
                    parse_skill_names(options["skills"], resources.skills.current)
            except GemsError as error:
                self.faults[number] = str(error)
        if self.faults:
            lines = [f"line {number}: {fault}" for number, fault in sorted(self.faults.items())]
            more = [f"and {len(lines) - _MAX_REPORTED} more"] if len(lines) > _MAX_REPORTED else []
            found = f"{self.file} contains {len(lines)} invalid line{'s' if len(lines) > 1 else ''}:"
            raise RequestError(
                "\n  ".join([found, *lines[:_MAX_REPORTED], *more]),
                hint="Nothing was generated. See `gems batch --help` for the format of lines.",
            )
        if not self.rows:
            raise RequestError(
                f"{self.file} contains no prompts.",
                hint='A line is {"prompt": "..."}; a CSV has a column named prompt.',
            )


def read_batch_list(file: Path) -> BatchList:
    """Read a JSON Lines or CSV file; raises `RequestError` if it is unreadable. Blocking."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}.", hint="Pass a .jsonl or .csv file.") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{file} is not UTF-8 text.", hint="Save it as UTF-8.") from error
    found = BatchList(file)
    for number, value in _read_csv_rows(text) if file.suffix.lower() == ".csv" else _read_json_rows(text):
        found.take(number, value)
    return found


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


def _describe_fault(fault: Any) -> str:
    name = ".".join(map(str, fault["loc"]))
    messages = {"extra_forbidden": f"unknown option {name!r}", "option": str(fault["msg"])}
    return messages.get(fault["type"], f"{name}: {fault['msg']}")


class BatchSettings(FolderSettings):
    """Settings that apply to all images of the folder."""

    file_name = "batch.json"

    generator: str
    chat: str
    judge: str = ""
    seed: int = Field(ge=0, description="Base of the seeds of rows without a seed.")
    learn: bool = False


class _BatchSource(BaseModel):
    id: str
    line: int = Field(description="Line number in the list, from 1.")
    prompt: str
    options: dict[str, str | int | float]


# Fields are written in this order: those of the last base first.
class BatchLine(JobOutcome, _BatchSource):
    """One line of the manifest."""


class Batch(JobRunner):
    """The rows of a list, by line number, and the folder that their images are written to."""

    def __init__(self, store: FileStore, settings: BatchSettings, rows: Mapping[int, BatchRow]) -> None:
        self.settings, self.warnings = settings, list[str]()
        self._store, self._manifest = store, JsonLines(store, "manifest")
        self.jobs = {row.id: self._job(row) for row in rows.values()}
        self._lines = {row.id: (number, row) for number, row in rows.items()}

    @classmethod
    async def open(cls, store: FileStore, wanted: BatchSettings, rows: Mapping[int, BatchRow]) -> Batch:
        """Create the folder, or open one that was created with the same settings.

        Raises `RequestError` if its settings differ or it holds samples of a benchmark.
        """
        if await asyncio.to_thread(store.exists, EvalSettings.file_name):
            raise RequestError(f"{store.label} holds samples of a benchmark.", hint="Use another folder for this list.")
        return cls(store, await asyncio.to_thread(wanted.apply, store), rows)

    async def read_manifest(self) -> dict[str, BatchLine]:
        """Return the newest line of each row."""
        lines, note = await asyncio.to_thread(self._manifest.read, BatchLine)
        self.warnings += [note] if note else []
        return {line.id: line for line in lines}

    async def list_images(self) -> set[str]:
        """Return the names of all files in the folder."""
        return set(await asyncio.to_thread(self._store.names, ""))

    async def save(self, result: JobResult) -> None:
        """Append the line of a row."""
        number, row = self._lines[result.name]
        options = self._options(row)
        if result.seed is not None:
            # Drawn by the run if the row asks for that.
            options["seed"] = result.seed
        line = {"id": row.id, "line": number, "prompt": row.prompt, "options": options}
        text = BatchLine.model_validate(line | result.outcome()).model_dump_json()
        await asyncio.to_thread(self._manifest.append, [text])

    def _options(self, row: BatchRow) -> RunOptions:
        return {"seed": derived_seed(self.settings.seed, row.id), **given_options(row)}

    def _job(self, row: BatchRow) -> Job:
        identity = f"{self.settings.id}\x1f{_row_json(row)}"
        return Job(
            name=row.id,
            run_id=f"batch-{hashlib.sha256(identity.encode()).hexdigest()[:24]}",
            prompt=row.prompt,
            options={**self._options(row), "memory": self.settings.learn},
            file=f"{safe_name(row.id)}.png",
        )


def _row_json(row: BatchRow) -> str:
    """Return a line as JSON for its run id; null for unset options of the first version."""
    values = row.model_dump()
    known = {name: values.pop(name) for name in _IDENTITY}
    return to_json(known | {name: value for name, value in values.items() if value is not None}).decode()
