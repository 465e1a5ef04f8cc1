"""Questions that make sense only where others were answered with yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Parents = Mapping[int, Sequence[int]]
"""For each question those it depends on; 0 stands for none."""


def cascade_failures(answers: Mapping[int, float], parents: Parents) -> dict[int, float]:
    """Answers where a failed parent makes a question 0, and so on for those that depend on it.

    Args:
        answers: 0 or 1 by question, in the order of the file; a parent counts as it is by then.
        parents: See `Parents`.

    Raises:
        KeyError: a parent is not among the questions.

    Source: DPG-Bench.
    """
    found = dict(answers)
    for question, above in parents.items():
        if any(found[parent] == 0 for parent in above if parent != 0):
            found[question] = 0.0
    return found


def fail_children(answers: Mapping[int, float], parents: Parents) -> dict[int, float]:
    """Answers where a parent that failed by itself makes a question 0; nothing cascades.

    A parent that is not among the questions is passed over.

    Source: OneIG.
    """
    return {
        question: 0.0
        if any(answers.get(parent, 1.0) == 0 for parent in parents.get(question, ()) if parent != 0)
        else answer
        for question, answer in answers.items()
    }
