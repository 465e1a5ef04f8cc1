"""The tools on the built-in world, through processes of their own over both transports."""

from __future__ import annotations

import asyncio
import base64
import io
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from PIL import Image

from gems.apps.mcp.results import MAX_JPEG, small_jpeg
from gems.service import Gems
from tests.runs.test_verification import picture
from tests.support.mcp_clients import Told, base64_of, content, has_ended, once, own_process, process_over_http, text_of
from tests.support.repairs import mask
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub import Fault, StubServer
from tests.support.stub.faults import bomb
from tests.support.stub.models import edited_picture
from tests.support.terminal import HOPELESS, PROMPT, gems, started

SMALL = {"prompt": PROMPT, "size": "256x256", "seed": 7}


async def test_draw_check_and_look_again() -> None:
    async with Client(own_process()) as client:
        told = Told()
        drawn = await client.call_tool("generate_image", {**SMALL, "link": True}, progress_callback=told)
        assert not drawn.is_error
        found = drawn.structured_content
        assert found is not None
        assert (found["passed"], found["score"], found["stop_reason"]) == (True, 1.0, "passed")
        assert (found["seed"], found["rounds"], found["warnings"]) == (7, 1, [])
        assert [item["answer"] for item in found["requirements"]] == ["yes"]
        assert content(found["path"])

        kinds = [part.type for part in drawn.content]
        assert kinds == ["text", "image", "resource_link"]
        said = text_of(drawn)
        for part in (found["path"], found["run_id"], "score 1.00", f"[x] {found['requirements'][0]['question']}"):
            assert part in said
        with Image.open(io.BytesIO(base64.b64decode(drawn.content[1].data))) as shown:  # type: ignore[union-attr]
            assert (shown.format, shown.size) == ("JPEG", (256, 256))

        assert told.run_id == found["run_id"]
        assert [done for done, _ in told.steps] == [0, 1, 2, 3]
        assert "image 1 is drawn" in told.messages[2]
        assert "1 of 1 requirement met" in told.messages[3]

        full = await client.read_resource(drawn.content[2].uri)  # type: ignore[union-attr]
        with Image.open(io.BytesIO(base64.b64decode(full.contents[0].blob))) as whole:  # type: ignore[union-attr]
            assert (whole.format, whole.size) == ("PNG", (256, 256))
        again = await client.call_tool("get_run", {"run_id": found["run_id"]})
        assert again.structured_content == found
        assert [part.type for part in again.content] == ["text", "image"]
        for tool in ("cancel_run", "resume_run"):
            assert (await client.call_tool(tool, {"run_id": found["run_id"]})).structured_content == found

        right = await client.call_tool("verify_image", {"path": found["path"], "prompt": PROMPT})
        assert right.structured_content is not None
        assert right.structured_content["passed"]
        wrong = await client.call_tool(
            "verify_image", {"image": base64_of(found["path"]), "prompt": "three red circles"}
        )
        assert wrong.structured_content is not None
        assert (wrong.structured_content["passed"], wrong.structured_content["score"]) == (False, 0.0)
        assert "[ ] " in text_of(wrong)


async def test_tools_say_what_they_take() -> None:
    async with Client(own_process()) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            *("generate_image", "edit_image", "repair_image", "verify_image", "get_run", "cancel_run", "resume_run")
        }
        assert all(tool.description and "  " not in tool.description for tool in tools.values())
        arguments = [schema for tool in tools.values() for schema in tool.input_schema["properties"].values()]
        assert all(schema["description"] and "title" not in schema for schema in arguments)
        taken = tools["generate_image"].input_schema
        assert taken["required"] == ["prompt"]
        assert set(taken["properties"]) >= {"max_rounds", "candidates", "budget_usd", "deadline_s", "out"}
        assert "context" not in taken["properties"]


ERRORS: list[tuple[str, dict[str, Any], str]] = [
    ("generate_image", {"prompt": " "}, "The prompt is empty. Describe the image to generate."),
    ("generate_image", {"prompt": "a", "max_rounds": 99}, "a whole number from 1 to 50"),
    ("generate_image", {"prompt": "a", "rounds": 2}, "Unknown argument: 'rounds'."),
    ("generate_image", {"prompt": "a", "size": "big"}, "Invalid size: 'big'"),
    ("generate_image", {"prompt": "a", "out": "x.jpg"}, ".png"),
    ("generate_image", {}, "prompt is missing: What to generate, in any detail."),
    ("generate_image", {"prompt": ["a"]}, "prompt is ['a']; it must be text."),
    ("generate_image", {"prompt": "a", "skills": [1]}, "skills is [1]; it must be valid Unicode text"),
    ("generate_image", {"prompt": "a", "skills": '["no-such"]'}, "Unknown skill: 'no-such'."),
    ("generate_image", {"prompt": "a", "max_rounds": "many"}, "max_rounds is 'many'; it must be a whole number"),
    ("generate_image", {"prompt": "a", "seed": 1.5}, "seed is 1.5; it must be a whole number"),
    ("generate_image", {"prompt": "a", "budget_usd": {}}, "budget_usd is {}; it must be a number above 0."),
    ("generate_image", {"prompt": "a", "profile": "best"}, "profile is 'best'; it must be balanced or paper."),
    ("generate_image", {"prompt": "a", "negative_prompt": {"a": 1}}, "negative_prompt is {'a': 1}; it must be valid"),
    ("generate_image", {"prompt": "a", "wait": "perhaps"}, "wait is 'perhaps'; it must be true or false."),
    ("generate_image", {"prompt": "a", "out": ["x.png"]}, "out is ['x.png']; it must be text or null."),
    ("get_run", {"run_id": 5}, "run_id is 5; it must be text."),
    ("verify_image", {"path": 5, "image": []}, "prompt is missing: What the image should show. path is 5; it must"),
    ("edit_image", {"prompt": "a"}, "Exactly one image"),
    ("edit_image", {"prompt": "a", "image": "aaaa"}, "is not a valid image or is truncated"),
    ("edit_image", {"prompt": "a", "image": "aaaa", "mask": "aaaa"}, "Unknown argument: 'mask'."),
    ("repair_image", {"prompt": "a", "image": "aaaa"}, "is not a valid image or is truncated"),
    ("repair_image", {"prompt": "a", "image": base64.b64encode(picture()).decode(), "mask": "?"}, "not valid base64"),
    ("repair_image", {"prompt": "a", "path": "x", "instruction": 5}, "instruction is 5; it must be text or null."),
    ("get_run", {"run_id": "unknown"}, "There is no run 'unknown'."),
    ("cancel_run", {"run_id": "unknown"}, "There is no run 'unknown'."),
    ("resume_run", {"run_id": "unknown"}, "There is no run 'unknown'."),
    ("verify_image", {"prompt": "a", "path": "missing.png"}, "There is no file missing.png."),
    ("verify_image", {"prompt": "a", "path": ".env"}, ".env is not a valid image or is truncated."),
    ("verify_image", {"prompt": "a"}, "Exactly one image"),
    ("verify_image", {"prompt": "a", "image": "?"}, "is not valid base64"),
    ("verify_image", {"prompt": "", "path": "x"}, "The prompt is empty."),
]


async def test_errors_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SECRET=sesame\n")
    async with Client(own_process()) as client:
        for tool, arguments, message in ERRORS:
            answer = await client.call_tool(tool, arguments)
            said = text_of(answer)
            assert answer.is_error, (tool, arguments)
            assert message in said, (tool, arguments)
            assert "sesame" not in said
            assert "Traceback" not in said
            assert "validation error" not in said
            assert "pydantic" not in said


async def test_values_as_programs_send_them() -> None:
    async with Client(own_process()) as client:
        for more in (
            {"skills": ["text-rendering"]},
            {"skills": '["text-rendering"]'},
            {"max_rounds": "1"},
            {"skills": []},
        ):
            drawn = await client.call_tool("generate_image", {**SMALL, **more})
            assert not drawn.is_error, text_of(drawn)


async def test_image_bombs() -> None:
    async with Client(own_process()) as client:
        sent = base64.b64encode(bomb()).decode()
        answer = await client.call_tool("verify_image", {"prompt": "a", "image": sent})
        assert answer.is_error
        assert "more than 64,000,000 pixels" in text_of(answer)


async def test_edit_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(picture())
    with StubServer(images=edited_picture) as editor:
        painter = {"GEMS_GENERATOR__MODEL": f"openai:painter@{editor.base_url}"}
        async with Client(own_process(**painter)) as client:
            for source in ({"path": str(file)}, {"image": base64_of(str(file))}):
                arguments = {**source, "prompt": PROMPT, "max_rounds": 2, "seed": 7}
                drawn = await client.call_tool("edit_image", arguments)
                assert not drawn.is_error, text_of(drawn)
                found = drawn.structured_content
                assert found is not None
                assert found["rounds"] == 2
                with Image.open(found["path"]) as edited:
                    assert edited.size == (64, 48)
                    assert edited.getpixel((0, 47)) == (255, 0, 0)
            for name, said in (("none.png", "There is no file"), (".env", "is not a valid image")):
                (tmp_path / ".env").write_text("SECRET=sesame\n")
                answer = await client.call_tool("edit_image", {"prompt": PROMPT, "path": name})
                assert answer.is_error
                assert said in text_of(answer)
                assert "sesame" not in text_of(answer)
        assert {call.path for call in editor.calls("images")} == {"/v1/images/edits"}
        assert len({call.files["image"] for call in editor.calls("images")}) == 1


async def test_mend_a_picture(tmp_path: Path) -> None:
    drawn = gems("run", "two green stars", "--rounds", "1", "--seed", "3", "--size", "256x256", "--out", "stars.png")
    assert drawn.returncode in (0, 3), drawn.stderr
    async with Client(own_process()) as client:
        arguments = {"path": str(tmp_path / "stars.png"), "seed": 7}
        right = await client.call_tool("repair_image", {**arguments, "prompt": "two stars"})
        assert right.structured_content is not None
        assert (right.structured_content["rounds"], right.structured_content["passed"]) == (1, True)
        mended = await client.call_tool("repair_image", {**arguments, "prompt": "two blue stars", "max_rounds": 20})
        assert mended.structured_content is not None, text_of(mended)
        assert mended.structured_content["passed"]
        assert mended.structured_content["rounds"] > 1
        bound = await client.call_tool(
            "repair_image",
            {"image": base64_of("stars.png"), "prompt": "two blue stars", "instruction": "make the stars blue",
             "mask": base64.b64encode(mask((256, 256), (0, 0, 256, 256))).decode(), "max_rounds": 2},
        )  # fmt: skip
        assert not bound.is_error, text_of(bound)


async def test_keys_of_models_stay_secret(stub: StubServer) -> None:
    stub.behaviour.api_key = "sk-right"
    settings = {"GEMS_CHAT__MODEL": f"openai:m@{stub.base_url}", "GEMS_CHAT__API_KEY": "sk-wrong-0123456789"}
    async with Client(own_process(**settings)) as client:
        answer = await client.call_tool("generate_image", SMALL)
    assert answer.is_error
    assert "key" in text_of(answer)
    assert "sk-wrong" not in text_of(answer)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_cancelling_a_call_ends_the_run_with_its_best_image(stub: StubServer, transport: str, mode: str) -> None:
    generator = {"GEMS_GENERATOR__MODEL": f"http:{stub.generate_url}"}

    async def carry_out(client: Client) -> None:
        told = Told()
        arguments = {"prompt": HOPELESS, "size": "256x256", "seed": 7}
        stub.fault(Fault("hang", seconds=30), "generate", when=lambda _body: len(stub.calls("generate")) > 1)
        call = asyncio.create_task(client.call_tool("generate_image", arguments, progress_callback=told))
        await told.until("met, score")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        known = await once(client, told.run_id, has_ended)
        assert (known["stop_reason"], known["rounds"]) == ("cancelled", 1)
        answer = await client.call_tool("get_run", {"run_id": told.run_id})
        assert answer.content[1].type == "image"
        stub.behave()
        going_on = {"run_id": told.run_id}
        resumed = (await client.call_tool("resume_run", going_on)).structured_content
        assert resumed is not None
        assert resumed["rounds"] > 1

    if transport == "stdio":
        async with Client(own_process(**generator), mode=mode) as client:
            await carry_out(client)
    else:
        async with process_over_http(**generator) as address, Client(address, mode=mode) as client:
            await carry_out(client)


async def test_cancel_run_ends_a_run_that_nobody_waits_for(stub: StubServer) -> None:
    stub.fault(Fault("hang", seconds=30), "generate", when=lambda _body: len(stub.calls("generate")) > 1)
    async with (
        process_over_http(GEMS_GENERATOR__MODEL=f"http:{stub.generate_url}") as address,
        Client(address) as client,
    ):
        begun = await client.call_tool("generate_image", {"prompt": HOPELESS, "seed": 7, "wait": False})
        assert begun.structured_content is not None
        run = {"run_id": begun.structured_content["run_id"]}
        await once(client, run["run_id"], lambda found: bool(found["rounds"]))
        ended = (await client.call_tool("cancel_run", run)).structured_content
        assert ended is not None
        assert (ended["stop_reason"], ended["rounds"]) == ("cancelled", 1)


async def test_a_client_that_goes_leaves_the_best_image(stub: StubServer, tmp_path: Path) -> None:
    stub.fault(Fault("hang", seconds=30), "generate", when=lambda _body: len(stub.calls("generate")) > 1)
    async with Client(own_process(GEMS_GENERATOR__MODEL=f"http:{stub.generate_url}")) as client:
        told = Told()
        arguments = {"prompt": HOPELESS, "seed": 7}
        call = asyncio.create_task(client.call_tool("generate_image", arguments, progress_callback=told))
        await told.until("met, score")
    await asyncio.gather(call, return_exceptions=True)
    async with Gems() as opened:
        known = await opened.show(told.run_id)
    assert known.status != "running"
    assert known.image_id is not None


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_process_though_nothing_comes(name: signal.Signals) -> None:
    hello = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    with started("mcp", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(hello)
        process.stdin.flush()
        # Standard output holds nothing but the protocol.
        assert process.stdout.readline().startswith('{"jsonrpc":')
        process.send_signal(name)
        assert process.wait(PATIENCE_S) == 130
        assert process.stdout.read() == ""


def test_other_machines_need_keys() -> None:
    refused = gems("mcp", "--http", "--host", "0.0.0.0", "--port", "0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there are no keys" in refused.stderr


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from tests.support.terminal import here

    for module in [name for name in sys.modules if name.partition(".")[0] in ("mcp", "mcp_types")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.startswith("gems.apps.mcp")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("gems.apps.mcp", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    done = here("mcp")
    assert done.exit_code == 2
    assert "pip install 'gems-agent[mcp]'" in done.stderr


def test_pictures_in_answers_are_small() -> None:
    noise = Image.effect_noise((900, 1200), 120).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    jpeg = small_jpeg(out.getvalue())
    assert len(jpeg) < MAX_JPEG
    with Image.open(io.BytesIO(jpeg)) as shown:
        assert shown.size == (443, 591)
