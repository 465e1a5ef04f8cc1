"""`gems export`: training data from runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gems.apps.cli.command import command, command_group
from gems.apps.cli.options import argument, flag, option, path_option
from gems.apps.text import pluralize
from gems.errors import OptionError

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.runs.export import Exported
    from gems.runs.training_rows import ExportKind

LISTED = {0: "written, even if there are no rows", 2: "bad usage or configuration, no such run, or DIR is not empty"}
Kinds = Annotated[str | None, option("KINDS", "Only what differs in requirements of these kinds: count,text.")]
Unconfirmed = Annotated[bool, flag("--unconfirmed", "Include verdicts behind which is a single look.")]
Drawn = Annotated[bool, flag("--drawn-prompts", "Write the prompt that was drawn, not the user's.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Options of all kinds of exports."""

    out: Annotated[Path, path_option("DIR", "New folder for the dataset.")]
    since: Annotated[str | None, option("WHEN", "Runs started at or after WHEN: 2026-01-31, or 3d for 3 days ago.")] = (
        None
    )
    until: Annotated[str | None, option("WHEN", "Runs started at or before WHEN; a date includes the whole day.")] = (
        None
    )
    owner: Annotated[str, option("USER", "Only runs of this user of a server; by default those of nobody.")] = ""
    per_prompt: Annotated[int | None, option("N", "Most rows for one prompt.", min=1)] = None
    splits: Annotated[str, option("SHARES", "Shares of the prompts: train=0.9,test=0.1. No prompt is in two.")] = (
        "train=1"
    )
    hash_prompts: Annotated[bool, flag("--hash-prompts", "Write the SHA-256 of each prompt in its place.")] = False


Runs = Annotated[list[str] | None, argument("RUN", "Ids of runs; all by default, except those without memory.")]


@command(LISTED)
def pairs(
    runner: Runner,
    choice: Choice,
    run: Runs = None,
    layout: Annotated[
        str, option("NAME", "Columns: datasets, diffusers (its DPO example), or verl-omni.")
    ] = "datasets",
    min_margin: Annotated[float, option("SHARE", "Least difference of scores.", min=0, max=1)] = 0.0,
    kinds: Kinds = None,
    unconfirmed: Unconfirmed = False,
    drawn_prompts: Drawn = False,
) -> None:
    """Export pairs of images of which one meets the user's prompt better, for preference training.

    Ties are left out, and by default pairs whose decisive answers were not confirmed by a second look or an
    instrument.

    \b
    Examples:
      gems export pairs --out pairs
      gems export pairs --since 30d --min-margin 0.2 --splits train=0.9,test=0.1 --out pairs
      gems export pairs --layout diffusers --out pairs-dpo
    """
    given = {"min_margin": min_margin, "kinds": _list(kinds), "unconfirmed": unconfirmed}
    _export(runner, "pairs", choice, run, given | {"drawn_prompts": drawn_prompts}, layout)


@command(LISTED)
def rewards(
    runner: Runner,
    choice: Choice,
    run: Runs = None,
    kinds: Kinds = None,
    unconfirmed: Unconfirmed = False,
    drawn_prompts: Drawn = False,
) -> None:
    """Export images with their scores and the answer to each requirement, for reward models.

    \b
    Example:
      gems export rewards --unconfirmed --out rewards
    """
    given = {"kinds": _list(kinds), "unconfirmed": unconfirmed, "drawn_prompts": drawn_prompts}
    _export(runner, "rewards", choice, run, given)


@command(LISTED)
def trajectories(
    runner: Runner,
    choice: Choice,
    run: Runs = None,
    harmful: Annotated[bool, flag("--harmful", "Include steps after which the image was worse.")] = False,
) -> None:
    """Export the questions and answers of agents with their outcomes, for fine-tuning.

    \b
    Example:
      gems export trajectories --out steps
    """
    _export(runner, "trajectories", choice, run, {"harmful": harmful})


export = command_group(
    "export", "Write training data from runs.", {"pairs": pairs, "rewards": rewards, "trajectories": trajectories}
)


def _export(
    runner: Runner,
    kind: ExportKind,
    choice: Choice,
    runs: list[str] | None,
    given: dict[str, Any],
    layout: str = "datasets",
) -> None:
    from pydantic import TypeAdapter, ValidationError

    from gems.memory.run_filter import RunFilter
    from gems.options import parse_datetime
    from gems.runs.dataset import Layout
    from gems.runs.training_rows import ExportOptions

    if runs and (choice.since or choice.until):
        raise OptionError("Runs were named, and --since or --until given.", hint="Use one or the other.")
    given |= {"per_prompt": choice.per_prompt, "hash_prompts": choice.hash_prompts}
    try:
        options = ExportOptions(**given, splits=_read_splits(choice.splits))
        columns = TypeAdapter(Layout).validate_python(layout)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0]) if fault["loc"] else "layout"
        raise OptionError(f"--{name.replace('_', '-')}: {fault['msg'].removeprefix('Value error, ')}.") from error
    now = datetime.now(UTC)
    wanted = RunFilter(
        since=None if choice.since is None else parse_datetime(choice.since, now=now),
        until=None if choice.until is None else parse_datetime(choice.until, now=now, end=True),
    )
    more: dict[str, Any] = {"runs": runs or (), "wanted": wanted, "owner": choice.owner, "layout": columns}
    runner.show(runner.query(lambda gems: gems.export(kind, choice.out, options=options, **more)), _print_exported)


def _print_exported(done: Exported) -> None:
    rows = ", ".join(f"{split} {pluralize(number, 'row')}" for split, number in done.rows.items())
    what = f"{done.folder}: {rows}" if done.folder else "Nothing was written: no rows"
    typer.echo(f"{what}, from {pluralize(done.runs, 'run')}.")
    for reason, number in done.left_out.items():
        typer.echo(f"  left out: {number:,} {reason}")


def _list(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _read_splits(text: str) -> dict[str, float]:
    try:
        return {name.strip(): float(share) for name, share in (each.split("=") for each in _list(text))}
    except ValueError:
        raise OptionError(f"--splits cannot be read: {text[:80]!r}.", hint="Write train=0.9,test=0.1.") from None
