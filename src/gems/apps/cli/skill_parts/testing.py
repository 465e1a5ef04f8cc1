"""`gems skills test`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import BEST_EFFORT, reported

_WIDEST = 60

if TYPE_CHECKING:
    from gems.settings import Settings
    from gems.skill_reports import SkillTrial, TriedExample


def try_out(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A skill's name, or the folder of one: ./my-skill.")
    ],
    chat: options.Chat = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Try so many examples, the first ones.")
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Try a skill on its own examples.jsonl: is it chosen when it should be, and does it lose what was asked?

    A line is {"prompt": "...", "trigger": true, "keeps": ["..."]}. The planner chooses for each prompt among
    all skills. For those that call for this one, its prompt is made as in a run and must keep each statement:
    word by word, or in the chat model's opinion. Nothing is drawn and no run is recorded.

    \b
    Examples:
      gems skills test text-rendering
      gems skills test ./my-skill --chat openai:MODEL@BASE_URL --json

    \b
    Exit codes:
      0    everything came out as the examples say
      3    something did not, or a model gave no usable answer
      2    bad usage or configuration: no such skill, no examples, broken lines
      1    failure
      130  interrupted
    """  # noqa: D301 - \b keeps the lines apart
    with reported(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import told_once  # noqa: PLC0415

        with told_once(debug=debug):
            trial = _tried(name, options.Models(chat=chat), limit)
        if json:
            print_json(trial)
        else:
            _show(trial)
        if not trial.passed:
            raise typer.Exit(BEST_EFFORT)


def _tried(name: str, models: options.Models, limit: int | None) -> SkillTrial:
    from gems.apps.cli.progress import told  # noqa: PLC0415 - heavy
    from gems.apps.cli.runner import asked, settings_with  # noqa: PLC0415

    settings, wanted = _placed(name, settings_with(models))
    return asked(settings, lambda gems: gems.skills.try_out(wanted, limit, told("example")))


def _placed(name: str, settings: Settings) -> tuple[Settings, str | Path]:
    """The settings under which the skill is found: a folder joins those that are looked into."""
    if not any(sign and sign in name for sign in (os.sep, os.altsep)) and name not in (".", ".."):
        return settings, name
    folder = Path(name).expanduser().resolve()
    path = os.pathsep.join(part for part in (settings.skills_path, str(folder)) if part)
    return settings.model_copy(update={"skills_path": path}), folder


def _show(trial: SkillTrial) -> None:
    from gems.apps.cli.text import counted, one_line  # noqa: PLC0415 - heavy

    rows = [(example, one_line(_said(example))) for example in trial.examples if not example.passed]
    width = min(max((len(said) for _, said in rows), default=0), _WIDEST)
    for example, said in rows:
        typer.echo(f"line {example.line:>3}  {said:<{width}}  {one_line(example.prompt, 60)}")
    parts = [
        f"precision {_share(trial.precision)}",
        f"recall {_share(trial.recall)}",
        f"kept {trial.kept} of {trial.checked}",
        *([f"unanswered {trial.unanswered}"] if trial.unanswered else []),
        counted(trial.calls, "call"),
        f"{trial.seconds:,.1f} s",
    ]
    typer.echo(f"{trial.skill}: {', '.join(parts)}")


def _said(example: TriedExample) -> str:
    """What did not come out as the example says."""
    parts = [f"unanswered: {reason}" for reason in example.unanswered]
    if example.chosen is not None and example.chosen != example.trigger:
        others = f" (but {', '.join(example.skills)})" if example.skills and not example.chosen else ""
        parts.append("chosen, though it should not be" if example.chosen else f"not chosen{others}")
    if example.lost:
        parts.append(f"lost: {'; '.join(example.lost)}")
    if example.fault:
        parts.append(f"the skill failed: {example.fault}")
    return "; ".join(parts)


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
