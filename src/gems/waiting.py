"""Runs that wait for a person's answer to a skill's question."""

from __future__ import annotations

from typing import Any

from langgraph.types import Command, Interrupt, StateSnapshot

from gems.errors import AnswerNeededError, OptionError


def pending_question(snapshot: StateSnapshot) -> Interrupt | None:
    """Return the question that a run waits for, if any."""
    return snapshot.interrupts[0] if snapshot.interrupts else None


def answer_needed_error(run_id: str, question: Interrupt) -> AnswerNeededError:
    """Return the error with the question and how to answer it."""
    error = AnswerNeededError(
        f"A skill asks: {' '.join(str(question.value).split())[:500]}",
        hint=f"Answer with: gems resume {run_id} --answer TEXT",
    )
    error.run_id = run_id
    return error


def resume_input(run_id: str, snapshot: StateSnapshot, answer: str | None) -> Command[Any] | None:
    """Return the input to resume a run with; None if there is no question.

    Raises AnswerNeededError if the answer is missing, OptionError if there is no question to answer.
    """
    question = pending_question(snapshot)
    if question is None:
        if answer is not None:
            raise OptionError(
                f"The run {run_id} does not ask a question.", hint="Resume it without an answer."
            )
        return None
    if answer is None:
        raise answer_needed_error(run_id, question)
    return Command(resume={question.id: answer})
