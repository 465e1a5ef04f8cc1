"""How sure a mean is, and whether two harnesses differ: prompts are what is drawn by lot, never samples.

Samples and seeds of one prompt are alike, so they are first averaged to one value for each prompt.
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
"""The same numbers give the same intervals."""
_MIN_DIFFERING = 10
"""Prompts that must differ before ranks of differences say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over prompts.

    Attributes:
        value: On the scale of the values.
        low: Lower end of the bootstrap interval of 95 %; None where the prompts are too few or all alike.
        high: Upper end.
        prompts: What it rests on.
    """

    value: float
    low: float | None
    high: float | None
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """Two harnesses on the prompts that both were scored on.

    Attributes:
        difference: Mean of the first less mean of the second, with its interval.
        better: Prompts on which the first is better.
        worse: Prompts on which it is worse.
        p: Two-sided probability of so large a difference if there were none.
        test: `McNemar, exact` where every value is 0 or 1, else `permutation of signs`.
        wilcoxon: The same by the signed-rank test; None for values of 0 and 1, and where few prompts differ.
    """

    difference: Mean
    better: int
    worse: int
    p: float
    test: str
    wilcoxon: float | None


def mean_with_interval(values: Sequence[float]) -> Mean:
    """The mean with its interval, by resampling the values, one for each prompt.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("There is no mean of nothing.")
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


def compare_paired(first: Mapping[str, float], second: Mapping[str, float]) -> PairedComparison | None:
    """Compare values by prompt; None where no prompt is in both."""
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
        p=_mcnemar(better, worse) if binary else _sign_permutation(differences),
        test="McNemar, exact" if binary else "permutation of signs",
        wilcoxon=None if binary else _signed_rank(differences),
    )


def _mcnemar(better: int, worse: int) -> float:
    """Those prompts that differ are as good as coins if the two are alike."""
    if not better + worse:
        return 1.0
    return float(stats.binomtest(better, better + worse, 0.5).pvalue)


def _sign_permutation(differences: Floats) -> float:
    # Of a single one, both signs are as extreme.
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
    """The same probabilities when so many differences are looked at together, in their order.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted
