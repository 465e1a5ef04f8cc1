"""`gems repair` and `--ask` as processes, on the built-in world."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gems.results import RunResult
from tests.support.repairs import is_kept_outside, mask
from tests.support.terminal import gems, started, wait_until

PROMPT = "three red circles above a blue square"


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """An image with three circles and a square of other colours."""
    drawn = gems("run", "three red circles above a green square", "--seed", "11", "--rounds", "20", "--out", "a.png")
    assert drawn.returncode == 0, drawn.stderr
    return str(tmp_path / "a.png")


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as opened:
        return opened.size


def found(*arguments: str, given: str | None = None) -> dict[str, Any]:
    done = gems("repair", *arguments, "--json", given=given)
    assert done.returncode in (0, 3), done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    assert RunResult.model_validate(value).model_dump(mode="json") == value
    return value


def test_fault_is_mended_and_the_rest_stays(picture: str) -> None:
    told = found(picture, PROMPT, "--seed", "7", "--rounds", "20", "--plateau", "0", "--repair", "always")
    assert (told["stop_reason"], told["rounds"][0]["action"]) == ("passed", "given")
    parents = {turn["parent"] for turn in told["rounds"][1:]}
    assert told["options"]["source"] in parents
    assert {turn["action"] for turn in told["rounds"][1:]} <= {"edit", "inpaint"}
    with Image.open(told["path"]) as mended:
        assert json.loads(mended.info["gems"])["trajectory"][0]["action"] == "given"


def test_picture_that_lacks_nothing_costs_no_image(picture: str) -> None:
    done = gems("repair", picture, "three red circles above a green square", "--out", "same.png")
    assert done.returncode == 0, done.stderr
    assert "0 images" in done.stdout
    with Image.open(picture) as before, Image.open("same.png") as after:
        assert before.tobytes() == after.tobytes()


def test_mask_and_instruction(picture: str, tmp_path: Path) -> None:
    size = size_of(picture)
    box = (0, size[1] // 4, size[0], size[1])
    (tmp_path / "mask.png").write_bytes(mask(size, box))
    arguments = ("--mask", "mask.png", "--instruction", "make the square blue", "--rounds", "4", "--seed", "7")
    told = found(picture, PROMPT, *arguments)
    turn = told["rounds"][1]
    assert (turn["instruction"], turn["by"]) == ("make the square blue", "person")
    assert turn["mask"] == told["options"]["mask"]
    store, before = Path(told["path"]).parents[1] / "images", Path(picture).read_bytes()
    drawn = [store / name[:2] / f"{name}.png" for name in (turn["candidates"][0]["image"] for turn in told["rounds"])]
    changed = {path for path in drawn if path.stem != told["options"]["source"]}
    assert changed, told["rounds"]
    assert all(is_kept_outside(before, path.read_bytes(), box) for path in changed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png", PROMPT], "no file missing.png"),
        (["bad.png", PROMPT], "not a valid image"),
        (["a.png", ""], "prompt is empty"),
        (["a.png", PROMPT, "--mask", "bad.png"], "not a complete image"),
        (["a.png", PROMPT, "--mask", "small.png"], "8x8"),
        (["a.png", PROMPT, "--generator", "http:http://127.0.0.1:9/", "--repair", "always"], "cannot edit"),
    ],
)
def test_bad_usage_is_2(picture: str, tmp_path: Path, arguments: list[str], said: str) -> None:
    assert picture == str(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "small.png").write_bytes(mask((8, 8), (0, 0, 4, 4)))
    done = gems("repair", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_person_is_asked_in_the_terminal(picture: str, tmp_path: Path) -> None:
    size = size_of(picture)
    (tmp_path / "mask.png").write_bytes(mask(size, (0, 0, *size)))
    answers = [
        "make the square blue",
        "nowhere.png",
        "make the square blue",
        "mask.png",
        "undo",
        "accept 9",
        "accept 1",
    ]
    done = gems("repair", picture, PROMPT, "--ask", "--seed", "7", given="\n".join([*answers, ""]))
    assert done.returncode == 3, done.stderr
    for told in (
        "Round 1 meets",
        "nowhere.png cannot be read",
        "A person wants: make the square blue",
        "Round 2 meets",
        "There is no image '9'",
        "stopped: accepted",
    ):
        assert told in done.stderr
    with Image.open(picture) as before, Image.open(done.stdout.splitlines()[-1]) as after:
        assert before.tobytes() == after.tobytes()
    assert "Round" not in done.stdout


def test_end_of_input_leaves_the_run_waiting(picture: str) -> None:
    done = gems("repair", picture, PROMPT, "--ask", given="")
    assert done.returncode == 2
    assert "error: The run asks: Round 1 meets" in done.stderr
    assert "--answer" in done.stderr
    ended = gems("resume", "last", "--answer", "accept")
    assert (ended.returncode, "(accepted)" in ended.stdout) == (3, True), ended.stderr


def test_question_is_an_error_of_programs(picture: str) -> None:
    done = gems("repair", picture, PROMPT, "--ask", "--json", given="accept\n")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["fault"]) == ("AnswerNeededError", "request")
    decision = json.dumps({"action": "edit", "instruction": "make the square blue"})
    again = gems("resume", error["run_id"], "--answer", decision, "--json")
    assert "Round 2 meets" in json.loads(again.stdout)["error"]["message"]


def test_interruption_while_a_person_thinks_can_be_resumed(picture: str) -> None:
    with started("repair", picture, PROMPT, "--ask", stdin=subprocess.PIPE) as process:
        lines: list[str] = []

        def is_asked() -> bool:
            assert process.stderr is not None
            lines.append(process.stderr.readline())
            return lines[-1].startswith("Enter continues")

        wait_until(is_asked, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "gems resume" in err
    assert gems("resume", "last", given="accept\n").returncode == 3
