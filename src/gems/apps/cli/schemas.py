"""JSON schemas of `--json`; scripts/make_docs.py writes them to docs/schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gems.apps.cli.eval_parts.reports import EvalComparison, EvalTables
from gems.apps.doctor import DoctorReport
from gems.errors import Fault
from gems.evals.data_checks import DataReport
from gems.evals.official import EvalExport, EvalImport
from gems.evals.reports import WorkReport
from gems.evals.scoring import ScoreReport
from gems.memory.ledger import RunRow
from gems.memory_reports import (
    ConsolidationReport,
    Forgotten,
    ImportReport,
    Memory,
    Rebuilt,
    Stats,
)
from gems.results import RunResult
from gems.runs.cleanup import Deletion, Garbage
from gems.runs.verification import Verification
from gems.skill_reports import SkillDrafts, SkillTrial
from gems.skills.reports import NewSkill, SkillList, SkillPage, TrustedFolders, ValidationList


class RunList(BaseModel):
    """The runs of a home, newest first."""

    model_config = ConfigDict(frozen=True)

    runs: list[RunRow]


class ReportFile(BaseModel):
    """A page that was written."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    path: str
    bytes: int


class MemoryList(BaseModel):
    """Lessons and experiences; those that were searched for begin with the most similar."""

    model_config = ConfigDict(frozen=True)

    memories: list[Memory]


class ExportFile(BaseModel):
    """An export that was written."""

    model_config = ConfigDict(frozen=True)

    path: str
    lines: int = Field(description="One per lesson or experience.")


class Reindexed(BaseModel):
    """What was embedded anew."""

    model_config = ConfigDict(frozen=True)

    items: int = Field(description="Lessons and experiences that another embedder had embedded.")
    embedder: str = Field(description="The embedder that all of them are found by now.")


class NewKey(BaseModel):
    """A key that was made."""

    model_config = ConfigDict(frozen=True)

    name: str
    key: str = Field(description="Shown only now.")


class KeyLine(BaseModel):
    """A user of the server."""

    model_config = ConfigDict(frozen=True)

    name: str
    created: str = Field(description="UTC, ISO 8601.")
    runs_at_a_time: int
    images_per_day: int | None = Field(description="In the last 24 hours; null for no limit.")


class KeyList(BaseModel):
    """The users of the server, by name."""

    model_config = ConfigDict(frozen=True)

    keys: list[KeyLine]


class RevokedKey(BaseModel):
    """A key that was taken back."""

    model_config = ConfigDict(frozen=True)

    name: str


class ErrorDetails(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="A class of `gems.errors`, or `UsageError`, or `Interrupted`.")
    message: str
    fault: Fault = Field(description="Whose fault it is.")
    hint: str = Field(description="What to do; may be empty.")
    run_id: str = Field(description="The run that `gems resume` goes on with; empty where none was begun.")


class ErrorReport(BaseModel):
    """What is printed in place of a result where there is none."""

    model_config = ConfigDict(frozen=True)

    error: ErrorDetails


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schemas by name."""
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
