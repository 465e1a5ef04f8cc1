"""Lessons are found by similarity, by what failed and by their track record."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.store.memory import InMemoryStore

from gems.memory.experience import EXPERIENCES, LESSONS, indexed_text, namespace
from gems.memory.retrieval import MOST, TOKENS, LessonQuery, estimate_tokens, format_lesson, recall

WORDS = ("cat", "dog", "house", "tree", "red", "blue", "three", "sign")


def embed(texts: list[str]) -> list[list[float]]:
    """One dimension per known word, and one that all texts share a little of."""
    return [[0.1, *(float(text.lower().split().count(word)) for word in WORDS)] for text in texts]


@pytest.fixture
def store() -> InMemoryStore:
    return InMemoryStore(index={"dims": len(WORDS) + 1, "embed": embed, "fields": ["text_indexed"]})


def experience(text: str, prompt: str, kind: str = "count", **more: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "run": "other",
        "round": 1,
        "prompt": prompt,
        "failed": [{"kind": kind, "question": f"Is it {prompt}?"}],
        "passed_after": [],
        "failed_after": [],
        "next_prompt": f"{prompt} again",
        "score_after": None,
        "text": text,
        "record": {"shown": 0, "helped": 0, "hurt": 0},
        "text_indexed": indexed_text(prompt, []),
    }
    return value | more


def wanted(prompt: str = "three red cat", **more: Any) -> LessonQuery:
    return LessonQuery(**({"prompt": prompt, "generator": "flat", "without": frozenset({"mine"})} | more))


async def keep(store: InMemoryStore, *values: dict[str, Any], kind: Any = EXPERIENCES, generator: str = "flat") -> None:
    for number, value in enumerate(values):
        await store.aput(namespace(kind, generator), f"{value['text']}{number}", value)


async def texts(store: InMemoryStore, asked: LessonQuery) -> list[str]:
    return [lesson["text"] for lesson in await recall(store, asked)]


async def test_nothing_is_found_in_an_empty_store(store: InMemoryStore) -> None:
    assert await recall(store, wanted()) == []


async def test_the_more_alike_comes_first(store: InMemoryStore) -> None:
    await keep(store, experience("far", "red cat house"), experience("near", "three red cat"))
    assert await texts(store, wanted()) == ["near", "far"]


async def test_what_failed_counts_like_the_prompt(store: InMemoryStore) -> None:
    await keep(store, experience("prompt", "three red cat"), experience("both", "three red sign"))
    assert (await texts(store, wanted(failing=["sign sign sign"])))[0] == "both"
    assert (await texts(store, wanted()))[0] == "prompt"


async def test_same_kinds_are_preferred(store: InMemoryStore) -> None:
    await keep(store, experience("text", "red", "text"), experience("count", "red", "count"))
    assert (await texts(store, wanted("red", kinds=frozenset({"text"}))))[0] == "text"
    assert (await texts(store, wanted("red", kinds=frozenset({"count"}))))[0] == "count"


async def test_other_generators_teach_nothing(store: InMemoryStore) -> None:
    await keep(store, experience("other", "three red cat"), generator="another")
    assert await texts(store, wanted()) == []


async def test_ones_own_run_teaches_nothing(store: InMemoryStore) -> None:
    await keep(store, experience("mine", "three red cat", run="mine"), experience("other", "red cat"))
    assert await texts(store, wanted()) == ["other"]


async def test_lessons_come_before_experiences(store: InMemoryStore) -> None:
    lesson = {"sources": [["a", 1], ["mine", 2]], "kinds": ["count"], "text_indexed": "three red cat"}
    own = {"sources": [["mine", 1]], "kinds": ["count"], "text_indexed": "three red cat"}
    await keep(store, experience("single", "three red cat"))
    await keep(store, {"text": "lesson", **lesson}, {"text": "own", **own}, kind=LESSONS)
    found = await recall(store, wanted())
    assert [(item["text"], item["kind"]) for item in found] == [("lesson", "lesson"), ("single", "experience")]


async def test_track_record_decides(store: InMemoryStore) -> None:
    proven = {"shown": 6, "helped": 5, "hurt": 1}
    refuted = {"shown": 3, "helped": 0, "hurt": 2}
    await keep(
        store,
        experience("untried", "three red cat"),
        experience("proven", "three red", record=proven),
        experience("refuted", "three red cat", record=refuted),
    )
    found = await recall(store, wanted())
    assert [item["text"] for item in found] == ["proven", "untried"]
    assert [format_lesson(item) for item in found] == ["[held 5 of 6 times] proven", "[not tried yet] untried"]


async def test_near_duplicates_are_merged(store: InMemoryStore) -> None:
    said = "Say three times how many cats there are and where."
    await keep(store, experience(said, "three cat"), experience(said.upper(), "three red"))
    assert len(await texts(store, wanted())) == 1


async def test_there_are_at_most_five_within_the_budget(store: InMemoryStore) -> None:
    await keep(store, *(experience(f"{n} " * (n + 1), "red", run=f"run{n}") for n in range(9)))
    assert len(await texts(store, wanted())) == MOST
    long = [experience(f"word{n} " * 100, "red", run=f"long{n}") for n in range(9)]
    other = InMemoryStore(index={"dims": len(WORDS) + 1, "embed": embed, "fields": ["text_indexed"]})
    await keep(other, *long)
    found = await recall(other, wanted())
    assert 1 < len(found) < MOST
    assert sum(estimate_tokens(format_lesson(lesson)) for lesson in found) <= TOKENS


async def test_an_experience_tells_how_it_went_on(store: InMemoryStore) -> None:
    failed = [{"kind": "count", "question": "Three cats?"}, {"kind": "text", "question": "A sign?"}]
    value = experience("It lacks cats.", "three red cat", failed=failed, score_after=0.5)
    value |= {"next_prompt": "Exactly\nthree cats", "passed_after": failed[:1], "failed_after": failed[1:]}
    await keep(store, value)
    assert await texts(store, wanted()) == [
        'It lacks cats. Then drawn: "Exactly / three cats". Then met: Three cats?. Still failed: A sign?.'
    ]


def test_chinese_takes_a_token_a_sign() -> None:
    assert estimate_tokens("三只红猫") == 4
    assert estimate_tokens("four") == 1
