"""`gems doctor`: every piece is tried, and a broken one does not hide the others."""

from __future__ import annotations

import io
import json
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gems.apps import doctor
from gems.apps.doctor import DoctorReport, smallest_size
from gems.errors import ConfigurationError
from gems.generation import GeneratorCapabilities
from gems.models.chat.vision import red_square
from tests.support.comfyui_server import serving_comfyui
from tests.support.comfyui_workflows import inpainting, save, text_to_image
from tests.support.detectors import found, serving_detector
from tests.support.postgres import PASSWORD
from tests.support.receiver import Receiver, langsmith
from tests.support.stub import Fault, StubServer
from tests.support.terminal import gems, here

ALL = "chat model of planner, judge, reflector"


def checkup(*arguments: str, **settings: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and checks by name."""
    done = here("doctor", "--json", *arguments, env=settings)
    report: dict[str, Any] = json.loads(done.stdout)
    assert DoctorReport.model_validate(report).model_dump(mode="json") == report
    assert report["ok"] == (done.exit_code == 0)
    return done.exit_code, {check["name"]: check for check in report["checks"]}


def failed(checks: dict[str, dict[str, str]]) -> set[str]:
    return {name for name, check in checks.items() if check["status"] == "failed"}


def test_everything_fine() -> None:
    done = gems("doctor")
    assert done.returncode == 0, done.stdout
    assert "\x1b" not in done.stdout
    assert "failed" not in done.stdout
    for name in ("home", "images", "ledger", "checkpoints", ALL, f"{ALL}: sees images", "generator"):
        assert f"ok       {name}: " in done.stdout
    assert "blocks generated 256x256 pixels" in done.stdout


def test_extras_that_are_missing_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def requires(_: str) -> list[str]:
        return [
            "pillow>=12",
            'no-such-package>=1; extra == "web"',
            'pillow>=1; extra == "web"',
            'pillow; extra == "mcp"',
            'no-such-package; extra == "dev"',
        ]

    monkeypatch.setattr(metadata, "requires", requires)
    code, checks = checkup("--no-draw")
    assert code == 0
    found = {name: check["status"] for name, check in checks.items() if name.startswith("extra ")}
    assert found == {"extra web": "missing", "extra mcp": "ok"}
    assert checks["extra web"]["hint"].endswith("pip install 'gems-agent[web]'")
    assert checks["extra web"]["detail"] == "not installed: no-such-package"


def test_refused_key() -> None:
    with StubServer(api_key="the right one") as stub:
        model = f"openai:stub@{stub.base_url}"
        code, checks = checkup("--chat", model, GEMS_CHAT__API_KEY="sk-wrong-4711")
    assert code == 1
    assert failed(checks) == {ALL}
    assert "401" in checks[ALL]["detail"]
    assert checks[ALL]["hint"] == "Check the API key in the settings."
    assert "sk-wrong-4711" not in json.dumps(checks)
    assert checks[f"{ALL}: sees images"]["status"] == "skipped"
    assert checks[f"{ALL}: structured output"]["status"] == "skipped"
    assert checks["generator"]["status"] == "ok"


def test_unreachable_models() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    chat, generator = f"openai:m@http://127.0.0.1:{port}/v1", f"http:http://127.0.0.1:{port}/generate"
    done = here("doctor", "--judge", chat, "--generator", generator)
    assert done.exit_code == 1
    assert done.stdout.count("failed   ") == 2
    assert f"failed   chat model of judge: m at http://127.0.0.1:{port}/v1 could not be reached" in done.stdout
    assert "ok       chat model of planner, reflector: blocks answered" in done.stdout
    assert "failed   generator: " in done.stdout
    assert done.stdout.count("\n         Check that the server is running") == 2
    assert "gems doctor" not in done.stdout
    assert "ok       ledger" in done.stdout


def test_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code, checks = checkup(GEMS_HOME=str(tmp_path / "file" / "gems"))
    assert code == 1
    assert failed(checks) == {"home", "images", "ledger", "checkpoints"}
    assert all("GEMS_HOME" in checks[name]["hint"] for name in failed(checks))
    assert checks[ALL]["status"] == checks["generator"]["status"] == "ok"


def test_settings_that_cannot_be_read() -> None:
    code, checks = checkup(GEMS_CHAT__TIMEOUT_S="soon")
    assert code == 1
    assert failed(checks) == {"settings"}
    assert "GEMS_CHAT__TIMEOUT_S" in checks["settings"]["detail"]
    assert any(name.startswith("extra") for name in checks)


def test_models_that_cannot_be_opened() -> None:
    code, checks = checkup("--chat", "nonsense:x", "--generator", "nonsense:y")
    assert code == 1
    assert failed(checks) == {ALL, "generator"}
    assert "nonsense:y" in checks["generator"]["detail"]


def test_a_model_that_sees_nothing() -> None:
    with StubServer() as stub:
        stub.fault(
            Fault.reply("It is a coloured shape, rendered."), when=lambda body: "colour" in str(body["messages"])
        )
        code, checks = checkup("--chat", f"openai:stub@{stub.base_url}")
        shown = [call for call in stub.calls("chat") if "image_url" in str(call.body["messages"])]
    assert code == 1
    assert failed(checks) == {f"{ALL}: sees images"}
    assert "coloured shape" in checks[f"{ALL}: sees images"]["detail"]
    assert "model with vision" in checks[f"{ALL}: sees images"]["hint"]
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("fault", "mode"), [(None, "json_schema"), ("no_json_schema", "json_mode"), ("no_json", "text")]
)
def test_how_structured_output_is_asked_for(fault: Any, mode: str) -> None:
    with StubServer() as stub:
        if fault is not None:
            stub.fault(Fault(fault))
        code, checks = checkup("--chat", f"openai:stub@{stub.base_url}")
    assert code == 0, checks
    assert f"({mode})" in checks[f"{ALL}: structured output"]["detail"]


def test_a_model_without_structured_output() -> None:
    with StubServer() as stub:
        stub.fault(Fault.reply("As you wish."), when=lambda body: "Task: decompose" in str(body["messages"]))
        code, checks = checkup("--chat", f"openai:stub@{stub.base_url}")
    assert code == 1
    assert failed(checks) == {f"{ALL}: structured output"}


@pytest.mark.parametrize("draw", [True, False])
def test_drawing_can_be_left_out(stub: StubServer, draw: bool) -> None:
    arguments = ["--generator", f"http:{stub.generate_url}", *([] if draw else ["--no-draw"])]
    code, checks = checkup(*arguments, GEMS_GENERATOR__USD_PER_IMAGE="0.04")
    assert code == 0
    assert len(stub.calls("generate")) == (1 if draw else 0)
    assert checks["generator"]["status"] == ("ok" if draw else "skipped")
    assert ("$0.04" in checks["generator"]["detail"]) == draw


def test_a_generator_that_draws_nothing(stub: StubServer) -> None:
    stub.fault(Fault("html_picture"), "generate")
    code, checks = checkup("--generator", f"http:{stub.generate_url}")
    assert code == 1
    assert failed(checks) == {"generator"}
    assert len(stub.calls("generate")) == 1


def test_the_binding_of_a_workflow_is_shown(tmp_path: Path) -> None:
    with serving_comfyui() as server:
        path = save(tmp_path, text_to_image())
        code, checks = checkup("--generator", f"comfyui:{path}@{server.url}")
        assert code == 0
        assert (
            "prompt: CLIPTextEncode (node 6) text; negative: CLIPTextEncode (node 7) text"
            in checks["workflow"]["detail"]
        )
        assert "image: not bound; mask: not bound; output: SaveImage (node 9)" in checks["workflow"]["detail"]
        assert len(server.prompts) == 1
        server.lacking.add("KSampler")
        code, checks = checkup("--generator", f"comfyui:{path}@{server.url}", "--no-draw")
        assert code == 1
        assert failed(checks) == {"workflow's nodes"}
        assert "the node KSampler" in checks["workflow's nodes"]["detail"]
        # A workflow that only edits is tried with an image of the doctor's own.
        server.lacking.clear()
        save(tmp_path, inpainting())
        code, checks = checkup("--generator", f"comfyui:{path}@{server.url}")
        assert code == 0, checks


def test_a_workflow_in_another_format(tmp_path: Path) -> None:
    path = save(tmp_path, {"nodes": [], "links": []})
    code, checks = checkup("--generator", f"comfyui:{path}")
    assert code == 1
    assert failed(checks) == {"workflow", "workflow's nodes", "generator"}
    assert "Export (API)" in checks["workflow"]["hint"]


@pytest.mark.parametrize(
    ("able", "size"),
    [
        ({}, (256, 256)),
        ({"sizes": ((1024, 1024), (512, 256), (512, 512))}, (512, 256)),
        ({"size_multiple": 48}, (288, 288)),
        ({"min_side": 300, "size_multiple": 16}, (304, 304)),
        ({"max_side": 128}, (128, 128)),
        ({"min_pixels": 655_360, "size_multiple": 16}, (816, 816)),
        ({"max_side": 260, "size_multiple": 48}, (240, 240)),
    ],
)
def test_smallest_size(able: dict[str, Any], size: tuple[int, int]) -> None:
    capabilities = GeneratorCapabilities(model="m", default_size=(240, 240), **able)
    assert smallest_size(capabilities) == size
    capabilities.check_size(*size)


def test_red_square() -> None:
    with Image.open(io.BytesIO(red_square())) as picture:
        assert picture.getpixel((2, 2)) == (255, 255, 255)
        assert picture.getpixel((112, 112)) == (220, 20, 20)


@pytest.mark.parametrize("name", ["ledger", "checkpoints"])
def test_a_damaged_store(tmp_path: Path, name: str) -> None:
    assert checkup("--no-draw")[0] == 0
    path = tmp_path / "gems" / f"{name}.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE filler AS SELECT randomblob(100000) AS data")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    data[-50_000:] = b"Z" * 50_000
    path.write_bytes(data)
    code, checks = checkup("--no-draw")
    assert code == 1
    assert failed(checks) == {name}
    assert "is damaged" in checks[name]["detail"]
    assert "Move it away" in checks[name]["hint"]


def test_a_database_is_named_without_its_password(
    database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEMS_CHECKPOINT", database)
    code, checks = checkup("--no-draw")
    place = database.rpartition("@")[2]
    assert (code, checks["database"]["detail"]) == (0, place)
    assert "ledger" not in checks
    monkeypatch.setenv("GEMS_CHECKPOINT", database.replace(PASSWORD, "wr0ng"))
    code, checks = checkup("--no-draw")
    assert code == 1
    assert failed(checks) == {"database"}
    assert place in checks["database"]["detail"]
    assert "wr0ng" not in str(checks)


def test_traces_are_off_by_default() -> None:
    _, checks = checkup("--no-draw")
    assert checks["traces"]["status"] == checks["langsmith"]["status"] == "skipped"


def test_a_server_that_nobody_may_reach_is_told() -> None:
    assert checkup("--no-draw")[1]["server"]["detail"].endswith("for this machine only, since there are no keys")
    code, checks = checkup("--no-draw", GEMS_SERVE__HOST="0.0.0.0")
    assert (code, failed(checks)) == (1, {"server"})
    assert "gems keys add" in checks["server"]["hint"]
    assert here("keys", "add", "ann").exit_code == 0
    assert "protected by 1 API key" in checkup("--no-draw", GEMS_SERVE__HOST="0.0.0.0")[1]["server"]["detail"]
    (Path("gems") / "keys.json").write_text("nonsense")
    assert failed(checkup("--no-draw")[1]) == {"server"}


def test_a_collector_is_tried() -> None:
    with Receiver() as receiver:
        code, checks = checkup("--no-draw", GEMS_OTEL=receiver.url.replace("//", "//user:hunter2@"))
        assert [path for path, _ in receiver.bodies] == ["/v1/traces"]
    assert code == 0
    assert checks["traces"]["detail"] == f"{receiver.url} accepts traces, without prompts and answers"
    code, checks = checkup("--no-draw", GEMS_OTEL=receiver.url.replace("//", "//user:hunter2@"))
    assert code == 1
    assert failed(checks) == {"traces"}
    assert "Cannot reach" in checks["traces"]["detail"]
    assert "4318" in checks["traces"]["hint"]
    assert "hunter2" not in json.dumps(checks)


@pytest.mark.parametrize(("status", "fine"), [(404, False), (401, True), (500, False)])
def test_what_takes_no_traces(status: int, fine: bool) -> None:
    with Receiver(lambda _path: (status, b"")) as receiver:
        code, checks = checkup("--no-draw", GEMS_OTEL=receiver.url)
    assert (code == 0) == fine
    assert ("requires a key" if fine else f"answered {status}") in checks["traces"]["detail"]


def test_langsmith_is_named_and_not_shown() -> None:
    """In a process of its own, since LangSmith's client remembers the environment."""
    with Receiver(langsmith) as receiver:
        environment = {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": "lsv2-tops3cret",
            "LANGSMITH_ENDPOINT": receiver.url,
            "GEMS_OTEL": "console",
        }
        done = gems("doctor", "--no-draw", "--json", **environment)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0
    assert checks["traces"]["detail"] == "to stderr"
    names = "LANGSMITH_API_KEY, LANGSMITH_ENDPOINT, LANGSMITH_TRACING"
    assert checks["langsmith"]["status"] == "ok"
    assert checks["langsmith"]["detail"].endswith(f"set variables: {names}")
    assert "tops3cret" not in done.stdout


async def test_langsmith_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="LANGSMITH_TRACING is not true"):
        await doctor.langsmith()
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    with pytest.raises(ConfigurationError, match="LANGSMITH_API_KEY"):
        await doctor.langsmith()


def test_extras_of_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def requires(_: str) -> list[str]:
        return [
            'gems-agent[mcp,serve]; extra == "web"',
            'pillow>=1; extra == "web"',
            'no-such-package>=1; extra == "serve"',
            'pillow; extra == "mcp"',
        ]

    monkeypatch.setattr(metadata, "requires", requires)
    _, checks = checkup("--no-draw")
    found = {name: check["status"] for name, check in checks.items() if name.startswith("extra ")}
    assert found == {"extra web": "missing", "extra serve": "missing", "extra mcp": "ok"}
    assert checks["extra web"]["detail"] == "not installed: no-such-package"


def test_refused_log_probabilities_are_told() -> None:
    with StubServer() as stub:
        stub.fault(Fault("unknown_parameter", text="logprobs"))
        code, checks = checkup("--chat", f"openai:stub@{stub.base_url}", "--no-draw")
    assert code == 0, checks
    assert "log probabilities are refused" in checks[f"{ALL}: sees images"]["detail"]


def test_a_limit_on_images_is_told() -> None:
    with StubServer() as stub:
        stub.fault(Fault("too_many_images", limit=1))
        code, checks = checkup("--chat", f"openai:stub@{stub.base_url}", "--no-draw")
    assert code == 0, checks
    assert "accepts 1 per request" in checks[f"{ALL}: several images"]["detail"]


def test_only_the_judge_has_to_see() -> None:
    with StubServer() as stub:
        stub.fault(Fault("too_many_images", limit=0))
        blind = f"openai:stub@{stub.base_url}"
        code, checks = checkup("--chat", blind, "--judge", "blocks", "--no-draw")
        assert code == 0, checks
        assert "sees no images" in checks["chat model of planner, reflector: sees images"]["detail"]
        code, checks = checkup("--judge", blind, "--no-draw")
    assert code == 1
    assert failed(checks) == {"chat model of judge: sees images"}
    assert "model with vision" in checks["chat model of judge: sees images"]["hint"]
    assert checks["chat model of judge: several images"]["status"] == "skipped"


def test_a_detector() -> None:
    assert checkup("--no-draw")[1]["detector"]["status"] == "skipped"
    code, checks = checkup("--no-draw", "--detector", "blocks:0")
    assert code == 0
    assert "blocks looked at an image in" in checks["detector"]["detail"]
    assert checks["detector"]["detail"].endswith("and found 1 object")
    with serving_detector([found("red square", 0.9, 0, 0, 9, 9)]) as server:
        assert checkup("--no-draw", "--detector", f"http:{server.url}")[1]["detector"]["status"] == "ok"
    code, checks = checkup("--no-draw", "--detector", f"http:{server.url}")
    assert failed(checks) == {"detector"}
    assert "could not be reached" in checks["detector"]["detail"]
    code, checks = checkup("--no-draw", GEMS_DETECTOR="nonsense:x")
    assert (code, failed(checks)) == (1, {"detector"})
