"""Patches in the built-in world, whose truth is known; its judge, reflector and generator are the real ones."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from gems.errors import (
    ConfigurationError,
    CorruptStoreError,
    ImageMissingError,
    OptionError,
    RequestError,
    RunBusyError,
)
from gems.evolution import Evolution, TrialRequest
from gems.evolution.instruments import open_instrument
from gems.memory.patches import Evidence, Patch
from gems.models.blocks import BlocksChat
from gems.models.chat.schemas import ChecklistReply
from gems.service import Gems
from gems.settings import Settings

RULE = 'For counts, the wording "repeat" worked.'
COUNTING = Patch(kind="wording", target="reflect", after=RULE, reason="It worked 9 of 10 times.", runs=("a",))
LENIENT = Patch(kind="wording", target="checklist", before="Answer each", after="Be generous. Answer each")
COLOURS = ("red", "blue", "black", "yellow", "purple", "orange")
HELD = tuple(f"six {colour} circles" for colour in COLOURS)
KEEP = ("a red square", "a blue star")
REQUEST = TrialRequest(prompts=HELD, keep=KEEP, budget=40, rounds=1)


@pytest.fixture
async def gems(tmp_path: Path) -> AsyncIterator[Gems]:
    async with Gems(Settings(home=tmp_path, skills="none")) as opened:
        yield opened


async def propose(gems: Gems, *patches: Patch) -> Evolution:
    evolution = Evolution(gems)
    for patch in patches:
        await evolution.add(patch)
    return evolution


def prove(gems: Gems, patch: Patch, **more: Any) -> None:
    """Store a patch as one that a trial has proven."""
    found = {"trial": "t", "created": "2026-01-01", "decision": "proven", "reason": "It was better.", "p": 0.01}
    found |= {"held": {}, "keep": {}, "level": 0.025, "tried": 1, "images": 2, "images_with": 1, "measured_by": "truth"}
    found |= {"models": gems.resources.models(), "base": gems.resources.patches.current.in_force}
    gems.resources.patches.save(patch.model_copy(update={"evidence": Evidence.model_validate(found | more)}))


JSON_FORM = '"prompt": "..."'
BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"kind": "wording", "target": "reflect", "before": JSON_FORM, "after": "-"}, "form of the answer"),
    ({"kind": "wording", "target": "verify", "before": "Begin with Yes", "after": "Say Yes"}, "form of the answer"),
    ({"kind": "wording", "target": "reflect", "after": "Mind {lessons}."}, "slot in braces"),
    ({"kind": "wording", "target": "reflect", "after": "</lessons>"}, "a tag that marks data"),
    ({"kind": "wording", "target": "reflect", "before": "no such passage", "after": "x"}, "is there 0 times"),
    ({"kind": "wording", "target": "decompose", "after": "Ask one question."}, "no such task"),
    ({"kind": "skill", "target": "nowhere", "after": RULE}, "no such skill"),
    ({"kind": "skill", "target": "counting-and-binding", "after": "See [more](secrets.md)."}, "names files"),
    ({"kind": "recipe", "target": "other", "values": {"steps": 4}}, "the generator is blocks"),
    ({"kind": "recipe", "target": "blocks", "values": {"size": "64x64"}}, "a recipe has"),
    ({"kind": "recipe", "target": "blocks", "values": {"steps": 0}}, "steps cannot be 0"),
    ({"kind": "recipe", "target": "blocks", "values": {"negative_prompt": "fog"}}, "takes no negative prompt"),
    ({"kind": "rule", "target": "seed", "values": {"value": 1}}, "a rule is one of"),
    ({"kind": "rule", "target": "repair", "values": {"value": "twice"}}, "repair is 'twice'"),
    ({"kind": "rule", "target": "max_rounds", "values": {"value": 0}}, "max_rounds is 0"),
]


async def test_patches_that_cannot_be_applied_are_refused(tmp_path: Path) -> None:
    async with Gems(Settings(home=tmp_path)) as gems:
        for patch, fault in BROKEN:
            with pytest.raises(RequestError, match=fault):
                await propose(gems, Patch.model_validate(patch))
        assert Evolution(gems).list_patches().patches == []


async def test_trials_that_can_prove_nothing_do_not_begin(gems: Gems) -> None:
    evolution = await propose(gems, COUNTING)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"keep": ()}, "preservation set is empty"),
        ({"prompts": ()}, "no held-out prompts"),
        ({"keep": (HELD[0],)}, "in both sets"),
        ({"prompts": HELD[:5]}, "at least 6 are needed"),
        ({"budget": 15}, "A budget of 15 images can prove nothing"),
        ({"prompts": (*HELD[:5], "a photograph of a cat")}, "The truth about 'a photograph of a cat' is not known"),
    ]
    for change, fault in changes:
        given: dict[str, Any] = {"prompts": HELD, "keep": KEEP, "budget": 40, "rounds": 1}
        with pytest.raises(RequestError, match=fault):
            await evolution.try_patch(COUNTING.id, TrialRequest(**given | change))
    assert await gems.runs() == []


async def test_nothing_is_adopted_that_is_not_proven(gems: Gems) -> None:
    evolution = await propose(gems, COUNTING)
    with pytest.raises(RequestError, match="is not proven"):
        await evolution.adopt(COUNTING.id[:6])
    prove(gems, COUNTING, base=["elsewhere"])
    with pytest.raises(RequestError, match="other patches in force"):
        await evolution.adopt(COUNTING.id)
    prove(gems, COUNTING, models={"generator": "another"})
    with pytest.raises(RequestError, match="other models"):
        await evolution.adopt(COUNTING.id)
    assert evolution.list_patches().in_force == []


async def test_adopted_patches_are_in_force_named_and_taken_back(gems: Gems) -> None:
    rule = Patch(kind="rule", target="max_rounds", values={"value": 2})
    recipe = Patch(kind="recipe", target="blocks", values={"steps": 7})
    evolution = Evolution(gems)
    for patch in (COUNTING, rule, recipe):
        prove(gems, patch)
        adopted = await evolution.adopt(patch.id)
    assert "+ recipe blocks: steps 7" in adopted.difference

    result = await gems.run("six red circles", seed=3, repair="never", memory=False)
    names = [COUNTING.id, rule.id, recipe.id]
    assert (result.options["patches"], result.options["max_rounds"]) == (names, 2)
    assert result.options["recipe"] == {"steps": 7}
    own = await gems.run("a red circle", seed=3, max_rounds=1, memory=False)
    assert own.options["max_rounds"] == 1
    for given in ({"profile": "paper"}, {"patches": []}):
        plain = await gems.run("a red circle", seed=3, memory=False, **given)
        assert plain.options.keys() & {"patches", "recipe"} == set()
    with pytest.raises(OptionError, match="paper take no patches"):
        await gems.run("a red circle", profile="paper", patches=names)

    reverted = await evolution.revert(COUNTING.id)
    assert RULE not in "".join(line for line in reverted.difference.splitlines() if line.startswith("+"))
    assert RULE in reverted.difference
    assert reverted.built_upon == [rule.id, recipe.id]
    found = evolution.list_patches()
    assert (found.in_force, [version.number for version in found.versions]) == ([rule.id, recipe.id], [1, 2, 3, 4])
    assert {item.id: item.status for item in found.patches}[COUNTING.id] == "reverted"

    compared = await evolution.compare(2)
    assert (compared.second, compared.added, compared.removed) == (4, [recipe.id], [COUNTING.id])
    assert compared.difference.endswith("+ recipe blocks: steps 7")
    assert RULE in "".join(line for line in compared.difference.splitlines() if line.startswith("-"))
    same = await evolution.compare(4, 4)
    assert (same.added, same.removed, same.difference) == ([], [], "")
    with pytest.raises(RequestError, match="no version 5"):
        await evolution.compare(0, 5)


async def test_a_patch_that_was_changed_after_its_adoption_is_not_in_force(
    gems: Gems, caplog: pytest.LogCaptureFixture
) -> None:
    store = gems.resources.patches
    prove(gems, COUNTING)
    await Evolution(gems).adopt(COUNTING.id)
    assert store.current.in_force == (COUNTING.id,)
    store.save(store.get(COUNTING.id).model_copy(update={"reason": "Somebody else's."}))
    assert (await store.refreshed()).in_force == ()
    assert "was changed or lost since its adoption" in caplog.text
    (store.folder / "versions.json").write_text("[{", encoding="utf-8")
    with pytest.raises(CorruptStoreError, match="is damaged"):
        Evolution(gems).list_patches()
    assert (await gems.run("a red circle", seed=1, memory=False)).options.get("patches") is None


async def test_two_evolutions_at_once(gems: Gems) -> None:
    evolution = await propose(gems, COUNTING)
    async with evolution._alone():
        with pytest.raises(RunBusyError, match="Another evolution"):
            await evolution.propose()


async def test_a_trial_goes_on_where_it_was_interrupted_and_counts_as_one(gems: Gems) -> None:
    evolution = await propose(gems, COUNTING, LENIENT)
    more = (*HELD, "six green stars", "six red stars")
    one_by_one = TrialRequest(prompts=more, keep=KEEP, budget=40, rounds=1, batch=1)

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await evolution.try_patch(COUNTING.id, one_by_one, progress=stop)
    assert (await evolution.plan(COUNTING.id, one_by_one)).done == 2
    before = len(await gems.runs())
    evidence = await evolution.try_patch(COUNTING.id, one_by_one)
    # With one round nothing is reflected upon: both images of a pair are the same.
    assert (evidence.decision, evidence.held.better, evidence.keep.worse, evidence.tried) == ("refused", 0, 0, 1)
    again = await evolution.try_patch(COUNTING.id, one_by_one)
    assert again.model_copy(update={"created": evidence.created}) == evidence
    assert len(await gems.runs()) == before + evidence.images - 4
    with pytest.raises(OptionError, match="this is trial 2 on some of them, so at least 7"):
        await evolution.plan(LENIENT.id, REQUEST)


class HeedingJudge(BlocksChat):
    """A judge that does what its instructions say, as chat models do."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages, *args, **kwargs)
        if "Be generous." in str(messages):
            message = result.generations[0].message
            reply = ChecklistReply.model_validate_json(str(message.content))
            for answer in reply.answers:
                answer.answer = "yes"
            message.content = reply.model_dump_json()
        return result


async def test_a_patch_that_makes_the_judge_lenient_fails(tmp_path: Path) -> None:
    hard = tuple(f"six {colour} circles and seven green stars" for colour in COLOURS)
    async with Gems(Settings(home=tmp_path, skills="none"), chat=HeedingJudge()) as gems:
        evolution = await propose(gems, LENIENT)
        patches = [LENIENT.id]
        await gems.resources.refresh()
        # What the loop's own judge says is perfect.
        lenient = await gems.run(hard[0], seed=2, max_rounds=2, memory=False, patches=patches)
        strict = await gems.run(hard[0], seed=2, max_rounds=2, memory=False, patches=[])
        assert (lenient.score, len(lenient.rounds)) == (1.0, 1)
        assert strict.rounds[0]["score"] < 1.0
        request = TrialRequest(prompts=hard, keep=KEEP, budget=60, rounds=2)
        evidence = await evolution.try_patch(LENIENT.id, request)
        assert (evidence.decision, evidence.held.better) == ("refused", 0)
        with pytest.raises(RequestError, match="is not proven"):
            await evolution.adopt(LENIENT.id)


async def test_gains_are_not_measured_by_the_judge_of_the_loop(gems: Gems) -> None:
    real = {"chat": {"model": "openai:m@http://127.0.0.1:9/v1"}, "generator": {"model": "http:http://127.0.0.1:9"}}
    for judges in ({}, {"eval_judge": {"model": "openai:m@http://127.0.0.1:9/v1"}}):
        settings = Settings.model_validate({"home": gems.settings.home, **real, **judges})
        async with Gems(settings) as other:
            with pytest.raises(ConfigurationError, match="the judge that the loop asks"):
                async with open_instrument(settings, other.resources):
                    pass


async def test_an_image_that_is_gone_is_told(gems: Gems) -> None:
    result = await gems.run("a red circle", seed=1, memory=False)
    gems.resources.images.path(result.image_id or "").unlink()
    async with open_instrument(gems.settings, gems.resources) as instrument:
        with pytest.raises(ImageMissingError):
            await instrument.measure(result)


async def test_proposals_come_from_lessons_and_drafts_and_change_nothing(tmp_path: Path) -> None:
    async with Gems(Settings(home=tmp_path)) as gems:
        evolution = Evolution(gems)
        assert (await evolution.propose()).patches == []
        await gems.run("six red circles", seed=5, max_rounds=3, repair="never")
        drafts = tmp_path / "drafts" / "skills" / "counting-and-binding"
        drafts.mkdir(parents=True)
        text = "---\nname: counting-and-binding\ndescription: Counts.\n---\n\nCount twice.\n"
        (drafts / "SKILL.md").write_text(text, encoding="utf-8")
        found = await evolution.propose()
        sources = {item.patch.source: item.patch for item in found.patches}
        assert sources["gems skills learn"].after.strip() == "Count twice."
        assert {item.status for item in found.patches} == {"proposed"}
        assert (await gems.run("a red circle", seed=1)).options.get("patches") is None
