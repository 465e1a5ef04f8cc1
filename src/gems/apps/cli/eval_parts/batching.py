"""Run `gems batch`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gems.apps.cli.eval_parts.progress import followed
from gems.apps.cli.eval_parts.working import At, interruptibly_told
from gems.apps.cli.options import Models, View, shown_spec
from gems.apps.cli.runner import settings_with, told_once
from gems.evals.batch import Batch, BatchSettings
from gems.evals.batch_rows import BatchList, read_batch_list
from gems.evals.engines import check_prices, open_engine, settings_for_jobs
from gems.evals.output_folder import lock_folder
from gems.evals.reports import WorkReport
from gems.memory.file_store import FileStore
from gems.resources import open_resources
from gems.settings import Settings


def batched(file: Path, models: Models, at: At, view: View, *, seed: int, learn: bool) -> WorkReport:
    """Generate an image for each row of the file, and report the results."""
    settings = settings_for_jobs(settings_with(models), learn=learn)
    if at.budget_usd is not None:
        check_prices(settings)
    found = read_batch_list(file)
    chat, judge = settings.chat.model, settings.chat_for("judge").model
    wanted = BatchSettings(
        generator=shown_spec(settings.generator.model),
        chat=shown_spec(chat),
        judge=shown_spec(judge) if judge != chat else "",
        seed=seed,
        learn=learn,
    )
    with told_once(debug=view.debug):
        return interruptibly_told(_batched(found, wanted, settings, at, view))


async def _batched(
    found: BatchList, wanted: BatchSettings, settings: Settings, at: At, view: View
) -> WorkReport:
    async with open_resources(settings) as resources:
        found.check(resources)
    store = await asyncio.to_thread(FileStore, at.out)
    batch = await Batch.open(store, wanted, found.rows)
    async with lock_folder(store), open_engine(at.engine_name, at.workplace(settings)) as engine:
        with followed("prompts", view) as tell:
            tally = await batch.run(engine, budget_usd=at.budget_usd, retries=at.retries, on_progress=tell)
    return WorkReport.of(tally, store.label, batch.warnings)
