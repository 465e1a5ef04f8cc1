"""What chat models make of an answer: in another language, twice, the other way round, in another order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_OPPOSITE = {"yes": "no", "no": "yes"}
# Four languages, and in the last one words that look like English ones and mean something else.
_LANGUAGES: tuple[dict[str, str], ...] = (
    {"yes": "ja", "no": "nein", "unknown": "unbekannt", "is there": "gibt es", "it is": "es ist", "a": "ein"},
    {"yes": "是的", "no": "不是", "unknown": "不清楚", "is there": "有没有", "it is": "它", "a": "一个"},
    {"yes": "oui", "no": "non", "unknown": "inconnu", "is there": "y a-t-il", "it is": "c'est", "a": "un"},
    {"yes": "claro", "no": "y tampoco", "unknown": "ni idea", "is there": "hay", "it is": "es", "a": "un"},
)


def in_another_language(text: str) -> str:
    """The same answer with its words in a language that the text itself decides; names of fields stay."""
    words = _LANGUAGES[len(text) % len(_LANGUAGES)]

    def said(found: re.Match[str]) -> str:
        return words[found.group().lower()]

    pattern = re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)
    return _edited(text, lambda value: pattern.sub(said, value))


def twice(text: str) -> str:
    """Every item of every list of objects stands there twice."""
    return _with_lists(text, lambda items: [item for item in items for _ in range(2)])


def contradicted(text: str) -> str:
    """Every answer stands there twice, the second time the other way round."""

    def opposed(item: dict[str, Any]) -> dict[str, Any]:
        answer = item.get("answer")
        return item | {"answer": _OPPOSITE.get(str(answer), answer)} if answer is not None else item

    return _with_lists(text, lambda items: [each for item in items for each in (item, opposed(item))])


def backwards(text: str) -> str:
    """Lists of objects the other way round; what refers to positions among them refers to the new ones."""

    def turned(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = len(items) + 1
        return [
            item | {"parents": [last - parent for parent in item["parents"]]} if item.get("parents") else item
            for item in reversed(items)
        ]

    return _with_lists(text, turned)


def _with_lists(text: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> str:
    """A JSON object with its lists of objects changed; other texts as they are."""
    try:
        whole = json.loads(text)
    except ValueError:
        return text
    if not isinstance(whole, dict):
        return text
    return json.dumps(
        {name: change(value) if _of_objects(value) else value for name, value in whole.items()}, ensure_ascii=False
    )


def _of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _edited(text: str, edit: Callable[[str], str]) -> str:
    """All texts within a JSON value changed, or the text itself where it is none."""

    def within(value: Any) -> Any:
        if isinstance(value, str):
            return edit(value)
        if isinstance(value, list):
            return [within(item) for item in value]
        return {name: within(item) for name, item in value.items()} if isinstance(value, dict) else value

    try:
        whole = json.loads(text)
    except ValueError:
        return edit(text)
    return json.dumps(within(whole), ensure_ascii=False)
