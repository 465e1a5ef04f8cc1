"""Test and draft skills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gems.resources import Resources
from gems.runs.memory_admin import MemoryAdmin
from gems.runs.skill_learning import DraftRequest, propose_skills
from gems.skill_trials import run_skill_test
from gems.skills.reports import SkillDrafts, SkillTrial

Progress = Callable[[int, int], None]


class SkillWorkshop:
    """Tools for authors of skills; see `Gems.skills`."""

    def __init__(self, resources: Resources, home: Path) -> None:
        self._resources, self._home = resources, home

    async def try_out(
        self, skill: str | Path, limit: int | None = None, progress: Progress | None = None
    ) -> SkillTrial:
        """Test a skill on its own examples; see `run_skill_test`."""
        return await run_skill_test(skill, self._resources, limit=limit, progress=progress)

    async def learn(
        self, request: DraftRequest | None = None, progress: Progress | None = None
    ) -> SkillDrafts:
        """Draft skills from lessons; see `propose_skills`."""
        memories = MemoryAdmin(self._resources)
        return await propose_skills(
            memories, self._resources, self._home, request or DraftRequest(), progress
        )
