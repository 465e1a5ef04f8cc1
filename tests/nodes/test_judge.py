"""Every requirement answered from the image; scores, ties, and when the loop ends."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import pytest
from PIL import Image

from gems.errors import ProviderError, RefusedError, RejectedRequestError, RunCancelledError, ServerError
from gems.generation import ImageRequest
from gems.models.chat.schemas import OUT_OF_REACH
from gems.nodes import judge as judge_module
from gems.nodes.checklist import Judgement
from gems.nodes.generator import count_images
from gems.nodes.judge import judge, look_again, recheck, take_looks
from gems.nodes.policy import find_stop_reason
from gems.types import (
    NO_USAGE,
    Answer,
    AnswerValue,
    Requirement,
    best_round,
    best_verdict,
    build_answer,
    build_verdict,
    pass_rate,
    total_usage,
)
from tests.support.scripted_models import OPTIONS, Asked, Desk, at_looks, checks
from tests.support.stub.models import flat_picture


def picture(index: int) -> bytes:
    return flat_picture(ImageRequest(prompt="a cat", seed=index, width=64, height=64))


def colour(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB").getpixel((32, 32))


def by_candidate(*answers: Any) -> Any:
    """Answers by which of the candidates is shown; they are judged side by side, so in no fixed order."""
    known = [colour(picture(index)) for index in range(len(answers))]

    def answer(asked: Asked) -> Any:
        shown = colour(base64.b64decode(asked.pictures[0].partition(",")[2]))
        away = [sum(abs(a - b) for a, b in zip(shown, other, strict=True)) for other in known]
        found = answers[away.index(min(away))]
        return found(asked) if callable(found) else found

    return answer


async def state(desk: Desk, images: int = 1, parents: Any = ((), ()), **more: Any) -> Any:
    drawn = []
    for index in range(images):
        image = await desk.context.images.put(picture(index))
        drawn.append({"index": index, "image": image, "seed": index})
    return {
        "prompt": "a cat",
        "current_prompt": "a cat drawn",
        "options": OPTIONS,
        "requirements": [
            {"id": f"r{n}", "question": f"Question {n}?", "kind": "other", "parents": list(above)}
            for n, above in enumerate(parents, 1)
        ],
        "drawn": drawn,
        "timings": {"generator": 1.5},
    } | more


def values(update: dict[str, Any], candidate: int = 0) -> list[str]:
    return [answer["answer"] for answer in update["rounds"][0]["verdicts"][candidate]["answers"]]


def by_question(**answers: str) -> Any:
    """Verifications answered by the question's number."""
    return lambda asked: answers[f"q{asked.tag('question').removeprefix('Question ').rstrip('?')}"]


async def test_round_is_kept_whole(desk: Desk) -> None:
    desk.chat.script["checklist"] = checks("no", "no")
    given = await state(desk)
    update = await judge(given, desk.work())
    (turn,) = update["rounds"]
    assert turn["verdicts"] == [
        {
            "image": given["drawn"][0]["image"],
            "score": 0.0,
            "answers": [
                {
                    "requirement": f"r{n}",
                    "answer": said,
                    "evidence": f"seen {n}",
                    "probability": None,
                    "source": "judge",
                }
                for n, said in ((1, "no"), (2, "no"))
            ],
        }
    ]
    assert (turn["number"], turn["prompt"], turn["best"], turn["score"]) == (1, "a cat drawn", 0, 0.0)
    assert turn["candidates"] == given["drawn"]
    assert set(turn["seconds"]) == {"generator", "judge"}
    assert (update["drawn"], update["judge_reasoning"], update["stop_reason"]) == ([], "I looked at it.", None)
    assert desk.chat.tasks() == ["checklist"]
    assert desk.chat.asked[0].lines("questions") == ["1. Question 1?", "2. Question 2?"]
    told = desk.told("verdicts")[0]
    assert (told["verdicts"], told["score"]) == (turn["verdicts"], 0.0)


async def test_unknown_is_asked_again_on_its_own(desk: Desk) -> None:
    desk.chat.script |= {"checklist": checks("no", "no", "unknown"), "verify": "Yes. There."}
    update = await judge(await state(desk, parents=((), (), ())), desk.work())
    assert values(update) == ["no", "no", "yes"]
    assert [asked.tag("question") for asked in desk.chat.about("verify")] == ["Question 3?"]


@pytest.mark.parametrize("said", ["Unknown. It is dark.", "Hm, hard to say."])
async def test_unknown_that_stays_counts_as_unmet(desk: Desk, said: str) -> None:
    desk.chat.script |= {"checklist": checks("yes", "unknown"), "verify": said}
    update = await judge(await state(desk), desk.work())
    assert values(update) == ["yes", "unknown"]
    assert update["rounds"][0]["score"] == 0.5
    assert len(desk.chat.about("verify")) == 1


async def test_left_out_question_is_unknown_until_asked_again(desk: Desk) -> None:
    desk.chat.script |= {"checklist": checks("no"), "verify": "No. Nowhere."}
    update = await judge(await state(desk), desk.work())
    assert values(update) == ["no", "no"]
    assert update["rounds"][0]["verdicts"][0]["answers"][1]["evidence"] == "Nowhere."


async def test_broken_second_look_leaves_unknown_and_tells(desk: Desk) -> None:
    desk.chat.script |= {"checklist": checks("yes", "unknown"), "verify": ServerError("down")}
    work = desk.work()
    assert values(await judge(await state(desk), work)) == ["yes", "unknown"]
    assert "stay unknown" in work.warnings[0]


async def test_confirmation_turns_yes_into_no(desk: Desk) -> None:
    desk.chat.script["checklist"] = at_looks(checks("yes", "yes"), checks("no", "yes"))
    desk.chat.script["verify"] = by_question(q2="No. It is blue.")
    update = await judge(await state(desk), desk.work())
    assert values(update) == ["yes", "no"]
    assert update["stop_reason"] is None
    answers = update["rounds"][0]["verdicts"][0]["answers"]
    assert [answer["source"] for answer in answers] == ["confirmation"] * 2
    assert [answer["evidence"] for answer in answers] == ["seen 2", "It is blue."]
    # Asked on its own is only what is torn.
    assert desk.chat.tasks() == ["checklist", "checklist", "verify"]


async def test_only_what_is_confirmed_passes(desk: Desk) -> None:
    update = await judge(await state(desk), desk.work())
    assert update["stop_reason"] == "passed"
    assert desk.chat.tasks() == ["checklist", "checklist"]
    first, second = desk.chat.asked
    assert first.lines("questions") == ["1. Question 1?", "2. Question 2?"]
    assert second.lines("questions") == ["1. Question 2?", "2. Question 1?"]
    assert first.pictures == second.pictures


async def test_second_look_that_leaves_one_open_asks_it_on_its_own(desk: Desk) -> None:
    desk.chat.script["checklist"] = at_looks(checks("yes", "yes"), checks("unknown", "yes"))
    desk.chat.script["verify"] = "Yes. Now I see it."
    update = await judge(await state(desk), desk.work())
    assert (values(update), update["stop_reason"]) == (["yes", "yes"], "passed")
    assert [asked.tag("question") for asked in desk.chat.about("verify")] == ["Question 2?"]


async def test_second_look_that_is_no_list_is_asked_one_by_one(desk: Desk) -> None:
    desk.chat.script["checklist"] = at_looks(checks("yes", "yes"), "Looks fine to me!")
    desk.chat.script["verify"] = by_question(q1="Yes. A cat.", q2="No. It is blue.")
    work = desk.work()
    update = await judge(await state(desk), work)
    assert (values(update), update["stop_reason"]) == (["yes", "no"], None)
    assert "each question separately" in work.warnings[0]


async def test_unclear_confirmation_is_asked_once_more(desk: Desk) -> None:
    desk.chat.script |= {"verify": ["Unknown.", "Yes. Now I see it."]}
    update = await judge(await state(desk, parents=((),)), desk.work())
    assert update["stop_reason"] == "passed"


async def test_confirmation_that_breaks_is_unknown_not_no(desk: Desk) -> None:
    desk.chat.script["checklist"] = at_looks(checks("yes", "yes"), RefusedError("no"))
    desk.chat.script["verify"] = by_question_or_error
    update = await judge(await state(desk), desk.work())
    assert values(update) == ["yes", "unknown"]


async def test_confirmation_that_leaves_one_open_and_breaks_is_unknown(desk: Desk) -> None:
    desk.chat.script["checklist"] = at_looks(checks("yes", "yes"), checks("unknown", "yes"))
    desk.chat.script["verify"] = RejectedRequestError("no")
    work = desk.work()
    update = await judge(await state(desk), work)
    assert (values(update), update["stop_reason"]) == (["yes", "unknown"], None)
    assert "stay unknown" in work.warnings[0]


def by_question_or_error(asked: Asked) -> Any:
    return "Yes." if "1" in asked.tag("question") else RejectedRequestError("no")


@pytest.mark.parametrize("said", [("yes", "no", "no"), ("no", "unknown", "yes")])
async def test_nothing_is_asked_again_where_several_are_missing(desk: Desk, said: tuple[str, ...]) -> None:
    desk.chat.script |= {"checklist": checks(*said), "verify": "Unknown."}
    update = await judge(await state(desk, parents=((), (), ())), desk.work())
    assert values(update) == list(said)
    # An unknown answer is asked again for itself.
    assert len(desk.chat.about("verify")) == said.count("unknown")


async def test_a_single_no_is_asked_about_again(desk: Desk) -> None:
    desk.chat.script |= {"checklist": checks("yes", "no"), "verify": "No. It is blue."}
    update = await judge(await state(desk), desk.work())
    assert values(update) == ["yes", "no"]
    answer = update["rounds"][0]["verdicts"][0]["answers"][1]
    assert (answer["source"], answer["evidence"]) == ("confirmation", "It is blue.")
    assert [asked.tag("question") for asked in desk.chat.about("verify")] == ["Question 2?"]


async def test_two_of_three_overrule_a_no_and_the_rest_is_confirmed(desk: Desk) -> None:
    desk.chat.script["checklist"] = checks("yes", "no")
    desk.chat.script["verify"] = ["Yes. Here.", "Yes. Red.", "Yes. A cat.", "Yes. Still red.", "Yes. Red indeed."]
    update = await judge(await state(desk), desk.work())
    assert (values(update), update["stop_reason"]) == (["yes", "yes"], "passed")
    asked = [question.tag("question") for question in desk.chat.about("verify")]
    # What was no at first is looked at twice more in the end.
    assert asked == ["Question 2?", "Question 2?", "Question 1?", "Question 2?", "Question 2?"]


def earlier_round(*said: AnswerValue) -> Any:
    answers = [build_answer({"id": f"r{n}"}, answer, "seen") for n, answer in enumerate(said, 1)]  # type: ignore[arg-type]
    verdict = build_verdict("an image", answers)
    return {"number": 1, "candidates": [], "verdicts": [verdict], "best": 0, "score": verdict["score"], "prompt": "x"}


@pytest.mark.parametrize(
    ("looks", "final"),
    [(["Yes.", "Yes."], "yes"), (["No.", "Yes."], "no"), (["Yes.", "No."], "no"), (["Unknown."] * 4, "yes")],
)
async def test_what_failed_in_an_earlier_round_is_looked_at_twice_more(
    desk: Desk, looks: list[str], final: str
) -> None:
    desk.chat.script |= {"checklist": [checks("yes", "yes"), checks("yes", "yes")], "verify": looks}
    update = await judge(await state(desk, rounds=[earlier_round("yes", "no")]), desk.work(round=2))
    assert values(update) == ["yes", final]
    assert (update["stop_reason"] == "passed") == (final == "yes")
    assert {asked.tag("question") for asked in desk.chat.about("verify")} == {"Question 2?"}


async def test_looks_do_not_save_what_is_not_confirmed(desk: Desk) -> None:
    desk.chat.script |= {"checklist": at_looks(checks("yes", "yes"), checks("no", "no")), "verify": "No."}
    update = await judge(await state(desk, rounds=[earlier_round("yes", "no")]), desk.work(round=2))
    assert values(update) == ["no", "no"]


async def test_look_that_fails_does_not_undo_a_confirmed_image(desk: Desk) -> None:
    desk.chat.script |= {"checklist": [checks("yes", "yes")] * 2, "verify": ServerError("down")}
    work = desk.work(round=2)
    update = await judge(await state(desk, rounds=[earlier_round("yes", "no")]), work)
    assert update["stop_reason"] == "passed"
    assert any("once more" in warning for warning in work.warnings)


async def test_paper_does_not_look_again(desk: Desk) -> None:
    given = await state(desk, rounds=[earlier_round("yes", "no")])
    update = await judge(given, desk.work(round=2, profile="paper"))
    assert (update["stop_reason"], len(desk.chat.asked)) == ("passed", 2)


@pytest.mark.parametrize(("looks", "final"), [(["No."], "no"), (["Yes."], "yes")])
async def test_mended_image_is_looked_over_for_damage(desk: Desk, looks: list[str], final: str) -> None:
    whole, broken = checks("yes", "yes"), checks("no", "yes")
    desk.chat.script |= {"checklist": [whole, whole, broken], "verify": looks}
    step = {"action": "edit", "parent": "image", "boxes": [], "requirements": ["r2"]}
    given = await state(desk, rounds=[earlier_round("yes", "yes")], step=step, instruction="Make it red.")
    update = await judge(given, desk.work(round=2))
    assert values(update) == [final, "yes"]


@pytest.mark.parametrize(("third", "final"), [("Yes. There.", "yes"), ("No. Nowhere.", "no"), ("Unknown.", "no")])
async def test_a_third_answer_decides_where_two_differ(desk: Desk, third: str, final: str) -> None:
    thirds = [third] * (1 + (third == "Unknown."))
    desk.chat.script["verify"] = ["No. Gone.", *thirds]
    update = await judge(await state(desk, parents=((),)), desk.work())
    assert values(update) == [final]
    assert update["stop_reason"] == ("passed" if final == "yes" else None)


async def test_a_no_stands_where_the_second_look_is_unclear(desk: Desk) -> None:
    desk.chat.script |= {"checklist": checks("yes", "no"), "verify": "Unknown."}
    update = await judge(await state(desk), desk.work())
    assert values(update) == ["yes", "no"]
    assert update["rounds"][0]["verdicts"][0]["answers"][1]["source"] == "judge"


async def test_a_no_that_cannot_be_asked_about_again_stands(desk: Desk) -> None:
    desk.chat.script |= {"checklist": checks("yes", "no"), "verify": ServerError("down")}
    work = desk.work()
    update = await judge(await state(desk), work)
    assert (values(update), update["stop_reason"]) == (["yes", "no"], None)
    assert "could not be checked again" in work.warnings[0]


async def test_a_cancelled_second_look_leaves_the_first(desk: Desk) -> None:
    async def hang(asked: Asked) -> None:
        desk.context.cancelled.set()
        await asyncio.Event().wait()

    desk.chat.script |= {"checklist": checks("yes", "no"), "verify": hang}
    work = desk.work()
    assert values(await judge(await state(desk), work)) == ["yes", "no"]
    assert work.warnings == []


async def test_of_equal_candidates_the_one_that_was_looked_at_closer_is_best(desk: Desk) -> None:
    complete = checks("yes", "yes", "yes")
    second = at_looks(complete, checks("yes", "yes", "no"))
    desk.chat.script["checklist"] = by_candidate(checks("no", "yes", "yes"), second)
    desk.chat.script["verify"] = "No."
    update = await judge(await state(desk, images=2, parents=((), (), ())), desk.work())
    turn = update["rounds"][0]
    assert [verdict["score"] for verdict in turn["verdicts"]] == [2 / 3, 2 / 3]
    assert turn["best"] == 1


async def test_what_makes_no_sense_without_its_parent_is_no(desk: Desk) -> None:
    desk.chat.script["checklist"] = checks("no", "yes", "yes", "yes")
    update = await judge(await state(desk, parents=((), ("r1",), ("r2",), ())), desk.work())
    assert values(update) == ["no", "no", "no", "yes"]
    sources = [answer["source"] for answer in update["rounds"][0]["verdicts"][0]["answers"]]
    assert sources == ["judge", "parent", "parent", "judge"]


async def test_wrong_count_takes_nothing_away(desk: Desk) -> None:
    desk.chat.script["checklist"] = checks("no", "yes")
    given = await state(desk, parents=((), ("r1",)))
    given["requirements"][0]["kind"] = "count"
    assert values(await judge(given, desk.work())) == ["no", "yes"]


async def test_unknown_parent_takes_nothing_away(desk: Desk) -> None:
    desk.chat.script |= {"checklist": checks("unknown", "yes"), "verify": "Unknown."}
    update = await judge(await state(desk, parents=((), ("r1",))), desk.work())
    assert values(update) == ["unknown", "yes"]


async def test_unreadable_checklist_is_asked_one_by_one(desk: Desk) -> None:
    desk.chat.script |= {"checklist": "Looks fine to me!", "verify": by_question(q1="Yes.", q2="No.")}
    work = desk.work()
    assert values(await judge(await state(desk), work)) == ["yes", "no"]
    assert "each question separately" in work.warnings[0]


async def test_refused_checklist_is_asked_one_by_one(desk: Desk) -> None:
    desk.chat.script |= {"checklist": RefusedError("no"), "verify": by_question(q1="Yes.", q2="No.")}
    assert values(await judge(await state(desk), desk.work())) == ["yes", "no"]


async def test_refused_question_is_asked_once_more(desk: Desk) -> None:
    desk.chat.script["verify"] = [RefusedError("no"), "Yes. Now I see it."]
    update = await judge(await state(desk, parents=((),)), desk.work())
    assert (update["stop_reason"], values(update)) == ("passed", ["yes"])


async def test_judge_that_refuses_everything_ends_the_run(desk: Desk) -> None:
    desk.chat.script |= {"checklist": RefusedError("no"), "verify": RefusedError("never")}
    with pytest.raises(RefusedError, match="never"):
        await judge(await state(desk), desk.work())
    assert len(desk.chat.about("verify")) == 4, "each question twice, and no more"


@pytest.mark.parametrize("said", [("no", "yes"), ("yes", "no"), ("yes", "unknown")])
async def test_answers_that_contradict_each_other_are_none(desk: Desk, said: tuple[str, str]) -> None:
    desk.chat.script |= {"checklist": twice(checks("no", said[0]), checks("no", said[1])), "verify": only_second}
    assert values(await judge(await state(desk), desk.work())) == ["no", "yes"]
    # The second question for want of an answer, then the first since all but that is met.
    questions = [asked.tag("question").strip() for asked in desk.chat.about("verify")]
    assert questions == ["Question 2?", "Question 1?"]


def only_second(asked: Asked) -> str:
    return "Yes." if "2?" in asked.text else "No."


def twice(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {"answers": [*one["answers"], *other["answers"]]}


async def test_best_candidate_is_chosen(desk: Desk) -> None:
    desk.chat.script["checklist"] = by_candidate(checks("no", "no"), checks("yes", "no"), checks("no", "no"))
    update = await judge(await state(desk, images=3), desk.work())
    assert (update["rounds"][0]["best"], update["rounds"][0]["score"]) == (1, 0.5)


async def test_tie_keeps_the_earlier_candidate(desk: Desk) -> None:
    desk.chat.script["checklist"] = by_candidate(checks("no", "no"), checks("yes", "no"), checks("no", "yes"))
    assert (await judge(await state(desk, images=3), desk.work()))["rounds"][0]["best"] == 1


async def test_candidates_are_confirmed_until_one_passes(desk: Desk) -> None:
    complete = checks("yes", "yes")
    refuted = at_looks(complete, checks("no", "no"))
    desk.chat.script["checklist"] = by_candidate(refuted, complete, complete)
    desk.chat.script["verify"] = "No."
    update = await judge(await state(desk, images=3), desk.work())
    assert (update["rounds"][0]["best"], update["stop_reason"]) == (1, "passed")
    # Three first looks, and a second one at two; each requirement of the first is torn.
    assert (len(desk.chat.about("checklist")), len(desk.chat.about("verify"))) == (5, 2)
    assert values(update, 0) == ["no", "no"]
    assert values(update, 2) == ["yes", "yes"]


async def test_candidate_whose_judging_fails_is_left_out(desk: Desk) -> None:
    desk.chat.script["checklist"] = by_candidate(ServerError("down"), checks("yes", "no"))
    work = desk.work()
    update = await judge(await state(desk, images=2), work)
    assert values(update, 0) == ["unknown", "unknown"]
    assert values(update, 1) == ["yes", "no"]
    assert (update["rounds"][0]["best"], len(work.warnings)) == (1, 1)


async def test_judge_that_answers_for_no_candidate_is_an_error(desk: Desk) -> None:
    desk.chat.script["checklist"] = ServerError("down")
    with pytest.raises(ProviderError, match="down"):
        await judge(await state(desk, images=2), desk.work())


async def test_cancelling_is_no_unknown_answer(desk: Desk) -> None:
    async def hang(asked: Asked) -> None:
        desk.context.cancelled.set()
        await asyncio.Event().wait()

    given = await state(desk)
    desk.chat.script["verify"] = hang
    with pytest.raises(RunCancelledError):
        await judge(given, desk.work(profile="paper"))


async def test_paper_asks_each_once_and_confirms_nothing(desk: Desk) -> None:
    given = await state(desk, parents=((), ("r1",), ()))
    desk.chat.script["verify"] = by_question(q1="No.", q2="Yes, there is nothing else.", q3="Yes, it is snowy")
    update = await judge(given, desk.work(profile="paper"))
    assert values(update) == ["no", "yes", "yes"]
    assert desk.chat.tasks() == ["verify"] * 3
    assert all(asked.pictures[0].startswith("data:image/png;") for asked in desk.chat.asked)


async def test_paper_asks_unknown_again(desk: Desk) -> None:
    desk.chat.script["verify"] = ["Unknown.", "Yes."]
    update = await judge(await state(desk, parents=((),)), desk.work(profile="paper"))
    assert update["stop_reason"] == "passed"


async def test_long_thoughts_and_evidence_are_cut(desk: Desk) -> None:
    desk.chat.thought = "t" * 10_000
    long = checks("yes", "no")
    long["answers"][0]["evidence"] = "e\n" * 5_000
    desk.chat.script["checklist"] = long
    update = await judge(await state(desk), desk.work())
    assert len(update["judge_reasoning"]) == 4_000
    assert len(update["rounds"][0]["verdicts"][0]["answers"][0]["evidence"]) == 300


def rounds(*scores: float, images: int = 1) -> Any:
    return [
        {
            "number": number,
            "score": score,
            "candidates": [{}] * images,
            "best": 0,
            "verdicts": [{"score": score, "answers": []}],
        }
        for number, score in enumerate(scores, 1)
    ]


def usage(**usd: float | None) -> Any:
    return {name: NO_USAGE | {"usd": price} for name, price in usd.items()}


def ended(scores: list[float], spent: Any = None, images: int = 1, **options: Any) -> Any:
    settled: Any = OPTIONS | options
    return find_stop_reason(settled, rounds(*scores, images=images), spent or {})


def test_unknown_counts_as_unmet() -> None:
    assert pass_rate(["yes", "no", "unknown", "yes"]) == 0.5
    assert pass_rate(["unknown"]) == 0.0


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="No answers"):
        pass_rate([])
    with pytest.raises(ValueError, match="No images"):
        best_round([])


@pytest.mark.parametrize(("scores", "best"), [([0.5], 0), ([0.1, 0.9, 0.2], 1), ([0.5, 0.9, 0.9], 1), ([0.0, 0.0], 0)])
def test_best_is_the_highest_and_a_tie_keeps_the_earlier(scores: list[float], best: int) -> None:
    assert best_verdict([turn["verdicts"][0] for turn in rounds(*scores)]) == best
    assert best_round(rounds(*scores))["number"] == best + 1


def test_of_equal_ones_the_best_is_what_more_was_confirmed_of() -> None:
    given = rounds(0.5, 0.5, 0.5, 0.4)
    yes: Any = {"answer": "yes", "source": "confirmation"}
    no: Any = {"answer": "no", "source": "confirmation"}
    for turn, answers in zip(given, ([no, no], [no, yes], [yes, no], [yes, yes]), strict=True):
        turn["verdicts"][0]["answers"] = answers
    assert best_round(given)["number"] == 2


@pytest.mark.parametrize(
    ("answers", "profile", "reason"),
    [
        ([("yes", "Seen."), ("unknown", OUT_OF_REACH)], "balanced", "undecided"),
        ([("no", "Missing."), ("unknown", OUT_OF_REACH)], "balanced", None),
        ([("unknown", "Too dark."), ("unknown", OUT_OF_REACH)], "balanced", None),
        ([("yes", "Seen."), ("unknown", OUT_OF_REACH)], "paper", None),
    ],
)
def test_no_further_round_for_what_no_image_can_change(answers: Any, profile: Any, reason: str | None) -> None:
    given = rounds(0.5)
    given[0]["verdicts"][0]["image"] = "a"
    given[0]["verdicts"][0]["answers"] = [
        {"requirement": f"r{n}", "answer": answer, "evidence": evidence, "source": "judge"}
        for n, (answer, evidence) in enumerate(answers, 1)
    ]
    settled: Any = OPTIONS | {"profile": profile, "max_rounds": 5}
    assert find_stop_reason(settled, given, {}) == reason


@pytest.mark.parametrize(
    ("images", "answers", "reason"),
    [
        (("a",), ["yes", "unknown"], None),
        (("a", "b"), ["yes", "unknown"], "undecided"),
        (("a", "a"), ["yes", "unknown"], None),
        (("a", "b"), ["no", "unknown"], None),
    ],
)
def test_what_stays_unknown_over_two_images_drives_no_redraw(
    images: tuple[str, ...], answers: list[str], reason: str | None
) -> None:
    given = rounds(*[0.5] * len(images))
    for turn, image in zip(given, images, strict=True):
        turn["verdicts"][0]["image"] = image
        turn["verdicts"][0]["answers"] = [
            {"requirement": f"r{n}", "answer": answer, "evidence": "Too dark.", "source": "judge"}
            for n, answer in enumerate(answers, 1)
        ]
    settled: Any = OPTIONS | {"profile": "balanced", "max_rounds": 5}
    assert find_stop_reason(settled, given, {}) == reason


def test_what_was_not_checked_keeps_a_run_from_passing() -> None:
    given = rounds(1.0)
    settled: Any = OPTIONS | {"profile": "balanced", "max_rounds": 5}
    assert find_stop_reason(settled, given, {}) == "passed"
    assert find_stop_reason(settled, given, {}, ["Is there a 61st thing?"]) == "undecided"


def test_passed_comes_before_every_limit() -> None:
    assert ended([1.0], max_rounds=1, max_images=1) == "passed"
    assert ended([1.0, 0.5]) is None


def test_max_rounds() -> None:
    assert ended([0.5] * 2, max_rounds=3) is None
    assert ended([0.5] * 3, max_rounds=3) == "max_rounds"


def test_budget_by_images() -> None:
    assert ended([0.1, 0.2], images=2, max_images=5) is None
    assert ended([0.1, 0.2], images=2, max_images=4) == "budget"
    assert count_images(rounds(0.1, 0.2, images=3)) == 6


def test_budget_by_dollars_leaves_room_for_a_whole_round() -> None:
    assert ended([0.1], usage(generator=1.0, judge=0.5), budget_usd=3.0) is None
    assert ended([0.1], usage(generator=1.0, judge=0.5), budget_usd=2.9) == "budget"
    assert ended([0.1, 0.2], usage(generator=2.0), budget_usd=3.0) is None
    assert ended([0.1, 0.2], usage(generator=2.0), budget_usd=2.5) == "budget"


def test_spending_is_unknown_as_soon_as_a_price_is() -> None:
    assert total_usage(usage(generator=1.0, judge=None))["usd"] is None
    assert total_usage(usage(generator=1.0, judge=0.5))["usd"] == 1.5
    assert total_usage({})["usd"] == 0


def test_plateau_is_so_many_rounds_without_a_better_score() -> None:
    assert ended([0.5, 0.5, 0.4], plateau=3, max_rounds=50) is None
    assert ended([0.5, 0.5, 0.4, 0.5], plateau=3, max_rounds=50) == "plateau"
    assert ended([0.5, 0.4, 0.4, 0.6], plateau=3, max_rounds=50) is None
    assert ended([0.5] * 20, plateau=None, max_rounds=50) is None


def likely(said: str, probability: float | None, name: str = "r1") -> Answer:
    item: Requirement = {"id": name, "question": "?", "kind": "object", "parents": []}
    return build_answer(item, said, "seen", probability=probability)  # type: ignore[arg-type]


async def test_later_looks_are_kept_beside_a_probability(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = {(4, 5): likely("no", 0.3), (6, 7): likely("yes", 0.9), (8, 9): likely("no", 0.2)}

    async def ask(_pictures: Any, _asked: Any, _work: Any, attempts: Any) -> Judgement:
        return Judgement([looks[attempts]] if attempts in looks else [likely("yes", 0.8)])

    monkeypatch.setattr(judge_module, "ask_individually", ask)
    work = desk.work()
    image = await desk.context.images.put(flat_picture(ImageRequest(prompt="a", seed=1, width=64, height=64)))
    asked: list[Requirement] = [{"id": "r1", "question": "?", "kind": "object", "parents": []}]
    torn = await recheck(image, Judgement([likely("no", None)]), ["r1"], asked, work)
    assert torn.answers[0]["answer"] == "no"
    assert torn.answers[0]["rechecks"] == [{"probability": 0.8, "met": False}]
    both = await recheck(image, Judgement([likely("yes", 0.95)]), ["r1"], asked, work)
    assert both.answers[0]["rechecks"] == [{"probability": 0.95, "met": True}]
    looks[2, 3] = likely("no", 0.4)
    denied = await recheck(image, Judgement([likely("yes", 0.95)]), ["r1"], asked, work)
    assert denied.answers[0]["answer"] == "no"
    assert denied.answers[0]["rechecks"] == [{"probability": 0.95, "met": False}, {"probability": 0.4, "met": False}]
    first = Judgement([likely("yes", 0.95)])
    looked = take_looks(first, await look_again(image, ["r1"], asked, work)).answers[0]
    assert (looked["answer"], looked["source"]) == ("no", "confirmation")
    assert looked["rechecks"] == [{"probability": 0.95, "met": True}, {"probability": 0.95, "met": False}]
    looks[8, 9] = likely("yes", 0.9)
    kept = take_looks(first, await look_again(image, ["r1"], asked, work)).answers[0]
    assert (kept["answer"], kept["source"]) == ("yes", "judge")
    assert [each["met"] for each in kept["rechecks"]] == [True, True]
    silent = Judgement([likely("yes", None)])
    assert take_looks(silent, await look_again(image, ["r1"], asked, work)) == silent


@pytest.mark.parametrize(("profile", "best"), [("balanced", 1), ("paper", 0)])
async def test_of_equal_candidates_the_likelier_one_is_best(
    profile: str, best: int, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = iter((0.6, 0.9))

    async def judged(_image: Any, asked: Any, _work: Any, _known: Any) -> Judgement:
        p = next(chances)
        return Judgement([likely("yes", p), likely("no", None, "r2"), likely("no", None, "r3")])

    monkeypatch.setattr(judge_module, "judge_image", judged)
    pictures = [flat_picture(ImageRequest(prompt=name, seed=1, width=64, height=64)) for name in "ab"]
    drawn = [{"index": n, "image": await desk.context.images.put(data), "seed": n} for n, data in enumerate(pictures)]
    listed = [{"id": f"r{n}", "question": "?", "kind": "object", "parents": []} for n in (1, 2, 3)]
    options = OPTIONS | {"profile": profile, "candidates": 2}
    state: Any = {"prompt": "a", "current_prompt": "a", "options": options, "requirements": listed, "drawn": drawn}
    turn = (await judge(state, desk.work(profile=profile)))["rounds"][0]
    assert turn["best"] == best
    assert [verdict.get("likely") for verdict in turn["verdicts"]] == ([0.2, 0.3] if best else [None, None])
