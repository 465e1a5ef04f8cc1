"""Run `gems eval run`."""

from __future__ import annotations

from dataclasses import dataclass

from gems.apps.cli.display import show_progress
from gems.apps.cli.eval_parts.working import EngineOptions, run_resumable
from gems.apps.cli.options import Models, View, shown_spec
from gems.apps.cli.runner import mute_node_warnings, settings_with
from gems.errors import OptionError
from gems.evals.engines import check_prices, settings_for_jobs
from gems.evals.generator_profiles import apply_profile
from gems.evals.harnesses import Harness
from gems.evals.output_folder import EvalFolder, EvalSettings
from gems.evals.registry import data_folder
from gems.evals.registry import load_harness as harness_named
from gems.evals.registry import load_task as task_named
from gems.evals.runner import BenchmarkRun, WorkReport, check_image_budget, open_engine, select_prompts
from gems.evals.task import Task
from gems.options import RunOptions
from gems.settings import Settings


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
        folder.lock(),
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
