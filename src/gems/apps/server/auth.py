"""Authentication of callers and limits of their keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gems.apps.run_manager import RunManager
from gems.apps.serving.keys import Key, KeyFile
from gems.errors import AnswerNeededError, GemsError, RequestError, RunBusyError, RunNotFoundError
from gems.memory.run_filter import RunFilter
from gems.types import RunRow

_RUN_ID = re.compile(r"[\w.:-]{1,200}")


class UnknownKeyError(RequestError):
    """No API key, or an unknown one."""

    default_hint = "Send `Authorization: Bearer KEY`; create a key with `gems keys add NAME`."


class ForeignPageError(RequestError):
    """A web page of another site tried to use the server."""

    default_hint = "Add the origin to GEMS_SERVE__CORS_ORIGINS, or open the server by its own address."


class TooManyRunsError(RequestError):
    """The key's limit of runs in parallel or images per day is reached."""

    default_hint = "Wait until one of your runs has finished."


@dataclass(frozen=True, slots=True)
class Caller:
    """Sender of a request; `key` is None on a server without keys."""

    key: Key | None = None

    @property
    def owner(self) -> str:
        """Owner of the runs that the caller starts."""
        return self.key.name if self.key else ""

    def may_see(self, row: RunRow) -> bool:
        """Return whether the caller owns a run; without keys they own all."""
        return self.key is None or row["owner"] == self.key.name


class Access:
    """Authenticates callers and enforces the limits of their keys."""

    def __init__(self, keys: KeyFile, manager: RunManager) -> None:
        self._keys, self._hub = keys, manager
        self._had_keys = bool(keys.all())
        self._beginning: dict[str, asyncio.Lock] = {}

    @property
    def needs_key(self) -> bool:
        """Whether callers need a key; stays true after the last key was revoked.

        Raises ConfigurationError if the key file cannot be read.
        """
        self._had_keys = self._had_keys or bool(self._keys.all())
        return self._had_keys

    def caller(self, authorization: str | None, api_key: str | None = None) -> Caller:
        """Authenticate a caller by the headers `authorization` (`Bearer KEY`) or `api-key`.

        Raises:
            UnknownKeyError: a required key is missing or invalid.
            ConfigurationError: the key file cannot be read.
        """
        if not self.needs_key:
            return Caller()
        scheme, _, token = (authorization or "").partition(" ")
        sent = token.strip() if scheme.lower() == "bearer" else (api_key or "").strip()
        key = self._keys.find(sent) if sent else None
        if key is None:
            raise UnknownKeyError("The API key is invalid." if sent else "The API key is missing.")
        return Caller(key)

    async def admit(self, caller: Caller, images: int, runs: int = 1) -> None:
        """Raise TooManyRunsError unless the caller may start `runs` runs of `images` images in all."""
        key = caller.key
        if key is None:
            return
        working = [row for row in await self._rows_of(key) if self._hub.is_working(row["run_id"])]
        if len(working) + runs > key.runs_at_a_time:
            raise TooManyRunsError(
                f"{len(working)} runs are in progress; the limit for this key is {key.runs_at_a_time}."
            )
        if key.images_per_day is not None:
            since = datetime.now(UTC) - timedelta(days=1)
            drawn = await self._hub.gems.resources.ledger.drawn_for(key.name, since)
            if drawn + images > key.images_per_day:
                raise TooManyRunsError(
                    f"{drawn} images were generated with this key in 24 hours; this run may add {images}. "
                    f"The limit is {key.images_per_day}.",
                    hint="Request fewer rounds, or wait.",
                )

    @asynccontextmanager
    async def beginning(self, caller: Caller, images: int, runs: int = 1) -> AsyncIterator[None]:
        """Check as `admit` does, under a lock until the run has started, so that requests cannot race."""
        async with self._beginning.setdefault(caller.owner, asyncio.Lock()):
            await self.admit(caller, images, runs)
            yield

    async def row(self, caller: Caller, run_id: str) -> RunRow:
        """Return a run that the caller may see; raise RunNotFoundError for any other."""
        is_id = _RUN_ID.fullmatch(run_id) is not None
        row = await self._hub.gems.resources.ledger.run(run_id) if is_id else None
        if row is None or not caller.may_see(row):
            raise RunNotFoundError(f"There is no run {run_id[:80]!r}.")
        return row

    async def may_see_image(self, caller: Caller, image: str) -> bool:
        """Return whether an image belongs to a run of the caller."""
        return caller.key is None or await self._hub.gems.resources.ledger.owns_image(caller.owner, image)

    async def _rows_of(self, key: Key) -> list[RunRow]:
        return await self._hub.gems.runs(wanted=RunFilter(owner=key.name, status="running"))


def status_of(error: GemsError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, UnknownKeyError):
        return 401
    if isinstance(error, TooManyRunsError):
        return 429
    if isinstance(error, ForeignPageError):
        return 403
    if isinstance(error, RunNotFoundError):
        return 404
    if isinstance(error, RunBusyError | AnswerNeededError):
        return 409
    return {"request": 400, "provider": 502, "nobody": 503}.get(error.fault, 500)


def error_details(error: GemsError) -> dict[str, str]:
    """Return the JSON details of an error, the same as those of the CLI."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "fault": error.fault,
        "hint": error.hint,
        "run_id": error.run_id,
    }
