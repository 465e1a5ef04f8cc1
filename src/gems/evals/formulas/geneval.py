"""GenEval: combine checks of an image, and the overall score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def combine_checks(checks: Sequence[bool | None]) -> bool | None:
    """Return whether all checks hold: False if one failed, else None if one is unknown."""
    if False in checks:
        return False
    return None if None in checks else True


def geneval_score(rates: Mapping[str, float]) -> float | None:
    """Return the score in [0, 1]: the unweighted mean of the rates by kind; None for no rates."""
    return sum(rates.values()) / len(rates) if rates else None
