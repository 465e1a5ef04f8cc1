"""The prompts that ship with the built-in world."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True, slots=True)
class BlocksPrompt:
    """A prompt in the world's vocabulary with an id such as `b01` and the seed to draw it with."""

    id: str
    prompt: str
    seed: int
    difficulty: Difficulty


def load_prompts() -> list[BlocksPrompt]:
    """Read all 60 prompts, in the order of their ids."""
    text = files("gems.models.blocks").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [BlocksPrompt(**json.loads(line)) for line in text.splitlines() if line.strip()]
