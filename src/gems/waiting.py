"""Runs that wait for an answer, since a skill has asked a person something."""

from __future__ import annotations

from typing import Any

from langgraph.types import Command, Interrupt, StateSnapshot

from gems.errors import AnswerNeededError, OptionError


def asked_in(snapshot: StateSnapshot) -> Interrupt | None:
    """What a run waits for; None where it waits for nothing."""
    return snapshot.interrupts[0] if snapshot.interrupts else None


def answer_needed(run_id: str, asked: Interrupt) -> AnswerNeededError:
    """The error that says what is asked and how to answer."""
    error = AnswerNeededError(
        f"A skill asks: {' '.join(str(asked.value).split())[:500]}",
        hint=f"Answer with: gems resume {run_id} --answer TEXT",
    )
    error.run_id = run_id
    return error


def going_on(run_id: str, snapshot: StateSnapshot, answer: str | None) -> Command[Any] | None:
    """What goes into the graph of a run that was asked to go on; None where nothing is to be answered.

    Raises:
        AnswerNeededError: it waits for an answer, and none is given.
        OptionError: an answer is given that nothing waits for.
    """
    asked = asked_in(snapshot)
    if asked is None:
        if answer is not None:
            raise OptionError(f"The run {run_id} asks nothing.", hint="Go on without an answer.")
        return None
    if answer is None:
        raise answer_needed(run_id, asked)
    return Command(resume={asked.id: answer})
