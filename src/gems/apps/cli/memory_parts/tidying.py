"""`gems memory consolidate` and `reindex`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import reported

if TYPE_CHECKING:
    from gems.memory_reports import ConsolidationReport
    from gems.service import Gems


def consolidate(
    chat: options.Chat = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Let the middle experience of each cluster speak for it.")
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Draw a lesson from each group of similar experiences; lessons are shown before experiences.

    The reflector's chat model writes them. Nothing changes, and nothing is asked, where nothing is new.

    \b
    Examples:
      gems memory consolidate
      gems memory consolidate --no-model --json

    \b
    Exit codes:
      0    done
      2    bad usage or configuration
      1    failure
      130  interrupted; what is done is kept
    """  # noqa: D301 - \b keeps the lines apart
    with reported(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.text import counted, one_line  # noqa: PLC0415

        done = _drawn(None if no_model else options.Models(chat=chat))
        for reason in dict.fromkeys(done.unwritten):
            typer.echo(f"warning: the middle experience stands for a lesson: {one_line(reason)}", err=True)
        if json:
            print_json(done)
            return
        typer.echo(
            f"{counted(done.lessons, 'lesson')} from {counted(done.experiences, 'experience')}: "
            f"{done.added} new, {done.removed} gone"
        )


def _drawn(models: options.Models | None) -> ConsolidationReport:
    """Carry it out, without a chat model where `models` is None. No generator is needed either way."""
    from gems.apps.cli.progress import told  # noqa: PLC0415 - heavy
    from gems.apps.cli.runner import asked, looked_up, settings_with  # noqa: PLC0415

    if models is None:
        return looked_up(lambda gems: gems.memory.consolidate(told("cluster"), use_model=False))
    return asked(settings_with(models), lambda gems: gems.memory.consolidate(told("cluster")))


def reindex(json: options.Json = False, debug: options.Debug = False) -> None:
    """Embed everything anew that another embedder embedded, after GEMS_EMBEDDER was changed.

    \b
    Exit codes:
      0    done, even if there was nothing to do
      2    bad usage or configuration
      1    failure
      130  interrupted; begun again it does everything
    """  # noqa: D301 - \b keeps the lines apart
    with reported(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy
        from gems.apps.cli.runner import looked_up  # noqa: PLC0415
        from gems.apps.cli.text import counted  # noqa: PLC0415

        async def doing(gems: Gems) -> dict[str, Any]:
            count = await gems.memory.reindex(lambda done: typer.echo(f"{done} done", err=True))
            return {"items": count, "embedder": (await gems.memory.stats()).embedder}

        found = looked_up(doing)
        if json:
            print_json(found)
        else:
            typer.echo(f"{counted(found['items'], 'item')} embedded anew by {found['embedder']}")
