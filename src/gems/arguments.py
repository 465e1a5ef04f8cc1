"""Options and arguments of a run."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import TypedDict

from gems.runs.source_images import SourceImage
from gems.types import Profile

# Options that a fork may change; the others determined the shared rounds.
FORK_OPTIONS = (
    "max_rounds",
    "candidates",
    "seed",
    "negative_prompt",
    "max_images",
    "budget_usd",
    "deadline_s",
    "plateau",
)


class RunOptions(TypedDict, total=False):
    """Options of a run; see `gems.state.Input` for ranges and defaults."""

    max_rounds: int | None
    candidates: int | None
    size: str | None
    seed: int | None
    profile: Profile | None
    negative_prompt: str | None
    skills: str | None
    max_images: int | None
    budget_usd: float | None
    deadline_s: float | None
    plateau: int | None
    memory: bool | None


class Target(TypedDict, total=False):
    """Output of the result."""

    out: str | Path | None
    """A `.png` file or a folder; `outputs` in GEMS_HOME by default."""
    metadata: bool
    """Whether the PNG contains metadata of the run; true by default."""
    owner: str
    """The user whose run it is, on servers with users; kept when a run is resumed or forked."""


class RunArguments(RunOptions, Target, total=False):
    """All arguments of a run besides its prompt."""

    source: bytes | Path | SourceImage | None
    """An image to edit: a PNG, JPEG or WebP file or its bytes."""
    new_id: str | None
    """The new run's id, for callers that must know it in advance. At most 100 letters, digits, `.`, `_` and
    `-`, and unused; by default built from the time and a random part."""
