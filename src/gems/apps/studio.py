"""The graph and the store for LangGraph Studio and the LangGraph server, named in langgraph.json.

The server brings its own checkpointer; models and image store come from the settings, are opened with the
first run, and stay open as long as the server lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

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
    built = await asyncio.to_thread(build_graph, skills.all(), context=resources.context())
    return built.compile(name="gems")


@asynccontextmanager
async def store() -> AsyncIterator[BaseStore]:
    """The store of experiences, which the server hands to every run and serves to its clients."""
    experiences = (await shared.get()).experiences
    # A server needs one in any case; with GEMS_EXPERIENCE=off no run looks into it.
    yield experiences.store if experiences else InMemoryStore()
