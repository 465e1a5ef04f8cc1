"""Mount the web page on the server if Gradio is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI, Request
from starlette.routing import Mount

from gems.apps.server.auth import KeyFile
from gems.apps.server.dependencies import Service
from gems.apps.web import auth, routes
from gems.apps.web.auth import COOKIE, Links, Sessions
from gems.apps.web.controller import Controller
from gems.apps.web.proxy_guard import ProxyGuard
from gems.errors import InternalError
from gems.settings import Settings

PATH = "/web"
_FILES = f"{PATH}/files"
_LEAST = 6
"""Older versions of Gradio have other arguments."""


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

    def service() -> Service:
        opened: Service = app.state.service
        return opened

    controller = Controller(service, KeyFile(settings.serve.keys_path(settings)), Links(_FILES))
    # Before the page itself, which handles everything under its path.
    app.include_router(routes.files_router(controller, _FILES))
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
