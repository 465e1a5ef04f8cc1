"""What runs have learnt: looked at, tidied, carried elsewhere, made anew."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import PutOp

from gems.errors import OptionError, RejectedRequestError, StorageError
from gems.memory.experience import EXPERIENCES, LESSONS, namespace
from gems.memory.store import ChromaStore
from gems.models.blocks import BlocksDetector
from gems.runs.memory_admin import MemoryAdmin
from gems.service import Gems
from gems.settings import Settings
from gems.skills.discovery import BUILTIN, read_skill
from gems.skills.models import Skill
from tests.support.scripted_models import FlatGenerator, ScriptedChat, failing, script, settings_at

HELD = {"shown": 2, "helped": 2, "hurt": 0}


def experience(run: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "experience",
        "run": run,
        "round": 1,
        "generator": "flat",
        "prompt": text,
        "failed": [{"kind": "count", "question": f"Is it {text}?"}],
        "score": 0.5,
        "text": f"It lacked {text}.",
        "at": "2026-01-31T12:00:00.000+00:00",
    } | more


CATS = [experience(f"cat{n}", f"{word} red cats on a mat") for n, word in enumerate(("two", "three", "four"))]
SHIP = experience("ship", "ships sailing far away under a bridge")


@pytest.fixture
def chat() -> ScriptedChat:
    return ScriptedChat(script=script() | {"distil": {"experience": "Say exactly how many."}})


@pytest.fixture
async def gems(tmp_path: Path, chat: ScriptedChat) -> AsyncIterator[Gems]:
    async with opened(tmp_path, chat) as service:
        yield service


def opened(home: Path, chat: ScriptedChat, **more: Any) -> Gems:
    settings: Settings = settings_at(home, **{"experience": "", "embedder": "lexical"} | more)
    return Gems(settings, chat=chat, generator=FlatGenerator())


async def filled(memory: MemoryAdmin, *values: dict[str, Any]) -> None:
    report = await memory.import_lines(json.dumps(value) for value in values)
    assert (report.added, report.faults) == (len(values), [])


def _store(gems: Gems) -> ChromaStore:
    assert gems.resources.experiences is not None
    return gems.resources.experiences.store


async def keys(memory: MemoryAdmin, kind: Any = None) -> list[str]:
    return sorted(found.key for found in await memory.listed(kind=kind))


async def test_nothing_is_remembered_at_first(gems: Gems, tmp_path: Path) -> None:
    assert await gems.memory.listed() == []
    assert await gems.memory.search("cats") == []
    assert [line async for line in gems.memory.export()] == []
    assert (await gems.memory.consolidate()).lessons == 0
    stats = await gems.memory.stats()
    assert (stats.experiences, stats.lessons, stats.pending) == ({}, {}, 0)
    assert (stats.where, stats.embedder) == (str(tmp_path / "experience"), "lexical:1/384")
    with pytest.raises(OptionError, match="There is no experience or lesson 'x'"):
        await gems.memory.show("x")


async def test_memory_can_be_off(tmp_path: Path, chat: ScriptedChat) -> None:
    async with opened(tmp_path, chat, experience="off") as service:
        for doing in (service.memory.listed(), service.memory.stats(), service.memory.flush()):
            with pytest.raises(OptionError, match="Memory is off"):
                await doing
        with pytest.raises(OptionError, match="Memory is off"):
            await service.rebuild_memory()


async def test_list_search_show(gems: Gems) -> None:
    other = experience("other", "two cats", generator="round", at="2026-02-01T00:00:00+00:00")
    await filled(gems.memory, *CATS, SHIP, other)
    assert [found.key for found in await gems.memory.listed(1)] == ["other:1"]
    assert len(await gems.memory.listed(generator="flat")) == 4
    assert await gems.memory.listed(kind="lesson") == []
    found = await gems.memory.search("a ship under a bridge", 2)
    assert found[0].key == "ship:1"
    assert len(found) == 2
    assert (found[0].similarity or 0) > (found[1].similarity or 0)
    assert {hit.generator for hit in await gems.memory.search("cats", generator="round")} == {"round"}
    shown = await gems.memory.show("cat1:1")
    assert (shown.kind, shown.generator, shown.value["text"]) == ("experience", "flat", CATS[1]["text"])


def steps_of(*outcomes: tuple[str, str, bool]) -> dict[str, Any]:
    steps = [{"action": action, "kind": kind, "improved": improved} for action, kind, improved in outcomes]
    return {"action_after": outcomes[-1][0], "steps_after": steps}


async def test_stats_tell_what_mending_was_worth_until_it_is_forgotten(gems: Gems, tmp_path: Path) -> None:
    mended = experience("one", "two cats") | steps_of(("inpaint", "count", True), ("inpaint", "text", False))
    again = experience("two", "three cats") | steps_of(("inpaint", "count", False))
    other = experience("other", "a ship", generator="round") | steps_of(("redraw", "2", True))
    await filled(gems.memory, mended, again, other)

    async def counts(memory: MemoryAdmin) -> dict[tuple[str, str, str], tuple[int, int]]:
        steps = (await memory.stats()).steps
        return {(each.generator, each.action, each.kind): (each.improved, each.not_improved) for each in steps}

    everything = {("flat", "inpaint", "count"): (1, 1), ("flat", "inpaint", "text"): (0, 1)}
    everything |= {("round", "redraw", "2"): (1, 0)}
    assert await counts(gems.memory) == everything
    lines = [line async for line in gems.memory.export()]
    await gems.memory.forget(run="one")
    assert await counts(gems.memory) == {("flat", "inpaint", "count"): (0, 1), ("round", "redraw", "2"): (1, 0)}
    await gems.memory.import_lines(lines)
    assert await counts(gems.memory) == everything


async def test_import_again_changes_nothing(gems: Gems) -> None:
    await filled(gems.memory, *CATS)
    again = await gems.memory.import_lines(json.dumps(value) for value in CATS)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 3)


async def test_import_keeps_what_is_known_of_the_worth(gems: Gems) -> None:
    await filled(gems.memory, SHIP)
    place = namespace(EXPERIENCES, "flat")
    value = (await gems.memory.show("ship:1")).value
    store = _store(gems)
    await store.abatch([PutOp(place, "ship:1", value | {"record": HELD})])
    changed = SHIP | {"text": "Other.", "record": {"shown": 9, "helped": 0, "hurt": 9}}
    report = await gems.memory.import_lines([json.dumps(changed)])
    assert (report.added, report.updated) == (0, 1)
    shown = (await gems.memory.show("ship:1")).value
    assert (shown["text"], shown["record"]) == ("Other.", HELD)


async def test_broken_lines_keep_no_other_out(gems: Gems) -> None:
    lines = [json.dumps(SHIP).encode(), b"", b"{", b"\xff", json.dumps(CATS[0]), json.dumps(CATS[1])[:-1]]
    report = await gems.memory.import_lines(lines)
    assert report.added == 2
    assert [number for number, _ in report.faults] == [3, 4, 6]
    assert await keys(gems.memory) == ["cat0:1", "ship:1"]


async def test_export_goes_into_another_home(gems: Gems, tmp_path: Path, chat: ScriptedChat) -> None:
    await filled(gems.memory, *CATS, SHIP)
    await gems.memory.consolidate()
    lines = [line async for line in gems.memory.export()]
    async with opened(tmp_path / "other", chat) as other:
        report = await other.memory.import_lines(lines)
        assert (report.added, report.faults) == (5, [])
        assert await other.memory.listed() == await gems.memory.listed()
        assert [line async for line in other.memory.export()] == lines


async def test_lessons_are_drawn_once(gems: Gems, chat: ScriptedChat) -> None:
    await filled(gems.memory, *CATS, SHIP)
    told: list[tuple[int, int]] = []
    report = await gems.memory.consolidate(lambda done, total: told.append((done, total)))
    assert (report.experiences, report.lessons, report.added, report.removed) == (4, 1, 1, 0)
    assert told == [(1, 1)]
    (asked,) = chat.about("distil")
    assert len(asked.lines("experiences")) == 3
    (lesson,) = await gems.memory.listed(kind="lesson")
    assert lesson.value["text"] == "Say exactly how many."
    assert sorted(lesson.value["sources"]) == [["cat0", 1], ["cat1", 1], ["cat2", 1]]
    assert (lesson.value["by"], lesson.value["kinds"]) == ("model", ["count"])
    again = await gems.memory.consolidate()
    assert (again.lessons, again.added, again.removed) == (1, 0, 0)
    assert len(chat.about("distil")) == 1
    assert await gems.memory.listed(kind="lesson") == [lesson]


async def test_a_grown_cluster_replaces_its_lesson_and_keeps_the_record(gems: Gems) -> None:
    await filled(gems.memory, *CATS)
    await gems.memory.consolidate()
    (old,) = await gems.memory.listed(kind="lesson")
    store = _store(gems)
    await store.abatch([PutOp(namespace(LESSONS, "flat"), old.key, old.value | {"record": HELD})])
    await filled(gems.memory, experience("cat9", "five red cats on a mat"))
    report = await gems.memory.consolidate()
    assert (report.lessons, report.added, report.removed) == (1, 1, 1)
    (new,) = await gems.memory.listed(kind="lesson")
    assert new.key != old.key
    assert (len(new.value["sources"]), new.value["record"]) == (4, HELD)


@pytest.mark.parametrize("answer", [RejectedRequestError("Not today."), "no JSON at all", {"experience": " "}])
async def test_the_middle_speaks_where_the_model_does_not(gems: Gems, chat: ScriptedChat, answer: object) -> None:
    chat.script["distil"] = answer
    await filled(gems.memory, *CATS)
    report = await gems.memory.consolidate()
    (lesson,) = await gems.memory.listed(kind="lesson")
    assert lesson.value["by"] == "medoid"
    assert lesson.value["text"] in [value["text"] for value in CATS]
    assert len(report.unwritten) == (not isinstance(answer, dict))


async def test_nobody_is_asked_without_a_model(gems: Gems, chat: ScriptedChat) -> None:
    await filled(gems.memory, *CATS)
    await gems.memory.consolidate(use_model=False)
    assert chat.asked == []
    assert [found.value["by"] for found in await gems.memory.listed(kind="lesson")] == ["medoid"]


async def test_imported_lessons_without_sources_stay(gems: Gems) -> None:
    lesson = {
        "type": "lesson",
        "key": "foreign",
        "generator": "flat",
        "kinds": ["count"],
        "text": "From afar.",
        "sources": [["elsewhere", 1]],
        "by": "model",
    }
    await filled(gems.memory, *CATS, lesson)
    await gems.memory.consolidate()
    assert "foreign" in await keys(gems.memory, "lesson")


async def test_forget(gems: Gems) -> None:
    new = experience("new", "a red cat", at=datetime.now(UTC).isoformat())
    await filled(gems.memory, *CATS, SHIP, new)
    await gems.memory.consolidate()
    looked = await gems.memory.forget(run="cat0", dry_run=True)
    assert (looked.experiences, looked.lessons, looked.done) == (1, 1, False)
    assert len(await keys(gems.memory)) == 6
    old_cats = await gems.memory.forget(matching="RED CAT", older_than=datetime(2026, 6, 1, tzinfo=UTC))
    assert (old_cats.experiences, old_cats.lessons, old_cats.done) == (3, 1, True)
    assert await keys(gems.memory) == ["new:1", "ship:1"]
    assert (await gems.memory.forget(run="nobody")).experiences == 0
    with pytest.raises(OptionError, match="There is no condition for what to forget"):
        await gems.memory.forget()


async def test_a_run_is_forgotten_without_reading_what_others_taught(
    gems: Gems, chat: ScriptedChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await learnt(gems, chat)
    taught = await keys(gems.memory)
    others = [PutOp(namespace(EXPERIENCES, f"flat of {name}"), "cat0:1", CATS[0]) for name in ("ann", "bob")]
    assert gems.resources.experiences is not None
    store = gems.resources.experiences.store
    await store.abatch(others)
    read: set[str] = set()

    def watch(name: str) -> None:
        method = getattr(store, name)

        async def watched(space: tuple[str, ...], **more: Any) -> Any:
            read.add(space[1])
            return await method(space, **more)

        monkeypatch.setattr(store, name, watched)

    for name in ("items", "asearch"):
        watch(name)
    assert (await gems.memory.forget(run=run)).experiences == len(taught)
    assert read == {"flat"}
    assert await keys(gems.memory) == ["cat0:1", "cat0:1"]


async def learnt(service: Gems, chat: ScriptedChat) -> str:
    """A run that teaches two experiences."""
    chat.script["checklist"] = failing(1)
    result = await service.run("three cats", max_rounds=3, seed=7)
    await service.memory.flush()
    return result.run_id


async def test_a_lost_store_is_made_anew(gems: Gems, tmp_path: Path, chat: ScriptedChat) -> None:
    run = await learnt(gems, chat)
    before = {found.key: found.value for found in await gems.memory.listed()}
    assert list(before)
    looked = await gems.rebuild_memory(dry_run=True)
    assert (looked.runs, looked.experiences, looked.aside, looked.done) == (1, len(before), "", False)
    told: list[tuple[int, int]] = []
    await filled(gems.memory, SHIP)
    done = await gems.rebuild_memory(lambda count, total: told.append((count, total)))
    assert (done.runs, done.experiences, done.unreadable, done.done) == (1, len(before), [], True)
    assert told == [(1, 1)]
    assert str(tmp_path / "experience.old-") in done.aside
    after = {found.key: found.value for found in await gems.memory.listed()}
    assert {key.partition(":")[0] for key in after} == {run}
    for key, value in before.items():
        assert {**after[key], "at": ""} == {**value, "at": ""}


async def test_runs_without_memory_stay_out(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["checklist"] = failing(1)
    await gems.run("three cats", max_rounds=2, memory=False)
    done = await gems.rebuild_memory()
    assert (done.runs, done.experiences) == (0, 0)
    assert await gems.memory.listed() == []


async def test_a_damaged_folder_is_made_anew(tmp_path: Path, chat: ScriptedChat) -> None:
    async with opened(tmp_path, chat) as service:
        run = await learnt(service, chat)
    (tmp_path / "experience" / "chroma.sqlite3").write_bytes(b"no database at all" * 500)
    async with opened(tmp_path, chat) as service:
        with pytest.raises(StorageError):
            await service.memory.listed()
        assert (await service.rebuild_memory()).experiences
        assert {key.partition(":")[0] for key in await keys(service.memory)} == {run}


async def test_a_damaged_trajectory_costs_no_other(gems: Gems, tmp_path: Path, chat: ScriptedChat) -> None:
    lost, kept = await learnt(gems, chat), await learnt(gems, chat)
    with sqlite3.connect(tmp_path / "checkpoints.sqlite3") as connection:
        connection.execute("UPDATE checkpoints SET checkpoint=x'c1c1' WHERE thread_id=?", (lost,))
    done = await gems.rebuild_memory()
    assert done.unreadable == [lost]
    assert {key.partition(":")[0] for key in await keys(gems.memory)} == {kept}


async def test_another_embedder_embeds_anew(gems: Gems) -> None:
    await filled(gems.memory, *CATS)
    assert await gems.memory.reindex() == 0


async def test_what_runs_measured_is_counted_carried_forgotten_and_made_anew(tmp_path: Path) -> None:
    skill = read_skill(BUILTIN / "counting-and-binding", "built-in", trusted=True)
    assert isinstance(skill, Skill)
    prompt = "three red circles, two green stars and four blue squares"
    settings = [settings_at(tmp_path / name, experience="", embedder="lexical") for name in ("one", "two")]
    async with Gems(settings[0], skills=[skill], detector=BlocksDetector(1.0)) as service:
        result = await service.run(prompt, seed=7, skills=skill.name, max_rounds=3, repair="always")
        await service.memory.flush()
        stats = await service.memory.stats()
        tally = stats.instruments["blocks"]["count"]
        findings = [
            answer["finding"]
            for turn in result.rounds
            for answer in turn["verdicts"][0]["answers"]
            if answer["source"] != "parent" and "finding" in answer
        ]
        assert sum(tally.values()) == len(findings)
        assert tally["judge"] == sum(each["answer"] != each["judge"] for each in findings) > 0
        assert sum(each["edits"] for kinds in stats.boxes.values() for each in kinds.values()) == sum(
            bool(turn.get("boxes")) for turn in result.rounds
        )
        assert stats.probabilities == []
        lines = [line async for line in service.memory.export()]
        assert (await service.memory.forget(run="nobody", dry_run=True)).measurements == 0
        gone = await service.memory.forget(matching="GREEN STARS")
        assert gone.measurements > 0
        assert (await service.memory.stats()).instruments == {}
        await service.rebuild_memory()
        assert (await service.memory.stats()).instruments == stats.instruments
    async with Gems(settings[1]) as other:
        assert (await other.memory.import_lines(lines)).faults == []
        carried = await other.memory.stats()
        assert (carried.instruments, carried.boxes) == (stats.instruments, stats.boxes)
        assert (await other.memory.import_lines(lines)).unchanged == len(lines)
        assert {memory.kind for memory in await other.memory.listed()} <= {"experience", "lesson"}
