"""`gems memory consolidate` and `reindex`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.runs.memory_admin import ConsolidationReport
    from gems.service import Gems


def consolidate(
    chat: options.Chat = None,
    no_model: Annotated[
        bool,
        typer.Option("--no-model", help="Use the most central experience of each cluster as its lesson."),
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Derive a lesson from each group of similar experiences.

    The reflector's chat model writes the lessons. Groups without new experiences are skipped. Runs are shown
    lessons before experiences.

    \b
    Examples:
      gems memory consolidate
      gems memory consolidate --no-model --json

    \b
    Exit codes:
      0    done
      2    bad usage or configuration
      1    failure
      130  interrupted; finished lessons are kept
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.text import one_line, pluralize  # noqa: PLC0415

        done = _consolidate(None if no_model else options.Models(chat=chat))
        for reason in dict.fromkeys(done.unwritten):
            typer.echo(f"warning: used the most central experience as a lesson: {one_line(reason)}", err=True)
        if json:
            print_json(done)
            return
        typer.echo(
            f"{pluralize(done.lessons, 'lesson')} from {pluralize(done.experiences, 'experience')}: "
            f"{done.added} added, {done.removed} removed"
        )


def _consolidate(models: options.Models | None) -> ConsolidationReport:
    """Consolidate without a generator, and without a chat model if `models` is None."""
    from gems.apps.cli.output import print_progress  # noqa: PLC0415 - heavy
    from gems.apps.cli.runner import run_query, run_with_chat, settings_with  # noqa: PLC0415

    if models is None:
        return run_query(lambda gems: gems.memory.consolidate(print_progress("cluster"), use_model=False))
    return run_with_chat(
        settings_with(models), lambda gems: gems.memory.consolidate(print_progress("cluster"))
    )


def reindex(json: options.Json = False, debug: options.Debug = False) -> None:
    """Re-embed items of another embedder after GEMS_EMBEDDER was changed.

    \b
    Exit codes:
      0    done, even if nothing had to be re-embedded
      2    bad usage or configuration
      1    failure
      130  interrupted; run the command again to start over
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import run_query  # noqa: PLC0415
        from gems.apps.cli.text import pluralize  # noqa: PLC0415

        async def reindex_memory(gems: Gems) -> dict[str, Any]:
            count = await gems.memory.reindex(lambda done: typer.echo(f"{done} done", err=True))
            return {"items": count, "embedder": (await gems.memory.stats()).embedder}

        found = run_query(reindex_memory)
        if json:
            print_json(found)
        else:
            typer.echo(f"{pluralize(found['items'], 'item')} re-embedded with {found['embedder']}")
