"""Store operations for a trajectory's experiences and credits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gems.memory.experience import EXPERIENCES, PendingOp, experience_key, namespace
from gems.memory.remembering import collect_experiences, lesson_credits
from gems.types import Recall


def experience_ops(state: Mapping[str, Any], run: str, generator: str) -> list[PendingOp]:
    """Return one put for each round of a run, however far it came, that has an experience."""
    return [
        {
            "id": f"experience/{run}/{value['round']}",
            "kind": "put",
            "namespace": list(namespace(EXPERIENCES, generator)),
            "key": experience_key(run, value["round"]),
            "value": {**value, "generator": generator},
        }
        for value in collect_experiences(state, run)
    ]


def credit_ops(recall: Recall, state: Mapping[str, Any], name: str) -> list[PendingOp]:
    """Return one credit per lesson of a recall whose round is judged; `name` begins the ids."""
    merits = lesson_credits(recall, state["rounds"], state["requirements"])
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
