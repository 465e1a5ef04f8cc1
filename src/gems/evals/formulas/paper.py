"""The paper's two averages over benchmarks."""

from __future__ import annotations

from collections.abc import Mapping

MAINSTREAM = ("geneval/en", "geneval2/en", "dpg/en", "oneig/en", "oneig/zh", "wise/en")
"""Benchmarks and languages of the mainstream average."""
DOWNSTREAM = ("longtext/en", "longtext/zh", "spatial/en", "crea/en", "artimuse/en")
"""Benchmarks and languages of the downstream average."""
_CREA_MAX = 30


def mainstream_average(values: Mapping[str, float]) -> float | None:
    """Return the mainstream average in [0, 100] of values on published scales; None if one is missing.

    Source: GEMS (arXiv:2603.28088), Table 1; its rows give this formula.
    """
    if not all(name in values for name in MAINSTREAM):
        return None
    oneig = 50 * (values["oneig/en"] + values["oneig/zh"])
    return (
        100 * values["geneval/en"]
        + values["geneval2/en"]
        + values["dpg/en"]
        + oneig
        + 100 * values["wise/en"]
    ) / 5


def downstream_average(values: Mapping[str, float]) -> float | None:
    """Return the downstream average in [0, 100] of values on published scales; None if one is missing.

    Source: GEMS (arXiv:2603.28088), Table 2; its rows give this formula.
    """
    if not all(name in values for name in DOWNSTREAM):
        return None
    longtext = 50 * (values["longtext/en"] + values["longtext/zh"])
    crea = 100 * values["crea/en"] / _CREA_MAX
    return (longtext + values["spatial/en"] + crea + values["artimuse/en"]) / 4
