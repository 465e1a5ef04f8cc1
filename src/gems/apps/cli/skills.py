"""Gems skills."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import BEST_EFFORT, FAILED, handle_errors
from gems.apps.text import clean_text, one_line, pluralize

if TYPE_CHECKING:
    from gems.runs.skill_learning import DraftRequest
    from gems.settings import Settings
    from gems.skills.discovery import SkillCatalogue, SkillSearchPath
    from gems.skills.models import SkillFinding
    from gems.skills.reports import SkillDraft, SkillDrafts, SkillTrial, TriedExample


def list_(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the available skills, and folders without a valid skill.

    Later locations override earlier ones: built-in, ~/.agents/skills, ~/.claude/skills, GEMS_HOME/skills,
    .agents/skills and .claude/skills of the current folder if it is trusted, and GEMS_SKILLS_PATH.

    \b
    Examples:
      gems skills list
      gems skills list --json

    \b
    Exit codes:
      0  listed, even if there are none
      2  bad configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.skills.reports import list_skills

        catalogue, where = scan_skills()
        found = list_skills(catalogue.current, where)
        if json:
            print_json(found)
            return
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


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Skill name from `gems skills list`.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show a skill with its instructions.

    \b
    Example:
      gems skills show text-rendering

    \b
    Exit codes:
      0  shown
      2  bad usage or configuration, or no such skill
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        import asyncio

        from gems.apps.cli.output import print_json
        from gems.skills.files import read_body
        from gems.skills.reports import SkillEntry, SkillPage

        registry = scan_skills()[0].current
        skill = registry.named(name)
        # All scanned skills have one.
        folder = skill.folder or Path()
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        files = [file for file in files if "__pycache__" not in file]
        entry = SkillEntry.model_validate(skill)
        page = SkillPage(skill=entry, body=asyncio.run(read_body(skill)), files=files)
        if json:
            print_json(page)
            return
        shown = page.skill
        typer.echo(f"{shown.name}  ({shown.place})\n{shown.description}\n\nfolder: {shown.folder}")
        typer.echo(f"files: {', '.join(files)}")
        if shown.conflicts:
            typer.echo(f"conflicts with: {', '.join(shown.conflicts)}")
        if shown.code and not shown.runs_code:
            typer.echo("graph.py does not run: its folder is not trusted")
        _print_findings(shown.findings)
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


def learn(
    least: Annotated[
        int, typer.Option(min=1, metavar="N", help="Minimum number of lessons of one kind for a draft.")
    ] = 5,
    generator: Annotated[
        str | None, typer.Option(metavar="NAME", help="Use only lessons about this generator.")
    ] = None,
    chat: options.Chat = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Write a plain list of the best lessons without a chat model.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing drafts.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what would be drafted.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Draft skills from lessons where many are of one kind.

    Uses lessons, and experiences without a lesson. Lessons from runs with a skill become an amendment of it;
    all others a new skill per kind of requirement. The reflector's chat model writes the drafts to
    GEMS_HOME/drafts/skills. Runs do not use a draft until you move it.

    \b
    Examples:
      gems skills learn --dry-run
      gems skills learn --least 10 --chat openai:MODEL@BASE_URL

    \b
    Exit codes:
      0    done, even if nothing was drafted
      2    bad usage or configuration
      1    failure
      130  interrupted; finished drafts are kept
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.runs.skill_learning import DraftRequest

        use_model = not no_model and not dry_run
        request = DraftRequest(
            least=least, generator=generator, use_model=use_model, force=force, dry_run=dry_run
        )
        done = _draft_skills(request, options.Models(chat=chat))
        if json:
            print_json(done)
            return
        _print_drafts(done)


def _draft_skills(request: DraftRequest, models: options.Models) -> SkillDrafts:
    """Draft skills without a generator, and with a chat model only if it writes."""
    from gems.apps.cli.output import print_progress
    from gems.apps.cli.runner import run_query, run_with_chat, settings_with

    if not request.use_model:
        return run_query(lambda gems: gems.skills.learn(request, print_progress("draft")))
    return run_with_chat(
        settings_with(models), lambda gems: gems.skills.learn(request, print_progress("draft"))
    )


def _print_drafts(done: SkillDrafts) -> None:

    for draft in done.drafts:
        typer.echo(one_line(_format_draft(draft)))
        for warning in draft.warnings:
            typer.echo(f"warning: {draft.name}: {one_line(warning)}", err=True)
    for reason in done.left_out:
        typer.echo(f"skipped: {one_line(reason)}", err=True)
    if not done.drafts:
        typer.echo(_format_no_drafts(done), err=True)
    for draft in done.drafts:
        if draft.state == "written":
            typer.echo(clean_text("\n".join(_acceptance_steps(draft))), err=True)


def _format_no_drafts(done: SkillDrafts) -> str:
    held = f" {done.refuted:,} of them did not help and were ignored." if done.refuted else ""
    looked = f"Checked {done.lessons:,} lessons and experiences."
    return f"Nothing to draft: too few lessons of one kind. {looked}{held}"


def _format_draft(draft: SkillDraft) -> str:
    what = f"amendment of {draft.name}" if draft.amends else f"new skill {draft.name}"
    about = f"{draft.lessons} lessons of {draft.generator} about {', '.join(draft.kinds)}"
    place = {
        "written": f"drafted in {draft.folder}",
        "planned": f"would be drafted in {draft.folder}",
        "exists": f"a draft exists already in {draft.folder}; use --force to replace it",
    }
    return f"{what} from {about}: {place[draft.state]}"


def _acceptance_steps(draft: SkillDraft) -> list[str]:
    """List the steps to accept a draft."""
    folder = shlex.quote(draft.folder)
    return [
        f"to accept {draft.name}, review it, then run",
        f"  gems skills validate {folder}",
        f"  gems skills test {folder}",
        "  and move the folder to GEMS_HOME/skills",
    ]


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and single hyphens.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Parent folder. Default: GEMS_HOME/skills."),
    ] = None,
    with_graph: Annotated[
        bool, typer.Option("--with-graph", help="Add a graph.py with a subgraph and a verifier.")
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Create a working skeleton of a skill, and print its folder.

    \b
    Examples:
      gems skills new night-scenes
      gems skills new product-shots --with-graph --dir .agents/skills

    \b
    Exit codes:
      0  created
      2  bad usage or configuration, or the folder exists already
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.settings import load_settings
        from gems.skills.reports import NewSkill
        from gems.skills.scaffold import create_skill

        parent = folder if folder is not None else load_settings().home / "skills"
        made = create_skill(name, parent, with_graph=with_graph)
        files = sorted(path.name for path in made.iterdir())
        if json:
            print_json(NewSkill(folder=str(made), files=files))
            return
        typer.echo(
            f"Wrote {', '.join(files)}. Edit SKILL.md, then run: gems skills validate {made}",
            err=True,
        )
        typer.echo(made)


_WIDEST = 60


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
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.runner import mute_node_warnings

        with mute_node_warnings(debug=debug):
            trial = _test_skill(name, options.Models(chat=chat), limit)
        if json:
            print_json(trial)
        else:
            _print_trial(trial)
        if not trial.passed:
            raise typer.Exit(BEST_EFFORT)


def _test_skill(name: str, models: options.Models, limit: int | None) -> SkillTrial:
    from gems.apps.cli.output import print_progress
    from gems.apps.cli.runner import run_with_chat, settings_with

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


def trust(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Project folder, or folder of skills.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Revoke trust in the folder.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Only list trusted folders.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Trust a folder: load the skills of projects in it and allow their code to run.

    Skills are instructions to a model, and graph.py runs with all your permissions: review them first.
    Subfolders are trusted too. Prints all trusted folders.

    \b
    Examples:
      gems skills trust .
      gems skills trust ~/.agents/skills
      gems skills trust --list

    \b
    Exit codes:
      0  done
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.errors import OptionError
        from gems.settings import load_settings
        from gems.skills.reports import TrustedFolders
        from gems.skills.trust import distrust, trust, trusted_folders

        home = load_settings().trust_home
        if folder is None and not listing:
            raise OptionError("No folder given.", hint="Run `gems skills trust .` for the current folder.")
        if folder is not None and not listing:
            (distrust if remove else trust)(home, folder)
        folders = sorted(map(str, trusted_folders(home)))
        if json:
            print_json(TrustedFolders(folders=folders))
        else:
            typer.echo("\n".join(folders) or "No folders are trusted.", err=not folders)


def validate(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Skill folders, or names from `gems skills list`."),
    ],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check skills against the Agent Skills standard.

    Reports all problems of a skill at once, and runs none of its code. Advice does not make a skill invalid.

    \b
    Examples:
      gems skills validate my-skill
      gems skills validate .agents/skills/*

    \b
    Exit codes:
      0  all skills are valid
      1  a skill is invalid
      2  bad usage
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.skills.reports import ValidationList
        from gems.skills.validator import validate as checked

        found = [checked(_skill_folder(folder)) for folder in folders]
        if json:
            print_json(ValidationList(skills=found))
        else:
            for item in found:
                typer.echo(f"{item.folder}: {'valid' if item.valid else 'invalid'}")
                for finding in item.findings:
                    typer.echo(clean_text(f"  {finding.level}: {finding}"))
        raise typer.Exit(0 if all(item.valid for item in found) else FAILED)


def _skill_folder(named: Path) -> Path:
    """Return the folder, or that of the skill of this name if it does not exist."""
    if named.exists() or len(named.parts) != 1:
        return named

    skill = scan_skills()[0].current.get(named.name)
    return named if skill is None or skill.folder is None else skill.folder


skills = typer.Typer(
    name="skills",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@skills.callback()
def _skills(context: typer.Context) -> None:
    """Skills: folders of instructions that the planner selects for a prompt."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


skills.command("list")(list_)
skills.command()(show)
skills.command()(new)
skills.command()(validate)
skills.command()(trust)
skills.command("test")(try_out)
skills.command()(learn)
