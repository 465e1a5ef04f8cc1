"""`gems skills list` and `show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.skills.discovery import SkillCatalogue, SkillSearchPath
    from gems.skills.reports import SkillFinding


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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.text import one_line  # noqa: PLC0415
        from gems.skills.reports import list_skills  # noqa: PLC0415

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        import asyncio  # noqa: PLC0415 - heavy

        from gems.apps.cli.output import print_json  # noqa: PLC0415
        from gems.skills.files import read_body  # noqa: PLC0415
        from gems.skills.reports import SkillPage, skill_entry  # noqa: PLC0415

        registry = scan_skills()[0].current
        skill = registry.named(name)
        # All scanned skills have one.
        folder = skill.folder or Path()
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        files = [file for file in files if "__pycache__" not in file]
        page = SkillPage(skill=skill_entry(skill), body=asyncio.run(read_body(skill)), files=files)
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
    import logging  # noqa: PLC0415 - heavy

    from gems.resources import skill_places  # noqa: PLC0415
    from gems.settings import load_settings  # noqa: PLC0415
    from gems.skills.discovery import SkillCatalogue  # noqa: PLC0415

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
    from gems.apps.cli.text import one_line  # noqa: PLC0415 - heavy

    for finding in findings:
        typer.echo(one_line(f"  {finding}"))
