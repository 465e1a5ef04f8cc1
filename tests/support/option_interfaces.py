"""Options of a run as each interface shows them to its users."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import typer
from pydantic import TypeAdapter

from gems import Settings, build_graph
from gems.apps.cli.app import app as commands
from gems.apps.mcp.server import create_server
from gems.apps.mcp.tools import Tools
from gems.apps.server.app import create_app
from gems.apps.server.langserve import RunInput
from gems.apps.web import mount
from gems.evals.batch import BatchRow
from gems.options import OPTIONS
from gems.settings import ServeSettings
from gems.state import Input

_ANY = cast("Any", None)
_COMMANDS = ("run", "repair", "fork")


async def shown_names(home: Path) -> dict[str, set[str]]:
    """Return the names that each interface shows, those that are no options of a run included."""
    documents = _openapi(home)
    bodies = {
        "POST /runs": "RunBody",
        "POST /repair": "RepairBody",
        "POST /runs/ID/fork": "ForkRequest",
        "POST /v1/images/generations": "ImageBody",
        "POST /v1/images/edits": "EditBody",
        "POST /v1/chat/completions": "ChatBody",
    }
    found = {interface: set(documents[name]["properties"]) for interface, name in bodies.items()}
    found["LangServe"] = set(RunInput.model_json_schema()["properties"])
    found["gems batch"] = set(BatchRow.model_json_schema()["properties"])
    # A graph with its own context is the one of Studio.
    graphs = {"graph": build_graph(), "Studio": build_graph(context=cast("Any", object()))}
    for interface, graph in graphs.items():
        found[interface] = set(graph.compile().get_input_jsonschema()["properties"])
    assert set(TypeAdapter(Input).json_schema()["properties"]) == found["graph"]
    found |= _commands() | await _tools()
    if mount.is_installed():
        found["web page"] = _page_fields()
    return found


def _openapi(home: Path) -> dict[str, Any]:
    settings = Settings(home=home, serve=ServeSettings(web=False))
    schemas: dict[str, Any] = create_app(settings).openapi()["components"]["schemas"]
    return schemas


def _commands() -> dict[str, set[str]]:
    """The names that belong to the flags of the commands that begin runs."""
    flags = {option.flag: name for name, option in OPTIONS.items()}
    group: Any = typer.main.get_command(commands)
    shown = {name: {flag for item in group.commands[name].params for flag in item.opts} for name in _COMMANDS}
    return {f"gems {name}": {flags[flag] for flag in found if flag in flags} for name, found in shown.items()}


async def _tools() -> dict[str, set[str]]:
    server = create_server(Tools(manager=_ANY, access=_ANY, local=True))
    tools = {tool.name: set(tool.input_schema["properties"]) for tool in await server.list_tools()}
    return {name: tools[name] for name in ("generate_image", "edit_image", "repair_image")}


def _page_fields() -> set[str]:
    """The names that belong to the labels of the page."""
    from gems.apps.web.page import _Page

    labels = {getattr(block, "label", None) for block in _Page(_ANY).blocks.blocks.values()}
    return {name for name, option in OPTIONS.items() if option.label in labels}
