"""`gems serve`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import reported

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

    With the extra `web` installed, the page of `gems web` is there too, at /web; GEMS_SERVE__WEB=false leaves
    it out.

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
        served(host, port, options.Models(chat, judge, generator), _ready, debug=debug)


def served(
    host: str | None,
    port: int | None,
    models: options.Models,
    ready: Callable[[str], None],
    *,
    debug: bool,
    page: bool = False,
) -> None:
    """Serve until the process is told to stop.

    Args:
        host: Where to listen; the settings' where it is None.
        port: The same.
        models: What was named on the command line.
        ready: Told the address.
        debug: Whether to log everything.
        page: Whether the web page has to be there.

    Raises:
        MissingExtraError: something that this needs is not installed.
        GemsError: see `gems.apps.server.app.serve`.
    """
    from gems.apps.cli.runner import listening_at, settings_with  # noqa: PLC0415 - heavy

    settings = listening_at(settings_with(models), host, port)
    if page:
        settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"web": True})})
    _serve(settings, ready, debug=debug, page=page)


def _serve(settings: Settings, ready: Callable[[str], None], *, debug: bool, page: bool) -> None:
    import asyncio  # noqa: PLC0415 - not needed for help

    from gems.errors import MissingExtraError  # noqa: PLC0415
    from gems.observability.logging import configure_logging  # noqa: PLC0415

    missing = MissingExtraError("The web page", "web") if page else MissingExtraError("gems serve", "serve")
    try:
        from gems.apps.server.app import serve  # noqa: PLC0415
        from gems.apps.web import mount  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gems"):
            raise
        raise missing from error
    if page and not mount.is_installed():
        raise missing

    configure_logging(settings, debug=debug)
    asyncio.run(serve(settings, ready))


def _ready(address: str) -> None:
    typer.echo(address)
    typer.echo(f"GEMS serves {address}, documented at {address}/docs; Ctrl-C stops it.", err=True)
