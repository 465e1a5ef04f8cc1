"""Printing, JSON, confirmation."""

from __future__ import annotations

import json

import typer
from pydantic import BaseModel

from gems.apps.cli.errors import BEST_EFFORT, FAILED, MET
from gems.apps.cli.options import View
from gems.apps.text import clean_text, format_requirement, format_usd, one_line, pluralize, usage_line, verdict_line
from gems.evals.runner import WorkReport
from gems.results import RunResult

_MOST_LISTED = 20


def print_json(value: object) -> None:
    """Print a JSON object in ASCII, so that it survives every encoding."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    typer.echo(json.dumps(plain, indent=2))


def print_run(result: RunResult, view: View, resume_command: str) -> int:
    """Print the result of a run and return the exit code."""
    if view.json:
        print_json(result)
    elif not view.quiet:
        typer.echo("\n".join(_run_summary(result)))
    if (failure := result.failure) is not None:
        message = f"{failure['error']}: {failure['message']}"
        typer.echo(clean_text(f"warning: the run stopped early: {message}"), err=True)
        typer.echo(f"resume with: {resume_command}", err=True)
    if result.path is None:
        reason = result.warnings[-1] if result.warnings else "The image could not be written."
        typer.echo(clean_text(f"error: {reason}"), err=True)
        return FAILED
    if not view.json:
        typer.echo(result.path)
    return MET if result.passed else BEST_EFFORT


def _run_summary(result: RunResult) -> list[str]:
    unmet = [f"  {format_requirement(item)}" for item in result.requirements if item.answer != "yes"]
    return [verdict_line(result), *unmet, f"  run {result.run_id}: {usage_line(result)}"]


def print_report(report: WorkReport, noun: str, view: View) -> int:
    """Print a report and return the exit code; `noun` names a unit, e.g. `sample`."""
    if view.json:
        print_json(report)
    elif not view.quiet:
        typer.echo("\n".join(_report_summary(report, noun)))
    for warning in report.warnings:
        typer.echo(clean_text(f"warning: {warning}"), err=True)
    if report.out_of_money:
        typer.echo("The budget is spent. Run the same command with a larger budget to resume.", err=True)
    elif report.failed:
        typer.echo("Run the same command again to retry what failed.", err=True)
    if not view.json:
        typer.echo(clean_text(report.out))
    return MET if report.done == report.total else BEST_EFFORT


def _report_summary(report: WorkReport, noun: str) -> list[str]:
    each = report.images / report.done if report.done else 0.0
    parts = [f"{report.done:,} of {pluralize(report.total, noun)} done", f"{each:.2f} images each"]
    if report.usd:
        parts.append(format_usd(report.usd))
    lines = [", ".join(parts)]
    for job in report.failed[:_MOST_LISTED]:
        lines.append(f"  failed: {one_line(f'{job.name}: {job.error}', 200)}")
    if len(report.failed) > _MOST_LISTED:
        lines.append(f"  and {len(report.failed) - _MOST_LISTED:,} more")
    return lines
