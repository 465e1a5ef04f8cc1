"""Generate a list of prompts into a folder, each prompt once.

batch.json       the settings of the folder
manifest.jsonl   one line per finished prompt; the newest line of an id counts
<id>.png
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.errors import DataError, RequestError
from gems.evals.batch_rows import BatchRow
from gems.evals.engine_parts.engine import Engine
from gems.evals.jobs import Job, JobResult
from gems.evals.jsonl import JsonLines
from gems.evals.output_folder import safe_name
from gems.evals.working import JobProgress, OnProgress, run_jobs
from gems.memory.file_store import FileStore
from gems.options import RunOptions, derived_seed

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
