"""Run `gems batch`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gems.apps.cli.display import show_progress
from gems.apps.cli.eval_parts.working import EngineOptions, run_resumable
from gems.apps.cli.options import Models, View, shown_spec
from gems.apps.cli.runner import mute_node_warnings, settings_with
from gems.evals.batch import Batch, BatchList, BatchSettings, read_batch_list
from gems.evals.engines import check_prices, settings_for_jobs
from gems.evals.output_folder import lock_folder
from gems.evals.runner import WorkReport, open_engine
from gems.memory.file_store import FileStore
from gems.resources import open_resources
from gems.settings import Settings


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
