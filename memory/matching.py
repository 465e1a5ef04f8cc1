"""Which items and namespaces a store operation asks for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from langgraph.store.base import ListNamespacesOp, MatchCondition

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ORDERED = ("$gt", "$gte", "$lt", "$lte")


def where_clause(wanted: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    """A filter as Chroma takes it, and whether it says all of it.

    Chroma knows equality of flat fields and order of numbers; for anything else every item must be looked at.
    """
    parts: list[dict[str, Any]] = []
    for name, value in wanted.items():
        conditions = value if _is_conditions(value) else {"$eq": value}
        for sign, limit in conditions.items():
            known = (
                isinstance(limit, int | float) if sign in _ORDERED else isinstance(limit, str | int | float)
            )
            # What lacks the field is unequal, too, which Chroma sees otherwise.
            if not known or sign == "$ne" or sign not in _OPERATORS or name.startswith("text"):
                return None, False
            parts.append({f"f_{name}": {sign: limit}})
    if not parts:
        return None, True
    return (parts[0] if len(parts) == 1 else {"$and": parts}), True


def is_wanted(value: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an item's value fits a filter.

    Raises:
        ValueError: the filter has an operator that there is not.
    """
    return all(_fits(value.get(name), given) for name, given in wanted.items())


def _fits(found: Any, given: Any) -> bool:
    if not _is_conditions(given):
        return bool(found == given)
    for sign, limit in given.items():
        if sign not in _OPERATORS:
            raise ValueError(f"There is no operator {sign!r} in filters.")
        if sign in _ORDERED and found is None:
            return False
        if not _OPERATORS[sign](found, limit):
            return False
    return True


def _is_conditions(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(str(name).startswith("$") for name in value)


def namespaces_of(known: Sequence[tuple[str, ...]], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    """The namespaces that are asked for, cut to the depth that is asked for, in order."""
    conditions = op.match_conditions or ()
    fitting = [name for name in known if all(_matches(name, condition) for condition in conditions)]
    cut = sorted({name[: op.max_depth] if op.max_depth else name for name in fitting})
    return cut[op.offset : op.offset + op.limit]


def _matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = tuple(condition.path)
    if len(namespace) < len(path):
        return False
    part = (
        namespace[: len(path)]
        if condition.match_type == "prefix"
        else namespace[len(namespace) - len(path) :]
    )
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
