"""GenEval: when an image is right, and what the images of each kind come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def combine_checks(checks: Sequence[bool | None]) -> bool | None:
    """Whether everything about an image holds: False as soon as one check failed, whatever else is unknown.

    Args:
        checks: One for each thing that is asked for or forbidden; None where it could not be told.
    """
    if False in checks:
        return False
    return None if None in checks else True


def geneval_score(rates: Mapping[str, float]) -> float | None:
    """The score in [0, 1]: the mean over the kinds of prompts, each with the same weight; None of none.

    Args:
        rates: Share of right images in [0, 1], by kind.
    """
    return sum(rates.values()) / len(rates) if rates else None
