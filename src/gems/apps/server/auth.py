"""Who calls, and whether they may."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gems.apps.run_manager import RunHub
from gems.apps.serving.keys import Key, KeyFile
from gems.errors import AnswerNeededError, GemsError, RequestError, RunBusyError, RunNotFoundError
from gems.memory.ledger import RunRow
from gems.memory.run_filter import RunFilter

_RUN_ID = re.compile(r"[\w.:-]{1,200}")


class UnknownKeyError(RequestError):
    """No key, or one that is not known."""

    default_hint = "Send `Authorization: Bearer KEY`; `gems keys add NAME` makes one."


class ForeignPageError(RequestError):
    """A web page of somebody else's wants to use a server that has no keys."""

    default_hint = "Name the page in GEMS_SERVE__CORS_ORIGINS, or use the server by its own address."


class TooManyRunsError(RequestError):
    """The key's runs at a time or images per day are used up."""

    default_hint = "Wait until one of your runs has come to its end."


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request.

    Attributes:
        key: Their key; None where the server has no keys and serves its own machine only.
    """

    key: Key | None = None

    @property
    def owner(self) -> str:
        """Whose runs they begin."""
        return self.key.name if self.key else ""

    def may_see(self, row: RunRow) -> bool:
        """Whether a run is theirs; without keys every run of the home is."""
        return self.key is None or row["owner"] == self.key.name


class Access:
    """Lets callers in.

    Args:
        keys: The server's keys.
        hub: The runs.
    """

    def __init__(self, keys: KeyFile, hub: RunHub) -> None:
        self._keys, self._hub = keys, hub
        self._had_keys = bool(keys.all())
        self._beginning: dict[str, asyncio.Lock] = {}

    @property
    def needs_key(self) -> bool:
        """Whether callers need a key: once there was one, revoking the last lets nobody in.

        Raises:
            ConfigurationError: the file of keys cannot be read.
        """
        self._had_keys = self._had_keys or bool(self._keys.all())
        return self._had_keys

    def caller(self, authorization: str | None, api_key: str | None = None) -> Caller:
        """The caller with these headers.

        Args:
            authorization: The header of this name: `Bearer KEY`.
            api_key: The header `api-key`, which some clients send in its place.

        Raises:
            UnknownKeyError: the server has keys, and none of them was sent.
            ConfigurationError: the file of keys cannot be read.
        """
        if not self.needs_key:
            return Caller()
        scheme, _, token = (authorization or "").partition(" ")
        sent = token.strip() if scheme.lower() == "bearer" else (api_key or "").strip()
        key = self._keys.find(sent) if sent else None
        if key is None:
            raise UnknownKeyError("The key is not known." if sent else "There is no key with the request.")
        return Caller(key)

    async def admit(self, caller: Caller, images: int, runs: int = 1) -> None:
        """See to it that a caller may begin one more run, or several.

        Args:
            caller: Who begins them.
            images: How many images they may draw at most.
            runs: How many runs.

        Raises:
            TooManyRunsError: a limit of the key is reached.
        """
        key = caller.key
        if key is None:
            return
        working = [row for row in await self._rows_of(key) if self._hub.is_working(row["run_id"])]
        if len(working) + runs > key.runs_at_a_time:
            raise TooManyRunsError(f"{len(working)} of your runs are going on; so many may at a time.")
        if key.images_per_day is not None:
            since = datetime.now(UTC) - timedelta(days=1)
            drawn = await self._hub.gems.resources.ledger.drawn_for(key.name, since)
            if drawn + images > key.images_per_day:
                raise TooManyRunsError(
                    f"{drawn} images were drawn for you in 24 hours, and this run may draw {images}; "
                    f"{key.images_per_day} are allowed.",
                    hint="Ask for fewer rounds, or wait.",
                )

    @asynccontextmanager
    async def beginning(self, caller: Caller, images: int, runs: int = 1) -> AsyncIterator[None]:
        """The same as `admit`, for as long as it takes to begin: two at once do not both get the last place.

        Raises:
            TooManyRunsError: a limit of the key is reached.
        """
        async with self._beginning.setdefault(caller.owner, asyncio.Lock()):
            await self.admit(caller, images, runs)
            yield

    async def row(self, caller: Caller, run_id: str) -> RunRow:
        """A run that the caller may see.

        Raises:
            RunNotFoundError: there is no such run, or it is somebody else's, which sounds the same.
        """
        is_id = _RUN_ID.fullmatch(run_id) is not None
        row = await self._hub.gems.resources.ledger.run(run_id) if is_id else None
        if row is None or not caller.may_see(row):
            raise RunNotFoundError(f"There is no run {run_id[:80]!r}.")
        return row

    async def may_see_image(self, caller: Caller, image: str) -> bool:
        """Whether an image was drawn for a run of the caller's."""
        return caller.key is None or await self._hub.gems.resources.ledger.owns_image(caller.owner, image)

    async def _rows_of(self, key: Key) -> list[RunRow]:
        return await self._hub.gems.runs(wanted=RunFilter(owner=key.name, status="running"))


def status_of(error: GemsError) -> int:
    """The HTTP status that tells of an error."""
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
    """What is told about an error, in the same form as on the command line."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "fault": error.fault,
        "hint": error.hint,
        "run_id": error.run_id,
    }
