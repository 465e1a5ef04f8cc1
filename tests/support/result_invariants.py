"""What a run that was killed and resumed must have in common with one that nothing happened to."""

from __future__ import annotations

from copy import deepcopy
from typing import Any


def unchanging(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs from run to run: its name, its places, and all durations."""
    differing = ("run_id", "path", "seconds", "models")
    plain = deepcopy({name: value for name, value in result.items() if name not in differing})
    plain["usage"] = {
        role: {name: count for name, count in share.items() if name != "seconds"}
        for role, share in plain["usage"].items()
    }
    for turn in plain["rounds"]:
        turn.pop("seconds")
        for candidate in turn["candidates"]:
            candidate.pop("seconds")
    return plain
