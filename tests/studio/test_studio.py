"""LangGraph's server with our graph, as Studio and its other clients use it."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from typing import Any

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk.client import LangGraphClient

from gems.memory.source_images import read_source_image
from tests.studio.conftest import PATIENCE_S, Studio
from tests.support.node import Node
from tests.support.skill_folders import skill_folder

pytestmark = pytest.mark.xdist_group("studio")

PLAIN = {"prompt": "two green stars", "seed": 3, "skills": "none"}
HOPELESS = {"prompt": "a dozen red circles", "seed": 3, "skills": "none", "max_rounds": 3}
ASKS = """
from langgraph.types import interrupt

def build(context):
    async def season(state, work):
        return {"prompt": state["prompt"] + " in " + interrupt("In which season?")}

    graph = context.default()
    graph.add_node("season", context.node(season))
    graph.add_edge("keep", "season")
    return graph
"""
WAITS = """
import asyncio

MEETING = asyncio.Barrier({parties})

def build(context):
    async def wait(state, work):
        await asyncio.wait_for(MEETING.wait(), 50)
        return {{"prompt": state["prompt"] + " together"}}

    graph = context.default()
    graph.add_node("wait", context.node(wait))
    graph.add_edge("keep", "wait")
    return graph
"""


@pytest_asyncio.fixture
async def thread(client: LangGraphClient) -> str:
    return (await client.threads.create())["thread_id"]


@pytest_asyncio.fixture
async def http(studio: Studio) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=studio.url, trust_env=False) as opened:
        yield opened


async def values(client: LangGraphClient, thread: str) -> dict[str, Any]:
    return dict((await client.threads.get_state(thread))["values"])


async def reached(client: LangGraphClient, thread: str, node: str) -> None:
    """Wait until a run is about to do `node`, or is doing it."""
    await until(lambda: is_next(client, thread, node))


async def is_next(client: LangGraphClient, thread: str, node: str) -> bool:
    return node in (await client.threads.get_state(thread))["next"]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again: the server tells nobody of what it does."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_run_shows_its_nodes_and_what_skills_do(client: LangGraphClient, thread: str) -> None:
    asked = PLAIN | {"skills": "spatial-layout"}
    inner: list[str] = []
    outer: list[str] = []
    events: list[dict[str, Any]] = []
    async for part in client.runs.stream(
        thread, "gems", input=asked, stream_mode=["updates", "custom"], stream_subgraphs=True
    ):
        if part.event == "custom":
            events.append(part.data)
        elif part.event.startswith("updates|skill_spatial-layout:"):
            inner += part.data
        elif part.event == "updates":
            outer += part.data
    assert inner == ["load", "enhance", "keep"]
    assert set(outer[1:3]) == {"planner", "decomposer"}
    assert outer[0] == "begin"
    assert outer[3:] == ["ready", "skill_spatial-layout", "generator", "judge", "finish"]
    told = {event["type"] for event in events}
    assert {"planned", "requirements", "skill", "step", "image", "verdicts", "stopped"} <= told


async def test_the_state_is_readable(client: LangGraphClient, studio: Studio, thread: str) -> None:
    result = await client.runs.wait(thread, "gems", input=PLAIN)
    found = await values(client, thread)
    assert found["stop_reason"] == result["stop_reason"] == "passed"
    assert found["image_url"] == f"{studio.url}/images/{found['image']}.png"
    text = json.dumps(found)
    assert len(text) < 10_000
    # No path of the machine, and no picture.
    assert str(studio.home) not in text
    assert "base64" not in text


async def test_events_hold_links_in_place_of_paths(client: LangGraphClient, studio: Studio, thread: str) -> None:
    parts = [part async for part in client.runs.stream(thread, "gems", input=PLAIN, stream_mode="custom")]
    (drawn,) = [part.data for part in parts if part.event == "custom" and part.data["type"] == "image"]
    assert drawn["path"] == f"{studio.url}/images/{drawn['candidate']['image']}.png"
    assert str(studio.home) not in json.dumps([part.data for part in parts])


async def test_checkpoints_are_where_gems_keeps_them(client: LangGraphClient, studio: Studio, thread: str) -> None:
    await client.runs.wait(thread, "gems", input=PLAIN)
    with closing(sqlite3.connect(studio.home / "checkpoints.sqlite3")) as kept:
        count = "SELECT count(*) FROM checkpoints WHERE thread_id = ?"
        assert kept.execute(count, (thread,)).fetchone()[0] > 5
        await client.threads.delete(thread)
        assert kept.execute(count, (thread,)).fetchone()[0] == 0


async def test_images_are_cached_for_good(client: LangGraphClient, http: httpx.AsyncClient, thread: str) -> None:
    url = (await client.runs.wait(thread, "gems", input=PLAIN))["image_url"]
    shown = await http.get(url)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert "immutable" in shown.headers["cache-control"]
    assert shown.content.startswith(b"\x89PNG")
    again = await http.get(url, headers={"if-none-match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == shown.headers["etag"]
    assert (await http.get(url.removesuffix(".png"))).content == shown.content


@pytest.mark.parametrize("name", ["0" * 64, "cat.png", "..%2fledger.sqlite3", "F" * 64, "a.png.png"])
async def test_what_is_no_image_is_not_found(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.get(f"/images/{name}")).status_code == 404


async def test_one_can_go_back_to_a_round_and_fork(client: LangGraphClient, thread: str) -> None:
    first = await client.runs.wait(thread, "gems", input=HOPELESS)
    assert len(first["rounds"]) == 3
    history = await client.threads.get_history(thread, limit=50)
    (back,) = [
        state for state in history if state["next"] == ["generator"] and len(state["values"].get("rounds", ())) == 1
    ]
    edit = {"current_prompt": "a dozen red squares"}
    fork = await client.threads.update_state(thread, edit, as_node="reflector", checkpoint=back["checkpoint"])
    second = await client.runs.wait(thread, "gems", input=None, checkpoint=fork["checkpoint"])
    assert second["rounds"][0] == first["rounds"][0]
    assert second["rounds"][1]["prompt"] == "a dozen red squares"
    assert first["rounds"][1]["prompt"] != "a dozen red squares"


async def test_a_run_goes_on_from_a_checkpoint(client: LangGraphClient, thread: str) -> None:
    first = await client.runs.wait(thread, "gems", input=HOPELESS)
    history = await client.threads.get_history(thread, limit=50)
    (back,) = [state for state in history if state["next"] == ["judge"] and not state["values"]["rounds"]]
    second = await client.runs.wait(thread, "gems", input=None, checkpoint_id=back["checkpoint"]["checkpoint_id"])
    # The ledger hands back what was drawn and answered.
    assert [turn["candidates"] for turn in second["rounds"]] == [turn["candidates"] for turn in first["rounds"]]


async def test_a_thread_can_be_copied(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "gems", input=HOPELESS)
    copied: Any = await client.threads.copy(thread)
    assert await values(client, copied["thread_id"]) == await values(client, thread)


async def test_a_cancelled_run_leaves_the_thread_usable(client: LangGraphClient, studio: Studio, thread: str) -> None:
    skill_folder(studio.home / "skills", "waits-long", code=WAITS.format(parties=2))
    run = await client.runs.create(thread, "gems", input=PLAIN | {"skills": "waits-long"})
    await reached(client, thread, "skill_waits-long")
    await client.runs.cancel(thread, run["run_id"], wait=True)
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"
    assert (await client.runs.wait(thread, "gems", input=PLAIN))["stop_reason"] == "passed"


async def test_a_run_can_take_anothers_place(client: LangGraphClient, studio: Studio, thread: str) -> None:
    skill_folder(studio.home / "skills", "gives-way", code=WAITS.format(parties=2))
    first = await client.runs.create(thread, "gems", input=HOPELESS | {"skills": "gives-way"})
    await reached(client, thread, "skill_gives-way")
    result = await client.runs.wait(thread, "gems", input=PLAIN, multitask_strategy="rollback")
    assert result["stop_reason"] == "passed"
    history = await client.threads.get_history(thread, limit=50)
    assert first["run_id"] not in {state["metadata"].get("run_id") for state in history}


async def test_two_runs_go_on_at_a_time(client: LangGraphClient, studio: Studio) -> None:
    skill_folder(studio.home / "skills", "meets-another", code=WAITS.format(parties=2))
    asked = PLAIN | {"skills": "meets-another"}
    threads = [(await client.threads.create())["thread_id"] for _ in range(2)]
    async with asyncio.timeout(PATIENCE_S):
        results = await asyncio.gather(*(client.runs.wait(thread, "gems", input=asked) for thread in threads))
    # One after the other, neither would have met the other.
    assert [result["skill_uses"][0]["fault"] for result in results] == ["", ""]
    assert all(result["plan"]["skills"] == ["meets-another"] for result in results)


async def test_a_skill_that_was_dropped_in_is_used_by_the_next_run(
    client: LangGraphClient, studio: Studio, thread: str
) -> None:
    folder = skill_folder(studio.home / "skills", "glowing")
    result = await client.runs.wait(thread, "gems", input=PLAIN | {"skills": "glowing"})
    assert [use["name"] for use in result["skill_uses"]] == ["glowing"]
    drawn = await client.assistants.get_graph(await assistant(client), xray=True)
    assert "skill_glowing:enhance" in {node["id"] for node in drawn["nodes"]}
    (folder / "SKILL.md").unlink()
    later = await client.assistants.get_graph(await assistant(client), xray=True)
    assert not any("glowing" in str(node["id"]) for node in later["nodes"])


async def test_what_a_skill_asks_can_be_answered(client: LangGraphClient, studio: Studio, thread: str) -> None:
    skill_folder(studio.home / "skills", "seasons", code=ASKS)
    await client.runs.wait(thread, "gems", input=PLAIN | {"skills": "seasons"})
    asked = await client.threads.get_state(thread)
    assert [found["value"] for task in asked["tasks"] for found in task["interrupts"]] == ["In which season?"]
    result = await client.runs.wait(thread, "gems", command={"resume": "winter"})
    assert result["stop_reason"] == "passed"
    assert " in winter" in result["rounds"][0]["prompt"]


async def test_the_input_form_is_small_and_explains_itself(client: LangGraphClient) -> None:
    schemas = await client.assistants.get_schemas(await assistant(client))
    fields = schemas["input_schema"]["properties"]
    assert list(fields)[:7] == ["prompt", "max_rounds", "candidates", "size", "seed", "profile", "skills"]
    assert len(fields) == 18
    assert not {"owner", "run_id", "options"} & set(fields)
    assert all(field["description"].endswith(".") for field in fields.values())
    rounds, profile = (fields[name]["anyOf"][0] for name in ("max_rounds", "profile"))
    assert (rounds["type"], rounds["minimum"], rounds["maximum"]) == ("integer", 1, 50)
    assert profile["enum"] == ["balanced", "paper"]
    assert {"image", "image_url", "messages", "rounds"} <= set(schemas["output_schema"]["properties"])
    assert "plan" in schemas["state_schema"]["properties"]


async def test_a_form_cannot_say_whose_run_it_is(client: LangGraphClient, thread: str) -> None:
    sent = {"run_id": "another", "owner": "somebody", "source": "0" * 64, "shown": [{"image": "0" * 64}]}
    await client.runs.wait(thread, "gems", input=PLAIN | sent)
    found = await values(client, thread)
    assert not {"run_id", "owner", "source"} & set(found)
    assert [shown["image"] for shown in found["shown"]] == [found["image"]]


async def test_the_drawn_graph_shows_the_insides_of_skills(client: LangGraphClient) -> None:
    drawn = await client.assistants.get_graph(await assistant(client), xray=True)
    nodes = {node["id"] for node in drawn["nodes"]}
    assert {"begin", "planner", "decomposer", "generator", "judge", "reflector", "finish"} <= nodes
    assert {"skill_counting-and-binding:load", "skill_counting-and-binding:enhance"} <= nodes


async def test_a_message_starts_a_run_and_gets_an_answer(client: LangGraphClient, studio: Studio, thread: str) -> None:
    said = [{"role": "user", "content": "two green stars"}]
    words = [
        part.data[0]
        async for part in client.runs.stream(thread, "gems", input={"messages": said}, stream_mode="messages-tuple")
        if part.event == "messages"
    ]
    # What nodes ask models is no part of the conversation.
    assert [word["type"] for word in words] == ["ai"]
    found = await values(client, thread)
    assert found["prompt"] == "two green stars"
    question, answer = found["messages"]
    assert (question["type"], answer["type"]) == ("human", "ai")
    picture, text = answer["content"]
    assert picture == {"type": "image_url", "image_url": {"url": found["image_url"]}}
    assert text["text"].splitlines() == [
        "1 of 1 requirements are met, after 1 round.",
        "- yes: Are there exactly two green stars?",
    ]
    assert len(json.dumps(answer)) < 1_500


async def test_a_second_message_starts_a_run_of_its_own(client: LangGraphClient, thread: str) -> None:
    for text in ("two green stars", "a red circle"):
        await client.runs.wait(thread, "gems", input={"messages": [{"role": "user", "content": text}]})
    found = await values(client, thread)
    assert found["prompt"] == "a red circle"
    assert [item["type"] for item in found["messages"]] == ["human", "ai", "human", "ai"]
    shown = [item["content"][0]["image_url"]["url"] for item in found["messages"] if item["type"] == "ai"]
    assert len(set(shown)) == 2
    assert shown[-1] == found["image_url"]


async def say(client: LangGraphClient, thread: str, *messages: dict[str, Any]) -> dict[str, Any]:
    given = {"messages": list(messages), "seed": 3, "skills": "none"}
    return dict(await client.runs.wait(thread, "gems", input=given))


def person(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def test_a_follow_up_edits_the_image_that_it_means(client: LangGraphClient, thread: str) -> None:
    first = await say(client, thread, person("two green stars"))
    second = await say(client, thread, person("a red circle"))
    changed = await say(client, thread, person("now make the first one blue"))
    assert changed["options"]["source"] == first["image"] != second["image"]
    assert changed["prompt"] == "make the green stars blue"
    newest = await say(client, thread, person("make it yellow"))
    assert newest["options"]["source"] == changed["image"]
    own = await say(client, thread, person("a purple square"))
    assert "source" not in own["options"]
    form = await client.runs.wait(thread, "gems", input=PLAIN | {"prompt": "make it red", "max_rounds": 1})
    assert (form["prompt"], "source" in form["options"]) == ("make it red", False)


async def test_a_made_up_answer_opens_no_image(client: LangGraphClient, thread: str) -> None:
    other = (await client.threads.create())["thread_id"]
    secret = await say(client, other, person("two green stars"))
    forged = secret["messages"][-1]
    result = await say(client, thread, person("a red circle"), forged, person("now make it blue"))
    assert "source" not in result["options"]
    assert result["image"] != secret["image"]


async def test_an_image_that_was_attached_is_edited(
    client: LangGraphClient, http: httpx.AsyncClient, thread: str
) -> None:
    other = (await client.threads.create())["thread_id"]
    shown = (await http.get((await say(client, other, person("two green stars")))["image_url"])).content
    url = f"data:image/png;base64,{base64.b64encode(shown).decode()}"
    parts = [{"type": "text", "text": "make the stars red"}, {"type": "image_url", "image_url": {"url": url}}]
    result = await say(client, thread, person(parts))
    assert result["options"]["source"] == read_source_image(shown).id
    assert result["prompt"] == "make the stars red"


async def test_what_runs_learn_is_in_the_store(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "gems", input=HOPELESS)

    async def is_there() -> bool:
        return bool((await client.store.search_items(["experiences"]))["items"])

    await until(is_there)


async def test_a_run_without_a_prompt_says_what_is_wrong(client: LangGraphClient, thread: str) -> None:
    parts = [part async for part in client.runs.stream(thread, "gems", input={"skills": "none"})]
    (error,) = [part.data for part in parts if part.event == "error"]
    assert error["error"] == "PromptError"
    assert error["message"] == "The prompt is empty. Describe the image to generate."


async def assistant(client: LangGraphClient) -> str:
    (found,) = await client.assistants.search(graph_id="gems")
    return found["assistant_id"]


def test_the_sdk_for_javascript_talks_with_it(studio: Studio, npm: Node) -> None:
    seen = npm.run_script("langgraph.mjs", studio.url)
    assert seen["graphs"] == ["gems"]
    assert {"begin", "planner", "generator", "judge", "finish"} <= set(seen["nodes"])
    assert {"planned", "requirements", "image", "verdicts", "stopped"} <= set(seen["events"])
    assert (seen["first"]["prompt"], seen["first"]["stop"]) == ("two green stars", "passed")
    assert seen["second"]["said"] == ["human", "ai", "human", "ai"]
    assert seen["second"]["image"] != seen["first"]["image"]
    assert seen["third"] == {"source": seen["second"]["id"], "prompt": "make the red circle blue"}
    assert seen["start"] == "\x89PNG"
