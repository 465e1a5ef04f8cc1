"""Runs with an image generator that misbehaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gems.errors import (
    AuthenticationError,
    GemsError,
    InvalidImageError,
    ModelUnavailableError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    ServerError,
    UnreachableError,
    UnreadableReplyError,
)
from tests.support.chat_script import ATTEMPTS, PROMPT, Script, drawings, opened, tasks
from tests.support.stub import Fault, StubServer

SIZE = "64x64"
KINDS: dict[str, Any] = {"openai": "images", "http": "generate"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def later(body: dict[str, Any]) -> bool:
    """Whether an image request is for a round after the first."""
    return str(body["prompt"]) != PROMPT


LASTING = [
    (Fault("401"), AuthenticationError, "configuration", 1),
    (Fault("403"), AuthenticationError, "configuration", 1),
    (Fault("404"), ModelUnavailableError, "configuration", 1),
    (Fault("moderated"), RefusedError, "request", 1),
    (Fault("429"), RateLimitError, "provider", ATTEMPTS),
    (Fault("429", retry_after=3600), RateLimitError, "provider", 1),
    (Fault("500"), ServerError, "provider", ATTEMPTS),
    (Fault("503"), ServerError, "provider", ATTEMPTS),
    (Fault("reset"), UnreachableError, "provider", ATTEMPTS),
    (Fault("cut"), UnreachableError, "provider", ATTEMPTS),
    (Fault("truncated_png"), InvalidImageError, "provider", ATTEMPTS),
    (Fault("html_picture"), InvalidImageError, "provider", ATTEMPTS),
    (Fault("bomb"), InvalidImageError, "provider", ATTEMPTS),
]


@pytest.mark.parametrize(
    ("fault", "expected", "blamed", "requests"), LASTING, ids=lambda value: getattr(value, "name", None)
)
async def test_no_image_is_a_named_error(
    fault: Fault, expected: type[GemsError], blamed: str, requests: int, kind: str, stub: StubServer, home: Path
) -> None:
    stub.fault(fault, KINDS[kind])
    async with opened(stub, home, generator=kind) as gems:
        with pytest.raises(GemsError) as caught:
            await gems.run(PROMPT, size=SIZE)
        assert type(caught.value) is expected
        assert (caught.value.fault, bool(caught.value.hint)) == (blamed, True)
        assert len(drawings(stub)) == requests
        assert [row["status"] for row in await gems.runs()] == ["failed"]
        stub.behave()
        result = await gems.resume(caught.value.run_id)
    assert (result.stop_reason, result.score) == ("passed", 1.0)
    assert tasks(stub).count("decompose") == 1, "what was answered is not asked again"


@pytest.mark.parametrize("fault", ["truncated_json", "malformed_json", "html", "no_choices", "no_picture"])
async def test_no_picture_in_the_answer(fault: Any, stub: StubServer, home: Path) -> None:
    stub.fault(Fault(fault), "images")
    async with opened(stub, home) as gems:
        with pytest.raises(UnreadableReplyError) as caught:
            await gems.run(PROMPT, size=SIZE)
    assert len(drawings(stub)) == ATTEMPTS
    assert caught.value.message.startswith("painter at http://127.0.0.1")


@pytest.mark.parametrize(
    ("fault", "kind", "quoted"),
    [
        ("html_picture", "openai", "<!DOCTYPE html>"),
        ("html_picture", "http", "<!DOCTYPE html>"),
        ("truncated_png", "openai", "\\x89PNG"),
        ("truncated_png", "http", "\\x89PNG"),
        ("html", "openai", "<!DOCTYPE html>"),
        ("html", "http", "<!DOCTYPE html>"),
    ],
)
async def test_what_came_instead_is_quoted(fault: Any, kind: str, quoted: str, stub: StubServer, home: Path) -> None:
    stub.fault(Fault(fault), KINDS[kind])
    async with opened(stub, home, generator=kind) as gems:
        with pytest.raises(GemsError) as caught:
            await gems.run(PROMPT, size=SIZE)
    assert quoted in caught.value.message
    assert len(drawings(stub)) == ATTEMPTS


async def test_unreachable(stub: StubServer, home: Path) -> None:
    with StubServer() as gone:
        pass
    for spec in (f"openai:m@{gone.base_url}", f"http:{gone.generate_url}"):
        async with opened(stub, home, generator=spec) as gems:
            with pytest.raises(UnreachableError) as caught:
                await gems.run(PROMPT, size=SIZE)
        assert caught.value.run_id
        assert "gems doctor" in caught.value.hint


@pytest.mark.parametrize("fault", [Fault("hang", seconds=60), Fault("drip", seconds=6)], ids=["hang", "drip"])
async def test_time_outs(fault: Fault, kind: str, stub: StubServer, home: Path) -> None:
    stub.fault(fault, KINDS[kind])
    async with opened(stub, home, generator=kind, image={"timeout_s": 0.6}) as gems:
        with pytest.raises(ProviderTimeoutError):
            await gems.run(PROMPT, size=SIZE)
    assert len(drawings(stub)) == ATTEMPTS


@pytest.mark.parametrize(
    "fault",
    [
        Fault("429"),
        Fault("429", retry_after=0.01),
        Fault("500"),
        Fault("503"),
        Fault("reset"),
        Fault("cut"),
        Fault("truncated_png"),
        Fault("html_picture"),
        Fault("html"),
    ],
    ids=lambda fault: fault.name,
)
async def test_what_passes_changes_nothing(fault: Fault, kind: str, stub: StubServer, home: Path) -> None:
    stub.fault(fault, KINDS[kind], times=ATTEMPTS - 1)
    async with opened(stub, home, generator=kind) as gems:
        result = await gems.run(PROMPT, size=SIZE, seed=5)
    assert (result.stop_reason, result.warnings) == ("passed", [])
    assert len(drawings(stub)) == ATTEMPTS
    assert {str(call.body["seed"]) for call in drawings(stub)} == {"5"}, "the same image is asked for again"


@pytest.mark.parametrize(
    ("fault", "reason", "error"),
    [
        (Fault("moderated"), "refused", "RefusedError"),
        (Fault("500"), "failed", "ServerError"),
        (Fault("429"), "failed", "RateLimitError"),
        (Fault("401"), "failed", "AuthenticationError"),
        (Fault("html_picture"), "failed", "InvalidImageError"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_a_later_round_that_cannot_be_drawn_hands_back_the_best(
    fault: Fault, reason: str, error: str, kind: str, stub: StubServer, home: Path, script: Script
) -> None:
    script.reflections = 1
    stub.fault(fault, KINDS[kind], when=later)
    async with opened(stub, home, generator=kind) as gems:
        stopped = await gems.run(PROMPT, size=SIZE, repair="never")
        assert (stopped.stop_reason, stopped.score, stopped.best_round) == (reason, 0.5, 1)
        assert stopped.failure is not None
        assert (stopped.failure["node"], stopped.failure["error"]) == ("generator", error)
        assert [item.answer for item in stopped.requirements] == ["yes", "no"]
        assert stopped.image.size == (64, 64)
        stub.behave()
        result = await gems.resume(stopped.run_id)
    assert (result.stop_reason, result.score, result.best_round) == ("passed", 1.0, 2)
    assert result.failure is None
    assert [call.body["prompt"] for call in drawings(stub)].count(PROMPT) == 1
    assert tasks(stub).count("reflect") == 1


async def test_one_candidate_of_several_may_fail(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("moderated"), "images", when=lambda body: body["seed"] == 3)
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE, candidates=3, seed=3)
    assert result.stop_reason == "passed"
    assert [candidate["index"] for candidate in result.rounds[0]["candidates"]] == [1, 2]
    assert [warning for warning in result.warnings if "safety system" in warning]


async def test_another_size_than_asked_for_is_taken_and_recorded(kind: str, stub: StubServer, home: Path) -> None:
    stub.fault(Fault("wrong_size", size=(96, 80)), KINDS[kind])
    async with opened(stub, home, generator=kind) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    drawn = result.rounds[0]["candidates"][0]
    assert (drawn["width"], drawn["height"]) == result.image.size == (96, 80)


async def test_the_key_is_the_generators_own(stub: StubServer, home: Path) -> None:
    stub.behaviour.api_key = "right-0123456789"
    wrong = {"api_key": "wrong-0123456789"}
    async with opened(stub, home, key="right-0123456789", image=wrong) as gems:
        with pytest.raises(AuthenticationError) as caught:
            await gems.run(PROMPT, size=SIZE)
    assert "0123456789" not in str(caught.value)
    assert sorted(tasks(stub)) == ["complete", "decompose"]
