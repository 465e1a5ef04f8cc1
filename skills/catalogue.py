"""The skills of all places, looked for anew before each run."""

from __future__ import annotations

import asyncio
import threading

from gems.skills.discovery import Scanner, resolve_duplicates
from gems.skills.places import Places
from gems.skills.registry import SkillRegistry


class SkillCatalogue:
    """What skills there are; a skill that is dropped into a place is known from the next scan on.

    Args:
        places: Says where to look; None for skills that never change.
        fixed: The skills where `places` is None.
    """

    def __init__(self, places: Places | None = None, *, fixed: SkillRegistry | None = None) -> None:
        self._places = places
        self._scanner = Scanner()
        self._lock = threading.Lock()
        self._current = fixed or SkillRegistry()

    @property
    def current(self) -> SkillRegistry:
        """What the last scan found."""
        return self._current

    async def refreshed(self) -> SkillRegistry:
        """What there is now.

        Raises:
            ConfigurationError: the list of trusted folders cannot be read.
        """
        if self._places is None:
            return self._current
        return await asyncio.to_thread(self.scan)

    def scan(self) -> SkillRegistry:
        """See `refreshed`. Blocking: 1,000 skills take tens of milliseconds where few have changed."""
        if self._places is None:
            return self._current
        with self._lock:
            skills, left_out = resolve_duplicates(self._scanner.scan(self._places()))
            self._current = SkillRegistry(skills, left_out)
            return self._current
