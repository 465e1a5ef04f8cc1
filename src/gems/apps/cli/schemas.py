"""JSON schemas of --json."""

from __future__ import annotations

from typing import Any

from pydantic import AliasPath, BaseModel, ConfigDict, Field

from gems.apps.doctor import DoctorReport
from gems.apps.setup import SetupReport
from gems.errors import Fault
from gems.evals.data import DataReport
from gems.evals.official import EvalExport, EvalImport
from gems.evals.runner import WorkReport
from gems.evals.scoring import ScoreReport
from gems.evolution.evolution import Adopted, Comparison, PatchList
from gems.evolution.trial import TrialPlan
from gems.memory.patches import Evidence
from gems.results import RunResult
from gems.runs.cleanup import Deletion, Garbage
from gems.runs.estimate import Estimate
from gems.runs.export import Exported
from gems.runs.memory_admin import ConsolidationReport, Forgotten, ImportReport, Memory, Rebuilt, Stats
from gems.runs.verification import Verification
from gems.skills.reports import NewSkill, SkillDrafts, SkillList, SkillPage, SkillTrial, TrustedFolders, ValidationList
from gems.types import RunRow


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True, validate_by_name=True)


def _at(*names: str, **more: Any) -> Any:
    """Return a field that is read from an attribute of an attribute."""
    return Field(validation_alias=AliasPath(*names), **more)


class EvalNumber(_Report):
    """A mean over prompts."""

    entry: str = Field(description="Harness, with whatever distinguishes it from other entries.")
    part: str = Field(description="`all`, `category/...` or `atomicity/...`.")
    metric: str
    mean: float = _at("mean", "value")
    low: float | None = _at(
        "mean", "low", description="Lower bound of the 95 % bootstrap interval; null if prompts are too few or alike."
    )
    high: float | None = _at("mean", "high")
    prompts: int = _at("mean", "prompts")


class EvalPair(_Report):
    """Two harnesses on the prompts scored for both."""

    part: str = Field(description="`all`, `category/...` or `atomicity/...`.")
    first: str
    second: str
    difference: float = _at(
        *("comparison", "difference", "value"), description="Mean of the first minus mean of the second."
    )
    low: float | None = _at("comparison", "difference", "low")
    high: float | None = _at("comparison", "difference", "high")
    better: int = _at("comparison", "better", description="Prompts on which the first is better.")
    worse: int = _at("comparison", "worse")
    p: float = _at("comparison", "p")
    test: str = _at("comparison", "test")


class EvalSection(_Report):
    """One benchmark in one language, scored by one judge."""

    benchmark: str
    language: str
    judge: str
    metric: str = Field(description="Metric of the pairwise comparisons.")
    notes: list[str]
    numbers: list[EvalNumber] = _at("records")
    pairs: list[EvalPair]


class EvalComparison(_Report):
    """Comparison of harnesses."""

    sections: list[EvalSection]
    paths: list[str] = Field(description="Written files.")


class EvalTable(_Report):
    """A formatted table."""

    title: str
    columns: list[str]
    rows: list[list[str]] = Field(description="Cells without a run are empty.")
    notes: list[str]


class EvalTables(_Report):
    """The paper's tables with your own results."""

    tables: list[EvalTable]


class RunList(_Report):
    """Runs, newest first."""

    runs: list[RunRow]


class ReportFile(_Report):
    """A written report."""

    run_id: str
    path: str
    bytes: int


class MemoryList(_Report):
    """Lessons and experiences; search results are ordered by similarity."""

    memories: list[Memory]


class ExportFile(_Report):
    """A written export."""

    path: str
    lines: int = Field(description="One per lesson or experience.")


class Reindexed(_Report):
    """Result of re-embedding."""

    items: int = Field(description="Number of re-embedded lessons and experiences.")
    embedder: str = Field(description="The current embedder.")


class NewKey(_Report):
    """A created API key."""

    name: str
    key: str = Field(description="Shown only once.")


class KeyLine(_Report):
    """A user of the server."""

    name: str
    created: str = Field(description="UTC, ISO 8601.")
    runs_at_a_time: int
    images_per_day: int | None = Field(description="Limit within 24 hours; null for no limit.")
    tokens_per_day: int | None = Field(description="Limit of chat models' tokens within 24 hours; null for no limit.")
    usd_per_day: float | None = Field(description="Limit of US dollars within 24 hours; null for no limit.")


class KeyList(_Report):
    """Users of the server, sorted by name."""

    keys: list[KeyLine]


class RevokedKey(_Report):
    """A revoked API key."""

    name: str


class ErrorDetails(_Report):
    """Details of an error."""

    type: str = Field(description="Class name in `gems.errors`, `UsageError` or `Interrupted`.")
    message: str
    fault: Fault = Field(description="Cause of the error.")
    hint: str = Field(description="Suggested action; may be empty.")
    run_id: str = Field(description="Run to resume with `gems resume`; empty if none was started.")


class ErrorReport(_Report):
    """Printed instead of a result after an error."""

    error: ErrorDetails


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schemas by name."""
    models: tuple[type[BaseModel], ...] = (
        RunResult,
        RunList,
        Estimate,
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
        Exported,
        PatchList,
        TrialPlan,
        Evidence,
        Adopted,
        Comparison,
        Reindexed,
        Rebuilt,
        SkillList,
        SkillPage,
        NewSkill,
        ValidationList,
        TrustedFolders,
        SkillTrial,
        SkillDrafts,
        SetupReport,
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
