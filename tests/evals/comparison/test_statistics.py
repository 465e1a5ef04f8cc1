"""Means, intervals and tests against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gems.evals.comparison.statistics import Mean, adjust_holm, compare_paired, mean_with_interval
from gems.evals.comparison.table import NONE, Scale, Table, format_amount, format_coverage, format_p


def test_a_mean_with_its_interval() -> None:
    values = [1.0] * 60 + [0.0] * 40
    found = mean_with_interval(values)
    assert (found.value, found.prompts) == (0.6, 100)
    assert found.low is not None
    assert found.high is not None
    # By the normal approximation: 0.6 plus or minus 1.96 * sqrt(0.6 * 0.4 / 100) = 0.504 to 0.696.
    assert found.low == pytest.approx(0.504, abs=0.015)
    assert found.high == pytest.approx(0.696, abs=0.015)
    assert mean_with_interval(values) == found


@pytest.mark.parametrize("values", [[0.7], [1.0] * 30])
def test_where_nothing_differs_there_is_no_interval(values: list[float]) -> None:
    assert mean_with_interval(values) == Mean(value=values[0], low=None, high=None, prompts=len(values))


def test_there_is_no_mean_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        mean_with_interval([])


def test_mcnemar_by_hand() -> None:
    """Of 11 prompts that differ 9 are better: 2 * (1 + 11 + 55) / 2**11."""
    first = {str(n): float(n < 9) for n in range(20)}
    second = {str(n): float(9 <= n < 11) for n in range(20)}
    found = compare_paired(first, second)
    assert found is not None
    assert (found.better, found.worse, found.test) == (9, 2, "McNemar, exact")
    assert found.p == pytest.approx(134 / 2048)
    assert found.difference.value == pytest.approx(7 / 20)
    assert found.wilcoxon is None


def test_signs_by_hand() -> None:
    """Three differences of one sign: 2 of 8 ways to choose signs are as extreme."""
    found = compare_paired({"a": 0.5, "b": 0.7, "c": 0.9, "only": 1.0}, {"a": 0.4, "b": 0.5, "c": 0.6, "other": 0.0})
    assert found is not None
    assert (found.test, found.difference.prompts) == ("permutation of signs", 3)
    assert found.p == pytest.approx(2 / 8)
    assert found.difference.value == pytest.approx(0.2)
    assert found.wilcoxon is None


def test_ranks_where_enough_prompts_differ() -> None:
    """All twelve better: z = (78 - 39) / sqrt(12 * 13 * 25 / 24) without ties."""
    first = {str(n): 0.5 + 0.01 * (n + 1) for n in range(12)}
    found = compare_paired(first, dict.fromkeys(first, 0.5))
    assert found is not None
    z = (78 - 39) / np.sqrt(12 * 13 * 25 / 24)
    assert found.wilcoxon == pytest.approx(2 * stats.norm.sf(z))
    assert found.p == pytest.approx(2 / 2**12, rel=0.01)


def test_the_same_does_not_differ() -> None:
    for values in ({"a": 1.0, "b": 0.0}, {"a": 0.3, "b": 0.2}):
        found = compare_paired(values, values)
        assert found is not None
        assert (found.p, found.better, found.worse) == (1.0, 0, 0)


def test_a_single_prompt_tells_nothing() -> None:
    found = compare_paired({"a": 0.5}, {"a": 0.25})
    assert found is not None
    assert (found.p, found.difference.value, found.difference.low) == (1.0, 0.25, None)


def test_nothing_in_common() -> None:
    assert compare_paired({"a": 1.0}, {"b": 1.0}) is None


def test_holm_by_hand() -> None:
    """0.01 * 3, then 0.02 * 2, then 0.03 * 1, which may not be smaller than the one before."""
    assert adjust_holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0]
    assert adjust_holm([]) == []


def test_numbers_as_people_read_them() -> None:
    share = Scale.of([0.25, 1.0])
    assert share.mean(Mean(value=0.875, low=0.81, high=0.93, prompts=8)) == "87.5 % (81.0 to 93.0)"
    assert share.mean(Mean(value=-0.1, low=-0.2, high=0.05, prompts=8), signed=True) == "-10.0 (-20.0 to +5.0)"
    assert share.mean(Mean(value=1.0, low=None, high=None, prompts=8)) == "100.0 %"
    assert Scale.of([3.0, 22.55]).number(22.55) == "22.6"
    assert {share.mean(None), share.number(None), format_amount(None), format_p(None)} == {NONE}
    assert (format_p(0.0004), format_p(0.0654)) == ("< 0.001", "0.065")
    assert (format_amount(2.654), format_amount(5834.2)) == ("2.65", "5,834")
    assert (format_coverage(40, 200), format_coverage(200, 200)) == ("40 of 200, partial", "200 of 200")


def test_markdown_survives_whatever_stands_in_cells() -> None:
    table = Table(title="a <b>", columns=["x", "y"], rows=[["p|q\nr", "5*"]], notes=["* partial <i>"])
    assert table.markdown().splitlines() == [
        "### a &lt;b>",
        "",
        "| x | y |",
        "| --- | ---: |",
        r"| p\|q r | 5\* |",
        "",
        r"\* partial &lt;i>",
    ]
