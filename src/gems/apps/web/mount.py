"""The page as a part of the server, where Gradio is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI, Request
from starlette.routing import Mount

from gems.apps.server.dependencies import Service
from gems.apps.serving.keys import KeyFile
from gems.apps.web import auth, routes
from gems.apps.web.controller import Desk
from gems.apps.web.links import Links
from gems.apps.web.proxy_guard import Guard
from gems.apps.web.visitors import COOKIE, Visitors
from gems.errors import InternalError
from gems.settings import Settings

PATH = "/web"
_FILES = f"{PATH}/files"
_LEAST = 6
"""Older versions of Gradio take other arguments."""


def is_installed() -> bool:
    """Whether a Gradio is there that the page can be made with; it is not loaded."""
    try:
        return int(version("gradio").partition(".")[0]) >= _LEAST
    except (PackageNotFoundError, ValueError):
        return False


def mount(app: FastAPI, settings: Settings) -> None:
    """Put the page at `/web` of the server's app; loads Gradio, which takes seconds.

    Args:
        app: Its state holds the service once it has started.
        settings: Of the server.
    """
    desk = make_desk(app, settings)
    visitors = Visitors(KeyFile(settings.serve.keys_path(settings)))
    app.include_router(auth.router_of(visitors, PATH))

    def name_of(request: Request) -> str:
        return visitors.name_of(request.cookies.get(COOKIE, "")) or ""

    async def adding() -> Mount:
        from gems.apps.web.page import add_page  # noqa: PLC0415 - heavy, and an extra

        return add_page(app, desk, PATH, name_of)

    with _nothing_sent():
        mounted = _carried_out(adding())
    mounted.app = Guard(mounted.app, lambda: desk.service, visitors, f"{PATH}/sign-in")


def make_desk(app: FastAPI, settings: Settings) -> Desk:
    """What the page acts through, with the routes of its images and reports."""

    def service() -> Service:
        opened: Service = app.state.service
        return opened

    desk = Desk(service, KeyFile(settings.serve.keys_path(settings)), Links(_FILES))
    # Before the page itself, which answers everything below its path.
    app.include_router(routes.router_of(desk, _FILES))
    return desk


def _carried_out(adding: Coroutine[Any, Any, Mount]) -> Mount:
    """Carry out what awaits nothing, within an event loop: Gradio leaves one open where it finds none."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(adding)
    try:
        adding.send(None)
    except StopIteration as done:
        mounted: Mount = done.value
        return mounted
    raise InternalError("Something was awaited while the page was made.")


@contextmanager
def _nothing_sent() -> Iterator[None]:
    """Gradio is loaded and set up without telling its makers; the environment is as it was afterwards."""
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
