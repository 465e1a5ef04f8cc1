"""Answers of questions that depend on other questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Parents = Mapping[int, Sequence[int]]
"""The questions that each question depends on; 0 means none."""


def cascade_failures(answers: Mapping[int, float], parents: Parents) -> dict[int, float]:
    """Set questions with a failed parent to 0, and so on for their children.

    Answers are 0 or 1, in the order of the file; a parent counts with its value so far. Raises `KeyError`
    for an unknown parent.

    Source: DPG-Bench.
    """
    found = dict(answers)
    for question, above in parents.items():
        if any(found[parent] == 0 for parent in above if parent != 0):
            found[question] = 0.0
    return found


def fail_children(answers: Mapping[int, float], parents: Parents) -> dict[int, float]:
    """Set questions to 0 if the raw answer of a parent is 0; nothing cascades.

    Unknown parents are ignored.

    Source: OneIG.
    """
    return {
        question: 0.0
        if any(answers.get(parent, 1.0) == 0 for parent in parents.get(question, ()) if parent != 0)
        else answer
        for question, answer in answers.items()
    }
