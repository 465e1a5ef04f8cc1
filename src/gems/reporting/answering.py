"""Requirements across rounds: met, lost, and the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gems.results import CheckedRequirement
from gems.types import Answer, AnswerValue, Round

State = Literal["yes", "no", "unknown", "none"]
_STATE_SIGNS: dict[State, str] = {"yes": "✓", "no": "✗", "unknown": "?", "none": "–"}  # noqa: RUF001 - a sign
_STATE_WORDS: dict[State, str] = {"yes": "met", "no": "not met", "unknown": "unknown", "none": "not asked"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One requirement in one round."""

    round: int
    state: State
    lost: bool
    """Not met, although an earlier round met it."""
    gained: bool
    """Met, although the round before did not meet it."""
    question: str
    evidence: str
    likely: str
    """The probability of yes as text; empty if it is not known."""
    source: str

    @property
    def sign(self) -> str:
        """A one-character symbol."""
        return _STATE_SIGNS[self.state]

    @property
    def word(self) -> str:
        """The state in words."""
        return "lost" if self.lost else _STATE_WORDS[self.state]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One requirement in all rounds."""

    id: str
    question: str
    kind: str
    cells: list[Cell]

    @property
    def lost_in(self) -> list[int]:
        """The rounds that lost it."""
        changed = zip([None, *self.cells], self.cells, strict=False)
        return [
            cell.round
            for before, cell in changed
            if cell.lost and before is not None and before.state == "yes"
        ]

    @property
    def is_lost(self) -> bool:
        """Whether the last round does not meet what an earlier one met."""
        return bool(self.cells) and self.cells[-1].lost


def matrix(requirements: Sequence[CheckedRequirement], rounds: Sequence[Round]) -> list[Row]:
    """Return one row per requirement with a cell per round, for the round's best image."""
    answers = [_best_answers(round_) for round_ in rounds]
    return [
        Row(
            id=requirement.id,
            question=requirement.question,
            kind=requirement.kind,
            cells=_cells(requirement, rounds, answers),
        )
        for requirement in requirements
    ]


def _cells(
    requirement: CheckedRequirement, rounds: Sequence[Round], answers: Sequence[dict[str, Answer]]
) -> list[Cell]:
    cells: list[Cell] = []
    was_met = False
    for round_, found in zip(rounds, answers, strict=True):
        answer = found.get(requirement.id)
        value: AnswerValue | None = answer["answer"] if answer else None
        cells.append(
            Cell(
                round=round_["number"],
                state=value or "none",
                lost=was_met and value == "no",
                gained=value == "yes" and bool(cells) and cells[-1].state != "yes",
                question=requirement.question,
                evidence=answer["evidence"] if answer else "",
                likely=_format_probability(answer),
                source=answer["source"] if answer else "",
            )
        )
        was_met = was_met or value == "yes"
    return cells


def _best_answers(round_: Round) -> dict[str, Answer]:
    return {answer["requirement"]: answer for answer in round_["verdicts"][round_["best"]]["answers"]}


def _format_probability(answer: Answer | None) -> str:
    return f"{answer['probability']:.0%} yes" if answer and answer["probability"] is not None else ""
