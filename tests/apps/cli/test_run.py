"""`gems run` and `gems resume` as processes: output, exit codes, interruptions, `--source`."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gems.apps.cli.schemas import ErrorReport
from gems.models.blocks.detection import detect_scene
from gems.models.blocks.scene import describe_scene
from gems.results import RunResult
from gems.runs.estimate import Estimate
from tests.runs.test_verification import picture
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import edited_picture
from tests.support.terminal import HOPELESS, PROMPT, gems, here, started, wait_until

ESCAPE = "\x1b"


def checked_json(text: str, form: Any) -> dict[str, Any]:
    """The object that `text` holds, which must be exactly of the form."""
    value: dict[str, Any] = json.loads(text)
    assert form.model_validate(value).model_dump(mode="json") == value
    return value


def named(stub: StubServer) -> list[str]:
    return ["--chat", f"openai:stub@{stub.base_url}", "--generator", f"http:{stub.generate_url}"]


def test_all_met_is_0(tmp_path: Path) -> None:
    done = gems("run", PROMPT, "--seed", "7", "--rounds", "20", "--plateau", "0", "--out", "stars.png")
    assert done.returncode == 0, done.stderr
    *summary, path = done.stdout.splitlines()
    assert path == str(tmp_path / "stars.png")
    with Image.open(path) as picture:
        assert "green" in picture.info["parameters"]
    met, _, rest = summary[0].partition(" of ")
    assert rest.startswith(f"{met} requirement")
    assert "(passed)" in summary[0]
    for told in ("run ", "plan: ", "r1: ", "round 1: generated ", "round 1: score ", "stopped: passed"):
        assert f" s  {told}" in done.stderr


@pytest.mark.parametrize("seed", [-1, 3484050600])
def test_seeds_of_other_programs(seed: int) -> None:
    done = here("run", PROMPT, "--seed", str(seed), "--rounds", "1", "--size", "128x128", "--json")
    (turn,) = json.loads(done.stdout)["rounds"]
    recorded = json.loads(done.stdout)["options"]["seed"]
    assert turn["candidates"][0]["seed"] == recorded >= 0
    assert seed in (-1, recorded)


def test_best_effort_is_3_and_stdin_is_read() -> None:
    # The prompt tries to colour the terminal: nothing that others wrote may do so.
    done = gems("run", "-", "--rounds", "2", "--seed", "7", given=f"{HOPELESS} {ESCAPE}[31m\n")
    assert done.returncode == 3, done.stderr
    assert ESCAPE not in done.stdout + done.stderr
    assert "not met: " in done.stdout or "unknown: " in done.stdout
    assert "round 1: " in done.stderr
    assert Path(done.stdout.splitlines()[-1]).read_bytes().startswith(b"\x89PNG")


def test_quiet_prints_the_path_alone() -> None:
    done = gems("run", HOPELESS, "--rounds", "1", "--quiet", "--no-metadata")
    assert done.returncode == 3
    assert done.stderr == ""
    [path] = done.stdout.splitlines()
    with Image.open(path) as picture:
        assert picture.info == {}


def test_json_is_the_python_result() -> None:
    done = gems("run", "-", "--json", "--rounds", "1", "--seed", "7", "--size", "256x320", given=f"{HOPELESS}\n")
    result = checked_json(done.stdout, RunResult)
    assert done.returncode == 3
    assert (result["prompt"], result["stop_reason"]) == (HOPELESS, "max_rounds")
    assert (result["options"]["width"], result["options"]["height"]) == (256, 320)
    assert Path(result["path"]).exists()
    shown = here("show", "last", "--json")
    assert checked_json(shown.stdout, RunResult) == result


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (["run", PROMPT, "--rounds", "51"], "UsageError", "--rounds"),
        (["run"], "UsageError", "PROMPT"),
        (["run", PROMPT, "--colour"], "UsageError", "--colour"),
        (["paint"], "UsageError", "paint"),
        (["run", "  "], "PromptError", "empty"),
        (["run", PROMPT, "--chat", "nonsense:x"], "ModelSpecError", "nonsense:x"),
        (["run", PROMPT, "--size", "big"], "OptionError", "big"),
        (["run", PROMPT, "--out", "stars.jpg"], "OptionError", ".png"),
        (["show", "20260101-000000-abcdef"], "RunNotFoundError", "20260101-000000-abcdef"),
        (["resume", "last"], "RunNotFoundError", "no run"),
    ],
)
def test_bad_usage_is_2(arguments: list[str], kind: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    from gems.apps.cli import main

    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    printed = capsys.readouterr()
    error = checked_json(printed.out, ErrorReport)["error"]
    assert ended.value.code == 2
    assert (error["type"], error["fault"]) == (kind, "configuration" if "Spec" in kind else "request")
    assert said in error["message"]
    lines = printed.err.splitlines()
    assert lines[0] == f"error: {error['message']}"
    assert lines[1] == f"cause: invalid {error['fault']}"
    assert not error["hint"] or lines[2] == f"hint: {error['hint']}"


def test_bad_settings_are_2_without_a_traceback() -> None:
    done = gems("run", PROMPT, GEMS_CHAT__TIMEOUT_S="soon")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: Invalid settings: GEMS_CHAT__TIMEOUT_S")
    assert "Traceback" not in done.stderr


def test_failure_is_1_and_says_how_to_go_on(stub: StubServer) -> None:
    stub.fault(Fault("500"), "generate")
    done = gems("run", PROMPT, "--json", *named(stub), GEMS_GENERATOR__ATTEMPTS="1", GEMS_DEBUG="1")
    error = checked_json(done.stdout, ErrorReport)["error"]
    assert done.returncode == 1
    assert (error["type"], error["fault"]) == ("ServerError", "provider")
    assert "Traceback" in done.stderr
    go_on = shlex.join(["gems", "resume", error["run_id"], *named(stub)])
    assert done.stderr.splitlines()[-1] == f"resume with: {go_on}"
    stub.behave()
    assert gems(*shlex.split(go_on)[1:], "--quiet").returncode in (0, 3)


def test_defects_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("lost")

    monkeypatch.setattr("gems.apps.cli.runner.load_settings", broken)
    done = here("runs", "--json")
    error = checked_json(done.stdout, ErrorReport)["error"]
    assert done.exit_code == 1
    assert (error["type"], error["fault"], error["message"]) == ("InternalError", "gems", "LookupError: lost")
    assert "--debug" in error["hint"]
    assert "Traceback" not in done.stderr
    assert "Traceback" in here("runs", "--debug").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_is_130_and_goes_on(stub: StubServer, number: signal.Signals) -> None:
    def judging(body: dict[str, Any]) -> bool:
        return "Task: checklist" in str(body["messages"])

    stub.fault(Fault("hang", seconds=600), when=judging)
    with started("run", PROMPT, "--seed", "7", "--rounds", "2", *named(stub)) as process:
        wait_until(lambda: any(judging(call.body) for call in stub.calls("chat")), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    told, go_on = err.splitlines()[-2:]
    assert told == "Interrupted; progress is saved."
    assert go_on.startswith("resume with: gems resume ")
    assert " interrupted " in here("runs").stdout

    stub.behave()
    done = gems(*shlex.split(go_on.removeprefix("resume with: "))[1:])
    assert done.returncode in (0, 3), done.stderr
    drawn = [(call.body["prompt"], call.body["seed"]) for call in stub.calls("generate")]
    assert len(drawn) == len(set(drawn))
    assert " done " in here("runs").stdout


def test_interrupted_as_json(stub: StubServer) -> None:
    stub.fault(Fault("hang", seconds=600))
    with started("run", PROMPT, "--json", "--quiet", *named(stub)) as process:
        wait_until(lambda: bool(stub.calls("chat")), process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=300)
    error = checked_json(out, ErrorReport)["error"]
    assert process.returncode == 130
    assert (error["type"], error["fault"]) == ("Interrupted", "nobody")
    assert error["hint"] == shlex.join(["gems", "resume", error["run_id"], *named(stub)])


def test_resume_with_other_models_is_told(stub: StubServer) -> None:
    stub.fault(Fault("500"), "generate")
    failed = here("run", PROMPT, "--quiet", *named(stub), env={"GEMS_GENERATOR__ATTEMPTS": "1"})
    assert failed.exit_code == 1
    done = here("resume", "last", "--out", "stars.png")
    assert done.exit_code in (0, 3), done.stderr
    assert f"generator was http:{stub.generate_url} and is now blocks" in done.stderr
    assert done.stdout.splitlines()[-1].endswith("stars.png")


def test_a_reader_that_leaves_is_no_error() -> None:
    command = [sys.executable, "-c", "import sys; from gems.apps.cli import main; main(sys.argv[1:])"]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run(
            [*command, "runs", "--json"], stdout=closed, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_live_display_on_a_terminal() -> None:
    terminal, side = pty.openpty()
    import fcntl
    import termios

    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "gems", "run", HOPELESS, "--rounds", "2", "--seed", "7"],
        stdout=subprocess.PIPE,
        stderr=side,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"TERM": "xterm-256color"},
    ) as process:
        os.close(side)
        shown = _read_all(terminal)
        out = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 3, shown
    for part in ("\x1b[?25l", "\x1b[?25h", "round 1", "round 2", "percent met", "best so far"):
        assert part in shown
    assert ESCAPE not in out
    assert "Traceback" not in shown


def _read_all(terminal: int) -> str:
    """Everything written to a terminal until its other side is closed."""
    data = b""
    while select.select([terminal], [], [], 90)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not piece:
            break
        data += piece
    os.close(terminal)
    return data.decode("utf-8", "replace")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    file = tmp_path / "photo.png"
    file.write_bytes(picture())
    return str(file)


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    with StubServer(images=edited_picture) as stub:
        monkeypatch.setenv("GEMS_GENERATOR__MODEL", f"openai:painter@{stub.base_url}")
        yield stub


def test_a_picture_is_edited_and_shown(photo: str, painter: StubServer, tmp_path: Path) -> None:
    edited = here("run", PROMPT, "--source", photo, "--rounds", "2", "--quiet")
    assert edited.exit_code == 3, edited.stderr
    with Image.open(edited.stdout.strip()) as seen:
        assert seen.size == (64, 48)
        assert seen.getpixel((0, 47)) == (255, 0, 0)
    assert {call.path for call in painter.calls("images")} == {"/v1/images/edits"}
    shown = here("show", "last")
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("source: ")]
    told = json.loads(here("show", "last", "--json").stdout)
    assert line.endswith(f"{told['options']['source']}.png")
    assert Path(line.removeprefix("source: ")).exists()
    page = tmp_path / "page.html"
    reported = here("report", "last", "-o", str(page))
    assert reported.exit_code == 0, reported.stderr
    assert "The original, which each round edits" in page.read_text("utf-8")


def test_a_generator_that_cannot_edit_is_named(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "never-sent")
    refused = here("run", PROMPT, "--source", photo, "--generator", "openai:dall-e-3")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "dall-e-3 cannot edit images." in refused.stderr
    assert "use a generator that edits" in refused.stderr
    assert here("runs", "--json").stdout.split() == ["{", '"runs":', "[]", "}"]


def test_the_built_in_world_edits(tmp_path: Path) -> None:
    drawn, edited = tmp_path / "drawn.png", tmp_path / "edited.png"
    assert here("run", "a red circle", "--seed", "1", "--out", str(drawn), "--quiet").exit_code == 0
    done = here("run", "make the circle green", "--source", str(drawn), "--seed", "1", "--out", str(edited), "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    with Image.open(drawn) as before, Image.open(edited) as after:
        assert before.size == after.size
        assert "green circle" in describe_scene(detect_scene(after.convert("RGB")))


@pytest.mark.parametrize("name", ["missing.png", ".", " "])
def test_a_file_that_is_none(painter: StubServer, name: str) -> None:
    refused = here("run", PROMPT, "--source", name)
    assert refused.exit_code == 2
    assert painter.requests == []


@pytest.mark.parametrize(
    "prompt", ["a cat wearing a hat", "a traffic jam at Times Square", "ein roter Kreis", "no dogs"]
)
def test_what_the_built_in_world_does_not_know_takes_one_round_and_one_message(prompt: str) -> None:
    done = gems("run", prompt, "--seed", "7", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 3
    assert (len(result["rounds"]), result["stop_reason"], result["score"]) == (1, "undecided", 0.0)
    (warning,) = result["warnings"]
    assert prompt in warning
    assert "Understood: nothing." in warning
    assert "`gems setup`" in warning
    assert done.stderr.count("gems setup") == 1


def test_parts_that_the_built_in_world_cannot_check_are_told() -> None:
    result = json.loads(gems("run", "a red circle and a cat", "--seed", "7", "--json").stdout)
    assert (result["score"], result["stop_reason"]) == (0.5, "undecided")
    (warning,) = result["warnings"]
    assert 'Out of reach of the built-in models: "a cat". Understood: a red circle.' in warning


def test_what_is_out_of_reach_is_told_before_anything_is_drawn() -> None:
    done = gems("run", "a red circle and a cat", "--seed", "7")
    assert done.stderr.index("Out of reach") < done.stderr.index("generated ")


def test_estimate_asks_and_draws_nothing() -> None:
    with StubServer() as stub:
        told = here("run", PROMPT, "--estimate", "--rounds", "2", *named(stub))
        as_json = here("run", PROMPT, "--estimate", "--rounds", "2", "--json", *named(stub))
        assert stub.requests == []
    assert told.exit_code == as_json.exit_code == 0
    assert told.stdout.startswith("1 to 2 images, 5 to 8 chat calls, US dollars not known\n")
    assert "set GEMS_CHAT__INPUT_USD_PER_MILLION, " in told.stdout
    assert checked_json(as_json.stdout, Estimate)["images_high"] == 2
    assert json.loads(here("runs", "--json").stdout)["runs"] == []


def test_estimate_of_the_built_in_world_follows_its_runs() -> None:
    here("run", PROMPT, "--seed", "7", "--rounds", "1")
    told = here("run", PROMPT, "--estimate")
    assert "1 image, " in told.stdout
    assert "$0.00" in told.stdout
    assert "from 1 past run of these models" in told.stdout
