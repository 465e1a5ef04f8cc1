"""Rank and select lessons of earlier runs by similarity, by what failed, and by their track record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from langgraph.store.base import BaseStore, Op, SearchItem, SearchOp

from gems.memory.experience import EXPERIENCES, LESSONS, kinds_of, namespace, no_record
from gems.memory.relevance import Relevance, relevances
from gems.types import Recalled, RequirementKind, TrackRecord

MOST = 5
"""Maximum number of lessons."""
TOKENS = 700
"""Maximum tokens of all lessons together."""
_CANDIDATES = 24
_DUPLICATE_OVERLAP = 0.85
_KIND_WEIGHT, _PROVEN_WEIGHT, _LESSON_WEIGHT, _COVERED_WEIGHT = 0.25, 0.9, 0.3, 0.1
_MIN_TRUST = 0.26
_MAX_PROMPT = 600
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonQuery:
    """A query for lessons: the user's prompt, the image model, runs to exclude, and what failed so far."""

    prompt: str
    generator: str
    without: frozenset[str]
    failing: Sequence[str] = ()
    kinds: frozenset[RequirementKind] = field(default_factory=frozenset)


async def recall(store: BaseStore, wanted: LessonQuery) -> list[Recalled]:
    """Return at most five lessons within the token budget, the best first.

    Similarity to the prompt and to what failed count equally. A lesson is excluded by a bad track record, and if it
    has nothing to do with the prompt.
    """
    queries = [wanted.prompt, "\n".join(wanted.failing)] if wanted.failing else [wanted.prompt]
    kinds: tuple[Literal["lessons", "experiences"], ...] = (LESSONS, EXPERIENCES)
    searches: list[Op] = [
        SearchOp(namespace(kind, wanted.generator), query=query, limit=_CANDIDATES)
        for kind in kinds
        for query in queries
    ]
    results: list[Any] = await store.abatch(searches)
    needed = await relevances(store, queries) if any(results) else []
    found: list[tuple[float, Recalled]] = []
    for place, kind in enumerate(kinds):
        of_kind = results[place * len(queries) : (place + 1) * len(queries)]
        for item, similarity in _merge_searches(of_kind, needed):
            value = item.value
            runs = {source[0] for source in value.get("sources") or []} or {value.get("run")}
            if not runs <= wanted.without:
                lesson = _to_recalled(item, kind, similarity)
                found.append((_rank(lesson, wanted), lesson))
    return _select(found)


def format_lesson(lesson: Recalled) -> str:
    """Format a lesson for a chat model on one line, with its track record."""
    record = lesson["record"]
    tried = record["helped"] + record["hurt"]
    known = f"held {record['helped']} of {tried} times" if tried else "not tried yet"
    return f"[{known}] {lesson['text']}"


def trust(record: TrackRecord) -> float:
    """Estimate how reliable a lesson is, in (0, 1); one half without a track record."""
    return (record["helped"] + 1) / (record["helped"] + record["hurt"] + 2)


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens: a quarter of the characters, and one for each Chinese character."""
    # Most texts are ASCII, which is fast to check.
    wide = 0 if text.isascii() else sum(character > "\u2e80" for character in text)
    return wide + (len(text) - wide + 3) // 4


def _merge_searches(
    results: Iterable[Sequence[SearchItem]], needed: Sequence[Relevance]
) -> list[tuple[SearchItem, float]]:
    """Return the items that have to do with the prompt, the first query, with their mean similarity.

    An item that a search did not return gets that search's lowest.
    """
    lists = [list(result) for result in results]
    items = {item.key: item for found in lists for item in found}
    scores = [{item.key: item.score or 0.0 for item in found} for found in lists]
    least = [min(known.values(), default=0.0) for known in scores]
    return [
        (item, sum(known.get(key, low) for known, low in zip(scores, least, strict=True)) / len(lists))
        for key, item in items.items()
        if _fits(item, [known.get(key) for known in scores], least, needed)
    ]


def _fits(
    item: SearchItem, scores: Sequence[float | None], least: Sequence[float], needed: Sequence[Relevance]
) -> bool:
    """Return whether an item has to do with the prompt, by its scores in the searches that returned it."""
    text = str(item.value.get("text_indexed") or item.value["text"])
    if scores[0] is not None:
        return needed[0].admits(scores[0], text)
    # Where all that is nearer to the prompt has to do with it, what failed decides.
    return needed[0].admits(least[0], text) and all(
        need.admits(score, text) for need, score in zip(needed, scores, strict=True) if score is not None
    )


def _to_recalled(item: SearchItem, kind: Literal["lessons", "experiences"], similarity: float) -> Recalled:
    value = item.value
    return {
        "namespace": list(item.namespace),
        "key": item.key,
        "kind": "lesson" if kind == LESSONS else "experience",
        "text": value["text"] if kind == LESSONS else text_with_outcome(value),
        "kinds": list(value["kinds"]) if kind == LESSONS else kinds_of(value["failed"]),
        "similarity": round(similarity, 4),
        "record": cast("TrackRecord", no_record() | (value.get("record") or {})),
    }


def text_with_outcome(value: dict[str, Any]) -> str:
    """Return an experience's text with the outcome of the next round, which has the wording that worked."""
    prompt = " / ".join(" ".join(line.split()) for line in value["next_prompt"].splitlines() if line.strip())
    if value.get("score_after") is None or len(prompt) > _MAX_PROMPT:
        return str(value["text"])
    before = {item["question"] for item in value["failed"]}
    met = [item["question"] for item in value["passed_after"] if item["question"] in before]
    failed = [item["question"] for item in value["failed_after"]]
    return (
        f'{value["text"]} Then drawn: "{prompt}". Then met: {"; ".join(met) or "nothing"}. '
        f"Still failed: {'; '.join(failed) or 'nothing'}."
    )


def _rank(lesson: Recalled, wanted: LessonQuery) -> float:
    shared = len(wanted.kinds.intersection(lesson["kinds"])) / max(1, len(wanted.kinds))
    rank = lesson["similarity"] + _KIND_WEIGHT * shared
    rank += _PROVEN_WEIGHT * (trust(lesson["record"]) - 0.5)
    return rank + (_LESSON_WEIGHT if lesson["kind"] == "lesson" else 0.0)


def _select(found: Sequence[tuple[float, Recalled]]) -> list[Recalled]:
    """Select the best lessons within the budget, on varied kinds, without refuted ones and duplicates."""
    left = [(rank, lesson) for rank, lesson in found if trust(lesson["record"]) > _MIN_TRUST]
    chosen: list[Recalled] = []
    covered: set[RequirementKind] = set()
    room = TOKENS
    while left and len(chosen) < MOST:
        best = max(left, key=lambda pair: pair[0] - _COVERED_WEIGHT * (set(pair[1]["kinds"]) <= covered))
        left.remove(best)
        lesson, cost = best[1], estimate_tokens(format_lesson(best[1]))
        if cost > room or any(_is_near_duplicate(lesson["text"], other["text"]) for other in chosen):
            continue
        chosen.append(lesson)
        covered |= set(lesson["kinds"])
        room -= cost
    return chosen


def _is_near_duplicate(one: str, other: str) -> bool:
    mine, theirs = set(_WORD.findall(one.casefold())), set(_WORD.findall(other.casefold()))
    return len(mine & theirs) >= _DUPLICATE_OVERLAP * len(mine | theirs)
