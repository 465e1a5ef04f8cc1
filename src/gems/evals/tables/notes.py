"""Notes on the numbers: the judge, fairness, and missing samples."""

from __future__ import annotations

from collections.abc import Sequence

from gems.evals.comparison.entries import Entry
from gems.evals.judge import OFFICIAL, inhouse_name
from gems.evals.records import EvalSettings
from gems.evals.registry import load_task
from gems.evals.task import KnowsTruth

_EXCLUDED = "they are excluded, not counted as 0."


def section_notes(entries: Sequence[Entry], language: str, judge: str) -> list[str]:
    """Return the notes on one judge's numbers."""
    return [
        judge_note(entries, judge),
        *_budget_notes(entries),
        *(note for entry in entries for note in _gap_notes(entry, language, judge)),
        *(note for note in dict.fromkeys(w for e in entries for d in e.folders for w in d.folder.warnings)),
    ]


def judge_note(entries: Sequence[Entry], judge: str) -> str:
    """Name the judge, and warn if the loop used the same model as its judge."""
    benchmark = load_task(entries[0].settings.task)
    if isinstance(benchmark, KnowsTruth) and judge == benchmark.truth:
        return "Scored by the true scenes, without a judge."
    if judge == OFFICIAL:
        return "Scored by the official scorer."
    same = [entry.label for entry in entries if loop_judge_name(entry.settings) == judge]
    if same:
        return (
            f"Judged by {judge}, which is also the loop's own judge in {', '.join(same)}: it overlooks the "
            "same errors twice, so these scores are too high."
        )
    return f"Judged by {judge}, which is not the loop's own judge in any of these harnesses."


def loop_judge_name(settings: EvalSettings) -> str:
    """Return the score name of the loop's own judge; empty if the harness has none."""
    spec = settings.judge or settings.chat
    return inhouse_name(spec) if spec else ""


def _budget_notes(entries: Sequence[Entry]) -> list[str]:
    """Return a note if the entries have different image budgets."""
    budgets = sorted({entry.settings.images for entry in entries})
    if len(budgets) < 2:
        return []
    return [f"The harnesses have different image budgets: {', '.join(map(str, budgets))}."]


def _gap_notes(entry: Entry, language: str, judge: str) -> list[str]:
    notes = []
    if failed := entry.failed(language):
        notes.append(f"{entry.label}: samples without an image: {failed:,}; {_EXCLUDED}")
    unscored = {score.key for score in entry.scores(language, judge) if score.value is None}
    if unscored:
        notes.append(f"{entry.label}: samples that could not be scored: {len(unscored):,}; {_EXCLUDED}")
    seeds = sum(any(f.judge == judge for f in each.figures) for each in entry.folders)
    if 0 < seeds < len(entry.folders):
        notes.append(f"{entry.label}: only {seeds} of {len(entry.folders)} seeds were scored.")
    return notes


def cost_notes(entries: Sequence[Entry], language: str) -> list[str]:
    """Return a note if prices are unknown."""
    unknown = [entry.label for entry in entries if any(row.usd is None for row in entry.rows(language))]
    return [f"The price of some samples is unknown: {', '.join(unknown)}."] if unknown else []
