"""`gems skills learn`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.runs.skill_learning import DraftRequest
    from gems.skills.reports import SkillDraft, SkillDrafts


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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.runs.skill_learning import DraftRequest  # noqa: PLC0415

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
    from gems.apps.cli.output import print_progress  # noqa: PLC0415 - heavy
    from gems.apps.cli.runner import run_query, run_with_chat, settings_with  # noqa: PLC0415

    if not request.use_model:
        return run_query(lambda gems: gems.skills.learn(request, print_progress("draft")))
    return run_with_chat(
        settings_with(models), lambda gems: gems.skills.learn(request, print_progress("draft"))
    )


def _print_drafts(done: SkillDrafts) -> None:
    from gems.apps.cli.errors import clean  # noqa: PLC0415 - heavy
    from gems.apps.cli.text import one_line  # noqa: PLC0415 - heavy

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
            typer.echo(clean("\n".join(_acceptance_steps(draft))), err=True)


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
