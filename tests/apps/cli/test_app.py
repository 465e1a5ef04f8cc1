"""`gems runs`, `gems show`, the help pages and the version."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gems import __version__
from gems.apps.cli.options import resume_command
from gems.apps.cli.schemas import RunList
from gems.apps.text import clean_text, format_usd, one_line
from gems.generation import SEEDS
from gems.options import MAX_CANDIDATES, MAX_ROUNDS
from tests.support.terminal import HOPELESS, here

HEAVY = ("torch", "chromadb", "langchain_openai", "langchain_core", "langgraph", "pydantic", "numpy", "PIL")


@pytest.fixture
def run_id() -> str:
    """A finished run that lacks something."""
    done = here("run", HOPELESS, "--rounds", "2", "--seed", "7", "--json")
    assert done.exit_code == 3, done.stderr
    return str(json.loads(done.stdout)["run_id"])


def test_no_runs_yet() -> None:
    done = here("runs")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no runs yet" in done.stderr
    assert json.loads(here("runs", "--json").stdout) == {"runs": []}


def test_runs_are_listed_newest_first(run_id: str) -> None:
    second = json.loads(here("run", f"{HOPELESS}, {'very ' * 40}big", "--rounds", "1", "--json").stdout)
    heading, newest, oldest = here("runs").stdout.splitlines()
    assert heading.split() == ["run", "started", "status", "score", "stop", "reason", "rounds", "prompt"]
    assert oldest.startswith(run_id)
    assert oldest.split()[3:5] + oldest.split()[-4:] == ["done", "0.00", *HOPELESS.split()]
    assert " max_rounds " in oldest
    assert newest.startswith(second["run_id"])
    assert newest.endswith("…")
    assert len(newest) < 150
    listed = json.loads(here("runs", "--json", "--limit", "1").stdout)
    assert RunList.model_validate(listed).model_dump(mode="json") == listed
    assert [row["run_id"] for row in listed["runs"]] == [second["run_id"]]


def test_show_tells_everything(run_id: str) -> None:
    result = json.loads(here("show", run_id, "--json").stdout)
    shown = here("show", "last").stdout
    assert shown == here("show", run_id).stdout
    assert shown.endswith(f"\npath: {result['path']}\n")
    for turn in result["rounds"]:
        assert f"\nround {turn['number']}" in shown
        assert turn["candidates"][0]["image"] in shown
        for answer in turn["verdicts"][0]["answers"]:
            assert one_line(answer["evidence"]) in shown
    for item in (*result["requirements"], *result["experiences"]):
        assert one_line(item.get("question") or item["text"]) in shown
    for role, used in result["usage"].items():
        assert f"usage of {role}: {used['calls']} call" in shown


def test_looking_needs_no_models(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("CHAT", "JUDGE", "PLANNER", "GENERATOR"):
        monkeypatch.setenv(f"GEMS_{part}__MODEL", "nonsense:x")
    assert run_id in here("runs").stdout
    assert here("show", "last").exit_code == 0
    assert here("run", HOPELESS).exit_code == 2


def test_help_loads_nothing_heavy() -> None:
    program = f"""
import sys
from gems.apps.cli import main
for words in (["--version"], ["--help"], ["run", "--help"]):
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code, ended.code
    print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"gems {__version__}"
    loaded = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    # Newer versions of Typer load pydantic for the options of a command.
    assert [line.removesuffix(" pydantic") for line in loaded] == ["loaded:"] * 3
    assert loaded[:2] == ["loaded:"] * 2


def test_help_states_the_true_limits() -> None:
    said = " ".join(here("run", "--help").stdout.split())
    for most in (f"1<=x<={MAX_ROUNDS}", f"1<=x<={MAX_CANDIDATES}", f"-1<=x<={SEEDS - 1}"):
        assert most in said


@pytest.mark.parametrize(
    "command",
    ["run", "resume", "runs", "show", "verify", "report", "fork", "delete", "gc", "mcp", "doctor", "web", "batch"],
)
def test_help_has_an_example_and_exit_codes(command: str) -> None:
    said = here(command, "--help").stdout
    assert f"    gems {command}" in said
    assert "Exit codes:\n    0 " in said


@pytest.mark.parametrize(("command", "code"), [([], 0), (["--unknown"], 2)])
def test_without_a_command(command: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing at all asks for help; what is not understood is an error."""
    from gems.apps.cli import main

    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == code
    printed = capsys.readouterr()
    assert ("Commands:" in printed.out) == (code == 0)
    assert ("error:" in printed.err) == (code == 2)


def test_empty_path_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    from gems.apps.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["run", "a red circle", "--out", ""])
    assert ended.value.code == 2
    assert "the path is empty" in capsys.readouterr().err


def test_resume_command_repeats_what_was_named_but_no_secret() -> None:
    given = {
        "chat": "openai:m@http://h/v1",
        "judge": None,
        "generator": "http:http://h/draw?token=sesame",
        "out": Path("a b.png"),
        "no_metadata": True,
    }
    assert shlex.split(resume_command("RUN", given)) == [
        *("gems", "resume", "RUN", "--chat", "openai:m@http://h/v1", "--generator", "http:http://h/draw"),
        *("--out", "a b.png", "--no-metadata"),
    ]
    assert resume_command("RUN", {}) == "gems resume RUN"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x07\x9b", "a\ufffd[31mred\ufffd\ufffd"),
        ("\u202eevil", "\ufffdevil"),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_terminals_are_safe(text: str, shown: str) -> None:
    assert clean_text(text) == shown


def test_texts() -> None:
    assert one_line("a  b\n c") == "a b c"
    assert one_line("abcdefgh", 5) == "abcd…"
    assert one_line("abcde", 5) == "abcde"
    assert [format_usd(amount) for amount in (0, 0.0012, 0.25, 1234.5)] == ["$0.00", "$0.0012", "$0.25", "$1,234.50"]


def test_schemas_do_not_change_by_accident() -> None:
    """After an intended change, run `python scripts/make_docs.py` and read the difference of docs/schemas."""
    from gems.apps.cli.schemas import schemas

    folder = Path(__file__).parents[3] / "docs" / "schemas"
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    for schema in kept.values():
        del schema["$schema"]
    assert schemas() == kept
