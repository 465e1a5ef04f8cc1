"""`gems serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gems.apps.cli import options
from gems.apps.cli.failures import reported

if TYPE_CHECKING:
    from gems.settings import Settings


def serve(
    host: options.Host = None,
    port: options.Port = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    debug: options.Debug = False,
) -> None:
    """Serve runs over HTTP: OpenAI's API below /v1, LangServe below /gems, /runs, /metrics, /docs.

    Without keys it serves this machine alone. To reach it from others, make a key with `gems keys add` for
    everybody who may use it, and name an address with --host. On standard output stands where it listens.

    Ctrl-C or SIGTERM stops all runs at their next step. They go on with the next `gems serve`.

    \b
    Examples:
      gems serve
      gems serve --port 0
      gems keys add ann && gems serve --host 0.0.0.0

    \b
    Exit codes:
      0  stopped by Ctrl-C or SIGTERM
      2  bad usage or configuration
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with reported(debug=debug):
        from gems.apps.cli.working import listening_at, settings_with  # noqa: PLC0415 - heavy

        settings = settings_with(options.Models(chat, judge, generator))
        _serve(listening_at(settings, host, port), debug=debug)


def _serve(settings: Settings, *, debug: bool) -> None:
    import asyncio  # noqa: PLC0415 - not needed for help

    from gems.errors import MissingExtraError  # noqa: PLC0415
    from gems.logs import configure_logging  # noqa: PLC0415

    try:
        from gems.apps.serving.server import serve  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gems"):
            raise
        raise MissingExtraError("gems serve", "serve") from error

    configure_logging(settings, debug=debug)
    asyncio.run(serve(settings, _ready))


def _ready(address: str) -> None:
    typer.echo(address)
    typer.echo(f"GEMS serves {address}, documented at {address}/docs; Ctrl-C stops it.", err=True)
