"""Tools that verify images, and show or cancel runs."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import CallToolResult
from pydantic import Field

from gems.apps.mcp.desk import ToolState
from gems.apps.mcp.results import CheckReport, check_answer, run_answer
from gems.apps.mcp.tools import Answer, Link, RunId
from gems.errors import GemsError


class LookingTools:
    """Methods are tools; clients see their docstrings and arguments."""

    def __init__(self, state: ToolState) -> None:
        self._state = state

    async def verify_image(
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What the image should show.")],
        path: Annotated[str | None, Field(description="PNG, JPEG or WebP file; not over HTTP.")] = None,
        image: Annotated[str | None, Field(description="The image as base64, instead of a path.")] = None,
    ) -> Annotated[CallToolResult, CheckReport]:
        """Check any image against a prompt, requirement by requirement. Generates no image."""
        self._state.caller(context)
        return check_answer(await self._state.manager.gems.verify(self._state.picture(path, image), prompt))

    async def get_run(self, context: Context[Any, Any], run_id: RunId, link: Link = False) -> Answer:
        """Return the result or the progress of a run."""
        await self._state.row(run_id, context)
        return await self._show_run(run_id, link=link)

    async def cancel_run(self, context: Context[Any, Any], run_id: RunId) -> Answer:
        """Cancel a run, keeping its best image. A finished run is not changed."""
        await self._state.row(run_id, context)
        manager = self._state.manager
        await manager.cancel(run_id)
        if manager.is_working(run_id):
            result = await manager.result(run_id)
            return await run_answer(
                result, manager.gems.resources.images, local=self._state.local, link=False
            )
        return await self._show_run(run_id, link=False)

    async def run_image(self, run_id: str, context: Context[Any, Any]) -> bytes:
        """The best image of a run in full size."""
        try:
            await self._state.row(run_id, context)
            result = await self._state.manager.gems.show(run_id)
            if result.image_id is not None:
                return await self._state.manager.gems.resources.images.load(result.image_id)
        except GemsError as error:
            raise ResourceNotFoundError(str(error)) from None
        raise ResourceNotFoundError(f"Run {run_id} has no image.")

    async def _show_run(self, run_id: str, *, link: bool) -> Answer:
        gems = self._state.manager.gems
        result = await gems.show(run_id)
        return await run_answer(result, gems.resources.images, local=self._state.local, link=link)
