"""`gems skills list` and `show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import reported

if TYPE_CHECKING:
    from gems.skills.catalogue import SkillCatalogue
    from gems.skills.places import SkillSearchPath
    from gems.skills.reports import SkillFinding


def list_(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the skills that can be chosen, and the folders that give none.

    Of two skills of one name that of the later place counts: built-in, ~/.agents/skills, ~/.claude/skills,
    skills in GEMS_HOME, .agents/skills and .claude/skills of the current folder once it is trusted, and
    GEMS_SKILLS_PATH.

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
    with reported(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.text import one_line  # noqa: PLC0415
        from gems.skills.reports import list_skills  # noqa: PLC0415

        catalogue, where = scanned()
        found = list_skills(catalogue.current, where)
        if json:
            print_json(found)
            return
        for skill in found.skills:
            code = {(True, True): ", graph.py", (True, False): ", graph.py does not run"}
            notes = f"{skill.place}{code.get((skill.code, skill.runs_code), '')}"
            typer.echo(f"{skill.name}  ({notes})\n  {one_line(skill.description, 200)}")
            _tell(skill.findings)
        for folder in found.left_out:
            typer.echo(f"left out: {folder.folder} ({folder.place})")
            _tell(folder.findings)
        for path in found.untrusted:
            typer.echo(f"not read: {path}; `gems skills trust .` reads the skills of this folder", err=True)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A skill of `gems skills list`.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show everything about one skill, its guidance included.

    \b
    Example:
      gems skills show text-rendering

    \b
    Exit codes:
      0  shown
      2  bad usage or configuration, or there is no such skill
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with reported(as_json=json, debug=debug):
        import asyncio  # noqa: PLC0415 - heavy

        from gems.apps.cli.output import print_json  # noqa: PLC0415
        from gems.skills.reading import read_body  # noqa: PLC0415
        from gems.skills.reports import SkillPage, skill_entry  # noqa: PLC0415

        registry = scanned()[0].current
        skill = registry.named(name)
        # Those that were scanned all have one.
        folder = skill.folder or Path()
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        files = [file for file in files if "__pycache__" not in file]
        page = SkillPage(skill=skill_entry(skill), body=asyncio.run(read_body(skill)), files=files)
        if json:
            print_json(page)
            return
        told = page.skill
        typer.echo(f"{told.name}  ({told.place})\n{told.description}\n\nfolder: {told.folder}")
        typer.echo(f"files: {', '.join(files)}")
        if told.conflicts:
            typer.echo(f"not together with: {', '.join(told.conflicts)}")
        if told.code and not told.runs_code:
            typer.echo("graph.py does not run: the place is not trusted")
        _tell(told.findings)
        typer.echo(f"\n{page.body}")


def scanned() -> tuple[SkillCatalogue, SkillSearchPath]:
    """The skills of the settings' places. What is wrong with them is listed, so it is not logged too."""
    import logging  # noqa: PLC0415 - heavy

    from gems.resources import skill_places  # noqa: PLC0415
    from gems.settings import load_settings  # noqa: PLC0415
    from gems.skills.catalogue import SkillCatalogue  # noqa: PLC0415

    where = skill_places(load_settings())
    catalogue = SkillCatalogue(where.places)
    told = logging.getLogger("gems.skills")
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        catalogue.scan()
    finally:
        told.setLevel(level)
    return catalogue, where


def _tell(findings: list[SkillFinding]) -> None:
    from gems.apps.cli.text import one_line  # noqa: PLC0415 - heavy

    for finding in findings:
        typer.echo(one_line(f"  {finding}"))
