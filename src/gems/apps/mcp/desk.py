"""What all tools share: the runs, who may see them, and what a caller may name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context

from gems.apps.run_manager import RunHub
from gems.apps.server.auth import Access, Caller
from gems.errors import GemsError, RequestError
from gems.memory.ledger import RunRow
from gems.runs.source_images import decode_base64

_HINT = "Send the picture as base64 in `image`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Use one per server.

    Attributes:
        hub: The runs that go on.
        access: Who may do what, where callers come over HTTP.
        local: Whether the caller is the user of this machine, whose files may be read and written.
    """

    hub: RunHub
    access: Access
    local: bool

    def caller(self, context: Context[Any, Any]) -> Caller:
        """Who calls.

        Raises:
            UnknownKeyError: the server has keys, and none of them was sent.
        """
        if self.local:
            return Caller()
        headers = context.headers or {}
        return self.access.caller(headers.get("authorization"), headers.get("api-key"))

    async def row(self, run_id: str, context: Context[Any, Any]) -> RunRow:
        """A run that the caller may see.

        Raises:
            RunNotFoundError: there is no such run, or it is somebody else's.
        """
        return await self.access.row(self.caller(context), run_id)

    async def begun(self, caller: Caller, images: int, starting: Awaitable[str]) -> str:
        """The id of the run that `starting` begins, within the limits of the caller's key.

        Whoever goes before the run has an id cancels it all the same.

        Args:
            caller: Whose run it is.
            images: How many it may draw at most.
            starting: Begins it.

        Raises:
            TooManyRunsError: a limit of the key is reached.
            GemsError: see `RunHub.start`.
        """
        task = asyncio.ensure_future(self._admitted(caller, images, starting))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(GemsError):
                await self.hub.cancel(await task)
            raise

    async def _admitted(self, caller: Caller, images: int, starting: Awaitable[str]) -> str:
        try:
            async with self.access.beginning(caller, images):
                return await starting
        finally:
            if asyncio.iscoroutine(starting):
                # Where it was never begun, it would warn that nobody waited for it.
                starting.close()

    def target(self, out: str | None) -> Path | None:
        """Where a result is to be written.

        Raises:
            RequestError: the caller is not the user of this machine.
        """
        if out is None:
            return None
        if not self.local:
            raise RequestError("Nothing is written to paths of the server.", hint="Leave `out` away.")
        return Path(out).expanduser()

    def picture(self, path: str | None, image: str | None) -> bytes | Path:
        """The picture that a caller names or sends.

        Raises:
            RequestError: it is not exactly one of the two, is no base64, or names a path of the server.
        """
        if path is not None and not self.local:
            raise RequestError("Paths of the server are not read.", hint=_HINT)
        if (path is None) == (image is None):
            hint = "Give either `path` or `image`." if self.local else _HINT
            raise RequestError("There must be exactly one picture.", hint=hint)
        if path is not None:
            return Path(path).expanduser()
        return decode_base64(image or "", "image", _HINT)
