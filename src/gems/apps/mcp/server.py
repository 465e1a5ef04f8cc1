"""The tools put together."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations

from gems._version import __version__
from gems.apps.mcp.desk import Desk
from gems.apps.mcp.looking import LookingTools
from gems.apps.mcp.results import error_answer, image_uri
from gems.apps.mcp.tools import DrawingTools
from gems.errors import GemsError, OptionError

_INSTRUCTIONS = (
    "generate_image draws a prompt with a loop that checks each requirement and tries again; it answers with "
    "the file, a small copy and a checklist. edit_image changes a picture in the same way. verify_image "
    "checks any picture against a prompt. A run goes on by its id: get_run, cancel_run, resume_run."
)


class _Tools(MCPServer[Any]):
    """Errors of GEMS are answers; arguments that a tool does not have are errors."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """See `MCPServer`."""
        known = {tool.name: tool.input_schema["properties"] for tool in await self.list_tools()}
        unknown = [argument for argument in arguments if argument not in known.get(name, arguments)]
        if unknown:
            possible = f"The arguments of {name} are {', '.join(known[name])}."
            return error_answer(OptionError(f"There is no argument {unknown[0][:80]!r}.", hint=possible))
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, GemsError):
                return error_answer(error.__cause__)
            raise


def create_server(desk: Desk) -> MCPServer[Any]:
    """The server with all tools.

    Args:
        desk: The runs, and who may see them.
    """
    server = _Tools(
        "gems", title="GEMS", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    drawing, looking = DrawingTools(desk), LookingTools(desk)
    reading = ToolAnnotations(read_only_hint=True)
    changing = ToolAnnotations(read_only_hint=False, destructive_hint=False)
    for tool, kind in (
        (drawing.generate_image, changing),
        (drawing.edit_image, changing),
        (looking.verify_image, reading),
        (looking.get_run, reading),
        (looking.cancel_run, changing),
        (drawing.resume_run, changing),
    ):
        server.add_tool(tool, annotations=kind)
    server.resource(image_uri("{run_id}"), name="run_image", mime_type="image/png")(looking.run_image)
    return server
