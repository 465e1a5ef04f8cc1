"""A real server on loopback with what the page shows, and a browser that notes everything it fetches."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, Page

from gems.apps.server.app import create_app
from gems.apps.web import mount
from gems.apps.web.controller import Controller
from gems.apps.web.rendering import problem_html, script, status_text, style
from gems.errors import GemsError
from gems.service import Gems
from gems.settings import Settings
from tests.support.scripted_service import PATIENCE_S

# The contrast of every text to what is behind it, where it is less than WCAG's level AA asks for.
FAINT: Any = """(within) => {
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
  return [...document.querySelectorAll(within)].filter(e => [...e.childNodes].some(
    n => n.nodeType === 3 && n.textContent.trim()) && e.getClientRects().length).map(e => {
    const a = light(getComputedStyle(e).color), b = light(ground(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className || e.tagName, e.textContent];
  }).filter(x => x[0] < 4.5);
}"""
# Gradio says this of its own stream when a page is left while a run is watched.
_LEAVING = ("AbortError: signal is aborted without reason", "Unexpected error Connection errored out.")
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
_FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>GEMS</title><style>
body {{ margin: 0; background: light-dark(#f6f6f8, #101116); }} html {{ color-scheme: light dark; }}
main {{ width: min(1120px, 100% - 1.5rem); margin: 1rem auto; }}
{style}</style><script>{script}</script></head>
<body><main><p class="gems" role="status">{status}</p>{body}</main></body></html>"""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that goes on in a thread of its own."""

    url: str
    desk: Controller
    loop: asyncio.AbstractEventLoop

    def __call__(self, doing: Any) -> Any:
        """Carry out a coroutine beside the server."""
        told: Future[Any] = asyncio.run_coroutine_threadsafe(doing, self.loop)
        return told.result(PATIENCE_S)

    def finished(self, run_id: str) -> str:
        self(self.desk.service.manager.result(run_id))
        return run_id


@contextmanager
def served(settings: Settings, gems: Gems | None = None) -> Iterator[Served]:
    """The server with frames around what the page shows: runs at `/frame?run=`, all at `/frame`."""
    app = create_app(settings, gems)
    desk = mount.create_controller(app, settings)
    _add_frames(app, desk)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as taken:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve([taken])))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                threading.Event().wait(0.02)
            yield Served(f"http://127.0.0.1:{taken.getsockname()[1]}", desk, loop)
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            loop.close()


def _add_frames(app: FastAPI, desk: Controller) -> None:
    @app.get("/frame", response_class=HTMLResponse)
    async def frame(run: str = "", chosen: int | None = None, text: str = "") -> str:
        status = ""
        try:
            caller = desk.caller(None)
            if run:
                story = await desk.view(caller, run)
                status, body = status_text(story), desk.html(caller, story, chosen)
            else:
                body = await desk.gallery(caller, text)
        except GemsError as error:
            body = problem_html(error)
        return _FRAME.format(style=style(), script=script(), status=status, body=body)


def photograph(page: Page, name: str) -> None:
    """Write a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    # At each look, since the page may still put in images, which would not load before they are scrolled to.
    page.wait_for_function("""[...document.images].map(i => { i.loading = "eager"; return i; })
        .every(i => i.complete && i.naturalWidth > 0)""")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


class Watched:
    """A browser's window of its own with a page of a server, and everything that went on behind it."""

    def __init__(self, browser: Browser, url: str, path: str, width: int, scheme: Any = "light") -> None:
        self.expected = _LEAVING
        self.context = browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme)
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.said: list[str] = []
        self.fetched: list[str] = []
        self.context.on("console", lambda message: self.said.append(message.text))
        self.context.on("weberror", lambda error: self.said.append(str(error.error)))
        self.context.on("request", lambda request: self.fetched.append(request.url))
        self.page: Page = self.context.new_page()
        self._own = url
        self.page.goto(f"{url}{path}")

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, kind: Any, *_: object) -> None:
        remote = [url for url in self.fetched if not url.startswith((f"{self._own}/", "data:"))]
        self.context.close()
        if kind is None:
            said = [text for text in self.said if not text.startswith(self.expected)]
            assert said == [], said
            assert remote == [], remote
