"""JSON schemas of `--json`; scripts/make_docs.py writes them to docs/schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gems.apps.cli.eval_parts.reports import EvalComparison, EvalTables
from gems.apps.doctor import DoctorReport
from gems.errors import Fault
from gems.evals.data import DataReport
from gems.evals.official import EvalExport, EvalImport
from gems.evals.runner import WorkReport
from gems.evals.scoring import ScoreReport
from gems.results import RunResult
from gems.runs.cleanup import Deletion, Garbage
from gems.runs.memory_admin import ConsolidationReport, Forgotten, ImportReport, Memory, Rebuilt, Stats
from gems.runs.verification import Verification
from gems.skills.reports import (
    NewSkill,
    SkillDrafts,
    SkillList,
    SkillPage,
    SkillTrial,
    TrustedFolders,
    ValidationList,
)
from gems.types import RunRow


class RunList(BaseModel):
    """Runs, newest first."""

    model_config = ConfigDict(frozen=True)

    runs: list[RunRow]


class ReportFile(BaseModel):
    """A written report."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    path: str
    bytes: int


class MemoryList(BaseModel):
    """Lessons and experiences; search results are ordered by similarity."""

    model_config = ConfigDict(frozen=True)

    memories: list[Memory]


class ExportFile(BaseModel):
    """A written export."""

    model_config = ConfigDict(frozen=True)

    path: str
    lines: int = Field(description="One per lesson or experience.")


class Reindexed(BaseModel):
    """Result of re-embedding."""

    model_config = ConfigDict(frozen=True)

    items: int = Field(description="Number of re-embedded lessons and experiences.")
    embedder: str = Field(description="The current embedder.")


class NewKey(BaseModel):
    """A created API key."""

    model_config = ConfigDict(frozen=True)

    name: str
    key: str = Field(description="Shown only once.")


class KeyLine(BaseModel):
    """A user of the server."""

    model_config = ConfigDict(frozen=True)

    name: str
    created: str = Field(description="UTC, ISO 8601.")
    runs_at_a_time: int
    images_per_day: int | None = Field(description="Limit within 24 hours; null for no limit.")


class KeyList(BaseModel):
    """Users of the server, sorted by name."""

    model_config = ConfigDict(frozen=True)

    keys: list[KeyLine]


class RevokedKey(BaseModel):
    """A revoked API key."""

    model_config = ConfigDict(frozen=True)

    name: str


class ErrorDetails(BaseModel):
    """Details of an error."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="Class name in `gems.errors`, `UsageError` or `Interrupted`.")
    message: str
    fault: Fault = Field(description="Cause of the error.")
    hint: str = Field(description="Suggested action; may be empty.")
    run_id: str = Field(description="Run to resume with `gems resume`; empty if none was started.")


class ErrorReport(BaseModel):
    """Printed instead of a result after an error."""

    model_config = ConfigDict(frozen=True)

    error: ErrorDetails


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schemas by name."""
    models: tuple[type[BaseModel], ...] = (
        RunResult,
        RunList,
        Verification,
        ReportFile,
        Deletion,
        Garbage,
        MemoryList,
        Memory,
        Stats,
        ConsolidationReport,
        Forgotten,
        ExportFile,
        ImportReport,
        Reindexed,
        Rebuilt,
        SkillList,
        SkillPage,
        NewSkill,
        ValidationList,
        TrustedFolders,
        SkillTrial,
        SkillDrafts,
        DoctorReport,
        DataReport,
        WorkReport,
        NewKey,
        KeyList,
        RevokedKey,
        ScoreReport,
        EvalExport,
        EvalImport,
        EvalComparison,
        EvalTables,
        ErrorReport,
    )
    return {model.__name__: model.model_json_schema(mode="serialization") for model in models}
