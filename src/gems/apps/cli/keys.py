"""`gems keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

if TYPE_CHECKING:
    from gems.apps.server.auth import KeyFile

keys = typer.Typer(
    name="keys",
    rich_markup_mode=None,
    invoke_without_command=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="User of the key.")]


@keys.callback()
def _keys(context: typer.Context) -> None:
    """API keys of the server's users. Changes take effect immediately, also in a running server."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@keys.command()
def add(
    name: Name,
    runs_at_a_time: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum number of runs in parallel.")
    ] = 2,
    images_per_day: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Maximum number of images in 24 hours. Default: no limit."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Create an API key for a user of the server.

    The key is printed to standard output once and cannot be shown again. Runs and memory belong to the name
    and are invisible to other keys. As soon as one key exists, the server requires keys.

    \b
    Examples:
      gems keys add ann
      gems keys add bob --runs-at-a-time 4 --images-per-day 100

    \b
    Exit codes:
      0  created
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.schemas import NewKey

        token = _file().add(name, runs_at_a_time=runs_at_a_time, images_per_day=images_per_day)
        if json:
            print_json(NewKey(name=name, key=token))
            return
        typer.echo(token)
        typer.echo(f"Key of {name}. Store it now: it is not shown again.", err=True)


@keys.command("list")
def list_(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the users of the server and their limits, without their keys.

    \b
    Exit codes:
      0  listed, even if there are none
      2  bad usage or configuration
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.schemas import KeyLine, KeyList

        found = _file().all()
        if json:
            print_json(KeyList(keys=[KeyLine(**key.model_dump(exclude={"sha256"})) for key in found]))
            return
        if not found:
            typer.echo("There are no keys; the server accepts requests from this machine only.", err=True)
        for key in found:
            images = "unlimited" if key.images_per_day is None else f"{key.images_per_day:,}"
            runs = f"{key.runs_at_a_time} in parallel"
            typer.echo(f"{key.name:<40}  since {key.created[:10]}  runs: {runs}  images per day: {images}")


@keys.command()
def revoke(name: Name, json: options.Json = False, debug: options.Debug = False) -> None:
    """Revoke a key. Its runs stay and belong to the next key of the same name.

    \b
    Exit codes:
      0  revoked
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json
        from gems.apps.cli.schemas import RevokedKey

        _file().revoke(name)
        if json:
            print_json(RevokedKey(name=name))
        else:
            typer.echo(f"The key of {name} is revoked.")


def _file() -> KeyFile:
    from gems.apps.server.auth import KeyFile
    from gems.settings import load_settings

    settings = load_settings()
    return KeyFile(settings.serve.keys_path(settings))
