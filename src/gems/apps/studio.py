"""What langgraph.json names, for LangGraph Studio and the LangGraph server: graph, stores and images.

Checkpoints, experiences and images are where `gems` keeps them too. Models come from the settings. All of it
is opened once and stays open as long as the server lives. Which threads there are, the server remembers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gems.apps.server.images import image_id, missing, picture
from gems.graphs.loop import build_graph
from gems.resources import Resources, open_resources
from gems.settings import load_settings


class _Shared:
    """Resources that are opened once."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._opened: Resources | None = None

    async def get(self) -> Resources:
        """The resources, opened with the first call."""
        async with self._lock:
            if self._opened is None:
                settings = await asyncio.to_thread(load_settings)
                self._opened = await self._stack.enter_async_context(open_resources(settings))
            return self._opened

    async def aclose(self) -> None:
        """Close them; the next call opens them anew."""
        async with self._lock:
            self._opened = None
            await self._stack.aclose()


shared = _Shared()


async def graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    """The loop, with a context of its own for this run; called by the server for every run."""
    resources = await shared.get()
    skills = await resources.skills.refreshed()
    # Code of skills is imported there, once for each state of its file.
    context = replace(resources.context(), links=_links())
    built = await asyncio.to_thread(build_graph, skills.all(), context=context)
    return built.compile(name="gems")


def _links() -> str:
    """What links to images begin with: the server's address, since front ends are pages of other servers."""
    return f"{os.environ.get('LANGGRAPH_API_URL', '').rstrip('/')}/images/"


@asynccontextmanager
async def checkpointer() -> AsyncIterator[BaseCheckpointSaver[str]]:
    """The checkpointer; the server lets go of it last, and of everything else with it."""
    try:
        yield (await shared.get()).checkpointer
    finally:
        await shared.aclose()


@asynccontextmanager
async def store() -> AsyncIterator[BaseStore]:
    """The store of experiences, which the server hands to every run and serves to its clients."""
    experiences = (await shared.get()).experiences
    # A server needs one in any case; with GEMS_EXPERIENCE=off no run looks into it.
    yield experiences.store if experiences else InMemoryStore()


async def image(request: Request) -> Response:
    """The PNG of an image by its id."""
    found = image_id(request.path_params["name"])
    if found is None:
        return missing()
    images = (await shared.get()).images
    return await picture(images, found, request.headers.get("if-none-match"))


app = Starlette(routes=[Route("/images/{name}", image)])
"""Routes besides the server's own."""
