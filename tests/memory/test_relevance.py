"""Lessons are shown only where they have to do with the prompt, whatever the embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langgraph.store.memory import InMemoryStore
from numpy.typing import NDArray

from benchmarks.lessons_fit import GENERATOR, MOST_OTHERS, RUNS, experience, fill, measure, shown
from gems.memory.experience import EXPERIENCES, namespace
from gems.memory.relevance import (
    UNRELATED,
    Relevance,
    relevance_by_likeness,
    relevances,
    subject_words,
    unrelated_texts,
)
from gems.memory.retrieval import LessonQuery, recall
from gems.memory.store import open_store
from tests.support.chroma import chroma_server
from tests.support.embedding_server import crowded_vector, embedding_server

HEARTS, RETRIEVER = "hearts and stars/0", "golden retrievers/0"


async def test_words_alone_show_hardly_anything_about_something_else(tmp_path: Path) -> None:
    async with open_store("", tmp_path / "experience", "lexical") as store:
        await fill(store)
        figures = await measure(store)
    assert figures["about_something_else"] <= MOST_OTHERS
    assert figures["runs_with_a_fitting_lesson"] >= 0.95
    assert figures["lessons_per_run_where_none_fits"] <= 0.5


async def test_model_whose_vectors_are_all_alike_shows_hardly_anything_about_something_else(tmp_path: Path) -> None:
    with embedding_server() as (url, _):
        async with open_store("", tmp_path / "experience", f"openai:crowded@{url}") as store:
            await fill(store)
            figures = await measure(store)
    assert figures["about_something_else"] <= MOST_OTHERS
    assert figures["runs_with_a_fitting_lesson"] >= 0.95
    assert figures["lessons_per_run_where_none_fits"] <= 0.5


@pytest.mark.parametrize("spec", ["lexical", "openai:crowded@{url}"])
async def test_run_about_hearts_is_not_shown_what_a_golden_retriever_taught(spec: str, tmp_path: Path) -> None:
    with embedding_server() as (url, _):
        async with open_store("", tmp_path / "experience", spec.format(url=url)) as store:
            place = namespace(EXPERIENCES, GENERATOR)
            await store.aput(place, RETRIEVER, experience(RETRIEVER, RUNS[RETRIEVER]))
            assert await shown(store, HEARTS, about_it=True) == []
            assert await shown(store, "golden retrievers/1", about_it=True) == [RETRIEVER]
            failed = ["Are there exactly five small pink hearts?"]
            asked = LessonQuery(prompt=RUNS[HEARTS], generator=GENERATOR, without=frozenset(), failing=failed)
            assert await recall(store, asked) == []


@pytest.mark.parametrize("where", ["folder", "server"])
async def test_unrelated_texts_are_embedded_once_and_remembered(where: str, tmp_path: Path) -> None:
    with embedding_server() as (url, asked), chroma_server(tmp_path / "data") as address:
        spec = f"openai:crowded@{url}"
        for _ in range(2):
            async with open_store(address if where == "server" else "", tmp_path / "experience", spec) as store:
                await store.aput(namespace(EXPERIENCES, GENERATOR), HEARTS, experience(HEARTS, RUNS[HEARTS]))
                for _ in range(2):
                    assert await shown(store, "hearts and stars/1", about_it=True) == [HEARTS]
                assert await store.alist_namespaces() == [namespace(EXPERIENCES, GENERATOR)]
    assert [len(texts) for texts in asked].count(len(UNRELATED)) == 1
    # Each store embeds the prompt once, and only the first one what it is filled with.
    assert [len(texts) for texts in asked if len(texts) != len(UNRELATED)] == [1, 1, 1]


async def test_store_of_ones_own_is_calibrated_by_its_own_embedder() -> None:
    asked: list[int] = []

    def embed(texts: list[str]) -> list[list[float]]:
        asked.append(len(texts))
        return [crowded_vector(text) for text in texts]

    store = InMemoryStore(index={"dims": 1024, "embed": embed, "fields": ["text_indexed"]})
    place = namespace(EXPERIENCES, GENERATOR)
    for run in (HEARTS, RETRIEVER):
        await store.aput(place, run, experience(run, RUNS[run]))
    for _ in range(2):
        query = LessonQuery(prompt=RUNS["golden retrievers/1"], generator=GENERATOR, without=frozenset())
        assert [lesson["key"] for lesson in await recall(store, query)] == [RETRIEVER]
    assert asked.count(len(UNRELATED)) == 1


async def test_store_without_an_index_has_no_floor() -> None:
    assert await relevances(InMemoryStore(), ["a", "b"]) == [Relevance(), Relevance()]


@pytest.mark.parametrize("crowd", [0.0, 1.0, 5.0])
def test_floor_moves_with_the_embedders_scale(crowd: float) -> None:
    rng = np.random.default_rng(1)

    def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
        rows = rows + crowd
        return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)

    unrelated, query = rng.standard_normal((60, 256)), rng.standard_normal(256)
    need = relevance_by_likeness(unit(query), unit(unrelated))
    others = unit(rng.standard_normal((200, 256))) @ unit(query)
    alike = float(unit(query + 0.5 * rng.standard_normal(256)) @ unit(query))
    assert need.admits(alike, "")
    assert sum(need.admits(float(other), "") for other in others) <= 2


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("five small pink hearts below a red circle", {"heart", "circle"}),
        ("two foxes on the left, seen from above", {"fox"}),
        ("a photo of three classes at night", {"class"}),
        ("", set()),
        ("eine Katze mit einem Hut", {"katze", "hut"}),
        ("一只猫", {"只猫"}),
    ],
)
def test_subject_of_a_text(text: str, subject: set[str]) -> None:
    assert subject_words(text) == subject


def test_unrelated_prompts_differ() -> None:
    assert len(set(UNRELATED)) == len(UNRELATED) == len(unrelated_texts())
