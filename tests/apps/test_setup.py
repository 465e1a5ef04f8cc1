"""`gems setup` in a fresh home, against servers of each kind on free ports."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import Result

from gems.apps import setup as logic
from gems.apps import survey
from gems.apps.cli import setup as command
from gems.apps.setup import PROVIDERS, SetupReport
from gems.apps.survey import FoundServer, ServedModel, Survey, find_disk_models, find_gpus, find_servers
from gems.files.config import config_file, read_config
from gems.models.specs import parse_chat_spec, parse_generator_spec
from gems.settings import load_settings
from tests.support import tiny_pipelines
from tests.support.comfyui_server import serving_comfyui
from tests.support.comfyui_workflows import save, text_to_image
from tests.support.local_servers import BLIND, EYES, KEY, KINDS, LocalServer, local_server
from tests.support.stub import StubServer
from tests.support.terminal import here


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no server, no GPU and no program of this machine."""
    for name in (*PROVIDERS, "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(survey, "PORTS", {})
    monkeypatch.setattr(survey.shutil, "which", lambda _: None)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, stub: StubServer) -> Any:
    """A function that starts a server of a kind where `gems setup` looks."""
    with ExitStack() as stack:

        def start(kind: str, **more: Any) -> LocalServer:
            server = stack.enter_context(local_server(kind, stub, **more))
            monkeypatch.setattr(survey, "PORTS", {**survey.PORTS, f"{kind} {server.port}": server.port})
            return server

        yield start


def setup(*arguments: str, **more: Any) -> tuple[int, SetupReport]:
    done = here("setup", "--json", *arguments, **more)
    report = json.loads(done.stdout)
    assert SetupReport.model_validate(report).model_dump(mode="json") == report
    return done.exit_code, SetupReport.model_validate(report)


def look(*ports: int) -> list[FoundServer]:
    return list(asyncio.run(find_servers({str(port): port for port in ports})))


def test_nothing_is_found() -> None:
    code, report = setup("--yes")
    assert (code, report.ok, report.written, report.changes) == (1, False, False, {})
    assert [check.status for check in report.found] == ["skipped"]
    assert report.tried == []
    assert "ollama pull qwen3-vl:" in report.advice[0]
    assert not config_file().exists()


SEEN = {
    "Ollama": [ServedModel(BLIND, False, False), ServedModel(EYES, True, False)],
    "LM Studio": [ServedModel(BLIND, False, False), ServedModel(EYES, True, False)],
    "vLLM": [ServedModel("Qwen/Qwen3-VL-8B-Instruct", None, False)],
    "vLLM-Omni": [ServedModel("Tongyi-MAI/Z-Image-Turbo", False, True)],
    "SGLang": [ServedModel("/models/gemma", True)],
    "llama.cpp": [ServedModel("/models/some.gguf", True)],
    "LocalAI": [ServedModel(EYES), ServedModel("flux.1-dev")],
    "ComfyUI": [],
    "Stable Diffusion WebUI": [ServedModel("dreamshaper_8.safetensors [879db523c3]", False, True)],
    "InvokeAI": [],
    "other": [ServedModel(EYES)],
}
NAMES = {"vLLM-Omni": "vLLM", "other": "OpenAI-compatible server"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_server_is_told_by_its_answers(kind: str, serve: Callable[..., LocalServer]) -> None:
    server = serve(kind)
    (found,) = look(server.port)
    assert (found.program, found.url, found.status) == (NAMES.get(kind, kind), server.url, "ready")
    models = [model for model in found.models if kind != "Stable Diffusion WebUI" or model]
    assert models == SEEN[kind] or kind == "Stable Diffusion WebUI"
    assert all(not said for _, _, said in server.asked), "no key is sent"


def test_two_servers_of_one_program_and_of_two(serve: Callable[..., LocalServer]) -> None:
    servers = [serve("llama.cpp"), serve("llama.cpp"), serve("LocalAI")]
    found = look(*(server.port for server in servers))
    assert [(each.program, each.url) for each in found] == [(each.kind, each.url) for each in servers]


@pytest.mark.parametrize(
    ("kind", "more", "status"),
    [
        ("none", {"is_hanging": True}, "silent"),
        ("none", {"routes": {"/": "<html>hello</html>", "/v1/models": "<html>hello</html>"}}, "unknown"),
        ("none", {"routes": {"/v1/models": {"data": "nonsense"}, "/api/tags": []}}, "no_models"),
        ("none", {"routes": {"/v1/models": {"data": [{"id": "a b\nGEMS_HOME=x"}, 7]}}}, "no_models"),
        ("none", {"routes": {"/v1/models": {"data": [{"id": "x", "owned_by": "gems"}]}}}, "unknown"),
        ("vLLM", {"key": KEY}, "needs_key"),
        ("other", {"key": KEY}, "needs_key"),
        ("Stable Diffusion WebUI", {"key": KEY}, "needs_key"),
        ("Stable Diffusion WebUI", {"routes": {"/sdapi/v1/options": None}}, "no_api"),
        ("Stable Diffusion WebUI", {"routes": {"/sdapi/v1/options": {"sd_model_checkpoint": ""}}}, "no_models"),
        ("Ollama", {"routes": {"/api/tags": {"models": []}}}, "no_models"),
        ("Ollama", {"routes": {"/api/tags": {"models": [{"name": "x" * 4_400_000}]}}}, "no_models"),
    ],
)
def test_servers_that_are_of_no_use_as_they_are(
    kind: str, more: Any, status: str, serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    if more.get("is_hanging"):
        monkeypatch.setattr(survey, "_ANSWER_S", 0.3)
    server = serve(kind, **more)
    (found,) = look(server.port)
    assert found.status == status
    code, report = setup()
    assert code == 1
    (check,) = report.found
    assert server.url in check.name
    assert check.status in ("failed", "skipped")
    assert check.detail


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "nonsense",
        {"data": 7, "models": {}, "paths": [], "version": 1, "system": 1, "devices": 2, "title": []},
        {"data": [{"id": ["x"], "type": {}, "owned_by": []}, 7, {"id": "m"}], "modalities": [], "capabilities": 5},
        {"models": [{"name": {}}, {"name": "m"}], "version": {}, "capabilities": {"vision": 1}},
        {"backends": 1, "default_generation_settings": 2, "sd_model_checkpoint": {}, "data": [{"type": "llm"}]},
    ],
)
def test_any_json_is_read_without_an_error(answer: Any, serve: Callable[..., LocalServer]) -> None:
    server = serve("none", routes=dict.fromkeys((*survey._PATHS, "/api/show"), answer))
    assert len(look(server.port)) == 1
    assert here("setup", "--json").exit_code in (0, 1)


def test_a_port_that_nothing_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert look(port) == []


def test_no_proxy_is_asked(serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve("none"), serve("Ollama")
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy.url)
    (found,) = look(server.port)
    assert found.status == "ready"
    assert proxy.asked == []


def test_a_local_pair_is_tried_and_written(serve: Callable[..., LocalServer]) -> None:
    ollama, omni = serve("Ollama"), serve("vLLM-Omni")
    code, report = setup("--yes")
    assert code == 0, report
    assert (report.ok, report.written, report.advice, report.untried) == (True, True, [], [])
    chat, generator = f"openai:{EYES}@{ollama.url}/v1", f"openai:Tongyi-MAI/Z-Image-Turbo@{omni.url}/v1"
    assert (report.chat, report.generator) == (chat, generator)
    assert {check.status for check in report.tried} == {"ok"}
    path = Path(report.file)
    assert path == config_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_config(path) == {
        "GEMS_CHAT__MODEL": chat,
        "GEMS_CHAT__CONCURRENCY": "1",
        "GEMS_GENERATOR__MODEL": generator,
    }
    assert report.undo == f"rm {path}"
    settings = load_settings()
    assert (settings.chat.model, settings.chat.concurrency, settings.generator.model) == (chat, 1, generator)
    again = setup("--yes")[1]
    assert (again.ok, again.written, again.changes) == (True, False, {})


def test_without_consent_nothing_is_written(serve: Callable[..., LocalServer]) -> None:
    serve("LM Studio"), serve("Stable Diffusion WebUI")
    code, report = setup()
    assert (code, report.written) == (0, False)
    assert set(report.changes) == {"GEMS_CHAT__MODEL", "GEMS_GENERATOR__MODEL"}
    assert str(report.generator).startswith("a1111:http://127.0.0.1:")
    assert not config_file().exists()


def test_a_model_that_does_not_see_is_passed_over(serve: Callable[..., LocalServer]) -> None:
    """By its name it should see; asked about a picture, it does not."""
    false = "Qwen/Qwen3-VL-8B-Instruct"
    vllm, other = serve("vLLM", blind=(false,)), serve("SGLang")
    code, report = setup()
    assert report.chat == f"openai:/models/gemma@{other.url}/v1"
    assert code == 1, "no generator"
    vllm_only = setup("--chat", f"openai:{false}@{vllm.url}/v1")[1]
    assert vllm_only.chat is None
    (seen,) = (check for check in vllm_only.tried if check.name.endswith("sees images"))
    assert seen.status == "failed"
    assert "vision" in vllm_only.advice[0]


def test_a_server_with_a_key(serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve("vLLM", key=KEY)
    report = setup("--yes")[1]
    assert "GEMS_CHAT__API_KEY" in report.found[0].hint
    spec = f"openai:Qwen/Qwen3-VL-8B-Instruct@{server.url}/v1"
    monkeypatch.setenv("GEMS_CHAT__API_KEY", KEY)
    report = setup("--yes", "--chat", spec)[1]
    assert report.chat == spec
    assert KEY not in config_file().read_text() + report.model_dump_json()


def test_a_key_of_the_settings_goes_to_no_other_server(
    serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve("Ollama")
    monkeypatch.setenv("GEMS_CHAT__API_KEY", KEY)
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-4711")
    assert setup()[1].chat == f"openai:{EYES}@{server.url}/v1"
    assert {said for _, _, said in server.asked} <= {"", "Bearer none"}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, stub: StubServer) -> str:
    """OpenRouter, on this machine, and a key for it; its spec."""
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-4711")
    spec = f"openai:some/vision@{stub.base_url}"
    fake = logic.Provider("OpenRouter", spec, f"openai:some/image@{stub.base_url}")
    monkeypatch.setitem(PROVIDERS, "OPENROUTER_API_KEY", fake)
    return spec


def test_what_costs_money_is_not_asked_without_consent(provider: str, stub: StubServer) -> None:
    code, report = setup()
    assert code == 0
    assert report.untried == [report.chat, report.generator]
    assert (report.tried, stub.requests, report.written) == ([], [], False)


def test_keys_are_written_by_name(provider: str, stub: StubServer) -> None:
    report = setup("--yes")[1]
    assert report.chat == provider
    assert stub.calls("chat")[0].headers["authorization"] == "Bearer sk-or-4711"
    assert read_config(config_file())["GEMS_CHAT__API_KEY"] == "env:OPENROUTER_API_KEY"
    assert "sk-or" not in config_file().read_text() + report.model_dump_json()
    key = load_settings().chat.api_key
    assert key is not None
    assert key.get_secret_value() == "sk-or-4711"


def test_openai_needs_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-4711")
    report = setup()[1]
    assert report.untried == ["openai:gpt-5", "openai:gpt-image-1"]
    assert set(report.changes) == {"GEMS_CHAT__MODEL", "GEMS_GENERATOR__MODEL"}


def test_keys_in_the_keyring(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: dict[tuple[str, str], str] = {}
    package, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    errors.KeyringError = type("KeyringError", (Exception,), {})  # type: ignore[attr-defined]
    package.get_password = lambda service, name: entries.get((service, name))  # type: ignore[attr-defined]
    package.set_password = lambda service, name, key: entries.update({(service, name): key})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", package)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    report = setup("--yes", "--keyring")[1]
    assert report.changes["GEMS_CHAT__API_KEY"] == "keyring:OPENROUTER_API_KEY"
    assert entries == {("gems", "OPENROUTER_API_KEY"): "sk-or-4711"}
    monkeypatch.delenv("OPENROUTER_API_KEY")
    key = load_settings().chat.api_key
    assert key is not None
    assert key.get_secret_value() == "sk-or-4711"


def test_without_a_keyring_nothing_is_written(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    done = here("setup", "--yes", "--keyring")
    assert done.exit_code == 2
    assert "gems-agent[keyring]" in done.stderr
    assert not config_file().exists()


def interactive(monkeypatch: pytest.MonkeyPatch, answers: str) -> Result:
    """With somebody at the terminal who gives these answers."""
    monkeypatch.setattr(command, "is_terminal", lambda: True)
    return here("setup", input=answers)


def test_somebody_is_asked_first(provider: str, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    done = interactive(monkeypatch, "no\nno\n")
    assert done.exit_code == 1
    assert done.stderr.count("OpenRouter charges?") == 2
    assert stub.requests == []
    done = interactive(monkeypatch, "y\ny\nn\n")
    assert done.exit_code == 0
    assert f"chat model: {provider}\n" in done.stdout
    assert "Write this to " in done.stderr
    assert not config_file().exists()
    done = interactive(monkeypatch, "y\ny\ny\n")
    assert f"wrote {config_file()}\nundo with: rm " in done.stdout
    assert read_config(config_file())["GEMS_CHAT__MODEL"] == provider


OLD = """# my file
GEMS_CHAT__MODEL=openai:old@http://127.0.0.1:1/v1
GEMS_CHAT__API_KEY=old-key
GEMS_CHAT__TIMEOUT_S=60
GEMS_EXPERIENCE=off
"""


def test_the_rest_of_the_file_is_kept_and_old_keys_are_not(serve: Callable[..., LocalServer]) -> None:
    path = config_file()
    path.parent.mkdir(parents=True)
    path.write_text(OLD)
    server = serve("LM Studio")
    report = setup("--yes")[1]
    assert report.tried[0].status == "failed", "the configured model is tried first"
    assert path.read_text().splitlines() == [
        "# my file",
        f"GEMS_CHAT__MODEL='openai:{EYES}@{server.url}/v1'",
        "GEMS_CHAT__TIMEOUT_S=60",
        "GEMS_EXPERIENCE=off",
    ]
    assert report.changes["GEMS_CHAT__API_KEY"] is None
    assert os.system(report.undo) == 0
    assert path.read_text() == OLD


def test_what_overrides_the_file_is_told(
    serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve("Ollama")
    monkeypatch.setenv("GEMS_CHAT__CONCURRENCY", "3")
    (tmp_path / ".env").write_text("GEMS_JUDGE__MODEL=blocks\n")
    report = setup()[1]
    assert report.overridden == [
        "GEMS_CHAT__CONCURRENCY is set in the environment, which has priority.",
        "GEMS_JUDGE__MODEL is set, so the judge uses that model.",
    ]


def test_a_workflow_is_needed_for_comfyui(serve: Callable[..., LocalServer]) -> None:
    server = serve("ComfyUI")
    report = setup()[1]
    assert f"gems setup --generator comfyui:WORKFLOW.json@{server.url}" in report.advice[1]


def test_a_workflow_is_tried_and_found_from_every_folder(tmp_path: Path) -> None:
    save(tmp_path, text_to_image(), "mine.json")
    with serving_comfyui() as comfyui:
        code, report = setup("--yes", "--generator", f"comfyui:mine.json@{comfyui.url}")
    assert [check.status for check in report.tried] == ["ok"], report
    assert report.generator == f"comfyui:{tmp_path / 'mine.json'}@{comfyui.url}"
    assert (code, load_settings().generator.model) == (1, report.generator)


@pytest.mark.parametrize(
    ("spec", "seller"),
    [
        ("blocks", ""),
        ("openai:gpt-5", "OpenAI"),
        ("openai-chat:x", "OpenAI"),
        ("openai:m@http://127.0.0.1:8000/v1", ""),
        ("openai:m@http://localhost/v1", ""),
        ("openai:m@http://[::1]:8000/v1", ""),
        ("openai:m@http://127.0.0.1.example.org/v1", "127.0.0.1.example.org"),
        ("openai:m@https://openrouter.ai/api/v1", "openrouter.ai"),
        ("http:http://10.0.0.7/generate", "10.0.0.7"),
        ("langchain:anthropic:claude-sonnet-5", "anthropic"),
        ("langchain:ollama:qwen3-vl:8b", ""),
        ("langchain:ollama:qwen3-vl:8b@http://10.0.0.7:11434", "10.0.0.7"),
        ("diffusers:z-image-turbo", ""),
        ("comfyui:w.json", ""),
        ("a1111:http://127.0.0.1:7860", ""),
    ],
)
def test_who_may_charge(spec: str, seller: str) -> None:
    assert logic.seller_of(spec) == seller


@pytest.mark.parametrize("variable", PROVIDERS)
def test_every_provider_is_proposed_with_valid_specs(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "sk-4711")
    report = setup()[1]
    assert report.untried[0] == report.chat
    parse_chat_spec(str(report.chat))
    if report.generator is not None:
        parse_generator_spec(report.generator)
    keys = {value for name, value in report.changes.items() if name.endswith("API_KEY")}
    assert keys == ({f"env:{variable}"} if "@http" in str(report.chat) else set())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Survey(servers=(FoundServer("Ollama", "http://127.0.0.1:11434", "no_models"),)), "Get one with: ollama pull"),
        (Survey(programs=("ollama",)), "ollama serve"),
        (Survey(gpus=(survey.Gpu("NVIDIA L4", 24.1),)), "ollama pull qwen3-vl:8b-instruct"),
        (Survey(gpus=(survey.Gpu("NVIDIA H200", 150.0),)), "ollama pull qwen3-vl:32b-instruct"),
        (
            Survey(servers=(FoundServer("vLLM", "http://127.0.0.1:8000", "ready", (ServedModel("m"),)),)),
            "vllm serve Qwen",
        ),
    ],
)
def test_what_helps_to_get_a_chat_model(found: Survey, said: str) -> None:
    assert said in next(logic.advise(found, chat=False, generator=True))


@pytest.mark.parametrize(
    ("found", "has", "said"),
    [
        (Survey(), True, "no GPU"),
        (Survey(gpus=(survey.Gpu("L4", 24.1),)), False, "pip install 'gems-agent[diffusers]'"),
        (Survey(gpus=(survey.Gpu("L4", 24.1),)), True, "hf download Tongyi-MAI/Z-Image-Turbo"),
        (Survey(gpus=(survey.Gpu("RTX", 8.0),)), True, "hf download stabilityai/"),
        (
            Survey(
                gpus=(survey.Gpu("L4", 24.1),), disk=(survey.DiskModel("a/b", "FluxPipeline", 3.0, complete=False),)
            ),
            True,
            "hf download a/b",
        ),
        (Survey(servers=(FoundServer("Stable Diffusion WebUI", "http://127.0.0.1:7860", "no_api"),)), True, "--api"),
        (Survey(servers=(FoundServer("InvokeAI", "http://127.0.0.1:9090", "ready"),)), False, "InvokeAI"),
    ],
)
def test_what_helps_to_get_a_generator(found: Survey, has: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "has_diffusers", lambda: has)
    assert said in next(logic.advise(found, chat=True, generator=False))


def snapshot(cache: Path, name: str, pipeline: str, *, parts: tuple[str, ...] = ("unet",)) -> Path:
    folder = cache / f"models--{name.replace('/', '--')}" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    index = {"_class_name": pipeline, "unet": ["diffusers", "UNet2DConditionModel"], "safety_checker": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    for part in parts:
        (folder / part).mkdir()
        (folder / part / "model.safetensors").write_bytes(b"\0" * 60_000_000)
    return folder


def test_models_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot(tmp_path, "a/fine", "StableDiffusionPipeline")
    snapshot(tmp_path, "b/half", "StableDiffusionPipeline", parts=())
    snapshot(tmp_path, "c/video", "WanPipeline")
    snapshot(tmp_path, "d/inpaint", "StableDiffusionInpaintPipeline")
    (snapshot(tmp_path, "e/broken", "StableDiffusionPipeline") / "model_index.json").write_text("{")
    busy = snapshot(tmp_path, "f/loading", "FluxPipeline").parents[1] / "blobs"
    busy.mkdir()
    (busy / "abc.incomplete").touch()
    found = find_disk_models(survey.hub_cache())
    assert [(model.name, model.complete) for model in found] == [
        ("a/fine", True),
        ("b/half", False),
        ("f/loading", False),
    ]
    assert found[0].gb == 0.1
    assert logic.fits(found[0], Survey())
    assert not logic.fits(found[1], Survey())
    large = survey.DiskModel("x/y", "FluxPipeline", 23.0, complete=True)
    assert [logic.fits(large, Survey(gpus=(survey.Gpu("g", gb),))) for gb in (24.0, 32.0)] == [False, True]
    report = setup()[1]
    assert "hf download b/half" in [check.hint for check in report.found if check.name == "model on the disk"][1]


def test_a_model_on_the_disk_is_tried_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    tiny_pipelines.save("z_image", tmp_path / "hub" / "models--some--tiny" / "snapshots" / "abc")
    report = setup("--yes", "--generator", "blocks")[1]
    assert [check.detail for check in report.found] == ["some/tiny, 0 GB, ZImagePipeline"]
    report = setup("--yes")[1]
    assert report.generator == "diffusers:some/tiny"
    assert [(check.name, check.status) for check in report.tried] == [("diffusers:some/tiny: generates", "ok")]
    assert read_config(config_file())["GEMS_GENERATOR__MODEL"] == "diffusers:some/tiny"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'NVIDIA H200, 143771'; echo 'NVIDIA L4, 23034'", [("NVIDIA H200", 150.8), ("NVIDIA L4", 24.2)]),
        ("echo 'NVIDIA A100 MIG, [N/A]'", []),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
    ],
)
def test_gpus(script: str, found: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(survey.shutil, "which", lambda name: str(program) if name == "nvidia-smi" else None)
    assert [(gpu.name, gpu.memory_gb) for gpu in asyncio.run(find_gpus())] == found
