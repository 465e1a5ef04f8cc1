"""Run `gems eval run`."""

from __future__ import annotations

from dataclasses import dataclass

from gems.apps.cli.eval_parts.progress import followed
from gems.apps.cli.eval_parts.working import At, interruptibly_told
from gems.apps.cli.options import Models, View, shown_spec
from gems.apps.cli.runner import settings_with, told_once
from gems.arguments import RunOptions
from gems.errors import OptionError
from gems.evals.engines import check_prices, open_engine, settings_for_jobs
from gems.evals.harness import Harness
from gems.evals.harness_parts.registry import load_harness as harness_named
from gems.evals.output_folder import EvalFolder, EvalSettings
from gems.evals.profiled import apply_profile
from gems.evals.registry import load_task as task_named
from gems.evals.reports import WorkReport
from gems.evals.runner import BenchmarkRun, check_image_budget, select_prompts
from gems.evals.task import Task
from gems.evals.tasks.places import data_folder
from gems.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalWish:
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


def drawn(wish: EvalWish, models: Models, at: At, view: View) -> WorkReport:
    """Generate the samples of a benchmark, and report the results."""
    task, harness = task_named(wish.task), harness_named(wish.harness)
    check_image_budget(harness, wish.images)
    if wish.learn and not harness.can_learn:
        raise OptionError(f"Runs of {harness.name} cannot learn from each other.", hint="Omit --learn.")
    settings, extra = apply_profile(settings_with(models), wish.generator_profile)
    settings = settings_for_jobs(settings, uses_chat=harness.uses_chat, learn=wish.learn)
    if at.budget_usd is not None:
        check_prices(settings)
    wanted = eval_settings(wish, task, harness, settings, extra.get("size") or "")
    with told_once(debug=view.debug):
        return interruptibly_told(_drawn(wanted, task, harness, settings, extra, at, view))


def eval_settings(
    wish: EvalWish, task: Task, harness: Harness, settings: Settings, size: str = ""
) -> EvalSettings:
    """Return the settings of the output folder; `size` is that of the generator profile."""
    languages = tuple(code for code in wish.languages.replace(" ", "").split(",") if code)
    chat, judge = settings.chat.model, settings.chat_for("judge").model
    return EvalSettings(
        task=task.name,
        languages=languages or tuple(task.languages),
        harness=harness.name,
        generator=shown_spec(settings.generator.model),
        generator_profile=wish.generator_profile,
        chat=shown_spec(chat) if harness.uses_chat else "",
        judge=shown_spec(judge) if harness.uses_chat and judge != chat else "",
        size=wish.size or size,
        images=wish.images,
        limit=wish.limit,
        samples=wish.samples or task.samples_per_prompt,
        seed=wish.seed,
        learn=wish.learn,
        data=wish.data or str(data_folder(settings, task.name)),
    )


async def _drawn(
    wanted: EvalSettings,
    task: Task,
    harness: Harness,
    settings: Settings,
    extra: RunOptions,
    at: At,
    view: View,
) -> WorkReport:
    prompts = await select_prompts(task, wanted)
    folder = await EvalFolder.create(at.out, wanted)
    async with folder.lock(), open_engine(at.engine_name, at.workplace(settings, harness.graph)) as engine:
        with followed("samples", view) as tell:
            tally = await BenchmarkRun(folder, harness, prompts, extra).run(
                engine, budget_usd=at.budget_usd, retries=at.retries, on_progress=tell
            )
    return WorkReport.of(tally, folder.label, folder.warnings)
