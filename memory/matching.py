"""Filters of items and namespaces in store operations."""

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
    """Return a filter in Chroma's form, and whether it expresses the whole filter.

    Chroma supports equality of flat fields and order of numbers; for anything else all items must be checked.
    """
    parts: list[dict[str, Any]] = []
    for name, value in wanted.items():
        conditions = value if _is_conditions(value) else {"$eq": value}
        for operator_name, limit in conditions.items():
            known = (
                isinstance(limit, int | float)
                if operator_name in _ORDERED
                else isinstance(limit, str | int | float)
            )
            # An item without the field is unequal, too, but not for Chroma.
            if (
                not known
                or operator_name == "$ne"
                or operator_name not in _OPERATORS
                or name.startswith("text")
            ):
                return None, False
            parts.append({f"f_{name}": {operator_name: limit}})
    if not parts:
        return None, True
    return (parts[0] if len(parts) == 1 else {"$and": parts}), True


def matches_filter(value: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether an item's value matches a filter; ValueError for an unknown operator."""
    return all(_value_matches(value.get(name), given) for name, given in wanted.items())


def _value_matches(found: Any, given: Any) -> bool:
    if not _is_conditions(given):
        return bool(found == given)
    for operator_name, limit in given.items():
        if operator_name not in _OPERATORS:
            raise ValueError(
                f"Unknown filter operator: {operator_name!r}. Use $eq, $ne, $gt, $gte, $lt or $lte."
            )
        if operator_name in _ORDERED and found is None:
            return False
        if not _OPERATORS[operator_name](found, limit):
            return False
    return True


def _is_conditions(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(str(name).startswith("$") for name in value)


def match_namespaces(known: Sequence[tuple[str, ...]], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    """Return the sorted namespaces that match, cut to the requested depth."""
    conditions = op.match_conditions or ()
    fitting = [name for name in known if all(_namespace_matches(name, condition) for condition in conditions)]
    cut = sorted({name[: op.max_depth] if op.max_depth else name for name in fitting})
    return cut[op.offset : op.offset + op.limit]


def _namespace_matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = tuple(condition.path)
    if len(namespace) < len(path):
        return False
    part = (
        namespace[: len(path)]
        if condition.match_type == "prefix"
        else namespace[len(namespace) - len(path) :]
    )
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
