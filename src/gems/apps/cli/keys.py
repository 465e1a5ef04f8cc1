"""`gems keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli.command import command, command_group
from gems.apps.cli.options import argument, option

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner
    from gems.apps.cli.schemas import KeyList
    from gems.apps.server.auth import KeyFile

Name = Annotated[str, argument("NAME", "User of the key.")]


@command({0: "created"})
def add(
    runner: Runner,
    name: Name,
    runs_at_a_time: Annotated[int, option("N", "Maximum number of runs in parallel.", min=1)] = 2,
    images_per_day: Annotated[
        int | None, option("N", "Maximum number of images in 24 hours. Default: no limit.", min=1)
    ] = None,
    tokens_per_day: Annotated[
        int | None, option("N", "Maximum number of tokens of chat models in 24 hours. Default: no limit.", min=1)
    ] = None,
    usd_per_day: Annotated[
        float | None, option("USD", "Maximum US dollars in 24 hours; all prices must be set. Default: no limit.")
    ] = None,
) -> None:
    """Create an API key for a user of the server.

    The key is printed to standard output once and cannot be shown again. Runs and memory belong to the name
    and are invisible to other keys. As soon as one key exists, the server requires keys.

    \b
    Examples:
      gems keys add ann
      gems keys add bob --runs-at-a-time 4 --images-per-day 100
    """
    from gems.apps.cli.schemas import NewKey

    per_day = {"images_per_day": images_per_day, "tokens_per_day": tokens_per_day, "usd_per_day": usd_per_day}
    key = _file().add(name, runs_at_a_time=runs_at_a_time, **per_day)
    runner.show(NewKey(name=name, key=key), lambda made: typer.echo(made.key))
    if not runner.json:
        typer.echo(f"Key of {name}. Store it now: it is not shown again.", err=True)


@command({0: "listed, even if there are none"})
def list_(runner: Runner) -> None:
    """List the users of the server and their limits, without their keys."""
    from gems.apps.cli.schemas import KeyLine, KeyList

    runner.show(KeyList(keys=[KeyLine.model_validate(key) for key in _file().all()]), _print_keys)


def _print_keys(found: KeyList) -> None:
    if not found.keys:
        text = "There are no keys; the server accepts requests from this machine only."
        if (file := _file()).exists():
            text = f"All keys are revoked, so the server accepts nobody. Delete {file.path} to use it without keys."
        typer.echo(text, err=True)
    for key in found.keys:
        images = "unlimited" if key.images_per_day is None else f"{key.images_per_day:,}"
        runs = f"{key.runs_at_a_time} in parallel"
        more = "" if key.tokens_per_day is None else f"  tokens per day: {key.tokens_per_day:,}"
        more += "" if key.usd_per_day is None else f"  US dollars per day: {key.usd_per_day:,g}"
        typer.echo(f"{key.name:<40}  since {key.created[:10]}  runs: {runs}  images per day: {images}{more}")


@command({0: "revoked"})
def revoke(runner: Runner, name: Name) -> None:
    """Revoke a key. Its runs stay and belong to the next key of the same name."""
    from gems.apps.cli.schemas import RevokedKey

    _file().revoke(name)
    runner.show(RevokedKey(name=name), lambda _: typer.echo(f"The key of {name} is revoked."))


def _file() -> KeyFile:
    from gems.apps.server.auth import KeyFile
    from gems.settings import load_settings

    settings = load_settings()
    return KeyFile(settings.serve.keys_path(settings))


keys = command_group(
    "keys",
    "API keys of the server's users. Changes take effect immediately, also in a running server.",
    {"add": add, "list": list_, "revoke": revoke},
)
