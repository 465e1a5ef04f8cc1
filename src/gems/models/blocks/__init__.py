"""Built-in world: what it is, public names, prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from gems.models.blocks.chat_model import BlocksChat
from gems.models.blocks.detector import BlocksDetector
from gems.models.blocks.generator import BlocksGenerator, Rendering, render
from gems.models.blocks.judge import truth
from gems.models.blocks.scene import Scene, Thing

__all__ = [
    "BlocksChat",
    "BlocksDetector",
    "BlocksGenerator",
    "BlocksPrompt",
    "Rendering",
    "Scene",
    "Thing",
    "load_prompts",
    "render",
    "truth",
]

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
