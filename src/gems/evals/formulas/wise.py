"""WISE: weights of the three ratings and of the six fields."""

from __future__ import annotations

from collections.abc import Mapping

FIELDS: Mapping[str, range] = {
    "culture": range(1, 401),
    "time": range(401, 568),
    "space": range(568, 701),
    "biology": range(701, 801),
    "physics": range(801, 901),
    "chemistry": range(901, 1001),
}
"""Prompt ids of each field."""
_WEIGHTS = {
    "culture": 0.4,
    "time": 0.167,
    "space": 0.133,
    "biology": 0.1,
    "physics": 0.1,
    "chemistry": 0.1,
}


def wiscore(consistency: float, realism: float, aesthetic: float) -> float:
    """Return the score of an image in [0, 1] from its ratings in [0, 2]."""
    return (0.7 * consistency + 0.2 * realism + 0.1 * aesthetic) / 2


def get_field(prompt_id: int) -> str:
    """Return the field of a prompt id; raises `ValueError` for an unknown id."""
    for name, ids in FIELDS.items():
        if prompt_id in ids:
            return name
    raise ValueError(f"No prompt has the id {prompt_id}.")


def wise_score(fields: Mapping[str, float]) -> float | None:
    """Return the score in [0, 1] from the means of all six fields; None if one is missing."""
    if not all(name in fields for name in _WEIGHTS):
        return None
    return sum(weight * fields[name] for name, weight in _WEIGHTS.items())
