import pytest
from scipy import stats

from gems.evolution.significance import ALPHA, Plan, count_pairs, fewest_pairs, p_of_signs, share_of_alpha
from gems.memory.patches import Counts


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (9, 2), (3, 7), (40, 21)])
def test_p_is_that_of_the_exact_test(better: int, worse: int) -> None:
    expected = stats.binomtest(better, better + worse, 0.5, "greater").pvalue if better + worse else 1.0
    assert p_of_signs(better, worse) == pytest.approx(expected)


def test_levels_of_all_trials_sum_to_alpha() -> None:
    levels = [share_of_alpha(tried) for tried in range(1, 100_000)]
    assert ALPHA * 0.9999 < sum(levels) <= ALPHA
    assert levels == sorted(levels, reverse=True)
    assert [fewest_pairs(share_of_alpha(tried)) for tried in (1, 2, 10)] == [6, 7, 12]


def test_what_cannot_be_measured_counts_against_the_patch_only_where_it_may_be_to_blame() -> None:
    outcomes = [(None, True), (True, None), (False, None), (False, True), (True, False), (True, True), (False, False)]
    assert count_pairs(outcomes) == Counts(pairs=6, met=3, better=1, worse=2, left_out=1)


PLAN = Plan(held=20, keep=20, level=0.025)
KEPT = Counts(pairs=20, met=18, better=1, worse=1)


@pytest.mark.parametrize(
    ("held", "keep", "standing"),
    [
        (Counts(), Counts(), "open"),
        (Counts(pairs=20, met=10, better=8, worse=1), KEPT, "proven"),
        (Counts(pairs=20, met=10, better=5, worse=0), KEPT, "hopeless"),
        # Decided early: nothing that is left can change it, but the preservation set is looked at in full.
        (Counts(pairs=18, met=8, better=10, worse=0), KEPT, "proven"),
        (Counts(pairs=18, met=8, better=10, worse=0), Counts(pairs=19, met=18, better=0, worse=0), "open"),
        (Counts(pairs=12, met=6, better=0, worse=0), Counts(pairs=3, met=3), "hopeless"),
        (Counts(pairs=20, met=10, better=8, worse=1), Counts(pairs=20, met=18, better=0, worse=2), "harmful"),
        (Counts(pairs=20, met=10, better=8, worse=1), Counts(pairs=20, met=18, better=0, worse=1), "proven"),
        (Counts(pairs=5, met=2, better=3, worse=0), Counts(pairs=5, met=5, better=0, worse=20), "harmful"),
        # Prompts that do not pass cannot get worse.
        (Counts(pairs=20, met=10, better=8, worse=1), Counts(pairs=20, met=9), "hopeless"),
    ],
)
def test_standing(held: Counts, keep: Counts, standing: str) -> None:
    found, why = PLAN.standing(held, keep)
    assert (found, why.endswith(".")) == (standing, True)
