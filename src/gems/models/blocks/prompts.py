"""The prompts that ship with the built-in world."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True, slots=True)
class BlocksPrompt:
    """One prompt of the set.

    Attributes:
        id: For example `b01`.
        prompt: Written in the world's vocabulary.
        seed: To draw it with.
        difficulty: By how much there is to get wrong.
    """

    id: str
    prompt: str
    seed: int
    difficulty: Difficulty


def load_prompts() -> list[BlocksPrompt]:
    """All 60 prompts, in the order of their ids. Reads a file of the package."""
    text = files("gems.models.blocks").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [BlocksPrompt(**json.loads(line)) for line in text.splitlines() if line.strip()]
