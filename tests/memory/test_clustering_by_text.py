"""Which experiences belong together."""

from __future__ import annotations

from typing import Any

import numpy as np

from gems.memory.clustering import build_lesson, cluster_experiences, replaced_lessons, sum_records
from gems.memory.embeddings import lexical_vector


def experience(run: str, prompt: str, kind: str = "count", **more: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "run": run,
        "round": 1,
        "prompt": prompt,
        "generator": "flat",
        "skills": [],
        "text": f"text of {run}",
        "failed": [{"kind": kind, "question": f"{kind} of {prompt}?"}],
        "record": {"shown": 0, "helped": 0, "hurt": 0},
    }
    return value | more


def clustered(*values: dict[str, Any]) -> list[set[str]]:
    keys = [value["run"] for value in values]
    vectors = np.stack([lexical_vector(value["prompt"]) for value in values])
    return [set(cluster.keys) for cluster in cluster_experiences(keys, values, vectors)]


CATS = [experience(f"cat{n}", f"three red cats on mat {n}") for n in range(3)]
DOGS = [experience(f"dog{n}", f"seven blue dogs at house {n}") for n in range(2)]


def test_alike_ones_belong_together() -> None:
    assert clustered(*CATS, *DOGS) == [{"cat0", "cat1", "cat2"}, {"dog0", "dog1"}]
    assert clustered(*DOGS[::-1], *CATS[::-1]) == [{"cat0", "cat1", "cat2"}, {"dog0", "dog1"}]
    assert clustered(CATS[0], DOGS[0]) == []


def test_other_failures_and_skills_do_not() -> None:
    text = experience("text", "three red cats on mat 1", "text")
    skilled = experience("skilled", "three red cats on mat 1", skills=["spatial"])
    assert clustered(CATS[0], text, skilled) == []


def test_refuted_ones_teach_nothing() -> None:
    refuted = experience("refuted", "three red cats on mat", record={"shown": 3, "helped": 0, "hurt": 2})
    assert clustered(CATS[0], refuted) == []


def test_a_lesson_names_its_sources() -> None:
    keys, vectors = ["cat0", "cat1"], np.stack([lexical_vector(value["prompt"]) for value in CATS[:2]])
    (cluster,) = cluster_experiences(keys, CATS[:2], vectors)
    written = build_lesson(cluster, "word " * 120, "flat", {"shown": 2, "helped": 1, "hurt": 0})
    assert len(written["text"].split()) == 100
    assert sorted(written["sources"]) == [["cat0", 1], ["cat1", 1]]
    assert (written["by"], written["kinds"], written["record"]["shown"]) == ("model", ["count"], 2)
    silent = build_lesson(cluster, None, "flat")
    assert (silent["by"], silent["text"]) == ("medoid", f"text of {cluster.keys[0]}")
    own = {cluster.name: {"sources": [["cat0", 1]]}}
    assert replaced_lessons(
        cluster, {"old": {"sources": [["cat0", 1]]}, "far": {"sources": [["x", 1]]}, **own}
    ) == ["old"]


def test_many_are_clustered() -> None:
    values = [experience(f"r{n}", f"prompt {n % 500}") for n in range(10_000)]
    spread = np.random.default_rng(7).normal(size=(500, 64)).astype(np.float32)
    vectors = np.stack([spread[n % 500] / np.linalg.norm(spread[n % 500]) for n in range(10_000)])
    found = cluster_experiences([value["run"] for value in values], values, vectors)
    assert sum(len(cluster.keys) for cluster in found) > 9_000


def test_track_records_add_up() -> None:
    one, two = {"shown": 1, "helped": 1, "hurt": 0}, {"shown": 2, "helped": 0, "hurt": 2}
    assert sum_records([one, two]) == {"shown": 3, "helped": 1, "hurt": 2}  # type: ignore[list-item]
    assert sum_records([]) == {"shown": 0, "helped": 0, "hurt": 0}
