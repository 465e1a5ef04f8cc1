"""Mount, image and report routes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from starlette.routing import Mount

from gems.apps.server import images
from gems.apps.server.auth import Caller, KeyFile
from gems.apps.web import auth
from gems.apps.web.auth import COOKIE, Kind, Links, Sessions
from gems.apps.web.controller import Controller
from gems.apps.web.proxy_guard import ProxyGuard
from gems.errors import InternalError, RunNotFoundError
from gems.settings import Settings

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M9 5h14l6 8-13 15L3 13z" '
    'fill="#4b4ddb"/><path d="M9 5l-6 8h26l-6-8z" fill="#7d80f5"/><path d="M11 13h10l-5 15z" '
    'fill="#a9abff"/></svg>'
)
_PRIVATE = {"cache-control": "private, max-age=86400", "referrer-policy": "no-referrer"}
PATH = "/web"
_FILES = f"{PATH}/files"
_LEAST = 6
"""Older versions of Gradio have other arguments."""


def files_router(controller: Controller, base: str) -> APIRouter:
    """Create the routes under the path `base`."""
    router = APIRouter(include_in_schema=False)

    def verify_caller(kind: Kind, name: str, sign: str) -> Caller:
        """Return the caller that a URL was signed for; raise UnknownKeyError if their key was revoked."""
        owner = controller.links.owner_of(kind, name, sign)
        if owner is None:
            raise RunNotFoundError("This link is invalid or has expired.", hint="Reload the page that contains it.")
        return controller.caller(owner)

    @router.get(f"{base}/image/{{name}}.png", response_class=FileResponse)
    async def image(name: str, sign: str) -> Response:
        service = controller.service
        found = await images.find_image(service, verify_caller("image", name, sign), name)
        return await images.image_response(service.gems.resources.images, found, headers=_PRIVATE)

    @router.get(f"{base}/report/{{name}}.html")
    async def report(name: str, sign: str) -> HTMLResponse:
        await controller.service.access.row(verify_caller("report", name, sign), name)
        page = await controller.service.gems.report(name)
        return HTMLResponse(page, headers=_PRIVATE | {"cache-control": "no-store"})

    # Browsers request this path by default.
    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})

    return router


def is_installed() -> bool:
    """Return whether a supported version of Gradio is installed, without importing it."""
    try:
        return int(version("gradio").partition(".")[0]) >= _LEAST
    except (PackageNotFoundError, ValueError):
        return False


def mount(app: FastAPI, settings: Settings) -> None:
    """Mount the page at `/web` of the app; imports Gradio, which takes seconds."""
    controller = create_controller(app, settings)
    sessions = Sessions(KeyFile(settings.serve.keys_path(settings)))
    app.include_router(auth.sign_in_router(sessions, PATH))

    def name_of(request: Request) -> str:
        return sessions.name_of(request.cookies.get(COOKIE, "")) or ""

    async def mount_page() -> Mount:
        from gems.apps.web.page import add_page  # noqa: PLC0415 - heavy, and an extra

        return add_page(app, controller, PATH, name_of)

    with _no_analytics():
        mounted = _run_without_await(mount_page())
    mounted.app = ProxyGuard(mounted.app, lambda: controller.service, sessions, f"{PATH}/sign-in")


def create_controller(app: FastAPI, settings: Settings) -> Controller:
    """Create the controller of the page, and add the routes of its images and reports."""
    controller = Controller(lambda: app.state.service, KeyFile(settings.serve.keys_path(settings)), Links(_FILES))
    # Before the page itself, which handles everything under its path.
    app.include_router(files_router(controller, _FILES))
    return controller


def _run_without_await(coroutine: Coroutine[Any, Any, Mount]) -> Mount:
    """Run a coroutine without awaits in an event loop: Gradio would leave one open if there is none."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as done:
        mounted: Mount = done.value
        return mounted
    raise InternalError("The web page awaited something during its set-up.")


@contextmanager
def _no_analytics() -> Iterator[None]:
    """Disable the analytics of Gradio while it is imported and set up."""
    name = "GRADIO_ANALYTICS_ENABLED"
    before = os.environ.get(name)
    os.environ[name] = "False"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
