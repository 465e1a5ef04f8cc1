"""The tools that look at pictures and runs, and the one that ends a run."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import CallToolResult
from pydantic import Field

from gems.apps.mcp.desk import Desk
from gems.apps.mcp.results import CheckReport, check_answer, run_answer
from gems.apps.mcp.tools import Answer, Link, RunId
from gems.errors import GemsError


class LookingTools:
    """The methods are tools; their docstrings and arguments are what clients see.

    Args:
        desk: What all tools share.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def verify_image(
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What the picture should show.")],
        path: Annotated[str | None, Field(description="A PNG, JPEG or WebP file; not over HTTP.")] = None,
        image: Annotated[str | None, Field(description="In place of a path: the picture as base64.")] = None,
    ) -> Annotated[CallToolResult, CheckReport]:
        """Check any picture against a prompt, requirement by requirement. Nothing is drawn."""
        self._desk.caller(context)
        return check_answer(await self._desk.hub.gems.verify(self._desk.picture(path, image), prompt))

    async def get_run(self, context: Context[Any, Any], run_id: RunId, link: Link = False) -> Answer:
        """Tell how a run came out, or how far it came."""
        await self._desk.row(run_id, context)
        return await self._shown(run_id, link=link)

    async def cancel_run(self, context: Context[Any, Any], run_id: RunId) -> Answer:
        """End a run; its best image so far is kept. A run that has ended stays as it is."""
        await self._desk.row(run_id, context)
        hub = self._desk.hub
        await hub.cancel(run_id)
        if hub.is_working(run_id):
            result = await hub.result(run_id)
            return await run_answer(result, hub.gems.resources.images, local=self._desk.local, link=False)
        return await self._shown(run_id, link=False)

    async def run_image(self, run_id: str, context: Context[Any, Any]) -> bytes:
        """The best image of a run in its full size."""
        try:
            await self._desk.row(run_id, context)
            result = await self._desk.hub.gems.show(run_id)
            if result.image_id is not None:
                return await self._desk.hub.gems.resources.images.load(result.image_id)
        except GemsError as error:
            raise ResourceNotFoundError(str(error)) from None
        raise ResourceNotFoundError(f"The run {run_id} has no image.")

    async def _shown(self, run_id: str, *, link: bool) -> Answer:
        gems = self._desk.hub.gems
        result = await gems.show(run_id)
        return await run_answer(result, gems.resources.images, local=self._desk.local, link=link)
