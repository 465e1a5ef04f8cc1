"""API keys, callers, limits."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.apps.run_manager import RunManager
from gems.apps.server.queue import NoPlaceError, QueuePlace, QuotaReachedError, RunQueue, TooManyRunsError
from gems.errors import (
    AnswerNeededError,
    BudgetReachedError,
    ConfigurationError,
    DeadlineReachedError,
    GemsError,
    OptionError,
    RequestError,
    RunBusyError,
    RunCancelledError,
    RunNotFoundError,
    StorageError,
)
from gems.events import Event, Finished
from gems.files.shared import changing, write_atomically
from gems.memory.run_filter import RunFilter
from gems.options import DEFAULT_ROUNDS, MAX_ROUNDS, NO_OPTIONS
from gems.service import Gems
from gems.settings import ServeSettings, Settings
from gems.types import RunRow

_PREFIX = "gems-"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_SLOTS = 64
"""Locks of limits; keys share them, so that none is left behind of each key that ever was."""
_LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.02
_DAY = timedelta(days=1)
_WAITED = 0.8
"""Most of the time for an answer that is spent waiting; in the rest the run must draw something."""
_RUN_ID = re.compile(r"[\w.:-]{1,200}")


class Key(BaseModel):
    """A user of the server; only the hash of the key is stored."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Name of the user, who owns their runs.")
    sha256: str = Field(description="Hash of the key. Keys are 256 random bits, so no slow hash is needed.")
    created: str = Field(description="UTC, ISO 8601.")
    runs_at_a_time: int = Field(2, ge=1)
    images_per_day: int | None = Field(None, ge=1, description="Limit within 24 hours; null for no limit.")
    tokens_per_day: int | None = Field(None, ge=1, description="Limit of chat models' tokens within 24 hours.")
    usd_per_day: float | None = Field(None, gt=0, description="Limit of US dollars within 24 hours.")


class KeyFile:
    """The key file of a server, reread when it changes; it may be missing. Methods are blocking and fast."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """List all keys sorted by name; raise ConfigurationError if the file cannot be read."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._stamp, self._keys = None, {}
            return []
        except OSError as error:
            raise ConfigurationError(f"Cannot read {self.path}: {error.strerror or error}.") from None
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._keys = {key.sha256: key for key in self._read()}
            self._stamp = stamp
        return sorted(self._keys.values(), key=lambda key: key.name)

    def exists(self) -> bool:
        """Return whether there is a key file, with or without keys; raises as `all`."""
        self.all()
        return self._stamp is not None

    def find(self, token: str) -> Key | None:
        """Return the key of a token, or None; raise ConfigurationError if the file cannot be read."""
        self.all()
        # Looked up by hash, so that timing reveals nothing about other keys.
        return self._keys.get(_hash_token(token))

    def add(self, name: str, *, runs_at_a_time: int = 2, **per_day: float | None) -> str:
        """Create a key and return its token, which is not stored; `per_day` are the limits of `Key` for 24 hours."""
        if _NAME.fullmatch(name) is None:
            raise OptionError(f"Invalid key name: {name[:60]!r}.", hint="Use lower-case letters, digits and hyphens.")
        token, created = _PREFIX + secrets.token_urlsafe(32), datetime.now(UTC).isoformat(timespec="seconds")
        limits = {"runs_at_a_time": runs_at_a_time, **per_day}
        key = Key.model_validate({"name": name, "sha256": _hash_token(token), "created": created, **limits})
        with self._changing() as keys:
            if any(other.name == name for other in keys):
                raise OptionError(f"Key {name!r} exists already.", hint="Revoke it first.")
            self._write([*keys, key])
        return token

    def revoke(self, name: str) -> None:
        """Delete a key; its runs stay."""
        with self._changing() as keys:
            kept = [key for key in keys if key.name != name]
            if len(kept) == len(keys):
                known = ", ".join(key.name for key in kept) or "none"
                raise OptionError(f"Key not found: {name[:60]!r}.", hint=f"Known keys: {known}.")
            self._write(kept)

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """Yield the keys of the file, which no other process changes meanwhile."""
        try:
            with changing(self.path):
                self._stamp = None
                yield self.all()
        except OSError as error:
            raise StorageError(f"Cannot write {self.path}: {error.strerror or error}.") from None

    def _read(self) -> list[Key]:
        try:
            listed = json.loads(self.path.read_text(encoding="utf-8"))["keys"]
            return [Key.model_validate(item) for item in listed]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            raise ConfigurationError(
                f"Cannot read the key file {self.path}: {type(error).__name__}.",
                hint="Repair the file, or delete it and create the keys again with `gems keys add`.",
            ) from None

    def _write(self, keys: list[Key]) -> None:
        text = json.dumps({"keys": [key.model_dump() for key in keys]}, indent=2)
        write_atomically(self.path, f"{text}\n".encode(), private=True)
        self._stamp = None


def open_keys(settings: Settings) -> KeyFile:
    """Return the key file of a server; ConfigurationError if the settings name one that does not exist."""
    path = settings.serve.keys_path(settings)
    keys = KeyFile(path)
    if settings.serve.keys is not None and not keys.exists():
        # A server that was meant to have keys must not be open because of a typing error.
        raise ConfigurationError(
            f"GEMS_SERVE__KEYS names {path}, which does not exist.",
            hint="Create it with `gems keys add NAME`, or correct the setting.",
        )
    return keys


def _hash_token(token: str) -> str:
    # Clients may send lone surrogates, which no key contains.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class UnknownKeyError(RequestError):
    """No API key, or an unknown one."""

    default_hint = "Send `Authorization: Bearer KEY`; create a key with `gems keys add NAME`."


class ForeignPageError(RequestError):
    """A web page of another site tried to use the server."""

    default_hint = "Add the origin to GEMS_SERVE__CORS_ORIGINS, or open the server by its own address."


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

    def __init__(self, keys: KeyFile, manager: RunManager, serve: ServeSettings | None = None) -> None:
        self._keys, self._manager, self._serve = keys, manager, serve or ServeSettings()
        self._had_keys = keys.exists()
        self._beginning = [asyncio.Lock() for _ in range(_SLOTS)]
        self.queue = RunQueue(self._serve.queue)
        self._starting = 0
        manager.listeners.append(self._listen)

    @property
    def needs_key(self) -> bool:
        """Whether callers need a key: there is a key file, even an emptied one, or there was one."""
        self._had_keys = self._had_keys or self._keys.exists()
        return self._had_keys

    def caller(self, authorization: str | None, api_key: str | None = None) -> Caller:
        """Authenticate a caller by the headers `authorization` (`Bearer KEY`) or `api-key`."""
        if not self.needs_key:
            return Caller()
        scheme, _, token = (authorization or "").partition(" ")
        sent = token.strip() if scheme.lower() == "bearer" else (api_key or "").strip()
        key = self._keys.find(sent) if sent else None
        if key is None:
            raise UnknownKeyError("The API key is invalid." if sent else "The API key is missing.")
        return Caller(key)

    async def admit(self, caller: Caller, images: int, runs: int = 1, options: Mapping[str, Any] = NO_OPTIONS) -> None:
        """Raise NoPlaceError or QuotaReachedError unless the caller may start `runs` runs of `images` images in all."""
        if (key := caller.key) is None:
            return
        # In whichever process they are.
        working = await self._manager.gems.runs(wanted=RunFilter(owner=key.name, status="running"))
        await self.check_quotas(caller, images, working, options)
        if len(working) + runs > key.runs_at_a_time:
            raise NoPlaceError(f"{len(working)} runs are in progress; the limit for this key is {key.runs_at_a_time}.")

    async def check_quotas(
        self, caller: Caller, images: int = 0, working: Sequence[RunRow] = (), options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        """Raise QuotaReachedError if a limit for 24 hours is reached; `working` are runs in progress.

        `options` are those of the run that may begin, whose models must have prices if dollars are limited.
        """
        if (key := caller.key) is None:
            return
        gems, now = self._manager.gems, datetime.now(UTC)
        if key.images_per_day is not None:
            drawn = await gems.resources.ledger.drawings_for(key.name, now - _DAY)
            number, most = round(sum(amount for _, amount in drawn)), key.images_per_day
            text = f"{number} images were generated with this key in 24 hours{{}}; this run may add {images}. "
            text += f"The limit is {most}."
            if number + images > most:
                wait_s = _seconds_until_free(drawn, most - images, now)
                raise QuotaReachedError(text.format(""), retry_after_s=wait_s)
            reserved = sum([await images_left(gems, row) for row in working])
            if number + reserved + images > most and len(working) < key.runs_at_a_time:
                # Perhaps the runs in progress will not need them.
                also = f", and {reserved} are reserved for runs in progress"
                raise NoPlaceError(text.format(also), hint=QuotaReachedError.default_hint)
        if key.tokens_per_day is None and key.usd_per_day is None:
            return
        if key.usd_per_day is not None:
            self._check_prices(key, options)
        ledger, price_of = gems.resources.ledger, gems.resources.image_price
        spent = await ledger.spending_for(key.name, now - _DAY)
        spent += [await ledger.unentered_spending(row["run_id"], price_of(row["options"])) for row in working]
        for limit, unit, used in (
            (key.tokens_per_day, "tokens", [(one.at, float(one.tokens)) for one in spent]),
            (key.usd_per_day, "US dollars", [(one.at, one.usd) for one in spent]),
        ):
            total = sum(amount for _, amount in used)
            if limit is not None and total >= limit:
                raise QuotaReachedError(
                    f"{total:,.10g} {unit} were spent with this key in 24 hours. The limit is {limit:,.10g}.",
                    hint="Wait.",
                    # Anything below the limit is enough to begin.
                    retry_after_s=_seconds_until_free(used, limit * (1 - 1e-9), now),
                )

    def _check_prices(self, key: Key, options: Mapping[str, Any]) -> None:
        """Raise ConfigurationError if dollars are limited and cannot be counted."""
        context = self._manager.gems.resources.context(options)
        unknown = [role for role, chat in context.chats.items() if chat.price(0, 0) is None]
        if unknown or context.generator.capabilities.price_usd is None:
            named = f"of the {unknown[0]}" if unknown else "of an image"
            raise ConfigurationError(
                f"The key {key.name!r} has a limit in US dollars, but the price {named} is not known.",
                hint="Set the prices of the models, or limit tokens and images.",
            )

    @asynccontextmanager
    async def beginning(
        self,
        caller: Caller,
        images: int,
        runs: int = 1,
        *,
        options: Mapping[str, Any] = NO_OPTIONS,
        until: float | None = None,
        tell: Callable[[QueuePlace], None] | None = None,
    ) -> AsyncIterator[None]:
        """Check as `admit` does, under a lock until the run has started, so that requests cannot race.

        The lock holds for all servers that share the stores of runs. A request waits in the queue for a free place
        until a time of `time.monotonic()`, by default for 80 % of the time of an answer; `tell` gets its place.

        Raises:
            TooManyRunsError: there was no free place.
            QuotaReachedError: a limit for 24 hours is reached.
        """
        async with AsyncExitStack() as stack:

            async def enter() -> None:
                await stack.enter_async_context(self._admitted(caller, images, runs, options))

            until = time.monotonic() + self._serve.deadline_s * _WAITED if until is None else until
            await self.queue.start(caller.owner, enter, until, tell)
            yield

    @asynccontextmanager
    async def _admitted(
        self, caller: Caller, images: int, runs: int, options: Mapping[str, Any]
    ) -> AsyncIterator[None]:
        most = self._serve.runs_at_a_time
        async with AsyncExitStack() as stack:
            if caller.key is not None:
                slot = zlib.crc32(caller.owner.encode()) % _SLOTS
                await stack.enter_async_context(self._beginning[slot])
                await stack.enter_async_context(self._alone(slot))
                await self.admit(caller, images, runs, options)
            working = len(self._manager.working()) + self._starting
            if most is not None and working and working + runs > most:
                raise _all_taken(working, most)
            self._starting += runs
            try:
                yield
            finally:
                self._starting -= runs

    def _listen(self, news: Event | BaseException) -> None:
        if isinstance(news, Finished | BaseException):
            self.queue.notify()

    @asynccontextmanager
    async def _alone(self, slot: int) -> AsyncIterator[None]:
        """Hold the lock of some owners' limits, waiting for other servers that start a run for one of them."""
        # No id of a run begins with a dot.
        name, deadline = f".key-{slot}", time.monotonic() + _LOCK_WAIT_S
        async with AsyncExitStack() as stack:
            while True:
                try:
                    await stack.enter_async_context(self._manager.gems.resources.locks.hold(name))
                    break
                except RunBusyError:
                    if time.monotonic() > deadline:
                        raise
                await asyncio.sleep(_LOCK_POLL_S)
            yield

    async def row(self, caller: Caller, run_id: str) -> RunRow:
        """Return a run that the caller may see; raise RunNotFoundError for any other."""
        is_id = _RUN_ID.fullmatch(run_id) is not None
        row = await self._manager.gems.resources.ledger.run(run_id) if is_id else None
        if row is None or not caller.may_see(row):
            raise RunNotFoundError(f"There is no run {run_id[:80]!r}.")
        return row

    async def may_see_image(self, caller: Caller, image: str) -> bool:
        """Return whether an image belongs to a run of the caller."""
        return caller.key is None or await self._manager.gems.resources.ledger.owns_image(caller.owner, image)


def _all_taken(working: int, most: int) -> NoPlaceError:
    error = NoPlaceError(f"{working} runs of all keys are in progress; the limit is {most}.")
    error.for_key = False
    return error


def _seconds_until_free(used: Sequence[tuple[datetime, float]], most: float, now: datetime) -> float:
    """Return after how many seconds at most `most` of what was used lies within 24 hours."""
    total = sum(amount for _, amount in used)
    for at, amount in sorted(used):
        total -= amount
        if total <= most:
            return max(1.0, (at + _DAY - now).total_seconds())
    # Even with nothing before it is more than the limit.
    return _DAY.total_seconds()


def max_images(options: Mapping[str, Any]) -> int:
    """Return the maximum number of images of a run."""
    rounds = options.get("max_rounds")
    usual = DEFAULT_ROUNDS.get(options.get("profile") or "balanced", MAX_ROUNDS)
    images = (usual if rounds is None else rounds) * (options.get("candidates") or 1)
    most = options.get("max_images")
    return images if most is None else min(images, most)


async def images_left(gems: Gems, row: RunRow) -> int:
    """Return how many images a run may still generate."""
    drawn = await gems.resources.ledger.drawings(row["run_id"])
    return max(0, max_images(row["options"]) - len(drawn))


_STATUS: dict[type[GemsError], int] = {
    UnknownKeyError: 401,
    ForeignPageError: 403,
    RunNotFoundError: 404,
    RunBusyError: 409,
    AnswerNeededError: 409,
    TooManyRunsError: 429,
    # Limits of the request itself, since the server sets none but for OpenAI's routes, which have their own statuses.
    DeadlineReachedError: 400,
    BudgetReachedError: 400,
    RunCancelledError: 400,
}


def status_of(error: GemsError) -> int:
    """Return the HTTP status of an error."""
    known = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    return known or {"request": 400, "provider": 502, "nobody": 503}.get(error.fault, 500)


def retry_headers(error: GemsError) -> dict[str, str]:
    """Return the headers that say when a request may be sent again; SDKs would retry a spent limit in vain."""
    if not isinstance(error, TooManyRunsError):
        return {}
    headers = {"retry-after": str(math.ceil(error.retry_after_s))}
    return headers if error.should_retry else headers | {"x-should-retry": "false"}


def error_details(error: GemsError) -> dict[str, Any]:
    """Return the JSON details of an error, the same as those of the CLI; with the question that a run asks."""
    details: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error.message,
        "fault": error.fault,
        "hint": error.hint,
        "run_id": error.run_id,
    }
    if isinstance(error, AnswerNeededError) and error.question is not None:
        details["question"] = error.question
    return details
