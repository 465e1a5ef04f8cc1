"""The MCP server and its tools."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations

from gems._version import __version__
from gems.apps.mcp.results import error_answer, image_uri
from gems.apps.mcp.tools import DrawingTools, LookingTools, ToolState
from gems.errors import GemsError, OptionError

_INSTRUCTIONS = (
    "generate_image generates an image, checks it against each requirement of the prompt and refines it; it "
    "returns the file, a small copy and a checklist. edit_image edits an image in the same way. verify_image "
    "checks any image against a prompt. Manage runs by id with get_run, cancel_run and resume_run."
)


class _Tools(MCPServer[Any]):
    """MCP server that returns errors of GEMS as results, and rejects unknown arguments."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        known = {tool.name: tool.input_schema["properties"] for tool in await self.list_tools()}
        unknown = [argument for argument in arguments if argument not in known.get(name, arguments)]
        if unknown:
            possible = f"Valid arguments of {name}: {', '.join(known[name])}."
            return error_answer(OptionError(f"Unknown argument: {unknown[0][:80]!r}.", hint=possible))
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, GemsError):
                return error_answer(error.__cause__)
            raise


def create_server(state: ToolState) -> MCPServer[Any]:
    """Create the server with all tools."""
    server = _Tools(
        "gems", title="GEMS", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    drawing, looking = DrawingTools(state), LookingTools(state)
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
