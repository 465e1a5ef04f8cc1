"""Options and arguments of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from typing_extensions import TypedDict

from gems.memory.ledger import RunRow
from gems.runs.source_images import SourceImage
from gems.state import Input
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


def as_input(row: RunRow) -> Input:
    """Return a run's complete options as graph input; resolving them again changes nothing."""
    options = row["options"]
    given: dict[str, Any] = {name: options.get(name) for name in RunOptions.__annotations__}
    given |= {
        "plateau": options["plateau"] or 0,
        "prompt": row["prompt"],
        "owner": row["owner"] or None,
        "source": options.get("source"),
        "run_id": row["run_id"],
        # If the user set no size, a skill may still change it.
        "size": f"{options['width']}x{options['height']}" if options.get("sized", True) else None,
    }
    return cast("Input", {name: value for name, value in given.items() if value is not None})
