"""Confidence intervals and paired tests; the unit of resampling is the prompt, never the sample.

Samples and seeds of one prompt are correlated, so they are averaged to one value per prompt first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
RESAMPLES = 4_999
LEVEL = 0.95
_SEED = 20260328
"""Fixed, so that the same numbers give the same intervals."""
_MIN_DIFFERING = 10
"""Minimum number of differing prompts for the signed-rank test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over prompts with its 95 % bootstrap interval; None for a single prompt or equal values."""

    value: float
    low: float | None
    high: float | None
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """Two harnesses compared on the prompts that both were scored on."""

    difference: Mean
    """Mean of the first minus mean of the second."""
    better: int
    """Prompts where the first is better."""
    worse: int
    test: str
    """`McNemar, exact` if every value is 0 or 1, else `permutation of signs`."""
    p: float
    """Two-sided p-value."""
    wilcoxon: float | None
    """p-value of the signed-rank test; None for values of 0 and 1, and if few prompts differ."""


def mean_with_interval(values: Sequence[float]) -> Mean:
    """Return the mean with its bootstrap interval; raises `ValueError` for no values."""
    if not values:
        raise ValueError("The mean needs at least one value.")
    found = np.asarray(values, dtype=np.float64)
    low = high = None
    if found.size > 1 and np.ptp(found) > 0:
        interval = stats.bootstrap(
            (found,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(_SEED),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return Mean(value=float(found.mean()), low=low, high=high, prompts=found.size)


def mean_over_prompts(values: Mapping[str, float]) -> Mean | None:
    """Return the mean of values by prompt; None for no values."""
    return mean_with_interval(list(values.values())) if values else None


def compare_paired(first: Mapping[str, float], second: Mapping[str, float]) -> PairedComparison | None:
    """Compare values by prompt; None if the two have no prompt in common."""
    common = [prompt for prompt in first if prompt in second]
    if not common:
        return None
    a = np.asarray([first[prompt] for prompt in common], dtype=np.float64)
    b = np.asarray([second[prompt] for prompt in common], dtype=np.float64)
    differences = a - b
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    binary = bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all())
    return PairedComparison(
        difference=mean_with_interval([float(value) for value in differences]),
        better=better,
        worse=worse,
        p=_exact_mcnemar(better, worse) if binary else _sign_permutation(differences),
        test="McNemar, exact" if binary else "permutation of signs",
        wilcoxon=None if binary else _signed_rank(differences),
    )


def _exact_mcnemar(better: int, worse: int) -> float:
    return float(stats.binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0


def _sign_permutation(differences: Floats) -> float:
    # With a single difference both signs are equally extreme.
    if not differences.any() or differences.size == 1:
        return 1.0
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def _signed_rank(differences: Floats) -> float | None:
    differing = differences[differences != 0]
    if differing.size < _MIN_DIFFERING:
        return None
    return float(stats.wilcoxon(differing, method="approx").pvalue)


def adjust_holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple comparisons, in their order.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted
