"""FastAPI app, process, signals."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp

from gems.apps.server import body_limit, checks, gate, health, images, langserve, runs
from gems.apps.server.auth import error_details, open_keys
from gems.apps.server.connections import guarded_protocol
from gems.apps.server.dependencies import ANSWERS_S, Service, is_loopback, open_service
from gems.apps.server.documentation import create_documented_app
from gems.apps.server.openai import chat as openai
from gems.apps.server.openai.errors import CLIENT_LEFT, LENGTH_HEADER, PLACE_HEADER, RUN_HEADER, STOP_HEADER
from gems.apps.server.reason_phrases import ErrorHeader
from gems.apps.server.schemas import AsciiJSON
from gems.apps.web import mount
from gems.errors import ConfigurationError, GemsError, RequestError
from gems.service import Gems
from gems.settings import Settings

_BACKLOG = 2048
_KEEP_ALIVE_S = 65
"""Longer than clients keep idle connections (httpx 5 s): one that both ends close and reuse at once fails."""


def create_app(settings: Settings, gems: Gems | None = None) -> FastAPI:
    """Create the app, which opens models and stores on startup; `gems` must not be open."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, gems) as service:
            app.state.service = service
            yield

    app = create_documented_app(lifespan=lifespan)
    # From the inner to the outer one.
    app.add_middleware(body_limit.BodyLimit, most=settings.serve.max_body_mb * 1_000_000)
    app.add_middleware(gate.KeyGate)
    if settings.serve.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.serve.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "api-key", "last-event-id"],
            expose_headers=[RUN_HEADER, STOP_HEADER, PLACE_HEADER, LENGTH_HEADER, "retry-after"],
        )
    app.add_middleware(gate.SecurityHeaders)
    app.add_middleware(ErrorHeader)
    app.add_exception_handler(ClientDisconnect, _client_left_response)
    app.add_exception_handler(GemsError, _gems_error_response)
    app.add_exception_handler(HTTPException, _http_error_response)
    app.add_exception_handler(RequestValidationError, _validation_error_response)
    of_runs = (runs.router, runs.repair_router, runs.events_router)
    for part in (health.router, images.router, *of_runs, checks.router, openai.router):
        app.include_router(part)
    app.include_router(langserve.router())
    if settings.serve.web and mount.is_installed():
        mount.mount(app, settings)
    return app


async def _client_left_response(_request: Request, _error: Any) -> Response:
    """Return a response that nobody reads: a client that leaves during an upload is no fault of the server."""
    return Response(status_code=CLIENT_LEFT)


async def _gems_error_response(_request: Request, error: Any) -> Response:
    """Return an error as JSON, in the format of the CLI."""
    return gate.error_response(error)


async def _http_error_response(_request: Request, error: Any) -> Response:
    """Return an error of FastAPI in the same format; `detail` as others have it."""
    details = error_details(RequestError(str(error.detail), hint="`/docs` lists the routes and what they take."))
    return AsciiJSON({"error": details, "detail": error.detail}, error.status_code, error.headers)


async def _validation_error_response(_request: Request, error: Any) -> Response:
    """Return validation errors without repeating the input."""
    faults = [{"type": fault["type"], "loc": list(fault["loc"]), "msg": fault["msg"]} for fault in error.errors()]
    return AsciiJSON({"detail": faults}, 422)


async def serve(settings: Settings, ready: Callable[[str], None], gems: Gems | None = None) -> None:
    """Serve until the process is stopped; runs stop at their next step, and the next server resumes them.

    `ready` is called with the address; `gems` must not be open.
    """
    check_reach(settings)
    app = create_app(settings, gems)
    with closing(open_socket(settings.serve.host, settings.serve.port)) as listener:
        # Opened here, so that errors are reported like those of other commands.
        async with app.router.lifespan_context(app):
            await serve_app(app, listener, app.state.service, ready)


async def serve_app(app: ASGIApp, listener: socket.socket, service: Service, ready: Callable[[str], None]) -> None:
    """Handle requests until the process is stopped, then drain the runs of the open service."""
    config = uvicorn.Config(
        app,
        http=guarded_protocol(),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=ANSWERS_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
        server_header=False,
    )
    host = service.settings.serve.host.strip("[]")
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    await _Server(config, service, lambda: ready(address)).serve(sockets=[listener])


def check_reach(settings: Settings) -> None:
    """Raise ConfigurationError if other machines could use the server without a key."""
    host = settings.serve.host
    if not is_loopback(host) and not open_keys(settings).all():
        raise ConfigurationError(
            f"Listening on {host} would let other machines use the models, and there are no keys in "
            f"{settings.serve.keys_path(settings)}.",
            hint="Add one with `gems keys add NAME`, or listen on 127.0.0.1.",
        )


class _Server(uvicorn.Server):
    """uvicorn server that drains runs before it waits for open responses."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._on_ready = service, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._service.manager.drain(self._service.settings.serve.drain_s)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        # The signal has been handled; uvicorn must not raise it again after the shutdown.
        self._captured_signals.clear()


def open_socket(host: str, port: int) -> socket.socket:
    """Open a listening socket, or raise ConfigurationError."""
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((bare, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}.",
            hint="Choose another address with --host and --port; port 0 selects a free one.",
        ) from None
    # asyncio sets TCP_NODELAY only if the protocol is set; otherwise small responses wait for 40 ms.
    return socket.socket(fileno=listener.detach(), proto=socket.IPPROTO_TCP)
