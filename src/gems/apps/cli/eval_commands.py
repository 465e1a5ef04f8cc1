"""Functions that `gems eval` and `gems batch` call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from gems.apps.cli.display import show_progress
from gems.apps.cli.options import EngineOptions, Models, shown_spec
from gems.apps.cli.output import print_report
from gems.errors import ConfigurationError, OptionError
from gems.evals.batch import Batch, BatchSettings, read_batch_list
from gems.evals.comparison.entries import FolderData, read_folder
from gems.evals.comparison.export import write_comparison, write_tables
from gems.evals.comparison.paper import paper_tables
from gems.evals.comparison.sections import Section, build_sections
from gems.evals.comparison.table import Table
from gems.evals.data import DataReport, check_data
from gems.evals.engines import EngineConfig, EngineName, check_prices, settings_for_jobs
from gems.evals.generator_profiles import apply_profile
from gems.evals.harnesses import Harness, load_harness
from gems.evals.judge import JudgeQuestion, JudgeReply, inhouse_name, open_judge
from gems.evals.official import EvalExport, EvalImport, export_folder, import_scores
from gems.evals.output_folder import EvalFolder, EvalSettings, lock_folder
from gems.evals.registry import TASKS, data_folder, load_task
from gems.evals.runner import BenchmarkRun, JobProgress, WorkReport, check_image_budget, open_engine, select_prompts
from gems.evals.scoring import ScoreReport, score_folder
from gems.evals.task import Task
from gems.graphs.loop import GraphBuilder, build_graph
from gems.memory.file_store import FileStore
from gems.resources import open_resources
from gems.settings import Settings, load_settings, with_models

if TYPE_CHECKING:
    from gems.apps.cli.evals import SampleOptions
    from gems.apps.cli.runner import Runner


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """A comparison, the files written, and warnings about what they omit."""

    sections: Sequence[Section]
    paths: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(slots=True)
class NoJudge:
    """Judge of benchmarks with ground truth; it is never asked."""

    name: str
    samples: int = 1

    async def ask(self, question: JudgeQuestion) -> JudgeReply:
        """Raise ConfigurationError."""
        raise ConfigurationError(f"No judge is configured to answer {question.text!r}.")


def check_benchmarks(name: str | None, folder: Path | None) -> DataReport:
    """Check the data of a benchmark, or of all."""
    if name is None and folder is not None:
        raise OptionError("--data needs a benchmark.", hint="Pass the benchmark, e.g. geneval2.")
    settings = load_settings()
    tasks = [load_task(each) for each in ([name] if name is not None else TASKS)]
    checks = [check_data(each, folder or data_folder(settings, each.name)) for each in tasks]
    return DataReport(ok=all(check.ok for check in checks), benchmarks=checks)


async def score_samples(
    url: str, spec: str | None, data: Path | None, concurrency: int, on_progress: Callable[[int, int], None]
) -> ScoreReport:
    """Score a folder; `spec` names the chat model that judges."""
    folder, task, place = await _open_folder(url, data)
    options: dict[str, Any] = {"data": place, "concurrency": concurrency, "on_progress": on_progress}
    if task.truth:
        return await score_folder(folder, task, NoJudge(task.truth), task.truth, **options)
    async with open_judge(_judge_settings(spec, task).chat_for("eval_judge")) as judge:
        return await score_folder(folder, task, judge, inhouse_name(judge.name), **options)


def _judge_settings(spec: str | None, task: Task) -> Settings:
    settings = with_models(load_settings(), eval_judge=spec)
    if "model" not in settings.eval_judge.model_fields_set:
        raise ConfigurationError(
            f"{task.title} is scored by a chat model that sees images, and none is configured.",
            hint="Pass --judge or set GEMS_EVAL_JUDGE__MODEL; not the loop's own judge.",
        )
    return settings


async def export_samples(url: str, out: Path, data: Path | None) -> EvalExport:
    """Export a folder for the official scorer."""
    return await export_folder(*await _open_folder(url, data), out)


async def import_official_scores(url: str, file: Path, language: str | None, data: Path | None) -> EvalImport:
    """Import official scores into a folder."""
    return await import_scores(*await _open_folder(url, data), file, language)


async def _open_folder(url: str, data: Path | None) -> tuple[EvalFolder, Task, Path]:
    folder = await EvalFolder.open(url)
    return folder, load_task(folder.settings.task), data or Path(folder.settings.data)


async def compare_folders(urls: Sequence[str], judge: str | None, out: Path | None, pictures: int) -> ComparisonResult:
    """Compare folders, and write the comparison to `out` if given."""
    folders = await _read_folders(urls)
    # Thousands of resamplings take seconds.
    sections = await asyncio.to_thread(build_sections, folders, judge)
    if out is None:
        return ComparisonResult(sections)
    paths, warnings = await write_comparison(sections, out, pictures)
    return ComparisonResult(sections, [str(path) for path in paths], warnings)


async def build_tables(urls: Sequence[str], out: Path | None) -> list[Table]:
    """Build the paper's tables with the numbers of the folders, and write them to `out` if given."""
    tables = paper_tables(await _read_folders(urls))
    if out is not None:
        await asyncio.to_thread(write_tables, out, tables)
    return tables


async def _read_folders(urls: Sequence[str]) -> list[FolderData]:
    return list(await asyncio.gather(*(read_folder(url) for url in urls)))


def run_batch(
    runner: Runner, file: Path, out: str, models: Models, engine_options: EngineOptions, *, seed: int, learn: bool
) -> int:
    """Generate an image for each row of the file, print a report, and return the exit code."""
    settings = settings_for_jobs(models.settings(), learn=learn)
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

    async def generate() -> WorkReport:
        async with open_resources(settings) as resources:
            found.check(resources)
        store = await asyncio.to_thread(FileStore, out)
        batch = await Batch.open(store, batch_settings, found.rows)
        async with lock_folder(store):
            tally = await _run_jobs(runner, "prompts", batch, out, settings, engine_options)
        return WorkReport.of(tally, store.label, batch.warnings)

    return print_report(runner.run_resumable(generate()), "prompt", runner)


def run_eval(
    runner: Runner,
    task_name: str,
    harness_name: str,
    out: str,
    models: Models,
    sampling: SampleOptions,
    engine_options: EngineOptions,
) -> int:
    """Generate the samples of a benchmark, print a report, and return the exit code."""
    task, harness = load_task(task_name), load_harness(harness_name)
    check_image_budget(harness, sampling.images)
    if sampling.learn and not harness.can_learn:
        raise OptionError(f"Runs of {harness.name} cannot learn from each other.", hint="Omit --learn.")
    settings, extra = apply_profile(models.settings(), sampling.generator_profile)
    settings = settings_for_jobs(settings, uses_chat=harness.uses_chat, learn=sampling.learn)
    if engine_options.budget_usd is not None:
        check_prices(settings)
    folder_settings = _eval_settings(sampling, task, harness, settings, extra.get("size") or "")

    async def generate() -> WorkReport:
        prompts = await select_prompts(task, folder_settings)
        folder = await EvalFolder.create(out, folder_settings)
        run = BenchmarkRun(folder, harness, prompts, extra)
        async with lock_folder(folder.store):
            tally = await _run_jobs(runner, "samples", run, out, settings, engine_options, harness.graph)
        return WorkReport.of(tally, folder.label, folder.warnings)

    return print_report(runner.run_resumable(generate()), "sample", runner)


def _eval_settings(
    sampling: SampleOptions, task: Task, harness: Harness, settings: Settings, profile_size: str
) -> EvalSettings:
    languages = tuple(code for code in sampling.languages.replace(" ", "").split(",") if code)
    chat, judge = settings.chat.model, settings.chat_for("judge").model
    return EvalSettings(
        task=task.name,
        languages=languages or tuple(task.languages),
        harness=harness.name,
        generator=shown_spec(settings.generator.model),
        generator_profile=sampling.generator_profile,
        chat=shown_spec(chat) if harness.uses_chat else "",
        judge=shown_spec(judge) if harness.uses_chat and judge != chat else "",
        size=sampling.size or profile_size,
        images=sampling.images,
        limit=sampling.limit,
        samples=sampling.samples or task.samples_per_prompt,
        seed=sampling.seed,
        learn=sampling.learn,
        data=sampling.data or str(data_folder(settings, task.name)),
    )


async def _run_jobs(
    runner: Runner,
    noun: str,
    jobs: Batch | BenchmarkRun,
    out: str,
    settings: Settings,
    options: EngineOptions,
    graph: GraphBuilder = build_graph,
) -> JobProgress:
    """Run jobs on an engine and show their progress."""
    if options.engine not in get_args(EngineName):
        raise OptionError(f"Unknown engine: {options.engine!r}.", hint="Use local or ray.")
    config = EngineConfig(
        settings=settings,
        url=out,
        concurrency=options.concurrency,
        workers=options.workers,
        generator_actors=options.generator_actors,
        graph=graph,
    )
    async with open_engine(cast("EngineName", options.engine), config) as engine:
        with show_progress(noun, runner) as on_progress:
            return await jobs.run(
                engine, budget_usd=options.budget_usd, retries=options.retries, on_progress=on_progress
            )
