"""Find what earlier runs learnt: by similarity, by what failed, and by what came of it before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from langgraph.store.base import BaseStore, Op, SearchItem, SearchOp

from gems.memory.experience import EXPERIENCES, LESSONS, kinds_of, namespace, no_record
from gems.types import Recalled, RequirementKind, TrackRecord

MOST = 5
"""Lessons that are shown at a time."""
TOKENS = 700
"""Most tokens that they may have together."""
_CANDIDATES = 24
_ALIKE = 0.85
_KIND_WEIGHT, _PROVEN_WEIGHT, _LESSON_WEIGHT, _COVERED_WEIGHT = 0.25, 0.9, 0.3, 0.1
_REFUTED = 0.26
_LONGEST_PROMPT = 600
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What lessons are looked for.

    Attributes:
        prompt: The user's prompt.
        generator: Whose lessons; what one generator heeds is lost on another.
        without: Runs that are not to be learnt from, one's own above all.
        failing: The questions that failed; empty before the first round.
        kinds: Their kinds.
    """

    prompt: str
    generator: str
    without: frozenset[str]
    failing: Sequence[str] = ()
    kinds: frozenset[RequirementKind] = field(default_factory=frozenset)


async def recall(store: BaseStore, wanted: Wanted) -> list[Recalled]:
    """At most five lessons within the token budget, the best first.

    Similarity counts to the prompt and to what failed alike; a track record of failures takes a lesson out,
    one of successes lifts it. Lessons of several experiences come before single ones.

    Raises:
        StorageError: the store cannot be read.
    """
    queries = [wanted.prompt, "\n".join(wanted.failing)] if wanted.failing else [wanted.prompt]
    kinds: tuple[Literal["lessons", "experiences"], ...] = (LESSONS, EXPERIENCES)
    searches: list[Op] = [
        SearchOp(namespace(kind, wanted.generator), query=query, limit=_CANDIDATES)
        for kind in kinds
        for query in queries
    ]
    results = await store.abatch(searches)
    found: list[tuple[float, Recalled]] = []
    for place, kind in enumerate(kinds):
        of_kind: Any = results[place * len(queries) : (place + 1) * len(queries)]
        for item, similarity in _joined(of_kind):
            if _is_foreign(item.value, wanted.without):
                lesson = _recalled(item, kind, similarity)
                found.append((_worth(lesson, wanted), lesson))
    return _chosen(found)


def told(lesson: Recalled) -> str:
    """A lesson as a chat model is shown it: with its track record, as one line of data."""
    record = lesson["record"]
    tried = record["helped"] + record["hurt"]
    known = f"held {record['helped']} of {tried} times" if tried else "not tried yet"
    return f"[{known}] {lesson['text']}"


def trust(record: TrackRecord) -> float:
    """How far a lesson has proven itself, in (0, 1); one half where nothing is known."""
    return (record["helped"] + 1) / (record["helped"] + record["hurt"] + 2)


def tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its letters, and each sign of Chinese for one."""
    # Most texts are ASCII, which is told at once.
    wide = 0 if text.isascii() else sum(character > "\u2e80" for character in text)
    return wide + (len(text) - wide + 3) // 4


def _joined(results: Iterable[Sequence[SearchItem]]) -> list[tuple[SearchItem, float]]:
    """The items of several searches with their mean similarity.

    What one search did not find is no more alike there than the last that it did.
    """
    lists = [list(result) for result in results]
    items = {item.key: item for found in lists for item in found}
    scores = [{item.key: item.score or 0.0 for item in found} for found in lists]
    least = [min(known.values(), default=0.0) for known in scores]
    return [
        (item, sum(known.get(key, low) for known, low in zip(scores, least, strict=True)) / len(lists))
        for key, item in items.items()
    ]


def _is_foreign(value: dict[str, Any], without: frozenset[str]) -> bool:
    runs = {source[0] for source in value.get("sources") or []} or {value.get("run")}
    return not runs <= without


def _recalled(item: SearchItem, kind: Literal["lessons", "experiences"], similarity: float) -> Recalled:
    value = item.value
    return {
        "namespace": list(item.namespace),
        "key": item.key,
        "kind": "lesson" if kind == LESSONS else "experience",
        "text": value["text"] if kind == LESSONS else with_sequel(value),
        "kinds": list(value["kinds"]) if kind == LESSONS else kinds_of(value["failed"]),
        "similarity": round(similarity, 4),
        "record": _record(value),
    }


def _record(value: dict[str, Any]) -> TrackRecord:
    record: TrackRecord = no_record() | (value.get("record") or {})  # type: ignore[assignment]
    return record


def with_sequel(value: dict[str, Any]) -> str:
    """An experience's text, and how the next round went: what finally worked is told nowhere else."""
    prompt = " / ".join(" ".join(line.split()) for line in value["next_prompt"].splitlines() if line.strip())
    if value.get("score_after") is None or len(prompt) > _LONGEST_PROMPT:
        return str(value["text"])
    before = {item["question"] for item in value["failed"]}
    met = [item["question"] for item in value["passed_after"] if item["question"] in before]
    failed = [item["question"] for item in value["failed_after"]]
    return (
        f'{value["text"]} Then drawn: "{prompt}". Then met: {"; ".join(met) or "nothing"}. '
        f"Still failed: {'; '.join(failed) or 'nothing'}."
    )


def _worth(lesson: Recalled, wanted: Wanted) -> float:
    shared = len(wanted.kinds.intersection(lesson["kinds"])) / max(1, len(wanted.kinds))
    worth = lesson["similarity"] + _KIND_WEIGHT * shared
    worth += _PROVEN_WEIGHT * (trust(lesson["record"]) - 0.5)
    return worth + (_LESSON_WEIGHT if lesson["kind"] == "lesson" else 0.0)


def _chosen(found: Sequence[tuple[float, Recalled]]) -> list[Recalled]:
    """The best that fit the budget, without refuted ones and near-duplicates, on varied matters."""
    left = [(worth, lesson) for worth, lesson in found if trust(lesson["record"]) > _REFUTED]
    chosen: list[Recalled] = []
    covered: set[RequirementKind] = set()
    room = TOKENS
    while left and len(chosen) < MOST:
        best = max(left, key=lambda pair: pair[0] - _COVERED_WEIGHT * (set(pair[1]["kinds"]) <= covered))
        left.remove(best)
        lesson, cost = best[1], tokens(told(best[1]))
        if cost > room or any(_alike(lesson["text"], other["text"]) for other in chosen):
            continue
        chosen.append(lesson)
        covered |= set(lesson["kinds"])
        room -= cost
    return chosen


def _alike(one: str, other: str) -> bool:
    """Whether two texts say the same in nearly the same words."""
    mine, theirs = set(_WORD.findall(one.casefold())), set(_WORD.findall(other.casefold()))
    return len(mine & theirs) >= _ALIKE * len(mine | theirs)
