"""Results of runs on standard output."""

from __future__ import annotations

import json
from typing import Any

import typer
from pydantic import BaseModel

from gems.apps.cli.errors import BEST_EFFORT, FAILED, MET, clean
from gems.apps.cli.options import Models, View
from gems.apps.cli.text import format_usd, one_line, pluralize
from gems.results import RunResult


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """Print a JSON object in ASCII, so that it survives every encoding."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    typer.echo(json.dumps(plain, indent=2))


def print_run(result: RunResult, view: View, models: Models) -> int:
    """Print the result of a run and return the exit code."""
    if view.json:
        print_json(result)
    elif not view.quiet:
        typer.echo("\n".join(_run_summary(result)))
    _print_problems(result, models)
    if result.path is None:
        return FAILED
    if not view.json:
        typer.echo(result.path)
    return MET if result.passed else BEST_EFFORT


def verdict_line(result: RunResult) -> str:
    """Format requirements met, rounds, stop reason and score."""
    met = sum(item.answer == "yes" for item in result.requirements)
    rounds = pluralize(len(result.rounds), "round")
    reason = result.stop_reason or result.status
    all_of_them = pluralize(len(result.requirements), "requirement")
    return f"{met} of {all_of_them} met after {rounds} ({reason}), score {result.score:.2f}"


def usage_line(result: RunResult) -> str:
    """Format images, chat calls, tokens, seconds and cost."""
    drawn = result.usage.get("generator")
    asked = [used for role, used in result.usage.items() if role != "generator"]
    prices = [used["usd"] for used in result.usage.values()]
    parts = [
        pluralize(drawn["calls"] if drawn else 0, "image"),
        pluralize(sum(used["calls"] for used in asked), "chat call"),
        pluralize(sum(used["input_tokens"] + used["output_tokens"] for used in asked), "token"),
        f"{result.seconds:,.1f} s",
    ]
    if prices and None not in prices:
        parts.append(format_usd(sum(price or 0.0 for price in prices)))
    return ", ".join(parts)


def _run_summary(result: RunResult) -> list[str]:
    lines = [verdict_line(result)]
    for item in result.requirements:
        if item.answer != "yes":
            state = "not met" if item.answer == "no" else "unknown"
            lines.append(f"  {state}: {one_line(item.question)}  {one_line(item.evidence)}".rstrip())
    return [*lines, f"  run {result.run_id}: {usage_line(result)}"]


def _print_problems(result: RunResult, models: Models) -> None:
    """Print failures of a run that has a result to standard error."""
    if result.failure is not None:
        failure = result.failure
        message = f"{failure['error']}: {failure['message']}"
        typer.echo(clean(f"warning: the run stopped early: {message}"), err=True)
        typer.echo(f"resume with: {models.resume_command(result.run_id)}", err=True)
    if result.path is None:
        reason = result.warnings[-1] if result.warnings else "The image could not be written."
        typer.echo(clean(f"error: {reason}"), err=True)
