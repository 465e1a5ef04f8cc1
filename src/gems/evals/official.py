"""Export samples for official scorers, and import their figures."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import OptionError, RequestError
from gems.evals.judge import OFFICIAL
from gems.evals.output_folder import EvalFolder
from gems.evals.records import Figure
from gems.evals.scoring import Unscored, missing_reason
from gems.evals.task import Task


class EvalExport(BaseModel):
    """An export for an official scorer."""

    model_config = ConfigDict(frozen=True)

    folder: str
    task: str
    path: str
    commands: list[str] = Field(description="Commands for the official repository, in order.")
    samples: int = Field(description="Exported samples.")
    expected: int = Field(description="Samples of the complete benchmark.")
    missing: list[Unscored] = Field(description="Samples without an image, which are not exported.")

    @property
    def is_partial(self) -> bool:
        """Whether samples are missing, so that the score is not the benchmark's."""
        return self.samples < self.expected


class EvalImport(BaseModel):
    """Figures of an official scorer."""

    model_config = ConfigDict(frozen=True)

    folder: str
    task: str
    language: str
    figures: list[Figure]


async def export_folder(folder: EvalFolder, task: Task, data: Path, out: Path) -> EvalExport:
    """Write the samples in the layout of the official scorer.

    Raises `RequestError` if there is no official scorer, no image, or `out` is not empty.
    """
    settings = folder.settings
    prompts = await task.prompts_by_language(data, settings.languages, settings.limit)
    sample_set = await folder.sample_set([prompt for found in prompts.values() for prompt in found])
    existing = await folder.images()
    rows = {key: row for key, row in sample_set.rows.items() if row.file in existing}
    if not rows:
        raise RequestError(f"{folder.label} contains no images yet.", hint="Run `gems eval run` first.")
    export = await task.export(replace(sample_set, rows=rows), out)
    total = len(sample_set.prompts) * settings.samples
    return EvalExport(
        folder=folder.label,
        task=task.name,
        path=str(export.folder),
        commands=list(export.commands),
        samples=total - len(export.missing),
        expected=export.expected,
        missing=[Unscored.of(key, missing_reason(sample_set.rows.get(key))) for key in export.missing],
    )


async def import_scores(
    folder: EvalFolder, task: Task, data: Path, file: Path, language: str | None = None
) -> EvalImport:
    """Import the results of the official scorer; figures with the same name are replaced.

    `language` may be omitted if the folder has a single one. Raises `OptionError` if the language is missing
    or wrong, `DataError` if the file is not a result of the official scorer.
    """
    language = _choose_language(folder, language)
    prompts = await task.prompts_by_language(data, [language], folder.settings.limit)
    figures = await asyncio.to_thread(task.read_official, file, prompts[language], language)
    known = {(each.language, each.name): each for each in await folder.figures() if each.judge == OFFICIAL}
    known |= {(each.language, each.name): each for each in figures}
    await folder.write_figures(OFFICIAL, list(known.values()))
    return EvalImport(folder=folder.label, task=task.name, language=language, figures=figures)


def _choose_language(folder: EvalFolder, language: str | None) -> str:
    languages = folder.settings.languages
    if language is None and len(languages) == 1:
        return languages[0]
    if language not in languages:
        what = "has several languages" if language is None else f"has no samples in {language!r}"
        raise OptionError(f"{folder.label} {what}.", hint=f"Choose one with --language: {', '.join(languages)}.")
    return language
