"""JSON models of `gems eval compare` and `gems eval table`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

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
