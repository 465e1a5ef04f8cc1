"""Report of a batch or a benchmark run."""

from __future__ import annotations

import typer

from gems.apps.cli.errors import BEST_EFFORT, MET, clean
from gems.apps.cli.options import View
from gems.apps.cli.output import print_json
from gems.apps.cli.text import format_usd, one_line, pluralize
from gems.evals.runner import WorkReport

_MOST_LISTED = 20


def print_report(report: WorkReport, noun: str, view: View) -> int:
    """Print a report and return the exit code; `noun` names a unit, e.g. `sample`."""
    if view.json:
        print_json(report)
    elif not view.quiet:
        typer.echo("\n".join(_report_summary(report, noun)))
    for warning in report.warnings:
        typer.echo(clean(f"warning: {warning}"), err=True)
    if report.out_of_money:
        typer.echo("The budget is spent. Run the same command with a larger budget to resume.", err=True)
    elif report.failed:
        typer.echo("Run the same command again to retry what failed.", err=True)
    if not view.json:
        typer.echo(clean(report.out))
    return MET if report.done == report.total else BEST_EFFORT


def _report_summary(report: WorkReport, noun: str) -> list[str]:
    each = report.images / report.done if report.done else 0.0
    parts = [f"{report.done:,} of {pluralize(report.total, noun)} done", f"{each:.2f} images each"]
    if report.usd:
        parts.append(format_usd(report.usd))
    lines = [", ".join(parts)]
    lines += [
        f"  failed: {one_line(f'{job.name}: {job.error}', 200)}" for job in report.failed[:_MOST_LISTED]
    ]
    if len(report.failed) > _MOST_LISTED:
        lines.append(f"  and {len(report.failed) - _MOST_LISTED:,} more")
    return lines
