"""Skills, for their authors: tried on their examples, drafted from what runs have learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gems.resources import Resources
from gems.runs.memory_admin import Memories
from gems.runs.skill_learning import Wish
from gems.skill_drafts import propose
from gems.skill_reports import SkillDrafts, SkillTrial
from gems.skill_trials import tried

Progress = Callable[[int, int], None]


class SkillWorkshop:
    """Use `Gems.skills`.

    Args:
        resources: The opened stores and models.
        home: GEMS_HOME.
    """

    def __init__(self, resources: Resources, home: Path) -> None:
        self._resources, self._home = resources, home

    async def try_out(
        self, skill: str | Path, limit: int | None = None, progress: Progress | None = None
    ) -> SkillTrial:
        """Try a skill on its own examples; see `gems.skill_trials.tried`."""
        return await tried(skill, self._resources, limit=limit, progress=progress)

    async def learn(self, wish: Wish | None = None, progress: Progress | None = None) -> SkillDrafts:
        """Draft skills from what runs have learnt; see `gems.skill_drafts.propose`."""
        memories = Memories(self._resources)
        return await propose(memories, self._resources, self._home, wish or Wish(), progress)
