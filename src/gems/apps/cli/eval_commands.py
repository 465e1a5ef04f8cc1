"""What they do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gems.apps.cli.display import show_progress
from gems.apps.cli.options import Models, View, shown_spec
from gems.apps.cli.output import print_progress
from gems.apps.cli.runner import EngineOptions, mute_node_warnings, run_async, run_resumable, settings_with
from gems.errors import ConfigurationError, OptionError
from gems.evals.batch import Batch, BatchList, BatchSettings, read_batch_list
from gems.evals.comparison.entries import FolderData, read_folder
from gems.evals.comparison.export import write_comparison, write_tables
from gems.evals.comparison.paper import paper_tables
from gems.evals.comparison.sections import Section, build_sections
from gems.evals.comparison.table import Table
from gems.evals.engines import check_prices, settings_for_jobs
from gems.evals.generator_profiles import apply_profile
from gems.evals.harnesses import Harness
from gems.evals.harnesses import load_harness as harness_named
from gems.evals.judge import JudgeQuestion, JudgeReply, inhouse_name, open_judge
from gems.evals.official import EvalExport, EvalImport, export_folder, import_scores
from gems.evals.output_folder import EvalFolder, EvalSettings, lock_folder
from gems.evals.registry import data_folder, load_task
from gems.evals.registry import load_task as task_named
from gems.evals.runner import BenchmarkRun, WorkReport, check_image_budget, open_engine, select_prompts
from gems.evals.scoring import ScoreReport, score_folder
from gems.evals.task import Task
from gems.memory.file_store import FileStore
from gems.options import RunOptions
from gems.resources import open_resources
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
        if about.truth:
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


def run_batch(
    file: Path, models: Models, engine_options: EngineOptions, view: View, *, seed: int, learn: bool
) -> WorkReport:
    """Generate an image for each row of the file, and report the results."""
    settings = settings_for_jobs(settings_with(models), learn=learn)
    if engine_options.budget_usd is not None:
        check_prices(settings)
    found = read_batch_list(file)
    chat, judge = settings.chat.model, settings.chat_for("judge").model
    batch_settings = BatchSettings(
        generator=shown_spec(settings.generator.model),
        chat=shown_spec(chat),
        judge=shown_spec(judge) if judge != chat else "",
        seed=seed,
        learn=learn,
    )
    with mute_node_warnings(debug=view.debug):
        return run_resumable(_run_batch(found, batch_settings, settings, engine_options, view))


async def _run_batch(
    found: BatchList,
    batch_settings: BatchSettings,
    settings: Settings,
    engine_options: EngineOptions,
    view: View,
) -> WorkReport:
    async with open_resources(settings) as resources:
        found.check(resources)
    store = await asyncio.to_thread(FileStore, engine_options.out)
    batch = await Batch.open(store, batch_settings, found.rows)
    async with (
        lock_folder(store),
        open_engine(engine_options.engine_name, engine_options.workplace(settings)) as engine,
    ):
        with show_progress("prompts", view) as on_progress:
            tally = await batch.run(
                engine,
                budget_usd=engine_options.budget_usd,
                retries=engine_options.retries,
                on_progress=on_progress,
            )
    return WorkReport.of(tally, store.label, batch.warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """Options of `gems eval run` that define the samples."""

    task: str
    harness: str
    generator_profile: str = ""
    size: str = ""
    images: int = 5
    languages: str = ""
    limit: int | None = None
    samples: int | None = None
    seed: int = 0
    data: str = ""
    learn: bool = False


def run_eval(request: EvalRequest, models: Models, engine_options: EngineOptions, view: View) -> WorkReport:
    """Generate the samples of a benchmark, and report the results."""
    task, harness = task_named(request.task), harness_named(request.harness)
    check_image_budget(harness, request.images)
    if request.learn and not harness.can_learn:
        raise OptionError(f"Runs of {harness.name} cannot learn from each other.", hint="Omit --learn.")
    settings, extra = apply_profile(settings_with(models), request.generator_profile)
    settings = settings_for_jobs(settings, uses_chat=harness.uses_chat, learn=request.learn)
    if engine_options.budget_usd is not None:
        check_prices(settings)
    folder_settings = eval_settings(request, task, harness, settings, extra.get("size") or "")
    with mute_node_warnings(debug=view.debug):
        return run_resumable(_run_eval(folder_settings, task, harness, settings, extra, engine_options, view))


def eval_settings(
    request: EvalRequest, task: Task, harness: Harness, settings: Settings, size: str = ""
) -> EvalSettings:
    """Return the settings of the output folder; `size` is that of the generator profile."""
    languages = tuple(code for code in request.languages.replace(" ", "").split(",") if code)
    chat, judge = settings.chat.model, settings.chat_for("judge").model
    return EvalSettings(
        task=task.name,
        languages=languages or tuple(task.languages),
        harness=harness.name,
        generator=shown_spec(settings.generator.model),
        generator_profile=request.generator_profile,
        chat=shown_spec(chat) if harness.uses_chat else "",
        judge=shown_spec(judge) if harness.uses_chat and judge != chat else "",
        size=request.size or size,
        images=request.images,
        limit=request.limit,
        samples=request.samples or task.samples_per_prompt,
        seed=request.seed,
        learn=request.learn,
        data=request.data or str(data_folder(settings, task.name)),
    )


async def _run_eval(
    folder_settings: EvalSettings,
    task: Task,
    harness: Harness,
    settings: Settings,
    extra: RunOptions,
    engine_options: EngineOptions,
    view: View,
) -> WorkReport:
    prompts = await select_prompts(task, folder_settings)
    folder = await EvalFolder.create(engine_options.out, folder_settings)
    async with (
        lock_folder(folder.store),
        open_engine(engine_options.engine_name, engine_options.workplace(settings, harness.graph)) as engine,
    ):
        with show_progress("samples", view) as on_progress:
            tally = await BenchmarkRun(folder, harness, prompts, extra).run(
                engine,
                budget_usd=engine_options.budget_usd,
                retries=engine_options.retries,
                on_progress=on_progress,
            )
    return WorkReport.of(tally, folder.label, folder.warnings)
