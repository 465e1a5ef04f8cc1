"""`gems skills`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.command import command, command_group
from gems.apps.cli.errors import BEST_EFFORT, FAILED, MET
from gems.apps.cli.options import argument, flag, option
from gems.apps.text import clean_text, one_line, pluralize
from gems.errors import OptionError

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.files.trust import Change
    from gems.settings import Settings
    from gems.skills.discovery import SkillCatalogue, SkillSearchPath
    from gems.skills.models import SkillFinding
    from gems.skills.reports import (
        NewSkill,
        SkillDraft,
        SkillDrafts,
        SkillList,
        SkillPage,
        SkillTrial,
        TriedExample,
        ValidationList,
    )

_WIDEST = 60


@command({0: "listed, even if there are none", 2: "bad configuration"})
def list_(runner: Runner) -> None:
    """List the available skills, and folders without a valid skill.

    Later locations override earlier ones: built-in, ~/.agents/skills, ~/.claude/skills, GEMS_HOME/skills,
    .agents/skills and .claude/skills of the current folder if it is trusted, and GEMS_SKILLS_PATH.

    \b
    Examples:
      gems skills list
      gems skills list --json
    """
    from gems.skills.reports import list_skills

    catalogue, where = scan_skills()
    runner.show(list_skills(catalogue.current, where), _print_skills)


def _print_skills(found: SkillList) -> None:
    for skill in found.skills:
        code = {(True, True): ", graph.py", (True, False): ", graph.py is not trusted"}
        notes = f"{skill.place}{code.get((skill.code, skill.runs_code), '')}"
        typer.echo(f"{skill.name}  ({notes})\n  {one_line(skill.description, 200)}")
        _print_findings(skill.findings)
    for folder in found.left_out:
        typer.echo(f"skipped: {folder.folder} ({folder.place})")
        _print_findings(folder.findings)
    for path in found.untrusted:
        typer.echo(f"not trusted: {path}. Run `gems skills trust .` to load its skills.", err=True)


@command({0: "shown", 2: "bad usage or configuration, or no such skill"})
def show(runner: Runner, name: Annotated[str, argument("NAME", "Skill name from `gems skills list`.")]) -> None:
    """Show a skill with its instructions.

    \b
    Example:
      gems skills show text-rendering
    """
    from gems.skills.files import read_body
    from gems.skills.reports import SkillEntry, SkillPage

    skill = scan_skills()[0].current.named(name)
    # All scanned skills have one.
    folder = skill.folder or Path()
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    files = sorted(str(path) for path in paths if "__pycache__" not in path.parts)
    body = runner.run(read_body(skill))
    runner.show(SkillPage(skill=SkillEntry.model_validate(skill), body=body, files=files), _print_skill)


def _print_skill(page: SkillPage) -> None:
    skill = page.skill
    typer.echo(f"{skill.name}  ({skill.place})\n{skill.description}\n\nfolder: {skill.folder}")
    typer.echo(f"files: {', '.join(page.files)}")
    if skill.conflicts:
        typer.echo(f"conflicts with: {', '.join(skill.conflicts)}")
    if skill.code and not skill.runs_code:
        typer.echo("graph.py does not run: its folder is not trusted")
    _print_findings(skill.findings)
    typer.echo(f"\n{page.body}")


def scan_skills() -> tuple[SkillCatalogue, SkillSearchPath]:
    """Scan the skill search path; findings are listed, so they are not logged too."""
    import logging

    from gems.resources import skill_places
    from gems.settings import load_settings
    from gems.skills.discovery import SkillCatalogue

    where = skill_places(load_settings())
    catalogue = SkillCatalogue(where.places)
    logger = logging.getLogger("gems.skills")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        catalogue.scan()
    finally:
        logger.setLevel(level)
    return catalogue, where


def _print_findings(findings: list[SkillFinding]) -> None:
    for finding in findings:
        typer.echo(one_line(f"  {finding.level}: {finding}"))


@command({0: "done, even if nothing was drafted", 130: "interrupted; finished drafts are kept"})
def learn(
    runner: Runner,
    least: Annotated[int, option("N", "Minimum number of lessons of one kind for a draft.", min=1)] = 5,
    generator: Annotated[str | None, option("NAME", "Use only lessons about this generator.")] = None,
    chat: options.Chat = None,
    no_model: Annotated[
        bool, flag("--no-model", "Write a plain list of the best lessons without a chat model.")
    ] = False,
    force: Annotated[bool, flag("--force", "Replace existing drafts.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Only report what would be drafted.")] = False,
) -> None:
    """Draft skills from lessons where many are of one kind.

    Uses lessons, and experiences without a lesson. Lessons from runs with a skill become an amendment of it,
    which needs a chat model; all others a new skill per kind of requirement. The reflector's chat model
    writes the drafts to GEMS_HOME/drafts/skills. Runs do not use a draft until you move it.

    \b
    Examples:
      gems skills learn --dry-run
      gems skills learn --least 10 --chat openai:MODEL@BASE_URL
    """
    from gems.runs.skill_learning import DraftRequest

    use_model = not no_model and not dry_run
    request = DraftRequest(least=least, generator=generator, use_model=use_model, force=force, dry_run=dry_run)
    settings = options.Models(chat=chat).settings() if use_model else None
    done = runner.query(lambda gems: gems.skills.learn(request, runner.progress("draft")), settings)
    runner.show(done, _print_drafts)


def _print_drafts(done: SkillDrafts) -> None:
    for draft in done.drafts:
        typer.echo(one_line(_format_draft(draft)))
        for warning in draft.warnings:
            typer.echo(f"warning: {draft.name}: {one_line(warning)}", err=True)
    for reason in done.left_out:
        typer.echo(f"skipped: {one_line(reason)}", err=True)
    if not done.drafts:
        ignored = f" {done.refuted:,} of them did not help and were ignored." if done.refuted else ""
        checked = f"Checked {done.lessons:,} lessons and experiences.{ignored}"
        typer.echo(f"Nothing to draft: too few lessons of one kind. {checked}", err=True)
    for draft in done.drafts:
        if draft.state == "written":
            folder = shlex.quote(draft.folder)
            steps = f"  gems skills validate {folder}\n  gems skills test {folder}"
            typer.echo(clean_text(f"to accept {draft.name}, review it, then run\n{steps}"), err=True)
            typer.echo("  and move the folder to GEMS_HOME/skills", err=True)


def _format_draft(draft: SkillDraft) -> str:
    name = f"amendment of {draft.name}" if draft.amends else f"new skill {draft.name}"
    source = f"{draft.lessons} lessons of {draft.generator} about {', '.join(draft.kinds)}"
    state = {
        "written": f"drafted in {draft.folder}",
        "planned": f"would be drafted in {draft.folder}",
        "exists": f"a draft exists already in {draft.folder}; use --force to replace it",
    }
    return f"{name} from {source}: {state[draft.state]}"


@command({0: "created", 2: "bad usage or configuration, or the folder exists already"})
def new(
    runner: Runner,
    name: Annotated[str, argument("NAME", "Lower-case letters, digits and single hyphens.")],
    folder: Annotated[Path | None, option("DIR", "Parent folder. Default: GEMS_HOME/skills.", "--dir")] = None,
    with_graph: Annotated[bool, flag("--with-graph", "Add a graph.py with a subgraph and a verifier.")] = False,
) -> None:
    """Create a working skeleton of a skill, and print its folder.

    \b
    Examples:
      gems skills new night-scenes
      gems skills new product-shots --with-graph --dir .agents/skills
    """
    from gems.settings import load_settings
    from gems.skills.reports import NewSkill
    from gems.skills.scaffold import create_skill

    parent = folder if folder is not None else load_settings().home / "skills"
    made = create_skill(name, parent, with_graph=with_graph)
    files = sorted(path.name for path in made.iterdir())
    runner.show(NewSkill(folder=str(made), files=files), _print_new_skill)


def _print_new_skill(made: NewSkill) -> None:
    files = ", ".join(made.files)
    typer.echo(f"Wrote {files}. Edit SKILL.md, then run: gems skills validate {made.folder}", err=True)
    typer.echo(made.folder)


@command(
    {
        0: "all examples passed",
        3: "an example failed, or a model gave no usable answer",
        2: "bad usage or configuration: no such skill, no examples, invalid lines",
        130: "interrupted",
    }
)
def try_out(
    runner: Runner,
    name: Annotated[str, argument("NAME", "Skill name, or its folder, e.g. ./my-skill.")],
    chat: options.Chat = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Test only the first N examples.")] = None,
) -> int:
    """Test a skill on its examples.jsonl: is it selected when it should be, and does it keep what was asked?

    A line looks like {"prompt": "...", "trigger": true, "keeps": ["..."]}. For each prompt the planner
    selects among all skills. If `trigger` is true, the skill then writes its prompt as in a run, which must
    keep each statement: verbatim, or according to the chat model. No image is generated and no run is
    recorded.

    \b
    Examples:
      gems skills test text-rendering
      gems skills test ./my-skill --chat openai:MODEL@BASE_URL --json
    """
    settings, skill = _add_skill_folder(name, options.Models(chat=chat).settings())
    trial = runner.query(lambda gems: gems.skills.try_out(skill, limit, runner.progress("example")), settings)
    runner.show(trial, _print_trial)
    return MET if trial.passed else BEST_EFFORT


def _add_skill_folder(name: str, settings: Settings) -> tuple[Settings, str | Path]:
    """Add the folder of a skill to the search path of the settings."""
    if not any(sign and sign in name for sign in (os.sep, os.altsep)) and name not in (".", ".."):
        return settings, name
    folder = Path(name).expanduser().resolve()
    path = os.pathsep.join(part for part in (settings.skills_path, str(folder)) if part)
    return settings.model_copy(update={"skills_path": path}), folder


def _print_trial(trial: SkillTrial) -> None:
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


@command({0: "done", 1: "not confirmed"})
def trust(
    runner: Runner,
    folder: Annotated[Path | None, argument("DIR", "Project folder, or folder of skills.")] = None,
    remove: Annotated[bool, flag("--remove", "Revoke trust in the folder.")] = False,
    listing: Annotated[bool, flag("--list", "Only list trusted folders.")] = False,
    yes: options.Yes = False,
) -> None:
    """Trust a folder: load the skills of projects in it and allow their code to run.

    Skills are instructions to a model, and graph.py runs with all your permissions: review them first.
    Subfolders are trusted too, and the .env of the folder. Trust is for their present content: what is changed or
    added later does not run. Trust the folder again to see what has changed, and to allow it. Prints all trusted
    folders.

    \b
    Examples:
      gems skills trust .
      gems skills trust ~/.agents/skills
      gems skills trust --list
    """
    from gems.files.trust import changes_since, distrust, is_trusted, trust, trusted_folders
    from gems.settings import load_settings
    from gems.skills.reports import TrustedFolders

    home = load_settings().trust_home
    if folder is None and not listing:
        raise OptionError("No folder given.", hint="Run `gems skills trust .` for the current folder.")
    if folder is not None and not listing and remove:
        distrust(home, folder)
    elif folder is not None and not listing:
        changes = changes_since(home, folder)
        _print_changes(changes)
        # The command is the decision; only what has changed since an earlier one is asked about.
        if changes and is_trusted(folder, trusted_folders(home)) and sys.stdin.isatty() and not runner.json:
            runner.confirm("Trust this content?", yes=yes)
        trust(home, folder)
    folders = sorted(map(str, trusted_folders(home)))
    text = "\n".join(folders) or "No folders are trusted."
    runner.show(TrustedFolders(folders=folders), lambda _: typer.echo(text, err=not folders))


def _print_changes(changes: list[Change]) -> None:
    """Print on standard error what is trusted now and was not before."""
    for change in changes:
        typer.echo(clean_text(f"{change.kind}: {change.path}"), err=True)
        for line in change.lines:
            typer.echo(clean_text(f"  {line}"), err=True)


@command({0: "all skills are valid", 1: "a skill is invalid", 2: "bad usage"})
def validate(
    runner: Runner,
    folders: Annotated[list[Path], argument("DIR...", "Skill folders, or names from `gems skills list`.")],
) -> int:
    """Check skills against the Agent Skills standard.

    Reports all problems of a skill at once, and runs none of its code. Advice does not make a skill invalid.

    \b
    Examples:
      gems skills validate my-skill
      gems skills validate .agents/skills/*
    """
    from gems.skills.reports import ValidationList
    from gems.skills.validator import validate as validate_folder

    found = [validate_folder(_skill_folder(folder)) for folder in folders]
    runner.show(ValidationList(skills=found), _print_validations)
    return MET if all(item.valid for item in found) else FAILED


def _print_validations(found: ValidationList) -> None:
    for item in found.skills:
        typer.echo(f"{item.folder}: {'valid' if item.valid else 'invalid'}")
        if item.references:
            typer.echo(clean_text(f"  sent with the guidance: {', '.join(item.references)}"))
        for finding in item.findings:
            typer.echo(clean_text(f"  {finding.level}: {finding}"))


def _skill_folder(named: Path) -> Path:
    """Return the folder, or that of the skill of this name if it does not exist."""
    if named.exists() or len(named.parts) != 1:
        return named

    skill = scan_skills()[0].current.get(named.name)
    return named if skill is None or skill.folder is None else skill.folder


skills = command_group(
    "skills",
    "Skills: folders of instructions that the planner selects for a prompt.",
    {"list": list_, "show": show, "new": new, "validate": validate, "trust": trust, "test": try_out, "learn": learn},
)
