"""Answers of skills' verifiers, and what becomes of bad ones."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gems.errors import RunCancelledError, ServerError, SkillError
from gems.generation import ImageRequest
from gems.models.detectors.base import Detections
from gems.models.detectors.http import HTTPDetector
from gems.nodes import checklist
from gems.nodes.checklist import ask_checklist, ask_verifiers, judge_image
from gems.nodes.judge import judge
from gems.skills.authoring import VerifierAnswer, VerifierRequest
from gems.skills.models import Skill, SkillRegistry
from gems.skills.objects import ObjectVerifier
from tests.support.detectors import FixedDetector, serving_detector
from tests.support.scripted_models import OPTIONS, Asked, Desk, checks
from tests.support.stub.models import flat_picture

SKILL = Skill(name="lettering", description="For texts.", body="Say it.")
USE = {"name": "lettering", "prompt": "", "restored": [], "requirements": [], "drawing": {}, "fault": ""}


class Reader:
    """Answers what it takes with `said`, which may also be raised or be called."""

    def __init__(self, said: Any, takes: Any = lambda item: item["kind"] == "text") -> None:
        self.said, self._takes = said, takes
        self.asked: list[VerifierRequest] = []

    def takes(self, requirement: Any) -> Any:
        return self._takes(requirement)

    async def verify(self, request: VerifierRequest) -> Any:
        self.asked.append(request)
        if callable(self.said):
            return await self.said()
        return self.said


def says(answer: Any, evidence: Any = "reads OPEN") -> Any:
    return {"r1": VerifierAnswer(answer=answer, evidence=evidence)}


@pytest.fixture
def verifiers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets a skill have these verifiers."""
    desk.context = replace(desk.context, skills=SkillRegistry([SKILL]), skill_timeout_s=30.0)

    def use(*items: Any) -> None:
        monkeypatch.setattr(checklist, "skill_verifiers", lambda skill: list(items))

    return use


async def state(desk: Desk, **more: Any) -> Any:
    picture = flat_picture(ImageRequest(prompt="a", seed=1, width=64, height=64))
    image = await desk.context.images.put(picture)
    return {
        "prompt": "a sign",
        "current_prompt": "a sign drawn",
        "options": OPTIONS,
        "requirements": [
            {"id": "r1", "question": "Does it say OPEN?", "kind": "text", "parents": []},
            {"id": "r2", "question": "Is it red?", "kind": "attribute", "parents": []},
        ],
        "drawn": [{"index": 0, "image": image, "seed": 1}],
        "skill_uses": [USE],
    } | more


async def answered(desk: Desk, work: Any = None, **more: Any) -> dict[str, Any]:
    given = await state(desk, **more)
    found = await ask_verifiers(given["drawn"][0]["image"], given, work or desk.work())
    return {name: (answer["answer"], answer["source"]) for name, answer in found.items()}


async def test_a_verifier_is_shown_the_image_and_what_it_takes(desk: Desk, verifiers: Any) -> None:
    reader = Reader(says("yes"))
    verifiers(reader)
    assert await answered(desk) == {"r1": ("yes", "lettering")}
    (request,) = reader.asked
    assert request.image.startswith(b"\x89PNG")
    assert (request.user_prompt, [item["id"] for item in request.requirements]) == ("a sign", ["r1"])


@pytest.mark.parametrize("answer", ["yes", "no"])
async def test_the_judge_is_not_asked_what_a_verifier_answered(answer: str, desk: Desk, verifiers: Any) -> None:
    verifiers(Reader(says(answer, "reads  OPEN\nand shut")))
    desk.chat.script["checklist"] = checks("yes")
    update = await judge(await state(desk), desk.work())
    first, second = update["rounds"][0]["verdicts"][0]["answers"]
    assert (first["answer"], first["source"], first["evidence"]) == (answer, "lettering", "reads OPEN and shut")
    assert desk.chat.about("checklist")[0].lines("questions") == ["1. Is it red?"]
    assert [asked.tag("question") for asked in desk.chat.about("verify")] == ["Is it red?"] * (answer == "yes")
    assert second["source"] == ("confirmation" if answer == "yes" else "judge")


async def test_nobody_is_asked_where_a_verifier_knows_all(desk: Desk, verifiers: Any) -> None:
    both = {name: VerifierAnswer(answer="yes", evidence="seen") for name in ("r1", "r2")}
    verifiers(Reader(both, takes=lambda item: True))
    update = await judge(await state(desk), desk.work())
    assert update["stop_reason"] == "passed"
    assert desk.chat.asked == []


@pytest.mark.parametrize(
    "said",
    [{}, says("unknown"), {"r2": VerifierAnswer(answer="no", evidence="")}, {"r9": 5, None: 5}],
    ids=["nothing", "unknown", "not asked", "no such ids"],
)
async def test_the_judge_is_asked_what_no_verifier_answered(said: Any, desk: Desk, verifiers: Any) -> None:
    verifiers(Reader(said))
    work = desk.work()
    assert await answered(desk, work) == {}
    assert work.warnings == []


async def hangs() -> None:
    await asyncio.Event().wait()


async def exits() -> None:
    sys.exit(1)


async def raises() -> None:
    raise ValueError("no eyes")


async def fails() -> None:
    raise SkillError("no weights")


async def times_out() -> None:
    raise TimeoutError("too slow")


def exiting(item: Any) -> None:
    sys.exit(1)


BAD = {
    "raises": (Reader(raises), "ValueError: no eyes"),
    "fails": (Reader(fails), "no weights"),
    "exits": (Reader(exits), "tried to exit the program"),
    "times out": (Reader(times_out), "too slow"),
    "text": (Reader("yes"), "returned str"),
    "nothing": (Reader(None), "returned NoneType"),
    "no answer": (Reader({"r1": "yes"}), "None; it must be yes, no or unknown"),
    "maybe": (Reader(says("maybe")), "'maybe'"),
    "list": (Reader(says(["yes"])), "yes, no or unknown"),
    "takes raises": (Reader({}, takes=lambda item: 1 / 0), "ZeroDivisionError"),
    "takes exits": (Reader({}, takes=exiting), "tried to exit the program"),
}


@pytest.mark.parametrize(("reader", "told"), BAD.values(), ids=BAD)
async def test_a_bad_verifier_costs_a_warning_only(reader: Reader, told: str, desk: Desk, verifiers: Any) -> None:
    verifiers(reader)
    work = desk.work()
    given = await state(desk)
    update = await judge(given, work)
    assert update["stop_reason"] == "passed"
    assert {answer["source"] for answer in update["rounds"][0]["verdicts"][0]["answers"]} == {"confirmation"}
    (warning,) = work.warnings
    assert warning.startswith("The verifier of the skill lettering failed: ")
    assert told in warning
    again = desk.work()
    await judge(given | {"warnings": [warning]}, again)
    assert again.warnings == []


async def test_a_verifier_that_hangs_is_left_behind(desk: Desk, verifiers: Any) -> None:
    desk.context = replace(desk.context, skill_timeout_s=0.05)
    verifiers(Reader(hangs))
    work = desk.work()
    assert await answered(desk, work) == {}
    assert "within 0.05 s" in work.warnings[0]


async def test_a_cancelled_run_waits_for_no_verifier(desk: Desk, verifiers: Any) -> None:
    async def cancels() -> None:
        desk.context.cancelled.set()
        await hangs()

    verifiers(Reader(cancels))
    with pytest.raises(RunCancelledError):
        await answered(desk)


async def test_the_first_answer_counts(desk: Desk, verifiers: Any) -> None:
    second = Reader({}, takes=lambda item: True)
    verifiers(Reader(says("no")), second)
    assert await answered(desk) == {"r1": ("no", "lettering")}
    assert [item["id"] for item in second.asked[0].requirements] == ["r2"]


@pytest.mark.parametrize("uses", [[], [USE | {"fault": "broke"}], [USE | {"name": "vanished"}]])
async def test_only_skills_that_did_their_part_verify(uses: Any, desk: Desk, verifiers: Any) -> None:
    reader = Reader(says("no"))
    verifiers(reader)
    assert await answered(desk, skill_uses=uses) == {}
    assert reader.asked == []


async def test_verifiers_come_from_the_skills_code(desk: Desk, tmp_path: Path) -> None:
    from tests.support.skill_folders import coded

    source = """
from gems.skills.authoring import VerifierAnswer

class Reader:
    def takes(self, requirement):
        return requirement["kind"] == "text"
    async def verify(self, request):
        said = VerifierAnswer(answer="no", evidence="reads OPNE")
        return {item["id"]: said for item in request.requirements}

def verifiers(context):
    return [Reader()]
"""
    desk.context = replace(desk.context, skills=SkillRegistry([coded(tmp_path / "lettering", source)]))
    assert await answered(desk) == {"r1": ("no", "lettering")}


async def test_many_questions_are_asked_in_lists_of_fifteen(desk: Desk) -> None:
    given: list[Any] = [
        {"id": f"r{n}", "question": f"Is there thing {n}?", "kind": "object", "parents": []} for n in range(1, 41)
    ]
    given[20]["parents"] = ["r1"]
    given[21]["parents"] = ["r2"]

    def answer(asked: Asked) -> dict[str, Any]:
        lines = asked.lines("questions")
        said = ["no" if line.endswith("thing 1?") else "yes" for line in lines]
        return {"answers": [{"number": n, "answer": value} for n, value in enumerate(said, 1)]}

    desk.chat.script["checklist"] = answer
    found = await ask_checklist([], given, desk.work(), (0, 1))
    # What depends on the thing that is missing is not asked, since that is known by then.
    assert [len(asked.lines("questions")) for asked in desk.chat.about("checklist")] == [15, 14, 10]
    answers = found.by_requirement()
    assert list(answers) == [item["id"] for item in given]
    assert [name for name, each in answers.items() if each["answer"] != "yes"] == ["r1", "r21"]
    assert (answers["r21"]["source"], answers["r22"]["source"]) == ("parent", "judge")


async def test_a_judge_of_which_nothing_is_understood_is_quoted(desk: Desk) -> None:
    given: Any = [{"id": "r1", "question": "Is there a cat?", "kind": "object", "parents": []}]
    desk.chat.script["checklist"] = "Lovely picture!"
    desk.chat.script["verify"] = "What a lovely picture this is!"
    work = desk.work()
    image = (await state(desk))["drawn"][0]["image"]
    found = await judge_image(image, given, work, {})
    assert [answer["answer"] for answer in found.answers] == ["unknown"]
    assert "What a lovely picture this is!" in work.warnings[-1]


Q = ["Is there a red circle?", "Is there a blue square?", "Are there two stars?"]


def given_answers(*answers: tuple[Any, str], **more: Any) -> dict[str, Any]:
    return {"answers": [{"number": number, "evidence": "seen", "answer": said} | more for number, said in answers]}


NUMBERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "texts": (given_answers(("1", "yes"), ("2.", "no"), ("Q3", "yes")), ["yes", "no", "yes"]),
    "words": (given_answers(("Question 1", "yes"), ("#2", "no"), ("3)", "yes")), ["yes", "no", "yes"]),
    "fractions": (given_answers((1.0, "yes"), ("2.0", "no"), (3, "yes")), ["yes", "no", "yes"]),
    "another order": (given_answers((3, "yes"), (1, "yes"), (2, "no")), ["yes", "no", "yes"]),
    "keys": ({"answers": {"1": "yes", "Q2": {"answer": "no"}, "3.": "yes"}}, ["yes", "no", "yes"]),
    "more than asked": (given_answers((1, "yes"), (2, "no"), (3, "yes"), (4, "yes")), ["yes", "no", "yes"]),
    "one missing": (given_answers((1, "yes"), (3, "yes")), ["yes", "unknown", "yes"]),
    "from zero": (given_answers((0, "yes"), (1, "no"), (2, "yes")), ["unknown"] * 3),
    "another request's": (given_answers((16, "yes"), (17, "yes"), (18, "yes")), ["unknown"] * 3),
    "half another request's": (given_answers((1, "yes"), (7, "yes"), (9, "yes")), ["unknown"] * 3),
    "negative": (given_answers(("-1", "yes"), (2, "no"), (3, "yes")), ["unknown"] * 3),
    "of two numbers": (given_answers(("1-2", "yes"), (3, "yes")), ["unknown", "unknown", "yes"]),
    "truth values": (given_answers((True, "yes"), (2, "no")), ["unknown", "no", "unknown"]),
    "twice the same": (given_answers((1, "yes"), (1, "yes"), (2, "no"), (3, "yes")), ["yes", "no", "yes"]),
    "contradiction": (given_answers((1, "yes"), (1, "no"), (2, "no"), (3, "yes")), ["unknown", "no", "yes"]),
    "contradiction of three": (
        given_answers((1, "yes"), (1, "no"), (1, "yes"), (2, "no")),
        ["unknown", "no", "unknown"],
    ),
    "a doubt beside it": (given_answers((1, "yes"), ("1", "unknown"), (2, "no")), ["unknown", "no", "unknown"]),
    "questions repeated": (
        {"answers": [{"number": n, "question": f"{n}. {q}", "answer": "yes"} for n, q in enumerate(Q, 1)]},
        ["yes"] * 3,
    ),
    "questions of another order": (
        {"answers": [{"number": n, "question": q, "answer": "yes"} for n, q in enumerate((Q[1], Q[0], Q[2]), 1)]},
        ["unknown", "unknown", "yes"],
    ),
    "questions of another request": (
        {"answers": [{"number": n, "question": f"Does dog {n} wear a hat?", "answer": "yes"} for n in (1, 2, 3)]},
        ["unknown"] * 3,
    ),
    "the form": ({"answers": [{"number": 1, "evidence": "...", "answer": "...", "box": []}]}, ["unknown"] * 3),
    "the form with all words": (given_answers((1, "yes|no|unknown"), (2, "yes or no")), ["unknown"] * 3),
    "the schema": (
        {"type": "object", "properties": {"answers": {"type": "array", "items": {"answer": {"enum": ["yes", "no"]}}}}},
        ["unknown"] * 3,
    ),
    "the questions": ({"answers": [{"number": n, "answer": q} for n, q in enumerate(Q, 1)]}, ["unknown"] * 3),
}


@pytest.mark.parametrize(("said", "expected"), NUMBERS.values(), ids=NUMBERS)
async def test_what_cannot_be_assigned_is_unknown(said: dict[str, Any], expected: list[str], desk: Desk) -> None:
    """And is asked again on its own, once a question."""
    given: Any = [{"id": f"r{n}", "question": q, "kind": "object", "parents": []} for n, q in enumerate(Q, 1)]
    desk.chat.script["checklist"] = said
    desk.chat.script["verify"] = "I wonder about that."
    found = await ask_checklist([], given, desk.work(), (0, 1))
    assert [answer["answer"] for answer in found.answers] == expected
    assert len(desk.chat.about("checklist")) <= 3
    assert len(desk.chat.about("verify")) <= 2 * expected.count("unknown")


@pytest.mark.parametrize(
    "said",
    [
        "Is there a red circle?",
        "Question: Is there a red circle? Answer:",
        "<question>Is there a red circle?</question>",
        "Answer yes or no: is there a red circle?",
        "yes|no|unknown",
        "yes/no",
        "[yes/no]",
        "Begin with yes, no or unknown, then say what you see.",
        '{"answer": "yes|no"}',
        '{"question": "Is there a red circle?"}',
        "...",
    ],
)
async def test_a_judge_that_copies_the_question_answers_nothing(said: str, desk: Desk) -> None:
    given: Any = [{"id": "r1", "question": "Is there a red circle?", "kind": "object", "parents": []}]
    desk.chat.script["checklist"] = desk.chat.script["verify"] = said
    work = desk.work()
    image = (await state(desk))["drawn"][0]["image"]
    found = await judge_image(image, given, work, {})
    assert [answer["answer"] for answer in found.answers] == ["unknown"]
    assert len(desk.chat.about("checklist")) <= 3
    assert len(desk.chat.about("verify")) <= 6
    assert work.warnings


def measured(answer: Any, box: Any = ()) -> Any:
    """An instrument's answer to the first requirement."""
    return {"r1": VerifierAnswer(answer=answer, evidence="Found 4 signs.", box=box, instrument="owl")}


@pytest.mark.parametrize("answer", ["yes", "no"])
async def test_an_instrument_and_a_judge_who_agree_need_no_third_look(answer: str, desk: Desk, verifiers: Any) -> None:
    verifiers(Reader(measured(answer)))
    desk.chat.script["checklist"] = checks(answer, "no")
    found = (await judge(await state(desk), desk.work()))["rounds"][0]["verdicts"][0]["answers"][0]
    assert (found["answer"], found["source"]) == (answer, "lettering")
    assert found["finding"] == {"instrument": "owl", "answer": answer, "judge": answer}
    assert desk.chat.about("settle") == []
    assert desk.chat.about("checklist")[0].lines("questions") == ["1. Does it say OPEN?", "2. Is it red?"]


@pytest.mark.parametrize(
    ("instrument", "judged", "third", "answer", "source"),
    [
        ("yes", "no", "yes", "yes", "lettering"),
        ("yes", "no", "no", "no", "confirmation"),
        ("no", "yes", "no", "no", "lettering"),
        ("no", "yes", "yes", "yes", "confirmation"),
        ("no", "yes", "unknown", "no", "lettering"),
        ("no", "unknown", "", "no", "lettering"),
        ("unknown", "no", "", "no", "judge"),
    ],
)
async def test_a_third_look_decides_where_they_contradict_each_other(
    instrument: str, judged: str, third: str, answer: str, source: str, desk: Desk, verifiers: Any
) -> None:
    verifiers(Reader(measured(instrument)))
    desk.chat.script |= {"checklist": checks(judged, "no"), "settle": checks(third or "no"), "verify": "unknown"}
    found = (await judge(await state(desk), desk.work()))["rounds"][0]["verdicts"][0]["answers"][0]
    assert (found["answer"], found["source"]) == (answer, source)
    assert ("finding" in found) == (instrument != "unknown")
    looks = desk.chat.about("settle")
    assert len(looks) == bool(third)
    for look in looks:
        assert look.lines("questions") == ["1. Does it say OPEN?"]
        assert look.lines("findings") == [
            f"1. The instrument owl says {instrument}: Found 4 signs. Somebody who looked says {judged}: seen 1"
        ]
        assert len(look.pictures) == 1


@pytest.mark.parametrize(
    ("box", "of_judge", "kept", "placed_by"),
    [
        ([100, 100, 200, 200], [0, 0, 9, 9], [100, 100, 200, 200], "owl"),
        ((), [300, 300, 400, 400], [300, 300, 400, 400], None),
        ((9, 9, 1, 1), [300, 300, 400, 400], [1, 1, 9, 9], "owl"),
        ([float("nan"), 0, 5, 5], [], None, None),
        ([float("inf"), 0, 5, 5], [], None, None),
        ((0, 0, 5, 5000), [], None, None),
    ],
)
async def test_a_no_is_where_the_instrument_says_else_where_the_judge_does(
    box: Any, of_judge: list[int], kept: Any, placed_by: str | None, desk: Desk, verifiers: Any
) -> None:
    verifiers(Reader(measured("no", box)))
    desk.chat.script["checklist"] = {
        "answers": [{"number": 1, "answer": "no", "box": of_judge}, {"number": 2, "answer": "yes"}]
    }
    found = (await judge(await state(desk), desk.work()))["rounds"][0]["verdicts"][0]["answers"][0]
    assert (found.get("box"), found.get("placed_by")) == (kept, placed_by)


async def test_a_third_look_that_fails_leaves_it_to_the_instrument(desk: Desk, verifiers: Any) -> None:
    verifiers(Reader(measured("no")))
    desk.chat.script |= {"checklist": checks("yes", "no"), "settle": ServerError("down")}
    work = desk.work()
    update = await judge(await state(desk), work)
    found = update["rounds"][0]["verdicts"][0]["answers"][0]
    assert (found["answer"], found["source"]) == ("no", "lettering")
    assert any("contradict each other, and nobody could look again" in warning for warning in work.warnings)


async def test_the_papers_loop_believes_a_verifier_alone_and_has_no_detector(desk: Desk, verifiers: Any) -> None:
    reader, counter = Reader(measured("no")), Reader(measured("no"), takes=lambda item: True)
    counter.uses_detector = True  # type: ignore[attr-defined]
    desk.context = replace(desk.context, detector=FixedDetector(lambda _: Detections(objects=())))
    verifiers(counter, reader)
    desk.chat.script["verify"] = "no"
    work = desk.work(profile="paper")
    update = await judge(await state(desk, options=OPTIONS | {"profile": "paper"}), work)
    found = update["rounds"][0]["verdicts"][0]["answers"][0]
    assert (found["answer"], found["source"]) == ("no", "lettering")
    assert "finding" not in found
    assert [asked.tag("question") for asked in desk.chat.about("verify")] == ["Is it red?"]
    assert counter.asked == []
    assert reader.asked[0].detector is None


async def test_a_verifier_that_needs_a_detector_is_left_out_without_one(desk: Desk, verifiers: Any) -> None:
    counter = Reader(measured("yes"))
    counter.uses_detector = True  # type: ignore[attr-defined]
    verifiers(counter)
    assert await answered(desk) == {}
    assert counter.asked == []
    desk.context = replace(desk.context, detector=FixedDetector(lambda _: Detections(objects=())))
    assert await answered(desk) == {"r1": ("yes", "lettering")}
    assert counter.asked[0].detector is desk.context.detector


async def test_a_dead_detector_is_told_and_the_judge_answers(desk: Desk, verifiers: Any) -> None:
    verifiers(ObjectVerifier())
    with serving_detector([]) as server:
        url = server.url
    desk.context = replace(desk.context, detector=HTTPDetector(url, attempts=1))
    listed = [{"id": "r1", "question": "Is there a cat?", "kind": "object", "parents": []}]
    desk.chat.script["checklist"] = checks("yes")
    work = desk.work()
    update = await judge(await state(desk, requirements=listed), work)
    (found,) = update["rounds"][0]["verdicts"][0]["answers"]
    assert (found["answer"], found["source"]) == ("yes", "confirmation")
    (warning,) = work.warnings
    assert "The verifier of the skill lettering failed: The detector at http://127.0.0.1" in warning
