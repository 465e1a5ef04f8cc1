"""A run as HTML, from its result and from its events."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from gems.apps.run_view import RunView
from gems.apps.web.rendering import (
    PageUrls,
    gallery_html,
    heading_html,
    problem_html,
    progress_html,
    run_html,
    status_text,
    style,
)
from gems.errors import PromptError, RateLimitError
from gems.events import Finished, Started, StepDone, Warned
from gems.results import RunResult
from tests.support.report_pages import HOSTILE, Page, eventful

PLACES = PageUrls(image=lambda image: f"/i/{image}.png?a=1&b=2", report=lambda run_id: f"/r/{run_id}")


async def played(home: Path, prompt: str = "a red cat", text: str = "seen", **options: Any) -> list[RunView]:
    """A run as it was after each event."""
    stories: list[RunView] = []
    async with eventful(home, text).gems() as gems:
        story: RunView | None = None
        async for event in gems.stream(prompt, seed=7, max_rounds=3, plateau=0, **options):
            story = story or RunView.of(await gems.show(event.run_id))
            story.take(event)
            stories.append(deepcopy(story))
    return stories


def result_of(story: RunView) -> RunResult:
    assert story.result is not None
    return story.result


async def test_events_and_result_tell_the_same(tmp_path: Path) -> None:
    told = (await played(tmp_path))[-1]
    known = RunView.of(result_of(told))
    assert run_html(told, PLACES) == run_html(known, PLACES)
    assert told.doing == known.doing == "all rounds are used up"
    assert status_text(told).startswith("All rounds are used up.")


async def test_everything_is_shown(tmp_path: Path) -> None:
    story = (await played(tmp_path, candidates=2))[-1]
    html = run_html(story, PLACES)
    page = Page(html)
    result = result_of(story)
    for turn in result.rounds:
        assert f"Round {turn['number']}" in page.text
        for candidate in turn["candidates"]:
            assert f"/i/{candidate['image']}.png" in html
    for item in result.requirements:
        assert page.text.count(item.question) == 3
    assert page.text.count("seen 1") == 3
    assert [mark["class"] for mark in page.all("span", "g-mark")] == [
        *("g-mark no", "g-mark no", "g-mark yes", "g-mark no", "g-mark no", "g-mark unknown")
    ]
    assert "It lacks something. seen" in page.text
    assert "<ins>" in html
    assert f"Tokens{sum(used['input_tokens'] + used['output_tokens'] for used in result.usage.values())}" in (
        page.text.replace(",", "").replace("\n", "")
    )
    assert all(image.get("alt") is not None for image in page.all("img"))
    assert [link["href"] for link in page.all("a") if "round=" in (link["href"] or "")] == [
        f"?run={story.run_id}&round={number}" for number in (1, 2, 3)
    ]
    assert {"Generator", "Judge"} < set(re.findall("Generator|Judge|Seed", page.text))


async def test_rounds_appear_one_after_another(tmp_path: Path) -> None:
    counts = [len(Page(run_html(story, PLACES)).all("section", "g-round")) for story in await played(tmp_path)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 3)
    assert {1, 2} < set(counts)


def shown(html: str) -> list[str | None]:
    """The rounds that are not hidden, and the one that is marked in the film strip."""
    page = Page(html)
    sections = [attrs["data-round"] for attrs in page.all("section", "g-round") if "hidden" not in attrs]
    return sections + [attrs["data-show"] for attrs in page.all("a") if attrs.get("aria-current")]


async def test_one_round_is_shown_the_newest_then_the_best_or_a_chosen_one(tmp_path: Path) -> None:
    stories = await played(tmp_path)
    for story in stories[:-1]:
        drawn = [number for number, view in story.rounds.items() if view.image]
        if drawn:
            assert shown(run_html(story, PLACES)) == [str(max(drawn))] * 2
    assert shown(run_html(stories[-1], PLACES)) == ["2", "2"]
    chosen = run_html(stories[-1], PLACES, chosen=1)
    assert shown(chosen) == ["1", "1"]
    assert 'data-picked="1"' in chosen
    assert run_html(stories[-1], PLACES, chosen=99) == run_html(stories[-1], PLACES)


def mended(*parents: int | None) -> RunView:
    """A run whose rounds draw new images, or change those of others."""
    story = RunView("a cat", "run", status="done")
    for number, parent in enumerate(parents, start=1):
        view = story.round(number)
        view.images, view.score, view.prompt = {0: f"image{number}"}, number / 10, "a cat"
        view.origin = {"action": "edit", "parent": f"image{parent}"} if parent else {"action": "redraw"}
    return story


@pytest.mark.parametrize(
    ("parents", "lanes", "follows"),
    [
        ((None, None, None), [1, 1, 1], [None, 1, 2]),
        ((None, 1, 2), [1, 1, 1], [None, 1, 2]),
        # Two changes of the first image, and a new image between them.
        ((None, None, 1, None, 1), [1, 1, 2, 1, 2], [None, 1, 1, 2, 1]),
        ((None, None, 1, 3, 3), [1, 1, 2, 2, 3], [None, 1, 1, 3, 3]),
        # The parent is no image of this run.
        ((9, None), [1, 1], [None, 1]),
    ],
)
def test_the_film_strip_is_a_tree(parents: tuple[int | None, ...], lanes: list[int], follows: list[int | None]) -> None:
    html = run_html(mended(*parents), PLACES)
    frames = re.findall(r'class="g-frame" style="grid-area: (\d+) / (\d+)"', html)
    assert frames == [(str(lane), str(column)) for column, lane in enumerate(lanes, start=1)]
    lines = re.findall(r'class="g-(?:joint|branch)" style="grid-area: \d+ / (\d+) / auto / (\d+)"', html)
    wanted = [(str(start), str(end)) for end, start in enumerate(follows, start=2) if start is not None]
    assert lines == wanted
    told = [f"edit of {parent}" for parent in parents if parent and parent <= len(parents)]
    assert re.findall(r"edit of \d", Page(html).text) == told


def test_boxes_of_faults_are_data_for_the_picture() -> None:
    story = mended(None)
    story.questions = {"r1": "Is there a cat?", "r2": "Is it red?", "r3": "Is it big?"}
    for name, value in (("r1", "no"), ("r2", "yes"), ("r3", "no")):
        answer: Any = {"requirement": name, "answer": value, "evidence": "", "probability": None, "source": "judge"}
        story.rounds[1].answers[name] = answer | ({} if name == "r3" else {"box": [100, 200, 300, 450]})
    page = Page(run_html(story, PLACES))
    assert [item["data-box"] for item in page.all("li") if "data-box" in item] == ["100 200 300 450"]
    assert "Show where: Is there a cat?" in page.text
    assert page.text.count("Show where") == 1


def test_the_built_in_world_is_named() -> None:
    story = mended(None)
    story.rounds[1].model = "blocks:poor"
    assert "Image by built-in world" in " ".join(Page(run_html(story, PLACES)).text.split()).replace(
        "New image", "Image"
    )
    heading = Page(heading_html("", {"planner": "p", "judge": "<b>qwen</b>", "generator": "blocks"})).text
    assert "Generator: built-in world (flat shapes, no real model)" in heading
    assert "Judge: <b>qwen</b>" in heading
    assert "p" not in re.findall(r"\w+", heading)


async def test_what_people_and_models_wrote_is_data(tmp_path: Path) -> None:
    hostile = "${alert(1)} {{#each x}} `${1}` " + HOSTILE
    stories = await played(tmp_path, hostile, hostile)
    stories[-1].take(Warned(message=hostile))
    rows: Any = [
        {
            "run_id": '"><script>x</script>',
            "prompt": hostile,
            "status": "done",
            "summary": {},
            "created": "2026-01-01T00:00:00+00:00",
        }
    ]
    pages = [run_html(stories[-1], PLACES), gallery_html(rows, {}, PLACES), problem_html(PromptError(hostile))]
    for html in (*pages, gallery_html([], {}, PLACES, hostile)):
        page = Page(html)
        assert not page.all("script")
        assert not page.all("style")
        assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
        # Nothing that a template engine in the browser would act upon.
        assert not set("{}$`") & set(html)
        assert "${alert(1)}" in page.text


def test_addresses_are_attributes_and_nothing_else() -> None:
    rows: Any = [
        {
            "run_id": "x&y",
            "prompt": "p",
            "status": "done",
            "summary": {"score": 0.999},
            "created": "2026-01-01T00:00:00+00:00",
        }
    ]
    html = gallery_html(rows, {"x&y": "0" * 64}, PLACES)
    page = Page(html)
    assert [link["href"] for link in page.all("a")] == ["?run=x%26y"]
    assert page.all("img")[0]["src"] == f"/i/{'0' * 64}.png?a=1&b=2"
    # Only what is complete looks complete.
    assert "99 % met" in page.text


def test_what_goes_on_is_said() -> None:
    story = RunView("a cat", "run")
    story.take(Started(run_id="run"))
    assert status_text(story) == "Planning."
    story.take(StepDone(round=2, candidate=0, done=3, total=9))
    assert status_text(story) == "Drawing round 2: step 3 of 9."
    assert Page(progress_html(story)).all("progress")[0] == {
        "value": "3",
        "max": "9",
        "aria-label": "Steps of the drawing",
    }
    story.steps.clear()
    assert progress_html(story) == ""


def test_errors_say_what_to_do() -> None:
    error = RateLimitError("Too many.", hint="Wait a minute.")
    error.run_id = "run-1"
    page = Page(problem_html(error))
    assert page.all("section")[0]["role"] == "alert"
    assert [part in page.text for part in ("Too many.", "Wait a minute.")] == [True, True]
    assert page.all("a")[0]["href"] == "?run=run-1"


async def test_failures_are_told_with_what_is_known(tmp_path: Path) -> None:
    story = (await played(tmp_path))[-1]
    failure: Any = {"node": "judge", "error": "ServerError", "message": "It broke."}
    failed = result_of(story).model_copy(update={"failure": failure, "stop_reason": "failed"})
    story.take(Finished(result=failed))
    page = Page(run_html(story, PLACES))
    assert "ServerError" in page.text
    assert "It broke." in page.text
    assert status_text(story).startswith("Failed.")


def test_style_loads_nothing() -> None:
    assert not [part for part in ("@import", "url(", "http") if part in style()]
