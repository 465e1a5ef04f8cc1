"""What a trajectory hands on to the store: operations that the writer carries out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gems.memory.experience import EXPERIENCES, experience_key, namespace
from gems.memory.outbox import PendingOp
from gems.memory.remembering import credits_of, remembered_rounds
from gems.types import Recall


def experience_ops(state: Mapping[str, Any], run: str, generator: str) -> list[PendingOp]:
    """One put for each round of a run that taught something.

    Args:
        state: The run's state, however far it came.
        run: What experiences call the run.
        generator: What drew it.
    """
    return [
        {
            "id": f"experience/{run}/{value['round']}",
            "kind": "put",
            "namespace": list(namespace(EXPERIENCES, generator)),
            "key": experience_key(run, value["round"]),
            "value": {**value, "generator": generator},
        }
        for value in remembered_rounds(state, run)
    ]


def credit_ops(recall: Recall, state: Mapping[str, Any], name: str) -> list[PendingOp]:
    """One credit for each lesson of a recall whose round is judged.

    Args:
        recall: What was shown.
        state: The run's state.
        name: How the operations' ids begin; the same ones are carried out once.
    """
    merits = credits_of(recall, state["rounds"], state["requirements"])
    return [
        {
            "id": f"{name}/{recall['round']}/{lesson['key']}",
            "kind": "credit",
            "namespace": lesson["namespace"],
            "key": lesson["key"],
            "value": dict(merit),
        }
        for lesson, merit in zip(recall["lessons"], merits, strict=True)
    ]
