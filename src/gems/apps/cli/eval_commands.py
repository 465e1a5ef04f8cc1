"""Queries of `gems eval` about output folders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gems.apps.cli.output import print_progress
from gems.apps.cli.runner import run_async
from gems.errors import ConfigurationError
from gems.evals.comparison.entries import FolderData, read_folder
from gems.evals.comparison.export import write_comparison, write_tables
from gems.evals.comparison.paper import paper_tables
from gems.evals.comparison.sections import Section, build_sections
from gems.evals.comparison.table import Table
from gems.evals.judge import JudgeQuestion, JudgeReply, inhouse_name, open_judge
from gems.evals.official import EvalExport, EvalImport, export_folder, import_scores
from gems.evals.output_folder import EvalFolder
from gems.evals.registry import load_task
from gems.evals.scoring import ScoreReport, score_folder
from gems.evals.task import KnowsTruth, Task
from gems.settings import Settings, load_settings, with_models


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """A comparison, the files written, and warnings about what they omit."""

    sections: Sequence[Section]
    paths: Sequence[Path]
    warnings: Sequence[str]


@dataclass(slots=True)
class NoJudge:
    """Judge of benchmarks with ground truth; it is never asked."""

    name: str
    samples: int = 1

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        """Raise ConfigurationError."""
        raise ConfigurationError(f"No judge is configured to answer {question.text!r}.")


def score_samples(url: str, spec: str | None, data: Path | None, concurrency: int) -> ScoreReport:
    """Score a folder; `spec` names the chat model that judges."""

    async def run() -> ScoreReport:
        folder = await EvalFolder.open(url)
        about, place = load_task(folder.settings.task), _data_of(folder, data)
        tell = print_progress("prompt")
        if isinstance(about, KnowsTruth):
            judge = NoJudge(about.truth)
            return await score_folder(
                folder, about, judge, judge.name, data=place, concurrency=concurrency, on_progress=tell
            )
        async with open_judge(_judge_settings(spec, about).chat_for("eval_judge")) as asked:
            return await score_folder(
                folder,
                about,
                asked,
                inhouse_name(asked.name),
                data=place,
                concurrency=concurrency,
                on_progress=tell,
            )

    return run_async(run())


def _judge_settings(spec: str | None, about: Task) -> Settings:
    settings = with_models(load_settings(), eval_judge=spec)
    if "model" not in settings.eval_judge.model_fields_set:
        raise ConfigurationError(
            f"{about.title} is scored by a chat model that sees images, and none is configured.",
            hint="Pass --judge or set GEMS_EVAL_JUDGE__MODEL; not the loop's own judge.",
        )
    return settings


def export_samples(url: str, out: Path, data: Path | None) -> EvalExport:
    """Export a folder for the official scorer."""

    async def run() -> EvalExport:
        folder = await EvalFolder.open(url)
        return await export_folder(folder, load_task(folder.settings.task), _data_of(folder, data), out)

    return run_async(run())


def import_official_scores(url: str, file: Path, language: str | None, data: Path | None) -> EvalImport:
    """Import official scores into a folder."""

    async def run() -> EvalImport:
        folder = await EvalFolder.open(url)
        return await import_scores(
            folder, load_task(folder.settings.task), _data_of(folder, data), file, language
        )

    return run_async(run())


def compare_folders(
    urls: Sequence[str], judge: str | None, out: Path | None, pictures: int
) -> ComparisonResult:
    """Compare folders, and write the comparison to `out` if given."""

    async def run() -> ComparisonResult:
        folders = await _read(urls)
        # Thousands of resamplings take seconds.
        sections = await asyncio.to_thread(build_sections, folders, judge)
        if out is None:
            return ComparisonResult(sections, (), ())
        return ComparisonResult(sections, *await write_comparison(sections, out, pictures))

    return run_async(run())


def build_tables(urls: Sequence[str], out: Path | None) -> list[Table]:
    """Build the paper's tables with the numbers of the folders, and write them to `out` if given."""

    async def run() -> list[Table]:
        tables = paper_tables(await _read(urls))
        if out is not None:
            await asyncio.to_thread(write_tables, out, tables)
        return tables

    return run_async(run())


async def _read(urls: Sequence[str]) -> list[FolderData]:
    return list(await asyncio.gather(*(read_folder(url) for url in urls)))


def _data_of(folder: EvalFolder, data: Path | None) -> Path:
    return data if data is not None else Path(folder.settings.data)
