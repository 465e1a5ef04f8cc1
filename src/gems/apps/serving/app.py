"""The ASGI app of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from gems._version import __version__
from gems.apps.server import body_limit, images, runs
from gems.apps.server.auth import error_details, status_of
from gems.apps.server.dependencies import open_service
from gems.apps.server.openai.errors import RUN_HEADER
from gems.apps.server.schemas import AsciiJSON
from gems.apps.serving import chain_routes, health, run_events
from gems.apps.serving.openai import routes as openai
from gems.apps.web import mount
from gems.errors import GemsError
from gems.service import Gems
from gems.settings import Settings


def create_app(settings: Settings, gems: Gems | None = None) -> FastAPI:
    """Create the app, which opens models and stores on startup.

    `gems` replaces the service made from the settings; it must not be open.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, gems) as service:
            app.state.service = service
            yield

    app = FastAPI(title="GEMS", version=__version__, lifespan=lifespan)
    app.add_middleware(body_limit.BodyLimit, most=settings.serve.max_body_mb * 1_000_000)
    if settings.serve.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.serve.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "api-key", "last-event-id"],
            expose_headers=[RUN_HEADER],
        )
    app.add_exception_handler(GemsError, _gems_error_response)
    app.add_exception_handler(RequestValidationError, _validation_error_response)
    for part in (health.router, images.router, runs.router, run_events.events_router, openai.router):
        app.include_router(part)
    app.include_router(chain_routes.router())
    if settings.serve.web and mount.is_installed():
        mount.mount(app, settings)
    return app


async def _gems_error_response(_request: Request, error: Exception) -> Response:
    """Return an error as JSON, in the format of the CLI."""
    if not isinstance(error, GemsError):
        raise error
    return AsciiJSON({"error": error_details(error)}, status_of(error))


async def _validation_error_response(_request: Request, error: Exception) -> Response:
    """Return validation errors without repeating the input."""
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [
        {"type": fault["type"], "loc": list(fault["loc"]), "msg": fault["msg"]} for fault in error.errors()
    ]
    return AsciiJSON({"detail": faults}, 422)
