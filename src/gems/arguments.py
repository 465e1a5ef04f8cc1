"""What can be said about a run besides its prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from typing_extensions import TypedDict

from gems.memory.ledger import RunRow
from gems.runs.source_images import SourceImage
from gems.state import Input
from gems.types import Profile

# What a fork may do otherwise than its source; the rest has decided what is shared.
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
    """Where the result is written."""

    out: str | Path | None
    """A `.png` file or a folder; `outputs` in GEMS_HOME by default."""
    metadata: bool
    """Whether the PNG says what made it; it does by default."""
    owner: str
    """Whose run it is, where a server tells its users apart; of a resumed or forked run it stays."""


class RunArguments(RunOptions, Target, total=False):
    """Everything that can be said about a run besides its prompt."""

    source: bytes | Path | SourceImage | None
    """A picture that is edited instead of drawing from nothing: a PNG, JPEG or WebP file or its bytes."""
    new_id: str | None
    """The new run's id, so that whoever is killed before hearing it finds the run again. Letters, digits,
    `.`, `_` and `-`, 100 at most, and no other run's; one by time and chance by default."""


def as_input(row: RunRow) -> Input:
    """A run's complete options in the form that the graph takes: resolving them again changes nothing."""
    options = row["options"]
    given: dict[str, Any] = {name: options.get(name) for name in RunOptions.__annotations__}
    given |= {
        "plateau": options["plateau"] or 0,
        "prompt": row["prompt"],
        "owner": row["owner"] or None,
        "source": options.get("source"),
        "run_id": row["run_id"],
        # Where the user asked for none, a skill may still ask for another one.
        "size": f"{options['width']}x{options['height']}" if options.get("sized", True) else None,
    }
    return cast("Input", {name: value for name, value in given.items() if value is not None})
