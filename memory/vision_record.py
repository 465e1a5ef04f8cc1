"""Remember which judges see, so that each is asked only once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gems.files.shared import changing, write_atomically
from gems.memory.sqlite import storage_error

logger = logging.getLogger(__name__)

KNOWN_FOR_S = 7 * 24 * 3600.0
"""Seconds after which a model is asked again: servers are updated, and names of models moved."""


_FORM = TypeAdapter(dict[str, tuple[str, float]])
"""By the name of a chat model and its endpoint: what it replied, and when, in seconds since 1970."""


class VisionRecord:
    """What chat models replied when they were shown a picture, by `ChatClient.name`.

    Args:
        path: The JSON file that other processes read too; None to remember in memory only.
        now: The time in seconds since 1970.
    """

    def __init__(self, path: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._replies: dict[str, tuple[str, float]] = {}
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One per model, held while it is asked, so that runs that start together ask once."""

    async def reply(self, name: str) -> str | None:
        """Return what a model replied lately; None if it is to be asked."""
        if name not in self._replies and self._path is not None:
            self._replies |= await asyncio.to_thread(self._read, self._path)
        reply, when = self._replies.get(name, ("", 0.0))
        return reply if 0 <= self._now() - when < KNOWN_FOR_S else None

    async def enter(self, name: str, reply: str) -> None:
        """Remember a reply; StorageError if the file cannot be written, though this process knows it then."""
        self._replies[name] = reply, self._now()
        if self._path is not None:
            await asyncio.to_thread(self._write, self._path)

    def _read(self, path: Path) -> dict[str, tuple[str, float]]:
        try:
            return _FORM.validate_json(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            # It is written anew; the loss is a question.
            logger.warning("%s could not be read: %s", path, error)
            return {}

    def _write(self, path: Path) -> None:
        try:
            with changing(path):
                known = {**self._read(path), **self._replies}
                lately = {name: entry for name, entry in known.items() if self._now() - entry[1] < KNOWN_FOR_S}
                write_atomically(path, json.dumps(lately, ensure_ascii=False, indent=1).encode())
        except OSError as error:
            raise storage_error(error, path) from error
