"""Which experiences are grouped into a lesson, and what the lesson says."""

from __future__ import annotations

from typing import Any

import numpy as np

from gems.memory.clustering import Cluster, build_lesson, cluster_experiences, replaced_lessons
from gems.memory.embeddings import lexical_vector
from gems.memory.experience import MAX_WORDS, sum_records


def experience(run: str, *kinds: str, **more: Any) -> dict[str, Any]:
    return {
        "run": run,
        "round": 1,
        "prompt": f"prompt of {run}",
        "generator": "flat",
        "skills": [],
        "failed": [{"kind": kind, "question": f"{kind} of {run}?"} for kind in kinds],
        "text": f"text of {run}",
        "record": {"shown": 0, "helped": 0, "hurt": 0},
    } | more


def vectors(*angles: float) -> Any:
    return np.array([[np.cos(a), np.sin(a)] for a in np.radians(angles)], dtype=np.float32)


def found(values: list[dict[str, Any]], *angles: float) -> list[tuple[str, ...]]:
    return [c.keys for c in cluster_experiences([v["run"] for v in values], values, vectors(*angles))]


def test_alike_ones_are_grouped_and_the_middle_stands_first() -> None:
    values = [experience(name, "count") for name in "abcde"]
    assert found(values, 0, 21, 10, 180, 185) == [("c", "a", "b"), ("d", "e")]


def test_nobody_is_alike_alone() -> None:
    assert found([experience(name, "count") for name in "abc"], 0, 120, 240) == []
    assert cluster_experiences([], [], np.zeros((0, 2), dtype=np.float32)) == []


def test_what_failed_and_skills_part_groups() -> None:
    values = [
        experience("a", "count"),
        experience("b", "text"),
        experience("c", "count", skills=["spatial"]),
        experience("d"),
        experience("e", "text"),
    ]
    assert found(values, 0, 0, 0, 0, 0) == [("b", "e")]


def test_refuted_experiences_teach_nothing() -> None:
    refuted = {"shown": 3, "helped": 0, "hurt": 2}
    values = [
        experience("a", "count"),
        experience("b", "count", record=refuted),
        experience("c", "count", record=refuted | {"helped": 1}),
    ]
    assert sorted(found(values, 0, 0, 0)[0]) == ["a", "c"]


def test_the_order_of_the_input_decides_nothing() -> None:
    values = [experience(f"{number:02}", "count") for number in range(30)]
    rng = np.random.default_rng(3)
    points = rng.normal(size=(30, 4)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    keys = [value["run"] for value in values]
    there = cluster_experiences(keys, values, points)
    back = cluster_experiences(keys[::-1], values[::-1], points[::-1])
    assert there == back
    assert there


def test_clusters_have_at_most_twenty() -> None:
    values = [experience(f"{number:03}", "count") for number in range(45)]
    assert [len(keys) for keys in found(values, *[0.0] * 45)] == [20, 20, 5]


def test_ten_thousand_are_all_told_apart() -> None:
    rng = np.random.default_rng(5)
    middles = rng.normal(size=(1000, 128)).astype(np.float32)
    points = np.repeat(middles, 10, axis=0) + 0.05 * rng.normal(size=(10_000, 128)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    values = [experience(f"{number:05}", "count") for number in range(10_000)]
    groups = cluster_experiences([value["run"] for value in values], values, points)
    assert {len(group.keys) for group in groups} == {10, 20}
    assert sorted(key for group in groups for key in group.keys) == [value["run"] for value in values]
    for group in groups:
        # Some of the middles are alike by chance; nobody is torn from his own.
        families = {int(key) // 10 for key in group.keys}
        assert len(group.keys) == 10 * len(families)


def test_a_lesson_is_about_what_failed_in_half_of_its_sources() -> None:
    values = [experience("a", "count", "text"), experience("b", "count"), experience("c", "count", "style")]
    assert Cluster(("a", "b", "c"), tuple(values)).kinds() == ["count"]
    assert Cluster(("a", "b"), tuple(values[:2])).kinds() == ["count", "text"]
    apart = tuple(experience(kind, kind) for kind in ("count", "text", "style"))
    assert Cluster(("a", "b", "c"), apart).kinds() == ["count", "style", "text"]


def test_a_lesson_is_found_by_its_sources() -> None:
    values = [experience(str(number), "count") for number in range(7)]
    lesson = build_lesson(Cluster(tuple("0123456"), tuple(values)), None, "flat")
    assert lesson["text_indexed"].splitlines() == [
        *(f"prompt of {number}" for number in range(5)),
        *(f"count of {number}?" for number in range(5)),
    ]
    assert lesson["sources"] == [[str(number), 1] for number in range(7)]
    assert (lesson["by"], lesson["text"]) == ("medoid", "text of 0")
    assert lesson["record"] == {"shown": 0, "helped": 0, "hurt": 0}


def test_a_written_lesson_is_kept_short_and_keeps_its_record() -> None:
    record: Any = {"shown": 3, "helped": 2, "hurt": 1}
    cluster = Cluster(("a",), (experience("a", "count"),))
    lesson = build_lesson(cluster, "word " * 150, "flat", record)
    assert (lesson["by"], lesson["record"]) == ("model", record)
    assert len(lesson["text"].split()) == MAX_WORDS


def test_the_name_is_that_of_the_sources() -> None:
    values = (experience("a", "count"), experience("b", "count"))
    assert Cluster(("a", "b"), values).name == Cluster(("b", "a"), values[::-1]).name
    assert Cluster(("a", "b"), values).name != Cluster(("a",), values[:1]).name


def test_a_cluster_that_grew_takes_the_place_of_its_lesson() -> None:
    cluster = Cluster(tuple("abc"), tuple(experience(name, "count") for name in "abc"))
    known = {
        "contained": {"sources": [["a", 1], ["b", 1]]},
        "mostly": {"sources": [["a", 1], ["c", 1], ["x", 1]]},
        "half": {"sources": [["a", 1], ["x", 1]]},
        "other": {"sources": [["x", 1], ["a", 2]]},
        cluster.name: {"sources": [["a", 1], ["b", 1], ["c", 1]]},
    }
    assert replaced_lessons(cluster, known) == ["contained", "mostly"]


def test_records_add_up() -> None:
    one: Any = {"shown": 3, "helped": 2, "hurt": 1}
    assert sum_records([one, one]) == {"shown": 6, "helped": 4, "hurt": 2}
    assert sum_records([]) == {"shown": 0, "helped": 0, "hurt": 0}


def experience_of_prompt(run: str, prompt: str, kind: str = "count", **more: Any) -> dict[str, Any]:
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


CATS = [experience_of_prompt(f"cat{n}", f"three red cats on mat {n}") for n in range(3)]
DOGS = [experience_of_prompt(f"dog{n}", f"seven blue dogs at house {n}") for n in range(2)]


def test_alike_ones_belong_together() -> None:
    assert clustered(*CATS, *DOGS) == [{"cat0", "cat1", "cat2"}, {"dog0", "dog1"}]
    assert clustered(*DOGS[::-1], *CATS[::-1]) == [{"cat0", "cat1", "cat2"}, {"dog0", "dog1"}]
    assert clustered(CATS[0], DOGS[0]) == []


def test_other_failures_and_skills_do_not() -> None:
    text = experience_of_prompt("text", "three red cats on mat 1", "text")
    skilled = experience_of_prompt("skilled", "three red cats on mat 1", skills=["spatial"])
    assert clustered(CATS[0], text, skilled) == []


def test_refuted_ones_teach_nothing() -> None:
    refuted = experience_of_prompt("refuted", "three red cats on mat", record={"shown": 3, "helped": 0, "hurt": 2})
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
    assert replaced_lessons(cluster, {"old": {"sources": [["cat0", 1]]}, "far": {"sources": [["x", 1]]}, **own}) == [
        "old"
    ]


def test_many_are_clustered() -> None:
    values = [experience_of_prompt(f"r{n}", f"prompt {n % 500}") for n in range(10_000)]
    spread = np.random.default_rng(7).normal(size=(500, 64)).astype(np.float32)
    vectors = np.stack([spread[n % 500] / np.linalg.norm(spread[n % 500]) for n in range(10_000)])
    found = cluster_experiences([value["run"] for value in values], values, vectors)
    assert sum(len(cluster.keys) for cluster in found) > 9_000


def test_track_records_add_up() -> None:
    one, two = {"shown": 1, "helped": 1, "hurt": 0}, {"shown": 2, "helped": 0, "hurt": 2}
    assert sum_records([one, two]) == {"shown": 3, "helped": 1, "hurt": 2}
    assert sum_records([]) == {"shown": 0, "helped": 0, "hurt": 0}
