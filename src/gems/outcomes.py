"""Build a RunResult from a run's state, however far the run came."""

from __future__ import annotations

from typing import Any

from gems.results import CheckedRequirement, RunResult, all_rounds, outcome
from gems.state import State
from gems.types import Round, RunRow, RunStatus


def build_result(state: State, row: RunRow, status: RunStatus) -> RunResult:
    """Build the result of a run from its state, without the image's bytes."""
    rounds = all_rounds(state)
    found: dict[str, Any] = (
        outcome(rounds)
        if rounds
        else {"image": None, "score": 0.0, "best_round": 0, "final_prompt": state.get("draw_prompt", "")}
    )
    return RunResult(
        run_id=row["run_id"],
        status=status,
        prompt=row["prompt"],
        path=None,
        image_id=found["image"],
        score=found["score"],
        stop_reason=state.get("stop_reason"),
        final_prompt=found["final_prompt"],
        best_round=found["best_round"],
        rounds=rounds,
        requirements=_check_requirements(state, rounds, found["best_round"]),
        experiences=state.get("experiences") or [],
        recalls=state.get("recalls") or [],
        skill_uses=state.get("skill_uses") or [],
        usage=state.get("usage") or {},
        plan=state.get("plan"),
        options=row["options"],
        models=row["models"],
        warnings=state.get("warnings") or [],
        failure=state.get("failure"),
        seconds=round(sum(sum(round_["seconds"].values()) for round_ in rounds), 3),
        forked_from=row["forked_from"],
    )


def _check_requirements(state: State, rounds: list[Round], best: int) -> list[CheckedRequirement]:
    """Return the requirements with the answers for the best image; unknown while there is none."""
    round_ = next((round_ for round_ in rounds if round_["number"] == best), None)
    answers = {a["requirement"]: a for a in round_["verdicts"][round_["best"]]["answers"]} if round_ else {}
    checked = []
    for requirement in state.get("requirements") or []:
        answer = answers.get(requirement["id"])
        checked.append(
            CheckedRequirement(
                **requirement,
                answer=answer["answer"] if answer else "unknown",
                evidence=answer["evidence"] if answer else "",
                probability=answer["probability"] if answer else None,
                source=answer["source"] if answer else "",
            )
        )
    return checked
