"""The experience, and the next prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gems.errors import RefusedError, RejectedRequestError, ServerError, UnreadableReplyError
from gems.generation import ImageRequest
from gems.memory.experience import MAX_WORDS
from gems.nodes.prompts import NOTHING, OWN_WORDS
from gems.nodes.reflector import append_questions, reflect, round_slots
from gems.types import AnswerValue, build_verdict
from tests.support.scripted_models import OPTIONS, Desk
from tests.support.stub.models import flat_picture

QUESTIONS = ("Is there a cat?", "Is it red?", "Is it asleep?")


async def drawn_round(desk: Desk, number: int, *answers: AnswerValue) -> Any:
    """A judged round with a stored image."""
    prompt = f"prompt {number}"
    image = await desk.context.images.put(flat_picture(ImageRequest(prompt=prompt, seed=number, width=64, height=64)))
    told: Any = [
        {"requirement": f"r{n}", "answer": said, "evidence": f"evidence {n}", "source": "judge"}
        for n, said in enumerate(answers, 1)
    ]
    found = build_verdict(image, told)
    return {
        "number": number,
        "prompt": prompt,
        "candidates": [{"index": 0, "image": image}],
        "verdicts": [found],
        "best": 0,
        "score": found["score"],
    }


async def state(desk: Desk, *rounds: tuple[AnswerValue, ...], **more: Any) -> Any:
    requirements = [
        {"id": f"r{n}", "question": question, "kind": "other", "parents": []} for n, question in enumerate(QUESTIONS, 1)
    ]
    return {
        "prompt": "a red cat asleep",
        "options": OPTIONS,
        "requirements": requirements,
        "rounds": [await drawn_round(desk, number, *said) for number, said in enumerate(rounds, 1)],
        "judge_reasoning": "I looked.",
    } | more


async def test_round_is_told_and_the_next_prompt_taken(desk: Desk) -> None:
    update = await reflect(await state(desk, ("yes", "no", "unknown")), desk.work(round=2))
    (asked,) = desk.chat.asked
    assert asked.tag("user_prompt") == "a red cat asleep"
    assert asked.tag("drawn_prompt") == "prompt 1"
    assert asked.tag("passed") == "1. Is there a cat?"
    assert asked.tag("failed") == "1. Is it red? - evidence 2"
    assert asked.tag("thought") == "I looked."
    assert update["current_prompt"] == "prompt 1 more"
    assert update["experiences"] == [{"round": 1, "text": "It lacks something.", "next_prompt": "prompt 1 more"}]
    assert update["judge_reasoning"] == ""
    assert desk.told("experience")[0]["experience"] == update["experiences"][0]


async def test_unknown_is_never_shown_as_failed(desk: Desk) -> None:
    told = round_slots(await state(desk, ("unknown", "unknown", "no")))
    assert told["failed"] == "1. Is it asleep? - evidence 3"
    assert told["passed"] == ""


async def test_where_nothing_is_known_to_be_wrong_the_same_prompt_is_drawn_again(desk: Desk) -> None:
    update = await reflect(await state(desk, ("yes", "unknown", "unknown")), desk.work(round=2))
    assert update["current_prompt"] == "prompt 1"
    assert desk.chat.asked == []


@pytest.mark.parametrize("useless", ["prompt 1", " prompt 1\n", "", "   "])
async def test_equal_or_empty_prompt_is_asked_for_again(desk: Desk, useless: str) -> None:
    desk.chat.script["reflect"] = [
        {"experience": "First.", "prompt": useless},
        {"experience": "Second.", "prompt": "another"},
    ]
    update = await reflect(await state(desk, ("yes", "no", "no")), desk.work(round=2))
    assert update["current_prompt"] == "another"
    assert update["experiences"][0]["text"] == "First."


def reading(desk: Desk, tokens: int) -> None:
    """Give the generator a text encoder that reads so much."""
    desk.generator.capabilities = replace(desk.generator.capabilities, prompt_tokens=tokens)


@pytest.mark.parametrize("tokens", [None, 8, 75], ids=str)
async def test_words_of_the_user_are_not_repeated_where_they_are_written(desk: Desk, tokens: Any) -> None:
    reading(desk, tokens)
    desk.chat.script["reflect"] = {"experience": "Hm.", "prompt": "Outside, a red\ncat asleep on a mat"}
    given = await state(desk, ("yes", "no", "no"))
    given["rounds"][0]["prompt"] = "a red cat asleep"
    update = await reflect(given, desk.work(round=2))
    assert update["current_prompt"] == "Outside, a red\ncat asleep on a mat"
    assert [asked.task for asked in desk.chat.asked] == ["reflect"]
    assert OWN_WORDS in desk.chat.asked[0].system


async def test_same_addition_behind_the_words_of_the_user_is_asked_for_again(desk: Desk) -> None:
    given = await state(desk, ("yes", "no", "no"))
    given["rounds"][0]["prompt"] = "a red cat asleep\nred all over"
    added = [{"experience": "Hm.", "prompt": text} for text in ("red all over", "red from head to tail")]
    desk.chat.script["reflect"] = added
    update = await reflect(given, desk.work(round=2))
    assert update["current_prompt"] == "a red cat asleep\nred from head to tail"


async def test_words_that_a_person_took_out_are_not_put_back(desk: Desk) -> None:
    update = await reflect(await state(desk, ("yes", "no", "no")), desk.work(round=2))
    assert update["current_prompt"] == "prompt 1 more"
    assert [asked.task for asked in desk.chat.asked] == ["reflect"]
    assert OWN_WORDS not in desk.chat.asked[0].system


async def test_short_text_encoder_gets_a_check_instead_of_the_words(desk: Desk) -> None:
    reading(desk, 7)
    desk.chat.script["keep"] = [{"lost": [{"number": 3, "how": "dropped"}], "prompt": "red cat, asleep"}, {"lost": []}]
    update = await reflect(await state(desk, ("yes", "no", "no")), desk.work(round=2))
    assert update["current_prompt"] == "red cat, asleep"
    assert [asked.task for asked in desk.chat.asked] == ["reflect", "keep", "keep"]
    assert OWN_WORDS not in desk.chat.asked[0].system


async def test_paper_writes_its_prompts_as_before(desk: Desk) -> None:
    update = await reflect(await state(desk, ("yes", "no", "no")), desk.work(round=2, profile="paper"))
    assert update["current_prompt"] == "prompt 1 more"
    assert not any(OWN_WORDS in asked.system for asked in desk.chat.asked)


@pytest.mark.parametrize("profile", ["balanced", "paper"])
async def test_what_failed_is_spelled_out_where_the_prompt_stays_the_same(desk: Desk, profile: str) -> None:
    same = {"experience": "Hm.", "prompt": "prompt 1"}
    desk.chat.script |= {"reflect": [same, same], "refine": [same, same]}
    update = await reflect(await state(desk, ("yes", "no", "no")), desk.work(round=2, profile=profile))
    assert update["current_prompt"] == ("prompt 1\nThe answer to each of these must be yes: Is it red? Is it asleep?")


@pytest.mark.parametrize(
    "error", [UnreadableReplyError("gibberish"), RefusedError("never"), RejectedRequestError("what?")]
)
async def test_reflector_that_does_not_answer_usably_costs_no_run(desk: Desk, error: Exception) -> None:
    desk.chat.script["reflect"] = error
    work = desk.work(round=2)
    update = await reflect(await state(desk, ("yes", "no", "unknown")), work)
    assert update["current_prompt"].endswith("must be yes: Is it red?")
    assert update["experiences"][0]["text"] == "Not met: 1. Is it red? - evidence 2. Met: 1. Is there a cat?."
    assert len(work.warnings) == 1


@pytest.mark.parametrize("profile", ["balanced", "paper"])
@pytest.mark.parametrize("unusable", ["garbage", RefusedError("never")])
async def test_good_experience_outlives_a_second_answer_that_cannot_be_used(
    desk: Desk, profile: str, unusable: Any
) -> None:
    good = {"experience": "GOOD", "prompt": "prompt 1"}
    desk.chat.script |= {"summarise": good, "reflect": [good, unusable], "refine": [good, unusable]}
    work = desk.work(round=2, profile=profile)
    update = await reflect(await state(desk, ("yes", "no", "no")), work)
    assert update["experiences"][0]["text"] == "GOOD"
    assert update["current_prompt"].startswith("prompt 1\nThe answer")
    assert len(work.warnings) == 1


@pytest.mark.parametrize("drawn", ["prompt 1", "first line\nsecond line"])
async def test_what_is_spelled_out_does_not_stack_up(desk: Desk, drawn: str) -> None:
    given = await state(desk, ("yes", "no", "no"))
    turn, asked = given["rounds"][0] | {"prompt": drawn}, given["requirements"]
    asked[1]["question"] = "Does this image show: a cat,\nred?"
    once = append_questions(turn, asked)
    assert once.startswith(f"{drawn}\nThe answer")
    assert append_questions(turn | {"prompt": once}, asked) == once
    assert append_questions(turn | {"prompt": f"{once}\nin oil"}, asked).startswith(f"{drawn}\nin oil\nThe answer")


async def test_reflector_that_is_down_is_an_error(desk: Desk) -> None:
    desk.chat.script["reflect"] = ServerError("down")
    with pytest.raises(ServerError):
        await reflect(await state(desk, ("no", "no", "no")), desk.work(round=2))


@pytest.mark.parametrize("profile", ["balanced", "paper"])
async def test_experience_is_cut_to_a_hundred_words(desk: Desk, profile: str) -> None:
    long = {"experience": " word \n" * 250, "prompt": "another"}
    desk.chat.script |= {"reflect": long, "summarise": long, "refine": long}
    update = await reflect(await state(desk, ("no", "no", "no")), desk.work(round=2, profile=profile))
    assert update["experiences"][0]["text"] == " ".join(["word"] * MAX_WORDS)


async def test_balanced_shows_the_best_and_the_newest_image_scaled(desk: Desk) -> None:
    rounds = [("yes", "no", "no"), ("yes", "yes", "no"), ("no", "no", "no"), ("no", "no", "yes")]
    given = await state(desk, *rounds)
    await reflect(given, desk.work(round=5))
    (asked,) = desk.chat.asked
    assert [url.partition(";")[0] for url in asked.pictures] == ["data:image/jpeg"] * 2
    assert asked.text.index("Image of round 2") < asked.text.index("Image of round 4")
    assert "Image of round 2, which meets 67%" in asked.text
    assert "Image of round 4, which meets 33%" in asked.text
    assert "Best so far: round 2 (67%) from: prompt 2" in asked.tag("experiences")


async def test_best_and_newest_image_is_shown_once(desk: Desk) -> None:
    await reflect(await state(desk, ("no", "no", "no"), ("yes", "no", "no")), desk.work(round=3))
    assert len(desk.chat.asked[0].pictures) == 1


async def test_an_earlier_image_that_is_no_better_is_not_shown(desk: Desk) -> None:
    given = await state(desk, ("yes", "no", "no"), ("no", "yes", "no"))
    await reflect(given, desk.work(round=3))
    (asked,) = desk.chat.asked
    assert len(asked.pictures) == 1
    assert "Image of round 2, which meets 33%" in asked.text


async def test_paper_summarises_then_refines_with_every_image(desk: Desk) -> None:
    given = await state(desk, ("no", "no", "no"), ("yes", "no", "no"), ("no", "no", "yes"))
    await reflect(given, desk.work(round=4, profile="paper"))
    summarise, refine = desk.chat.asked
    assert (summarise.task, len(summarise.pictures)) == ("summarise", 1)
    assert (refine.task, len(refine.pictures)) == ("refine", 3)
    assert summarise.pictures[0] == refine.pictures[-1]
    assert refine.tag("experience") == "It lacks something."
    assert all(url.startswith("data:image/png;") for url in refine.pictures)


async def test_history_is_limited_to_what_helps(desk: Desk) -> None:
    known = [{"round": n, "text": f"text {n}", "next_prompt": ""} for n in range(1, 20)]
    told = round_slots(await state(desk, ("no", "no", "no"), experiences=known))
    assert told["experiences"].splitlines() == [f"Round {n}: text {n}" for n in range(14, 20)]
    assert told["lessons"] == ""


async def test_empty_slots_say_so(desk: Desk) -> None:
    await reflect(await state(desk, ("no", "no", "no"), judge_reasoning=""), desk.work(round=2))
    assert desk.chat.asked[0].tag("passed") == NOTHING
    assert desk.chat.asked[0].tag("thought") == NOTHING
