"""Requirements across rounds, and scores as a line."""

from __future__ import annotations

from typing import Any

from gems.reporting.page import BOTTOM, LEFT, RIGHT, TOP, chart, matrix
from gems.results import CheckedRequirement


def requirement(name: str = "r1") -> CheckedRequirement:
    return CheckedRequirement(
        id=name,
        question="Is it red?",
        kind="attribute",
        parents=[],
        answer="no",
        evidence="",
        probability=None,
        source="judge",
    )


def turns(*answers: str, scores: tuple[float, ...] = (), best: int = 0) -> Any:
    """Rounds with one answer each; several scores make several candidates."""
    return [
        {
            "number": number,
            "best": best,
            "score": (scores or (0.5,))[best],
            "verdicts": [
                {
                    "score": score,
                    "answers": [
                        {
                            "requirement": "r1",
                            "answer": answer,
                            "evidence": f"seen {number}",
                            "probability": 0.25,
                            "source": "judge",
                        }
                    ],
                }
                for score in scores or (0.5,)
            ],
        }
        for number, answer in enumerate(answers, 1)
    ]


def test_lost_is_what_was_met_before() -> None:
    (row,) = matrix([requirement()], turns("no", "yes", "no", "no", "yes", "unknown", "no"))
    assert [cell.lost for cell in row.cells] == [False, False, True, True, False, False, True]
    assert [cell.gained for cell in row.cells] == [False, True, False, False, True, False, False]
    assert [cell.word for cell in row.cells][:4] == ["not met", "met", "lost", "lost"]
    assert (row.lost_in, row.is_lost) == ([3], True)


def test_regained_is_not_lost_any_more() -> None:
    (row,) = matrix([requirement()], turns("yes", "no", "yes"))
    assert (row.lost_in, row.is_lost) == ([2], False)


def test_cells_tell_what_was_seen() -> None:
    (row,) = matrix([requirement()], turns("unknown"))
    (cell,) = row.cells
    assert (cell.round, cell.evidence, cell.likely, cell.sign) == (1, "seen 1", "25% yes", "?")


def test_requirement_that_no_round_answered() -> None:
    (row,) = matrix([requirement("r9")], turns("yes", "yes"))
    assert [cell.state for cell in row.cells] == ["none", "none"]
    assert (row.lost_in, row.is_lost) == ([], False)
    assert matrix([requirement()], [])[0].is_lost is False


def test_chart_spans_its_frame() -> None:
    rounds = [*turns("no", scores=(0.0,)), *turns("no", scores=(1.0,))]
    rounds[1]["number"] = 2
    drawn = chart(rounds, best_round=2)
    assert [(dot.x, dot.y, dot.best) for dot in drawn.dots] == [(LEFT, BOTTOM, False), (RIGHT, TOP, True)]
    assert drawn.line == "0.00,100.00 100.00,0.00"
    assert drawn.said == "round 1: 0%, round 2: 100%"


def test_chart_of_one_round_and_of_many() -> None:
    assert chart(turns("no"), 1).dots[0].x == (LEFT + RIGHT) / 2
    labels = [dot.label for dot in chart(turns(*["no"] * 50), 1).dots if dot.label]
    assert labels.count("1") == 1
    assert 8 <= len(labels) <= 12


def test_other_candidates_are_dots_of_their_own() -> None:
    drawn = chart(turns("no", scores=(0.2, 0.8), best=1), best_round=1)
    assert [(dot.score, dot.chosen, dot.best) for dot in drawn.dots] == [
        (0.2, False, False),
        (0.8, True, True),
    ]
