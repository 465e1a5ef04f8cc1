"""Traces by OpenTelemetry, as a collector on loopback reads them."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gems.errors import GemsError, MissingExtraError, RunDrainedError, ServerError
from gems.observability.opentelemetry import traces_url
from gems.observability.tracing import OFF
from gems.resources import open_tracing
from gems.service import Gems
from gems.settings import Settings
from tests.support.chat_script import Script, asks_for, opened
from tests.support.receiver import Receiver
from tests.support.scripted_models import FlatGenerator, ScriptedChat, checks
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture

KEY = "tops3cret-0123456789-value"
WORDS = "a marvellous red cat"


class Traced:
    """The spans that a collector was sent."""

    def __init__(self, receiver: Receiver) -> None:
        assert {path for path, _ in receiver.bodies} == {"/v1/traces"}
        self.raw = b"".join(body for _, body in receiver.bodies)
        self.service = ""
        self.spans = []
        for _, body in receiver.bodies:
            for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {item.key: item.value.string_value for item in batch.resource.attributes}
                self.service = names["service.name"]
                self.spans += [span for scope in batch.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def facts(self, span: Any) -> dict[str, Any]:
        return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}

    def above(self, span: Any) -> str:
        return next((each.name for each in self.spans if each.span_id == span.parent_span_id), "")


def traced(home: Path, receiver: Receiver, chat: ScriptedChat | None = None, **more: Any) -> Gems:
    settings = Settings(home=home, otel=receiver.url, experience="off", **more)
    return Gems(settings, chat=chat or ScriptedChat(), generator=FlatGenerator())


async def test_a_span_for_the_run_each_node_and_each_call(tmp_path: Path) -> None:
    chat = ScriptedChat()
    chat.script["checklist"] = [checks("yes", "no"), *[checks("yes", "yes")] * 2]
    with Receiver() as receiver:
        async with traced(tmp_path, receiver, chat) as gems:
            result = await gems.run(WORDS, seed=7)
        trace = Traced(receiver)
    assert trace.service == "gems"
    assert len({span.trace_id for span in trace.spans}) == 1
    (run,) = trace.named("gems run")
    facts = trace.facts(run)
    assert (facts["gems.run_id"], facts["gems.score"], facts["gems.stop_reason"]) == (result.run_id, 1, "passed")
    assert (facts["gems.rounds"], facts["gems.seed"], facts["gems.profile"]) == (2, 7, "balanced")
    nodes = Counter(span.name for span in trace.spans if span.name.startswith("gems node"))
    once = ("begin", "planner", "decomposer", "ready", "reflector", "finish")
    assert nodes == {f"gems node {name}": 1 for name in once} | {"gems node generator": 2, "gems node judge": 2}
    assert {trace.above(span) for span in trace.spans if span.name.startswith("gems node")} == {"gems run"}
    calls = [span for span in trace.spans if span.name.startswith("gems chat")]
    assert len(calls) == len(chat.asked)
    assert {trace.above(span) for span in trace.named("gems chat checklist")} == {"gems node judge"}
    assert {trace.above(span) for span in trace.named("gems draw")} == {"gems node generator"}
    facts = trace.facts(trace.named("gems chat checklist")[1])
    assert (facts["gems.round"], facts["gems.role"], facts["gems.task"]) == (2, "judge", "checklist")
    assert (facts["gems.run_id"], facts["gen_ai.request.model"]) == (result.run_id, "ScriptedChat")
    assert {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gems.seconds"} <= set(facts)
    facts = trace.facts(trace.named("gems draw")[0])
    assert (facts["gems.round"], facts["gen_ai.request.model"], facts["gems.seed"]) == (1, "flat", 7)
    assert all(span.status.code != 2 for span in trace.spans)
    judged = sum(trace.facts(span)["gen_ai.usage.input_tokens"] for span in calls)
    assert judged == sum(used["input_tokens"] for used in result.usage.values())


@pytest.mark.parametrize("texts", [False, True])
async def test_texts_are_told_only_where_they_are_wanted(texts: bool, tmp_path: Path) -> None:
    with StubServer(api_key=KEY) as stub, Receiver() as receiver:
        chat: Any = {"model": f"openai:stub@{stub.base_url}", "api_key": KEY}
        settings = Settings(home=tmp_path, otel=receiver.url, otel_text=texts, chat=chat)
        async with Gems(settings) as gems:
            result = await gems.run(f"two red circles above a blue square, {KEY[:9]}", seed=3, size="256x256")
        trace = Traced(receiver)
    assert (b"two red circles" in trace.raw) == texts
    assert any(name.startswith("gems.text.") for span in trace.spans for name in trace.facts(span)) == texts
    assert (f"[image {result.image_id}]".encode() in trace.raw) == texts
    assert KEY.encode() not in trace.raw
    assert b"base64" not in trace.raw
    assert b"\x89PNG" not in trace.raw
    assert not re.search(rb"[A-Za-z0-9+/]{200,}", trace.raw)


async def test_errors_are_told_by_their_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(reflections=1)
    with StubServer(chat=script, images=flat_picture) as stub, Receiver() as receiver:
        stub.fault(Fault("500"), when=asks_for("reflect"))
        monkeypatch.setenv("GEMS_OTEL", receiver.url)
        async with opened(stub, tmp_path, key=KEY) as gems:
            result = await gems.run(WORDS, size="64x64", repair="never")
        trace = Traced(receiver)
    assert result.failure is not None
    for name in ("gems chat reflect", "gems node reflector", "gems run"):
        (span,) = trace.named(name)
        assert span.status.code == 2
        assert span.status.message == trace.facts(span)["error.type"] == ServerError.__name__
    assert not any(span.events for span in trace.spans)
    assert KEY.encode() not in trace.raw


async def test_a_run_that_ends_without_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_request: Any) -> Any:
        raise LookupError

    with StubServer(chat=Script(), images=broken) as stub, Receiver() as receiver:
        monkeypatch.setenv("GEMS_OTEL", receiver.url)
        async with opened(stub, tmp_path) as gems:
            with pytest.raises(GemsError) as caught:
                await gems.run(WORDS, size="64x64")
        trace = Traced(receiver)
    for name in ("gems draw", "gems node generator", "gems run"):
        (span,) = trace.named(name)
        assert trace.facts(span)["error.type"] == type(caught.value).__name__


async def test_runs_beside_each_other_keep_their_spans_apart(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with traced(tmp_path, receiver) as gems:
            results = await asyncio.gather(*(gems.run(f"cat {n}", seed=n) for n in range(3)))
        trace = Traced(receiver)
    owners: dict[bytes, set[Any]] = {}
    for span in trace.spans:
        owners.setdefault(span.trace_id, set()).add(trace.facts(span)["gems.run_id"])
    assert len(owners) == 3
    assert sorted(next(iter(ids)) for ids in owners.values()) == sorted(each.run_id for each in results)
    assert all(len(ids) == 1 for ids in owners.values())


async def test_a_resumed_run_tells_no_call_that_the_ledger_answers(tmp_path: Path) -> None:
    chat = ScriptedChat()
    with Receiver() as receiver:
        async with traced(tmp_path, receiver, chat) as gems:
            with pytest.raises(RunDrainedError) as drained:
                await drained_when_drawn(gems)
            assert chat.asked
            await gems.resume(drained.value.run_id)
        trace = Traced(receiver)
    assert len([span for span in trace.spans if span.name.startswith("gems chat")]) == len(chat.asked)
    assert len(trace.named("gems draw")) == 1
    first, second = trace.named("gems run")
    assert trace.facts(first)["error.type"] == "RunDrainedError"
    assert second.status.code != 2


async def drained_when_drawn(gems: Gems) -> None:
    async for event in gems.stream(WORDS, seed=7):
        if event.type == "image":
            gems.drain()


async def test_a_collector_that_is_away_fails_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Settings(home=tmp_path, otel=f"http://user:hunter2@127.0.0.1:{port}", experience="off")
    async with Gems(settings, chat=ScriptedChat(), generator=FlatGenerator()) as gems:
        result = await gems.run(WORDS, seed=7)
        assert (result.stop_reason, result.warnings) == ("passed", [])
        await until_told(caplog)
        await gems.run(WORDS, seed=8)
    told = [
        record
        for record in caplog.records
        if record.name.startswith(("gems.observability.opentelemetry", "opentelemetry"))
    ]
    assert [record.getMessage() for record in told] == [
        f"Traces cannot be sent to http://127.0.0.1:{port}; runs continue without."
    ]


async def until_told(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(180):
        while not any(record.name == "gems.observability.opentelemetry" for record in caplog.records):  # noqa: ASYNC110 - a thread says it
            await asyncio.sleep(0.05)


async def test_a_collector_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    """It takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings(home=tmp_path, otel=f"http://127.0.0.1:{silent.getsockname()[1]}", experience="off")
        async with asyncio.timeout(180), Gems(settings, chat=ScriptedChat(), generator=FlatGenerator()) as gems:
            assert (await gems.run(WORDS, seed=7)).passed


def test_the_console_leaves_stdout_to_the_result(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "gems", "run", "a red circle", "--seed", "3", "--size", "256x256", "--json")
    done = subprocess.run(
        command,
        env={"GEMS_HOME": str(tmp_path), "GEMS_OTEL": "console", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
    assert "gems.run_id" not in done.stdout
    assert '"name": "gems node judge"' in done.stderr


async def test_off_costs_nothing() -> None:
    async with open_tracing(Settings()) as tracing:
        assert tracing is OFF
        assert tracing.span("node", "judge") is tracing.span("chat", "checklist", role="judge")


def test_off_imports_nothing() -> None:
    program = "import sys, gems.service, gems.nodes.context\n"
    program += "print('gems.observability.opentelemetry' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    monkeypatch.setattr("gems.observability.tracing.find_spec", lambda name: None if "otlp" in name else object())
    with pytest.raises(MissingExtraError, match=r"gems-agent\[otel\]"):
        async with open_tracing(Settings(otel="http://127.0.0.1:1")):
            pass


@pytest.mark.parametrize("where", ["http://host:4318", "http://host:4318/", "http://host:4318/v1/traces"])
def test_where_spans_are_taken(where: str) -> None:
    assert traces_url(where) == "http://host:4318/v1/traces"


def test_only_an_address_or_the_console_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from gems.errors import ConfigurationError
    from gems.settings import load_settings

    monkeypatch.setenv("GEMS_OTEL", "yes")
    with pytest.raises(ConfigurationError, match="GEMS_OTEL"):
        load_settings()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
