"""Serve, web, mcp."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors
from gems.errors import MissingExtraError

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

    \b
    Exit codes:
      0  stopped by Ctrl-C or SIGTERM
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(debug=debug):
        run_server(host, port, options.Models(chat, judge, generator), _print_server_address, debug=debug)


def run_server(
    host: str | None,
    port: int | None,
    models: options.Models,
    ready: Callable[[str], None],
    *,
    debug: bool,
    page: bool = False,
) -> None:
    """Serve until the process is stopped.

    `host` and `port` override the settings; `ready` is called with the address; `page` requires the web page.
    """
    from gems.apps.cli.runner import settings_with, with_address

    settings = with_address(settings_with(models), host, port)
    if page:
        settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"web": True})})
    _serve_http(settings, ready, debug=debug, page=page)


def _serve_http(settings: Settings, ready: Callable[[str], None], *, debug: bool, page: bool) -> None:
    import asyncio

    from gems.errors import MissingExtraError
    from gems.observability.logging import configure_logging

    missing = MissingExtraError("The web page", "web") if page else MissingExtraError("gems serve", "serve")
    try:
        from gems.apps.server.app import serve
        from gems.apps.web import mount
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gems"):
            raise
        raise missing from error
    if page and not mount.is_installed():
        raise missing

    configure_logging(settings, debug=debug)
    asyncio.run(serve(settings, ready))


def _print_server_address(address: str) -> None:
    typer.echo(address)
    typer.echo(f"Serving at {address}; API docs at {address}/docs. Press Ctrl-C to stop.", err=True)


def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP at /mcp instead of standard input.")
    ] = False,
    host: options.Host = None,
    port: options.Port = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    debug: options.Debug = False,
) -> None:
    """Serve GEMS as tools over the Model Context Protocol (MCP).

    By default on standard input and output, for a client that starts the command. With --http for any number
    of clients, which need an API key if the server has keys.

    \b
    Examples:
      gems mcp
      gems mcp --http --port 8765

    \b
    Exit codes:
      0    the client disconnected, or the server was stopped
      2    bad usage or configuration
      1    failure
      130  interrupted
    """
    with handle_errors(debug=debug):
        import asyncio

        from gems.apps.cli.runner import run_async, settings_with, with_address
        from gems.observability.logging import configure_logging

        try:
            from gems.apps.mcp import server
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("gems"):
                raise
            raise MissingExtraError("The MCP server", "mcp") from None

        settings = settings_with(options.Models(chat, judge, generator))
        configure_logging(settings, debug=debug)
        if http:
            # The server handles signals itself, since it stops runs gracefully.
            asyncio.run(server.serve_http(with_address(settings, host, port), _print_mcp_address))
        else:
            run_async(server.serve_stdio(settings))


def _print_mcp_address(address: str) -> None:
    # Standard output stays empty in both modes.
    typer.echo(f"Serving MCP at {address}", err=True)


def web(
    host: options.Host = None,
    port: options.Port = None,
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    debug: options.Debug = False,
) -> None:
    """Serve the web page: watch runs, and continue them with feedback in words.

    This is `gems serve` with the web page, whose address is printed to standard output. Ctrl-C stops the
    server; its next start resumes the runs. Requires the extra `web`: pip install 'gems-agent[web]'.

    \b
    Examples:
      gems web
      gems web --port 9000 --generator diffusers:z-image-turbo

    \b
    Exit codes:
      0  stopped
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(debug=debug):
        run_server(
            host, port, options.Models(chat, judge, generator), _print_page_address, debug=debug, page=True
        )


def _print_page_address(address: str) -> None:
    typer.echo(f"{address}/web/")
    typer.echo(f"Web page at {address}/web/. Press Ctrl-C to stop the server.", err=True)
