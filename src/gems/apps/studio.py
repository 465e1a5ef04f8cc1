"""Entry points in langgraph.json for LangGraph Studio and the LangGraph server.

They use the stores and models of the settings, opened once per process. The server keeps its own threads.
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

from gems.apps.server.images import image_response, parse_id
from gems.graphs.loop import build_graph
from gems.resources import Resources, open_resources
from gems.settings import load_settings


class _Shared:
    """Resources opened once per process."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._opened: Resources | None = None

    async def get(self) -> Resources:
        """Return the resources; the first call opens them."""
        async with self._lock:
            if self._opened is None:
                settings = await asyncio.to_thread(load_settings)
                self._opened = await self._stack.enter_async_context(open_resources(settings))
            return self._opened

    async def aclose(self) -> None:
        """Close the resources; the next call of `get` reopens them."""
        async with self._lock:
            self._opened = None
            await self._stack.aclose()


shared = _Shared()


async def graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Build the graph with its own context; the server calls this for every run."""
    resources = await shared.get()
    skills = await resources.skills.refreshed()
    # Building imports the code of skills, once per version of a file.
    context = replace(resources.context(), links=_links())
    built = await asyncio.to_thread(build_graph, skills.all(), context=context)
    return built.compile(name="gems")


def _links() -> str:
    """Return the absolute prefix of image links, since front ends are served from elsewhere."""
    return f"{os.environ.get('LANGGRAPH_API_URL', '').rstrip('/')}/images/"


@asynccontextmanager
async def checkpointer() -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Yield the checkpointer; the server closes it last, and all resources with it."""
    try:
        yield (await shared.get()).checkpointer
    finally:
        await shared.aclose()


@asynccontextmanager
async def store() -> AsyncIterator[BaseStore]:
    """Yield the experience store."""
    experiences = (await shared.get()).experiences
    # The server requires a store; runs do not use it with GEMS_EXPERIENCE=off.
    yield experiences.store if experiences else InMemoryStore()


async def image(request: Request) -> Response:
    """Return the PNG of an image id."""
    name, known = parse_id(request.path_params["name"]), request.headers.get("if-none-match")
    return await image_response((await shared.get()).images, name, known)


app = Starlette(routes=[Route("/images/{name}", image)])
"""Additional routes of the server."""
