"""When a patch is proven: exact paired tests, the correction for earlier trials, and when to stop early.

Each prompt gives one pair of images of one seed, without and with the patch, and of each it is known whether it meets
everything. Only pairs that differ count (McNemar, "Note on the sampling error of the difference between correlated
proportions", Psychometrika 1947): if the patch does nothing, each of them is better or worse by the toss of a coin, so
that the exact test is that of signs. It is looked at once. A trial ends earlier only where the remaining pairs cannot
change its result, or where it has little hope: neither can make a patch without effect pass more often. Nor can the end
of the budget, since what a pair costs is the same whichever of its two images is called the one with the patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb
from typing import Literal

from gems.memory.patches import Counts

ALPHA = 0.05
"""Chance that any of all patches that are tried on the same prompts passes although none has an effect."""
MARGIN = 0.05
"""Largest net loss on the preservation set, as a share of its pairs."""
HARM_LEVEL = 0.1
"""A loss on the preservation set with a smaller p-value is no chance."""
LITTLE_HOPE = 0.05
"""Chance to become significant, by what was seen so far, below which a trial ends."""
FEWEST_SEEN = 8
"""Pairs before which hope is not judged."""

Standing = Literal["open", "proven", "hopeless", "harmful"]


def share_of_alpha(tried: int, alpha: float = ALPHA) -> float:
    """Return the level of the trial number `tried`, from 1, on the same prompts: alpha / (tried (tried + 1)).

    Over all trials, however many follow, the levels sum to alpha (alpha-spending: Bonferroni's correction with unequal
    shares, for a number of tests that nobody knows in advance; Tian and Ramdas, "Online control of the familywise error
    rate", 2021).
    """
    return alpha / (tried * (tried + 1))


def p_of_signs(better: int, worse: int) -> float:
    """Return the chance of at least `better` heads in `better + worse` tosses: the exact one-sided p-value."""
    tosses = better + worse
    return sum(comb(tosses, heads) for heads in range(better, tosses + 1)) / (1 << tosses)


def fewest_pairs(level: float) -> int:
    """Return the least number of pairs that can be significant: all of them better."""
    pairs = 1
    while p_of_signs(pairs, 0) > level:
        pairs += 1
    return pairs


def count_pairs(outcomes: Iterable[tuple[bool | None, bool | None]]) -> Counts:
    """Count pairs of what was measured without and with a patch; None for what could not be measured.

    A pair without a result of the first is left out. One without a result of the second counts against the patch, which
    may have caused it.
    """
    pairs = met = better = worse = left_out = 0
    for without, with_patch in outcomes:
        left_out += without is None
        pairs += without is not None
        met += without is True
        better += without is False and with_patch is True
        worse += without is True and with_patch is not True
    return Counts(pairs=pairs, met=met, better=better, worse=worse, left_out=left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many pairs a trial has, and what it has to reach."""

    held: int
    keep: int
    level: float

    def standing(self, held: Counts, keep: Counts) -> tuple[Standing, str]:
        """Return how a trial stands, and why as a sentence."""
        held_left = self.held - held.pairs - held.left_out
        keep_left = self.keep - keep.pairs - keep.left_out
        if self._is_harmful(keep, keep_left):
            return "harmful", (
                f"Of {keep.pairs} prompts that are to go on passing, {keep.worse} got worse and {keep.better} better."
            )
        best = p_of_signs(held.better + held_left, held.worse)
        found = f"of {held.pairs} held-out prompts, {held.better} got better and {held.worse} worse"
        if best > self.level:
            why = "which is not enough" if not held_left else "and the others cannot make up for it"
            return "hopeless", f"{found[0].upper()}{found[1:]}, {why}."
        if held_left and held.pairs >= FEWEST_SEEN and self._hope(held, held_left) < LITTLE_HOPE:
            return "hopeless", f"There is little hope: {found}."
        if p_of_signs(held.better, held.worse + held_left) <= self.level and not keep_left:
            if 2 * keep.met < keep.pairs:
                return "hopeless", f"Only {keep.met} of {keep.pairs} prompts that are to go on passing pass without it."
            return "proven", (
                f"{found[0].upper()}{found[1:]}; of {keep.pairs} that are to go on passing, {keep.worse} got worse and "
                f"{keep.better} better."
            )
        return "open", f"So far, {found}."

    def _is_harmful(self, keep: Counts, left: int) -> bool:
        allowed = int(MARGIN * self.keep)
        if keep.worse - keep.better - left > allowed:
            return True
        return not left and keep.worse > keep.better and p_of_signs(keep.worse, keep.better) <= HARM_LEVEL

    def _hope(self, held: Counts, left: int) -> float:
        """Return the chance that the test becomes significant, if pairs go on as so far (conditional power).

        One pair more of each outcome is assumed to have been seen.
        """
        total = held.pairs + 3
        differs = (held.better + held.worse + 2) / total
        helps = (held.better + 1) / (held.better + held.worse + 2)
        chance = 0.0
        for differing in range(left + 1):
            of_differing = comb(left, differing) * differs**differing * (1 - differs) ** (left - differing)
            for more in range(differing, -1, -1):
                if p_of_signs(held.better + more, held.worse + differing - more) > self.level:
                    break
                chance += of_differing * comb(differing, more) * helps**more * (1 - helps) ** (differing - more)
        return chance
