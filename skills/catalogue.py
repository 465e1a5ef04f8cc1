"""Catalogue of all skills, scanned again before each run."""

from __future__ import annotations

import asyncio
import threading

from gems.skills.discovery import Scanner, resolve_duplicates
from gems.skills.places import Places
from gems.skills.registry import SkillRegistry


class SkillCatalogue:
    """The skills on the search path; a new folder is found by the next scan.

    Args:
        places: Returns the folders to scan; None for skills that never change.
        fixed: The skills if `places` is None.
    """

    def __init__(self, places: Places | None = None, *, fixed: SkillRegistry | None = None) -> None:
        self._places = places
        self._scanner = Scanner()
        self._lock = threading.Lock()
        self._current = fixed or SkillRegistry()

    @property
    def current(self) -> SkillRegistry:
        """The result of the last scan."""
        return self._current

    async def refreshed(self) -> SkillRegistry:
        """Scan again and return the skills.

        Raises `ConfigurationError` if the list of trusted folders cannot be read.
        """
        if self._places is None:
            return self._current
        return await asyncio.to_thread(self.scan)

    def scan(self) -> SkillRegistry:
        """Scan for skills. Blocking: 1,000 skills take tens of milliseconds if few have changed."""
        if self._places is None:
            return self._current
        with self._lock:
            skills, left_out = resolve_duplicates(self._scanner.scan(self._places()))
            self._current = SkillRegistry(skills, left_out)
            return self._current
