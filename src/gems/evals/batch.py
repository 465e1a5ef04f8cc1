"""Gems batch: rows and runner."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.errors import DataError, GemsError, RequestError
from gems.evals.engines import Engine
from gems.evals.jobs import Job, JobResult
from gems.evals.jsonl import JsonLines
from gems.evals.output_folder import safe_name
from gems.evals.runner import JobProgress, OnProgress, run_jobs
from gems.memory.file_store import FileStore
from gems.nodes.planner import parse_skill_names
from gems.options import RunOptions, check_prompt, derived_seed, resolve_options
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


_SETTINGS_FILE = "batch.json"


class BatchSettings(BaseModel):
    """Settings that apply to all images of the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field("", description="Random id of the folder, part of its run ids.")
    generator: str
    chat: str
    judge: str = ""
    seed: int = Field(ge=0, description="Base of the seeds of rows without a seed.")
    learn: bool = False


class BatchLine(BaseModel):
    """One line of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    line: int = Field(description="Line number in the list, from 1.")
    prompt: str
    options: dict[str, str | int | float]
    run_id: str
    rounds: int
    images: int
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    seconds: float
    skills: list[str]
    requirements: int
    met: int
    stop_reason: str
    file: str = Field(description="The PNG, relative to the folder; empty if there is none.")
    sha256: str
    error: str


class Batch:
    """The rows of a list, by line number, and the folder that their images are written to."""

    def __init__(self, store: FileStore, settings: BatchSettings, rows: Mapping[int, BatchRow]) -> None:
        self.settings, self.warnings = settings, list[str]()
        self._store, self._manifest = store, JsonLines(store, "manifest")
        self._jobs = {_row_name(row): self._job(row) for row in rows.values()}
        self._lines = {_row_name(row): (number, row) for number, row in rows.items()}

    @classmethod
    async def open(cls, store: FileStore, wanted: BatchSettings, rows: Mapping[int, BatchRow]) -> Batch:
        """Create the folder, or open one that was created with the same settings.

        Raises `RequestError` if its settings differ or it holds samples of a benchmark.
        """
        known = await asyncio.to_thread(_read_settings, store)
        if known is None:
            known = wanted.model_copy(update={"id": secrets.token_hex(8)})
            await asyncio.to_thread(store.write, _SETTINGS_FILE, known.model_dump_json(indent=2).encode())
        here, there = known.model_dump(exclude={"id"}), wanted.model_dump(exclude={"id"})
        if faults := [
            f"{n} is {here[n]!r} in the folder, {there[n]!r} now" for n in here if here[n] != there[n]
        ]:
            raise RequestError(
                f"{store.label} was created with other settings: {'; '.join(faults)}.",
                hint="Use another folder or the same settings.",
            )
        return cls(store, known, rows)

    async def run(
        self,
        engine: Engine,
        *,
        budget_usd: float | None = None,
        retries: int = 1,
        on_progress: OnProgress = lambda _: None,
    ) -> JobProgress:
        """Generate the missing images; runs of an earlier call are resumed, changed rows start again."""
        known = await self._known_lines()
        there = set(await asyncio.to_thread(self._store.names, ""))
        done = {
            name: line
            for name, line in known.items()
            if name in self._jobs and not line.error and line.file in there
            and line.run_id == self._jobs[name].run_id
        }  # fmt: skip
        progress = JobProgress(
            total=len(self._jobs),
            done=len(done),
            done_before=len(done),
            images=sum(line.images for line in done.values()),
            spent={name: line.usd for name, line in known.items() if line.images or line.calls},
        )
        on_progress(progress)
        left = [job for name, job in self._jobs.items() if name not in done]
        return await run_jobs(
            left,
            engine,
            progress,
            self._save,
            budget_usd=budget_usd,
            retries=retries,
            on_progress=on_progress,
        )

    async def _known_lines(self) -> dict[str, BatchLine]:
        lines, note = await asyncio.to_thread(self._manifest.read)
        self.warnings += [note] if note else []
        try:
            found = [BatchLine.model_validate(line) for line in lines]
        except ValidationError as error:
            raise DataError(
                f"Invalid line in {self._store.label}/manifest.",
                hint="The file is damaged or was written by another version of GEMS.",
            ) from error
        return {line.id: line for line in found}

    def _job(self, row: BatchRow) -> Job:
        options: RunOptions = {"seed": self._seed(row), **row.options(), "memory": self.settings.learn}
        identity = f"{self.settings.id}\x1f{row.model_dump_json()}"
        return Job(
            name=_row_name(row),
            run_id=f"batch-{hashlib.sha256(identity.encode()).hexdigest()[:24]}",
            prompt=row.prompt,
            options=options,
            file=f"{safe_name(row.id)}.png",
        )

    def _seed(self, row: BatchRow) -> int:
        return derived_seed(self.settings.seed, row.id)

    async def _save(self, result: JobResult) -> None:
        number, row = self._lines[result.job.name]
        line = BatchLine(
            id=row.id,
            line=number,
            prompt=row.prompt,
            options={"seed": self._seed(row)} | row.model_dump(exclude={"id", "prompt"}, exclude_none=True),
            **result.manifest_fields(),
        )
        await asyncio.to_thread(self._manifest.append, [line.model_dump_json()])


def _row_name(row: BatchRow) -> str:
    return row.id


def _read_settings(store: FileStore) -> BatchSettings | None:
    if store.exists("eval.json"):
        raise RequestError(
            f"{store.label} holds samples of a benchmark.", hint="Use another folder for this list."
        )
    try:
        data = store.read(_SETTINGS_FILE)
    except FileNotFoundError:
        return None
    try:
        return BatchSettings.model_validate_json(data)
    except ValidationError as error:
        raise DataError(
            f"{store.label}/{_SETTINGS_FILE} is invalid.",
            hint="The file is damaged or was written by another version of GEMS.",
        ) from error
