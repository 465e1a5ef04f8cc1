"""`gems serve`, `gems web` and `gems mcp`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli.command import command
from gems.apps.cli.options import Address, Models, flag
from gems.errors import MissingExtraError

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner


@command({0: "stopped by Ctrl-C or SIGTERM"}, json="")
def serve(runner: Runner, address: Address, models: Models) -> None:
    """Serve an HTTP API: OpenAI-compatible under /v1, LangServe under /gems, /runs, /metrics and /docs.

    Without API keys the server accepts requests from this machine only. To serve others, create a key for
    each user with `gems keys add` and pass --host. The address is printed to standard output.

    If the extra `web` is installed, the page of `gems web` is served at /web; GEMS_SERVE__WEB=false disables
    it.

    Ctrl-C or SIGTERM stops all runs at their next step. The next `gems serve` resumes them.

    \b
    Examples:
      gems serve
      gems serve --port 0
      gems keys add ann && gems serve --host 0.0.0.0
    """
    _serve(runner, address, models, _print_server_address)


def _serve(
    runner: Runner, address: Address, models: Models, ready: Callable[[str], None], *, page: bool = False
) -> None:
    """Serve until the process is stopped; call `ready` with the address. `page` requires the web page."""
    import asyncio

    from gems.observability.logging import configure_logging

    settings = address.in_settings(models.settings())
    if page:
        settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"web": True})})
    missing = ("The web page", "web") if page else ("gems serve", "serve")
    with _require_extra(*missing):
        from gems.apps.server.app import serve
        from gems.apps.web import mount
    if page and not mount.is_installed():
        raise MissingExtraError(*missing)
    configure_logging(settings, debug=runner.debug)
    asyncio.run(serve(settings, ready))


@contextmanager
def _require_extra(feature: str, extra: str) -> Iterator[None]:
    """Report a missing package as a missing extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gems"):
            raise
        raise MissingExtraError(feature, extra) from error


def _print_server_address(address: str) -> None:
    typer.echo(address)
    typer.echo(f"Serving at {address}; API docs at {address}/docs. Press Ctrl-C to stop.", err=True)


@command({0: "the client disconnected, or the server was stopped", 130: "interrupted"}, json="")
def mcp(
    runner: Runner,
    *,
    http: Annotated[bool, flag("--http", "Serve streamable HTTP at /mcp instead of standard input.")] = False,
    address: Address,
    models: Models,
) -> None:
    """Serve GEMS as tools over the Model Context Protocol (MCP).

    By default on standard input and output, for a client that starts the command. With --http for any number
    of clients, which need an API key if the server has keys.

    \b
    Examples:
      gems mcp
      gems mcp --http --port 8765
    """
    import asyncio

    from gems.observability.logging import configure_logging

    with _require_extra("The MCP server", "mcp"):
        from gems.apps.mcp import server

    settings = models.settings()
    configure_logging(settings, debug=runner.debug)
    if http:
        # The server handles signals itself, since it stops runs gracefully.
        asyncio.run(server.serve_http(address.in_settings(settings), _print_mcp_address))
    else:
        runner.run(server.serve_stdio(settings))


def _print_mcp_address(address: str) -> None:
    # Standard output stays empty in both modes.
    typer.echo(f"Serving MCP at {address}", err=True)


@command({0: "stopped"}, json="")
def web(runner: Runner, address: Address, models: Models) -> None:
    """Serve the web page: watch runs, and continue them with feedback in words.

    This is `gems serve` with the web page, whose address is printed to standard output. Ctrl-C stops the
    server; its next start resumes the runs. Requires the extra `web`: pip install 'gems-agent[web]'.

    \b
    Examples:
      gems web
      gems web --port 9000 --generator diffusers:z-image-turbo
    """
    _serve(runner, address, models, _print_page_address, page=True)


def _print_page_address(address: str) -> None:
    typer.echo(f"{address}/web/")
    typer.echo(f"Web page at {address}/web/. Press Ctrl-C to stop the server.", err=True)
