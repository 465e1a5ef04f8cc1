"""JSON schemas of --json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gems.apps.cli.eval_commands import ComparisonResult
    from gems.evals.comparison.sections import Section
    from gems.evals.comparison.table import Table


class EvalNumber(BaseModel):
    """A mean over prompts."""

    model_config = ConfigDict(frozen=True)

    entry: str = Field(description="Harness, with whatever distinguishes it from other entries.")
    part: str = Field(description="`all`, `category/...` or `atomicity/...`.")
    metric: str
    mean: float
    low: float | None = Field(
        description="Lower bound of the 95 % bootstrap interval; null if prompts are too few or alike."
    )
    high: float | None
    prompts: int


class EvalPair(BaseModel):
    """Two harnesses on the prompts scored for both."""

    model_config = ConfigDict(frozen=True)

    part: str = Field(description="`all`, `category/...` or `atomicity/...`.")
    first: str
    second: str
    difference: float = Field(description="Mean of the first minus mean of the second.")
    low: float | None
    high: float | None
    better: int = Field(description="Prompts on which the first is better.")
    worse: int
    p: float
    test: str


class EvalSection(BaseModel):
    """One benchmark in one language, scored by one judge."""

    model_config = ConfigDict(frozen=True)

    benchmark: str
    language: str
    judge: str
    metric: str = Field(description="Metric of the pairwise comparisons.")
    notes: list[str]
    numbers: list[EvalNumber]
    pairs: list[EvalPair]


class EvalComparison(BaseModel):
    """Comparison of harnesses."""

    model_config = ConfigDict(frozen=True)

    sections: list[EvalSection]
    paths: list[str] = Field(description="Written files.")


class EvalTable(BaseModel):
    """A formatted table."""

    model_config = ConfigDict(frozen=True)

    title: str
    columns: list[str]
    rows: list[list[str]] = Field(description="Cells without a run are empty.")
    notes: list[str]


class EvalTables(BaseModel):
    """The paper's tables with your own results."""

    model_config = ConfigDict(frozen=True)

    tables: list[EvalTable]


def tables_report(tables: Sequence[Table]) -> EvalTables:
    """Convert tables to their JSON model."""
    return EvalTables(
        tables=[
            EvalTable(
                title=table.title,
                columns=list(table.columns),
                rows=[list(row) for row in table.rows],
                notes=list(table.notes),
            )
            for table in tables
        ]
    )


def comparison_report(found: ComparisonResult) -> EvalComparison:
    """Convert a comparison to its JSON model."""
    return EvalComparison(
        sections=[_section(section) for section in found.sections], paths=[str(path) for path in found.paths]
    )


def _section(section: Section) -> EvalSection:
    return EvalSection(
        benchmark=section.benchmark,
        language=section.language,
        judge=section.judge,
        metric=section.metric,
        notes=list(section.notes),
        numbers=[
            EvalNumber(
                entry=record.entry,
                part=record.part,
                metric=record.metric,
                mean=record.mean.value,
                low=record.mean.low,
                high=record.mean.high,
                prompts=record.mean.prompts,
            )
            for record in section.records
        ],
        pairs=[
            EvalPair(
                part=pair.part,
                first=pair.first,
                second=pair.second,
                difference=pair.comparison.difference.value,
                low=pair.comparison.difference.low,
                high=pair.comparison.difference.high,
                better=pair.comparison.better,
                worse=pair.comparison.worse,
                p=pair.comparison.p,
                test=pair.comparison.test,
            )
            for pair in section.pairs
        ],
    )


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
