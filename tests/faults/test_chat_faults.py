"""Runs with a chat endpoint that misbehaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from gems.apps.text import format_usage, usage_line
from gems.errors import AuthenticationError, GemsError, ModelUnavailableError, UnreachableError
from gems.results import RunResult
from gems.types import NO_USAGE, Usage, add_usage
from tests.support.chat_script import PROMPT, SINGLE_NO, Script, asks_for, drawings, opened, tasks
from tests.support.stub import Fault, StubServer
from tests.support.stub.responses import count_images

SIZE = "64x64"
PLAIN_STEPS = ["decompose", "complete", "checklist", "checklist"]
STEPS = {"never": ["reflect"], "always": ["mend", "checklist"]}
"""What is asked for the next image, and of it whether anything broke."""


def is_second_look(body: Any) -> bool:
    """Whether a request is the checklist backwards."""
    return asks_for("checklist")(body) and "1. Is there a blue square?" in json.dumps(body)


def answers(result: RunResult) -> list[str]:
    return [item.answer for item in result.requirements]


async def test_nothing_wrong_is_nothing_said(stub: StubServer, home: Path) -> None:
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, result.score, result.warnings, result.failure) == ("passed", 1.0, [], None)
    assert sorted(tasks(stub)) == sorted(PLAIN_STEPS)


async def test_what_was_wasted_is_counted_shown_and_kept(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("length"), times=1, when=asks_for("checklist"))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
        again = await gems.show(result.run_id)
        page = await gems.report(result.run_id)
    judged = result.usage["judge"]
    assert result.stop_reason == "passed"
    assert (judged["calls"], judged["wasted_calls"]) == (3, 1)
    assert 0 < judged["wasted_tokens"] < judged["input_tokens"] + judged["output_tokens"]
    assert again.usage == result.usage
    assert result.usage["planner"]["wasted_calls"] == 0
    wasted = f"1 call with {judged['wasted_tokens']} tokens wasted"
    assert wasted in usage_line(result)
    assert wasted in format_usage(judged)
    assert "unreadable or refused: 1." in page


def test_usage_of_older_runs_has_no_waste() -> None:
    older: Any = {name: value for name, value in NO_USAGE.items() if not name.startswith("wasted")}
    assert "wasted" not in format_usage(older)
    assert add_usage(older, NO_USAGE | {"wasted_calls": 2, "wasted_tokens": 5})["wasted_tokens"] == 5
    assert TypeAdapter(Usage).validate_python(older) == older


async def test_unreachable(stub: StubServer, home: Path) -> None:
    with StubServer() as gone:
        pass
    async with opened(stub, home, chat={"model": f"openai:m@{gone.base_url}"}) as gems:
        with pytest.raises(UnreachableError) as caught:
            await gems.run(PROMPT, size=SIZE)
        assert [row["status"] for row in await gems.runs()] == ["failed"]
        assert (await gems.runs())[0]["run_id"] == caught.value.run_id
    assert (caught.value.fault, caught.value.exit_code) == ("provider", 1)
    assert "gems doctor" in caught.value.hint
    assert drawings(stub) == []


@pytest.mark.parametrize("fault", ["401", "403"])
async def test_wrong_key(fault: Any, stub: StubServer, home: Path) -> None:
    stub.fault(Fault(fault))
    async with opened(stub, home) as gems:
        with pytest.raises(AuthenticationError) as caught:
            await gems.run(PROMPT, size=SIZE)
        assert caught.value.fault == "configuration"
        assert "API key" in caught.value.hint
        assert len(stub.requests) == 1
        assert drawings(stub) == []
        stub.behave()
        result = await gems.resume(caught.value.run_id)
    assert result.stop_reason == "passed"


async def test_a_key_that_is_wrong_for_the_stub(stub: StubServer, home: Path) -> None:
    stub.behaviour.api_key = "right-0123456789"
    async with opened(stub, home, key="wrong-0123456789") as gems:
        with pytest.raises(AuthenticationError) as caught:
            await gems.run(PROMPT, size=SIZE)
    assert "0123456789" not in str(caught.value)
    async with opened(stub, home, key="right-0123456789") as gems:
        assert (await gems.resume(caught.value.run_id)).stop_reason == "passed"


async def test_resets_from_the_beginning(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("reset"))
    async with opened(stub, home) as gems:
        with pytest.raises(UnreachableError) as caught:
            await gems.run(PROMPT, size=SIZE)
    assert caught.value.run_id
    assert drawings(stub) == []


LASTING = [
    (Fault("429"), "RateLimitError"),
    (Fault("429", retry_after=3600), "RateLimitError"),
    (Fault("500"), "ServerError"),
    (Fault("503", retry_after=0.01), "ServerError"),
    (Fault("truncated_json"), "UnreadableReplyError"),
    (Fault("malformed_json"), "UnreadableReplyError"),
    (Fault("html"), "UnreadableReplyError"),
    (Fault("no_choices"), "UnreadableReplyError"),
    (Fault("empty"), "UnreadableReplyError"),
    (Fault("null"), "UnreadableReplyError"),
]


@pytest.mark.parametrize(("fault", "error"), LASTING, ids=lambda value: getattr(value, "name", None))
async def test_an_endpoint_that_never_answers_costs_no_image(
    fault: Fault, error: str, stub: StubServer, home: Path
) -> None:
    """A broken decomposer leaves the prompt whole, a broken judge ends the run; the image is handed back."""
    stub.fault(fault)
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, result.status, result.passed) == ("failed", "failed", False)
    assert result.failure is not None
    assert (result.failure["node"], result.failure["error"]) == ("judge", error)
    assert "stub at http://127.0.0.1" in result.failure["message"]
    assert result.image.size == (64, 64)
    assert [item.question for item in result.requirements] == [f"Does this image show: {PROMPT}?"]
    assert answers(result) == ["unknown"]
    assert any("checked as a whole" in warning for warning in result.warnings)
    assert len(drawings(stub)) == 1


async def test_time_outs_cost_no_image(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("hang", seconds=60))
    async with opened(stub, home, chat={"timeout_s": 0.3, "attempts": 1}) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert result.stop_reason == "failed"
    assert result.failure is not None
    assert result.failure["error"] == "ProviderTimeoutError"
    assert result.image_id is not None


@pytest.mark.parametrize(
    "fault",
    [
        Fault("429"),
        Fault("429", retry_after=0.01),
        Fault("500"),
        Fault("503"),
        Fault("reset"),
        Fault("cut"),
        Fault("truncated_json"),
        Fault("malformed_json"),
        Fault("html"),
        Fault("empty"),
        Fault("null"),
        Fault.reply("Let me think about that."),
    ],
    ids=lambda fault: fault.name,
)
async def test_what_passes_changes_nothing(fault: Fault, stub: StubServer, home: Path) -> None:
    """Each task fails once; every answer is had in the end, and nothing is drawn again."""
    for task in ("decompose", "checklist", "reflect"):
        stub.fault(fault, times=1, when=asks_for(task))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, answers(result), result.warnings) == ("passed", ["yes", "yes"], [])
    assert len(drawings(stub)) == 1
    assert len(result.requirements) == 2


async def test_a_filter_that_stops_the_judge(stub: StubServer, home: Path) -> None:
    for fault in ("refusal", "content_filter"):
        stub.behave()
        stub.fault(Fault(fault), when=asks_for("checklist", "verify"))  # type: ignore[arg-type]
        async with opened(stub, home) as gems:
            result = await gems.run(PROMPT, size=SIZE)
        assert (result.stop_reason, answers(result)) == ("refused", ["unknown", "unknown"])
        assert result.failure is not None
        assert result.failure["error"] == "RefusedError"
        assert result.image_id is not None


@pytest.mark.parametrize(("reflections", "repair"), [(0, "always"), (1, "never"), (1, "always")])
@pytest.mark.parametrize("fault", ["prose", "fences", "trailing", "think", "no_reasoning"])
async def test_manners_of_speech_change_nothing(
    fault: Any, reflections: int, repair: Any, stub: StubServer, home: Path, script: Script
) -> None:
    script.reflections = reflections
    stub.fault(Fault(fault))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE, repair=repair)
    assert (result.stop_reason, answers(result)) == ("passed", ["yes", "yes"])
    assert len(result.rounds) == 1 + reflections
    assert result.warnings == []
    assert [item["next_prompt"] for item in result.experiences] == [f"{PROMPT}, better 1"][:reflections]
    # A single no is asked about again, and what failed before twice more.
    usual = [*PLAIN_STEPS, *["checklist", "verify", *STEPS[repair], "verify", "verify"] * reflections]
    assert sorted(tasks(stub)) == sorted(usual), "nothing else was asked twice"


async def test_a_wordy_yes_is_a_yes(stub: StubServer, home: Path) -> None:
    stub.fault(Fault.reply(SINGLE_NO), when=asks_for("checklist"))
    stub.fault(Fault("hedged"), when=asks_for("verify"))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, result.score, len(result.rounds)) == ("passed", 1.0, 1)
    assert result.requirements[0].source == "confirmation"
    assert result.requirements[0].evidence.startswith("no doubt about it")


@pytest.mark.parametrize("most", [1, 2])
async def test_no_more_pictures_than_the_endpoint_takes(
    most: int, stub: StubServer, home: Path, script: Script
) -> None:
    # Two are shown where the newest is worse than the best.
    script.reflections, script.worsens = 3, True
    stub.fault(Fault("too_many_images", limit=most))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE, profile="balanced", repair="never")
    assert (result.stop_reason, len(result.rounds)) == ("passed", 4)
    assert result.warnings == []
    sent = [count_images(call.body) for call in stub.calls("chat")]
    assert len([count for count in sent if count > most]) == (1 if most == 1 else 0), "learned from one refusal"
    assert max(sent) == 2


async def test_the_papers_history_fits_too(stub: StubServer, home: Path) -> None:
    refined = '{"prompt": "three red circles, once more"}'
    stub.fault(Fault("too_many_images", limit=2))
    stub.fault(Fault.reply("No. It is missing."), when=asks_for("verify"))
    stub.fault(Fault.reply('{"experience": "It was missing."}'), when=asks_for("summarise"))
    stub.fault(Fault.reply(refined), when=asks_for("refine"))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE, profile="paper", max_rounds=4)
    assert (result.stop_reason, len(result.rounds)) == ("max_rounds", 4)
    sent = [count_images(call.body) for call in stub.calls("chat") if asks_for("refine")(call.body)]
    assert max(sent) == 3
    assert sorted(sent)[-2:] == [2, 3]


async def test_a_broken_reflector_spells_out_what_failed(stub: StubServer, home: Path, script: Script) -> None:
    script.reflections = 1
    stub.fault(Fault("empty"), when=asks_for("reflect"))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE, repair="never", max_rounds=2)
    assert len(result.rounds) == 2
    assert "Is there a blue square?" in result.rounds[1]["prompt"]
    assert result.rounds[1]["prompt"].startswith(PROMPT)
    assert any("reflector's reply was unusable" in warning for warning in result.warnings)


@pytest.mark.parametrize("half", ["\ud83d", "\\ud83d"])
async def test_half_a_character_is_no_obstacle(half: str, stub: StubServer, home: Path, script: Script) -> None:
    script.reflections = 1
    reply = f'{{"experience": "no {half}", "prompt": "a better {half} prompt"}}'
    stub.fault(Fault.reply(reply), times=1, when=asks_for("reflect"))
    judged = asks_for("verify")
    stub.fault(Fault.reply(f"Yes. {half}"), when=lambda body: bool(script.written) and judged(body))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE, repair="never", max_rounds=2)
    assert (result.stop_reason, result.failure) == ("passed", None)
    assert result.final_prompt == f"{PROMPT}\na better \ufffd prompt"


@pytest.mark.parametrize("fault", ["404", "quota"])
async def test_a_model_that_cannot_be_had_costs_no_image(fault: Any, stub: StubServer, home: Path) -> None:
    stub.fault(Fault(fault))
    async with opened(stub, home) as gems:
        with pytest.raises(ModelUnavailableError) as caught:
            await gems.run(PROMPT, size=SIZE)
        assert (caught.value.fault, len(stub.requests)) == ("configuration", 1)
        assert drawings(stub) == []
        stub.behave()
        assert (await gems.resume(caught.value.run_id)).stop_reason == "passed"


async def test_an_endpoint_without_the_model(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("404"), when=asks_for("checklist"))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert result.failure is not None
    assert result.failure["error"] == ModelUnavailableError.__name__
    assert "base URL" in result.failure["message"]


async def test_a_judge_that_breaks_is_resumed(stub: StubServer, home: Path, script: Script) -> None:
    """The first image is handed back; later the run goes on, and nothing is drawn or answered twice."""
    script.reflections = 1
    stub.fault(Fault("500"), when=asks_for("checklist"))
    async with opened(stub, home) as gems:
        broken = await gems.run(PROMPT, size=SIZE, repair="never")
        assert (broken.stop_reason, broken.status, broken.best_round) == ("failed", "failed", 1)
        assert broken.failure is not None
        assert (broken.failure["node"], broken.failure["error"]) == ("judge", "ServerError")
        assert broken.image.size == (64, 64)
        assert answers(broken) == ["unknown", "unknown"]
    stub.behave()
    async with opened(stub, home) as gems:
        result = await gems.resume(broken.run_id)
    assert (result.stop_reason, result.failure, result.score) == ("passed", None, 1.0)
    assert len(result.rounds) == 2
    assert result.rounds[0]["candidates"][0]["image"] == broken.image_id
    assert [call.body["prompt"] for call in drawings(stub)] == [PROMPT, f"{PROMPT}, better 1"]
    assert tasks(stub).count("decompose") == 1


async def test_what_the_judge_had_answered_is_not_asked_again(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("500"), when=is_second_look)
    async with opened(stub, home) as gems:
        broken = await gems.run(PROMPT, size=SIZE)
        assert (broken.stop_reason, answers(broken)) == ("failed", ["yes", "yes"])
        assert [item.source for item in broken.requirements] == ["judge", "judge"]
        stub.behave()
        result = await gems.resume(broken.run_id)
    assert (result.stop_reason, answers(result)) == ("passed", ["yes", "yes"])
    asked = [call.body for call in stub.calls("chat") if asks_for("checklist")(call.body)]
    assert [is_second_look(body) for body in asked].count(False) == 1
    assert len(drawings(stub)) == 1


async def test_an_unclear_answer_is_asked_for_again(stub: StubServer, home: Path) -> None:
    stub.fault(Fault.reply(SINGLE_NO), when=asks_for("checklist"))
    stub.fault(Fault.reply("Hard to say."), times=1, when=asks_for("verify"))
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, answers(result)) == ("passed", ["yes", "yes"])
    # The unclear answer, the same again, a third since it contradicts the first, the other requirement, and two more
    # looks at what was a no.
    assert tasks(stub).count("verify") == 6


async def test_a_run_that_failed_before_its_image_is_resumed(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("reset"))
    async with opened(stub, home) as gems:
        with pytest.raises(GemsError) as caught:
            await gems.run(PROMPT, size=SIZE, seed=77)
        stub.behave()
        result = await gems.resume(caught.value.run_id)
    assert result.stop_reason == "passed"
    assert result.options["seed"] == 77
    assert drawings(stub)[0].body["seed"] == 77
