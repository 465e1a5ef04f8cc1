"""What each harness asks and draws, and that it makes use of its images."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gems.errors import OptionError
from gems.evals.harnesses import HARNESSES, Harness, load_harness
from gems.evals.runner import check_image_budget
from gems.models.chat.schemas import extract_tag
from gems.results import RunResult
from gems.service import Gems
from tests.support.scripted_models import FlatGenerator, ScriptedChat, failing, settings_at

PROMPT = "a red cat"
IMAGES = 3


class Tried:
    """A run of a harness whose image never meets everything."""

    def __init__(self, **script: Any) -> None:
        self.chat, self.generator = ScriptedChat(), FlatGenerator()
        self.chat.script["verify"] = "No. It is missing."
        self.chat.script["checklist"] = failing(1)
        self.chat.script |= script

    async def run(self, home: Path, name: str) -> RunResult:
        wanted = load_harness(name)
        opening = Gems(settings_at(home), chat=self.chat, generator=self.generator, graph=wanted.graph)
        async with opening as gems:
            return await gems.run(PROMPT, seed=7, **wanted.options(IMAGES))

    @property
    def prompts(self) -> list[str]:
        return [request.prompt for request in self.generator.requests]


@pytest.mark.parametrize("name", HARNESSES)
async def test_harness_says_what_it_is_and_draws(name: str, tmp_path: Path) -> None:
    found, tried = load_harness(name), Tried()
    assert found.name == name
    assert found.title
    assert found.description.endswith(".")
    result = await tried.run(tmp_path, name)
    assert result.image_id is not None
    assert result.failure is None
    expected = 1 if name in ("single", "rewrite") else IMAGES
    assert len(tried.generator.requests) == expected
    assert tried.generator.requests[0].seed == 7
    assert found.uses_chat == bool(tried.chat.asked)


async def test_single_is_the_prompt_drawn_once_and_not_looked_at(tmp_path: Path) -> None:
    tried = Tried()
    result = await tried.run(tmp_path, "single")
    assert (tried.prompts, tried.chat.tasks()) == ([PROMPT], [])
    assert (result.requirements, result.stop_reason, len(result.rounds)) == ([], "max_rounds", 1)


async def test_rewrite_is_one_question_and_one_image(tmp_path: Path) -> None:
    tried = Tried()
    result = await tried.run(tmp_path, "rewrite")
    assert (tried.prompts, tried.chat.tasks()) == ([f"better {PROMPT}"], ["enhance"])
    assert "quote lettering exactly" in tried.chat.asked[0].tag("skill")
    assert result.final_prompt == f"better {PROMPT}"


async def test_best_of_n_is_one_prompt_with_n_seeds_and_keeps_the_best(tmp_path: Path) -> None:
    tried = Tried()
    asked = 0

    def second_is_red(question: Any) -> str:
        nonlocal asked
        asked += question.tag("question").strip() == "Is it red?"
        return "Yes. It is." if asked == 2 and "red" in question.text else "No. It is missing."

    tried.chat.script["verify"] = second_is_red
    result = await tried.run(tmp_path, "best-of-n")
    assert set(tried.prompts) == {PROMPT}
    assert len({request.seed for request in tried.generator.requests}) == IMAGES
    assert Counter(tried.chat.tasks()) == {"decompose": 1, "verify": 2 * IMAGES}
    assert (len(result.rounds), result.score) == (1, 0.5)


async def test_paper_summarises_and_refines_with_all_images(tmp_path: Path) -> None:
    tried = Tried()
    await tried.run(tmp_path, "paper")
    counts = Counter(tried.chat.tasks())
    assert (counts["route"], counts["summarise"], counts["refine"]) == (1, 2, 2)
    assert [len(asked.pictures) for asked in tried.chat.about("refine")] == [1, 2]
    assert tried.chat.about("refine")[1].lines("experiences")


@pytest.mark.parametrize("name", ["paper-no-memory", "paper-loop"])
async def test_without_memory_the_refiner_sees_the_newest_feedback_alone(name: str, tmp_path: Path) -> None:
    tried = Tried()
    result = await tried.run(tmp_path, name)
    counts = Counter(tried.chat.tasks())
    assert (counts["summarise"], counts["refine"]) == (0, 2)
    assert counts["route"] == (name == "paper-no-memory")
    for number, asked in enumerate(tried.chat.about("refine")):
        assert asked.pictures == ()
        assert asked.tag("drawn_prompt") == tried.prompts[number]
        assert asked.lines("failed")
        for tag in ("experiences", "experience", "thought", "lessons"):
            assert extract_tag(tag, asked.text) == "(none)"
    assert result.experiences == []
    assert tried.prompts == [PROMPT, f"{PROMPT} more", f"{PROMPT} more more"]


async def test_refiner_without_memory_that_repeats_itself_is_asked_again_and_then_spelled_out(tmp_path: Path) -> None:
    tried = Tried(refine=lambda asked: {"prompt": asked.tag("drawn_prompt")})
    await tried.run(tmp_path, "paper-no-memory")
    assert Counter(tried.chat.tasks())["refine"] == 4
    assert tried.prompts[1].startswith(f"{PROMPT}\n")
    assert "Is there a cat?" in tried.prompts[1]


async def test_refiner_without_memory_that_does_not_answer_costs_no_run(tmp_path: Path) -> None:
    tried = Tried(refine="What?")
    result = await tried.run(tmp_path, "paper-no-memory")
    assert len(tried.prompts) == IMAGES
    assert any("No answer from the refiner" in warning for warning in result.warnings)


async def test_without_skills_none_is_chosen_from(tmp_path: Path) -> None:
    tried = Tried()
    await tried.run(tmp_path, "paper-no-skill")
    counts = Counter(tried.chat.tasks())
    assert (counts["route"], counts["summarise"], counts["refine"]) == (0, 2, 2)


async def test_balanced_asks_a_checklist_and_reflects_once_a_round(tmp_path: Path) -> None:
    tried = Tried()
    await tried.run(tmp_path, "balanced")
    counts = Counter(tried.chat.tasks())
    assert (counts["reflect"], counts["summarise"], counts["refine"]) == (2, 0, 0)
    assert counts["checklist"] == IMAGES


class Painter(FlatGenerator):
    """Edits, too, everywhere or in a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, editing=True, inpainting=True)


def fault_with_a_place(_asked: Any) -> str:
    answers = [{"number": 1, "answer": "no", "box": [0, 0, 500, 500]}, {"number": 2, "answer": "yes"}]
    return json.dumps({"answers": answers})


@pytest.mark.parametrize(
    ("name", "action", "masks"),
    [("balanced", "redraw", []), ("repair", "inpaint", [True]), ("repair-unlocked", "edit", [False])],
)
async def test_harness_mends_in_the_place_of_the_fault_or_everywhere(
    name: str, action: str, masks: list[bool], tmp_path: Path
) -> None:
    tried, found = Tried(checklist=fault_with_a_place), load_harness(name)
    tried.generator = Painter()
    # What auto chooses depends on the seed.
    wanted = replace(found, repair="always") if found.repair == "auto" else found
    async with Gems(settings_at(tmp_path), chat=tried.chat, generator=tried.generator, graph=wanted.graph) as gems:
        result = await gems.run(PROMPT, seed=7, **wanted.options(2))
    assert [turn["action"] for turn in result.rounds] == ["draw", action]
    assert [request.mask is not None for request in tried.generator.requests if request.source] == masks
    assert bool(result.rounds[1].get("boxes")) == (masks == [True])


def test_samples_learn_nothing_from_each_other() -> None:
    assert [load_harness(name).options(5).get("memory") for name in HARNESSES] == [False] * len(HARNESSES)
    assert [name for name in HARNESSES if load_harness(name).can_learn] == ["balanced", "repair", "repair-unlocked"]


def test_harness_that_there_is_not() -> None:
    with pytest.raises(OptionError, match="Unknown harness: 'best'") as caught:
        load_harness("best")
    assert "best-of-n" in caught.value.hint


def test_more_images_than_a_harness_can_use() -> None:
    check_image_budget(load_harness("best-of-n"), 16)
    with pytest.raises(OptionError, match="at most 16 images"):
        check_image_budget(load_harness("best-of-n"), 17)


def test_graph_that_replaces_what_there_is_not() -> None:
    from gems.graphs.loop import build_graph

    with pytest.raises(KeyError, match="no node painter"):
        build_graph(instead={"painter": next(iter([lambda *_: None]))})  # type: ignore[dict-item]
    assert isinstance(load_harness("paper"), Harness)
