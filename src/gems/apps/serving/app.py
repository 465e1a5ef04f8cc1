"""The server's app put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware

from gems._version import __version__
from gems.apps.serving import images, limits
from gems.apps.serving.access import status_of
from gems.apps.serving.service import open_service
from gems.errors import GemsError
from gems.service import Gems
from gems.settings import Settings


def create_app(settings: Settings, gems: Gems | None = None) -> FastAPI:
    """The app; models and stores are opened when it starts.

    Args:
        settings: Of the server.
        gems: Not yet opened, in place of one made from the settings.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, gems) as service:
            app.state.service = service
            yield

    app = FastAPI(title="GEMS", version=__version__, lifespan=lifespan)
    app.add_middleware(limits.BodyLimit, most=settings.serve.max_body_mb * 1_000_000)
    if settings.serve.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.serve.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "api-key"],
        )
    app.add_exception_handler(GemsError, _told)
    app.include_router(images.router)
    return app


async def _told(_request: Request, error: Exception) -> JSONResponse:
    """An error as JSON, the same form as the command line's."""
    if not isinstance(error, GemsError):
        raise error
    details = {
        "type": type(error).__name__,
        "message": error.message,
        "fault": error.fault,
        "hint": error.hint,
        "run_id": error.run_id,
    }
    return JSONResponse({"error": details}, status_of(error))
