"""Rank skills by relevance to a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gems.memory.embeddings import Embedder, LexicalEmbedder, Vector
from gems.skills.models import Skill

MAX_SHOWN = 20


class SkillRanking:
    """Ranks skills by similarity of description and prompt; without an embedder by their words."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        self._embedder = embedder or LexicalEmbedder()
        self._vectors: dict[str, Vector] = {}

    async def most_relevant(self, skills: Sequence[Skill], prompt: str, limit: int = MAX_SHOWN) -> list[Skill]:
        """Return at most `limit` skills, by name; raise `GemsError` if the embedder fails."""
        if len(skills) <= limit:
            return list(skills)
        texts = [f"{skill.name.replace('-', ' ')}: {skill.description}" for skill in skills]
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        *embedded, wanted = await self._embedder.embed([*missing, prompt])
        # Keep current skills only, so that the cache does not grow as skills change.
        known = self._vectors | dict(zip(missing, embedded, strict=True))
        self._vectors = {text: known[text] for text in texts}
        likeness = np.stack([self._vectors[text] for text in texts]) @ wanted
        best = sorted(np.argsort(-likeness, kind="stable")[:limit])
        return [skills[place] for place in best]
