"""`gems skills test`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import BEST_EFFORT, handle_errors

_WIDEST = 60

if TYPE_CHECKING:
    from gems.settings import Settings
    from gems.skills.reports import SkillTrial, TriedExample


def try_out(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Skill name, or its folder, e.g. ./my-skill.")],
    chat: options.Chat = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Test only the first N examples.")
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Test a skill on its examples.jsonl: is it selected when it should be, and does it keep what was asked?

    A line looks like {"prompt": "...", "trigger": true, "keeps": ["..."]}. For each prompt the planner
    selects among all skills. If `trigger` is true, the skill then writes its prompt as in a run, which must
    keep each statement: verbatim, or according to the chat model. No image is generated and no run is
    recorded.

    \b
    Examples:
      gems skills test text-rendering
      gems skills test ./my-skill --chat openai:MODEL@BASE_URL --json

    \b
    Exit codes:
      0    all examples passed
      3    an example failed, or a model gave no usable answer
      2    bad usage or configuration: no such skill, no examples, invalid lines
      1    failure
      130  interrupted
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import mute_node_warnings  # noqa: PLC0415

        with mute_node_warnings(debug=debug):
            trial = _test_skill(name, options.Models(chat=chat), limit)
        if json:
            print_json(trial)
        else:
            _print_trial(trial)
        if not trial.passed:
            raise typer.Exit(BEST_EFFORT)


def _test_skill(name: str, models: options.Models, limit: int | None) -> SkillTrial:
    from gems.apps.cli.output import print_progress  # noqa: PLC0415 - heavy
    from gems.apps.cli.runner import run_with_chat, settings_with  # noqa: PLC0415

    settings, skill = _add_skill_folder(name, settings_with(models))
    return run_with_chat(settings, lambda gems: gems.skills.try_out(skill, limit, print_progress("example")))


def _add_skill_folder(name: str, settings: Settings) -> tuple[Settings, str | Path]:
    """Add the folder of a skill to the search path of the settings."""
    if not any(sign and sign in name for sign in (os.sep, os.altsep)) and name not in (".", ".."):
        return settings, name
    folder = Path(name).expanduser().resolve()
    path = os.pathsep.join(part for part in (settings.skills_path, str(folder)) if part)
    return settings.model_copy(update={"skills_path": path}), folder


def _print_trial(trial: SkillTrial) -> None:
    from gems.apps.cli.text import one_line, pluralize  # noqa: PLC0415 - heavy

    rows = [(example, one_line(_format_failure(example))) for example in trial.examples if not example.passed]
    width = min(max((len(failure) for _, failure in rows), default=0), _WIDEST)
    for example, failure in rows:
        typer.echo(f"line {example.line:>3}  {failure:<{width}}  {one_line(example.prompt, 60)}")
    parts = [
        f"precision {_share(trial.precision)}",
        f"recall {_share(trial.recall)}",
        f"kept {trial.kept} of {trial.checked}",
        *([f"unanswered {trial.unanswered}"] if trial.unanswered else []),
        pluralize(trial.calls, "call"),
        f"{trial.seconds:,.1f} s",
    ]
    typer.echo(f"{trial.skill}: {', '.join(parts)}")


def _format_failure(example: TriedExample) -> str:
    """Describe how the example failed."""
    parts = [f"unanswered: {reason}" for reason in example.unanswered]
    if example.chosen is not None and example.chosen != example.trigger:
        others = f" (but {', '.join(example.skills)})" if example.skills and not example.chosen else ""
        parts.append("selected, but should not be" if example.chosen else f"not selected{others}")
    if example.lost:
        parts.append(f"lost: {'; '.join(example.lost)}")
    if example.fault:
        parts.append(f"the skill failed: {example.fault}")
    return "; ".join(parts)


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
