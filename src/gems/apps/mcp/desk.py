"""State shared by all tools: run manager, access control and file access."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context

from gems.apps.run_manager import RunManager
from gems.apps.server.auth import Access, Caller
from gems.errors import GemsError, RequestError
from gems.runs.source_images import decode_base64
from gems.types import RunRow

_BASE64_HINT = "Send the image as base64 in `image`."


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolState:
    """State shared by all tools; one per server.

    `local` means that the caller is the user of this machine, whose files may be read and written.
    """

    manager: RunManager
    access: Access
    local: bool

    def caller(self, context: Context[Any, Any]) -> Caller:
        """Authenticate the caller; raise UnknownKeyError if a required key is missing or invalid."""
        if self.local:
            return Caller()
        headers = context.headers or {}
        return self.access.caller(headers.get("authorization"), headers.get("api-key"))

    async def row(self, run_id: str, context: Context[Any, Any]) -> RunRow:
        """Return a run that the caller may see; raise RunNotFoundError for any other."""
        return await self.access.row(self.caller(context), run_id)

    async def start_run(self, caller: Caller, images: int, starting: Awaitable[str]) -> str:
        """Start a run of at most `images` images within the limits of the caller's key; return its id.

        Cancelling this call cancels the run, even before it has an id.
        """
        task = asyncio.ensure_future(self._admitted(caller, images, starting))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(GemsError):
                await self.manager.cancel(await task)
            raise

    async def _admitted(self, caller: Caller, images: int, starting: Awaitable[str]) -> str:
        try:
            async with self.access.beginning(caller, images):
                return await starting
        finally:
            if asyncio.iscoroutine(starting):
                # Prevents the warning about a coroutine that was never awaited.
                starting.close()

    def target(self, out: str | None) -> Path | None:
        """Return the output path; raise RequestError for remote callers."""
        if out is None:
            return None
        if not self.local:
            raise RequestError("Remote callers cannot write to paths of the server.", hint="Omit `out`.")
        return Path(out).expanduser()

    def picture(self, path: str | None, image: str | None) -> bytes | Path:
        """Return the image given as path or base64; raise RequestError unless it is exactly one of them."""
        if path is not None and not self.local:
            raise RequestError("Remote callers cannot read paths of the server.", hint=_BASE64_HINT)
        if (path is None) == (image is None):
            hint = "Pass either `path` or `image`." if self.local else _BASE64_HINT
            raise RequestError("Exactly one image is required.", hint=hint)
        if path is not None:
            return Path(path).expanduser()
        return decode_base64(image or "", "image", _BASE64_HINT)
