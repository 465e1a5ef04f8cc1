"""Every command and program in the README runs."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stub import StubServer

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
LINES = [line for kind, text in BLOCKS if kind != "sh" for line in text.replace("\\\n", "").splitlines()]
COMMANDS = [line for line in LINES if line.startswith("gems ")]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_readme_has_what_is_looked_for() -> None:
    assert len(PROGRAMS) == 3
    assert len(COMMANDS) >= 7


@pytest.mark.timeout(400)  # dozens of processes, one after another
def test_commands(stub: StubServer) -> None:
    """All in order and in one home; names of real models are served by the stub or the built-in world."""
    for command in COMMANDS:
        served = re.sub(r"openai:([\w./-]+)(@\S+)?", rf"openai:\1@{stub.base_url}", command)
        words = shlex.split(served.replace("diffusers:z-image-turbo", "blocks"))
        done = run(sys.executable, "-m", *words)
        assert done.returncode in (0, 3), (command, done.stdout, done.stderr)


@pytest.mark.parametrize("program", PROGRAMS, ids=["sync", "async", "own-graph"])
def test_programs(program: str) -> None:
    done = run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.timeout(400)  # a process for every harness, and another one that scores
def test_the_comparison_of_harnesses(tmp_path: Path) -> None:
    """The very commands, on two prompts and one seed."""
    (script,) = [text for kind, text in BLOCKS if kind == "sh"]
    small = script.replace("for seed in 1 2 3", "for seed in 1").replace(" --seed", " --limit 2 --seed")
    assert small.count("--limit 2") == 1
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", small], capture_output=True, text=True, timeout=380, check=False,
        env=os.environ | {"PATH": path}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "balanced against paper" in done.stdout
    assert (tmp_path / "out" / "comparison" / "blocks-bench-en-truth.svg").exists()


def test_the_table_of_harnesses_is_what_was_measured() -> None:
    """Rows of the README against the numbers that the comparison wrote."""
    with (ROOT / "benchmarks" / "results" / "blocks-bench.csv").open() as file:
        measured = {(line["entry"], line["part"], line["metric"]): line for line in csv.DictReader(file)}
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\d.]+) % \(([\d.]+) to ([\d.]+)\) \| ([\d.]+) \| ([\d.]+) \|",
        README,
        re.MULTILINE,
    )
    assert len(rows) == 8
    for name, *told in rows:
        met, images, calls = (measured[name, "all", each] for each in ("met", "images", "calls"))
        shares = [f"{100 * float(met[each]):.1f}" for each in ("mean", "low", "high")]
        assert told == [*shares, f"{float(images['mean']):.2f}", f"{float(calls['mean']):.1f}"], name


def test_make_targets_of_the_readme_exist() -> None:
    targets = {line.split()[1] for line in LINES if line.startswith("make ")}
    assert targets == {"run", "test"}
    for target in targets:
        done = run("make", "-n", "-C", str(ROOT), target)
        assert done.returncode == 0, done.stderr


def test_env_example_names_every_setting_and_no_other() -> None:
    from gems.settings import ChatSettings, GeneratorSettings, ServeSettings, Settings

    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#(GEMS_\w+)=", text, re.MULTILINE))
    wanted = {f"GEMS_CHAT__{name.upper()}" for name in ChatSettings.model_fields}
    wanted |= {f"GEMS_GENERATOR__{name.upper()}" for name in GeneratorSettings.model_fields}
    wanted |= {f"GEMS_SERVE__{name.upper()}" for name in ServeSettings.model_fields}
    nested = {"chat", "planner", "judge", "reflector", "eval_judge", "generator", "serve"}
    wanted |= {f"GEMS_{name.upper()}" for name in Settings.model_fields if name not in nested}
    judges = {name for name in named if name.startswith(("GEMS_JUDGE__", "GEMS_EVAL_JUDGE__"))}
    assert named - judges == wanted
    assert {re.sub("(EVAL_)?JUDGE", "CHAT", name) for name in judges} <= wanted


def test_the_example_environment_is_read(tmp_path: Path) -> None:
    """Uncommented as it stands, every line is understood."""
    from gems.settings import load_settings

    text = (ROOT / ".env.example").read_text()
    lines = [line[1:] for line in text.splitlines() if re.match(r"#[A-Z_]+=", line)]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert Path.cwd() == tmp_path
    settings = load_settings()
    assert settings.generator.model == "diffusers:z-image-turbo"
    assert settings.chat_for("judge").temperature == 0
    assert "GEMS_HOME" in os.environ
