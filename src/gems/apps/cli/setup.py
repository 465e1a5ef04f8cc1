"""`gems setup`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli.command import command
from gems.apps.cli.errors import FAILED, MET
from gems.apps.cli.options import flag, option

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.apps.doctor import Check
    from gems.apps.setup import Candidate, SetupReport
    from gems.settings import Settings


@command(
    {0: "a chat model that sees images and a generator are found", 1: "one is missing; the advice says what helps"}
)
def setup(
    runner: Runner,
    chat: Annotated[str | None, option("SPEC", "Chat model to set up. Default: the best one that is found.")] = None,
    generator: Annotated[
        str | None, option("SPEC", "Image generator to set up. Default: the best one that is found.")
    ] = None,
    keyring: Annotated[
        bool, flag("--keyring", "Store API keys in the system's keyring instead of naming their variables.")
    ] = False,
    yes: Annotated[
        bool, flag("--yes", "Do not ask before requests that cost money and before writing the file.", "-y")
    ] = False,
) -> int:
    """Find models on this machine, try them, and write them to your own .env.

    Looks for API keys in the environment, for model servers on the usual ports of this machine, for a GPU, and
    for Diffusers models on the disk. Proposes a chat model that sees images and an image generator, tries them
    with small requests, and says what is missing. Without a terminal and without --yes nothing is written, and
    nothing that costs money is asked.

    The file is in your configuration folder. Variables of the environment and .env of the current folder have
    priority over it. It names API keys by their variables, or with --keyring by their entries in the keyring.

    \\b
    Examples:
      gems setup
      gems setup --yes --json
      gems setup --chat openai:qwen3-vl:8b-instruct@http://127.0.0.1:11434/v1
    """
    from gems.apps import setup as logic
    from gems.apps import survey
    from gems.apps.cli.output import print_json
    from gems.files.config import change_config, config_file
    from gems.settings import load_settings

    settings = load_settings()
    found = runner.run(survey.survey(logic.PROVIDERS, survey.PORTS))
    session = _Session(runner, settings, yes=yes)
    checks = list(logic.describe(found))
    session.show(checks)
    chats = [logic.named_candidate("chat", chat, found)] if chat else logic.chat_candidates(found, settings)
    draws = (
        [logic.named_candidate("generator", generator, found)]
        if generator
        else logic.generator_candidates(found, settings)
    )
    picked = [session.pick(candidates) for candidates in (chats, draws)]
    chosen = [each for each in picked if each is not None]
    if keyring:
        chosen = [each.in_keyring() for each in chosen]
    changes = logic.plan_changes(chosen)
    report = logic.SetupReport(
        ok=len(chosen) == len(picked),
        found=checks,
        tried=session.tried,
        chat=picked[0].spec if picked[0] else None,
        generator=picked[1].spec if picked[1] else None,
        untried=session.untried,
        advice=list(logic.advise(found, picked[0] is not None, picked[1] is not None)),
        file=str(config_file()),
        changes=changes,
        overridden=list(logic.find_overriding(changes, chosen)),
        written=False,
    )
    if not runner.json:
        _print_proposal(report)
    if report.changes and session.may_write(report.file):
        logic.store_keys(chosen)
        copy = change_config(Path(report.file), report.changes)
        undo = f"mv {shlex.quote(str(copy))} {shlex.quote(report.file)}" if copy else f"rm {shlex.quote(report.file)}"
        report = report.model_copy(update={"written": True, "undo": undo})
        if not runner.json:
            typer.echo(f"wrote {report.file}\nundo with: {undo}\ncheck with: gems doctor")
    if runner.json:
        print_json(report)
    return MET if report.ok else FAILED


def is_terminal() -> bool:
    """Return whether somebody can answer questions."""
    return sys.stdin.isatty()


@dataclass
class _Session:
    """Tries candidates, and asks before whatever needs consent."""

    runner: Runner
    settings: Settings
    yes: bool
    tried: list[Check] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer."""
        return is_terminal() and not self.runner.json

    def show(self, checks: list[Check]) -> None:
        """Print checks, unless the output is JSON."""
        from gems.apps.cli.tables import print_check

        for check in [] if self.runner.json else checks:
            print_check(check)

    def pick(self, candidates: list[Candidate]) -> Candidate | None:
        """Return the first candidate that works, or that may not be tried; None if there is none."""
        from gems.apps.setup import MOST_TRIED, try_out, works

        for candidate in candidates[: MOST_TRIED + 1]:
            if candidate.seller and not self.yes and not self.can_ask:
                self.untried.append(candidate.spec)
                return candidate
            question = f"Try {candidate.spec} with a few small requests, for which {candidate.seller} charges?"
            if candidate.seller and not self.agrees(question):
                continue
            checks = self.runner.run(try_out(candidate, self.settings))
            self.show(checks)
            self.tried += checks
            if works(checks):
                return candidate
        return None

    def may_write(self, file: str) -> bool:
        """Return whether the proposal may be written."""
        return self.yes or (self.can_ask and self.agrees(f"Write this to {file}?"))

    def agrees(self, question: str) -> bool:
        """Ask a question on standard error; the end of standard input means no."""
        if self.yes:
            return True
        typer.echo(f"{question} [y/N] ", err=True, nl=False)
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_proposal(report: SetupReport) -> None:
    for part, spec in (("chat model", report.chat), ("generator", report.generator)):
        untried = ", not tried since it costs money" if spec in report.untried else ""
        typer.echo(f"{part}: {spec or 'none'}{untried}")
    for line in (*report.advice, *report.overridden):
        typer.echo(f"hint: {line}")
    if report.changes:
        typer.echo(f"for {report.file}:")
    for name, value in report.changes.items():
        typer.echo(f"  {name}={value}" if value is not None else f"  remove {name}")
