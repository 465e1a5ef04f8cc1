"""README.md and docs/: every command runs, every link and every name in them exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.a1111_server import A1111Server, serving_a1111
from tests.support.comfyui_server import ComfyUIServer, serving_comfyui
from tests.support.comfyui_workflows import save, text_to_image
from tests.support.fork_server import forked
from tests.support.stub import StubServer

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Texts that the commands of each page must print.
PAGES = {
    "README.md": ["1.0 passed", "built-in world"],
    "docs/benchmarks.md": ["licence: Apache-2.0", '"task": "crea"'],
    "docs/cluster.md": ["the same pixels", "| 4 | 8 | ", "2 of 2 prompts done", "stars.png"],
    "docs/evals.md": ["blocks-bench/atomicity/3", "balanced against single", "evaluation.py", "Table 2: downstream"],
    "docs/evolution.md": ["proposed wording reflect", "measured by known truth", "refused: "],
    "docs/generators.md": ["images/s"],
    "docs/json.md": ["valid: passed"],
    "docs/memory.md": ["hearts"],
    "docs/observability.md": ["gems node judge"],
    "docs/policy.md": ["paper's loop"],
    "docs/python.md": ["1.0 passed", "finished ", "/gems/images/"],
    "docs/repair.md": [
        "trajectory",
        "it waits",
        "it asks again",
        "'given', ",
        "person make the square blue",
        "finished",
    ],
    "docs/results.md": ["balanced against paper"],
    "docs/security.md": ["ann"],
    "docs/serving.md": ['"is_ready": true', "event: finished", "generate_image", "passed"],
    "docs/skills.md": ["Two Faults", "exit code 1", "blocks looked at an image"],
    "docs/training.md": ["pairs: train", "steps: train"],
}
# Files that they must write.
FILES = {
    "README.md": ["report.html", "circles.png"],
    "docs/cluster.md": ["pictures/manifest.jsonl"],
    "docs/evals.md": ["out/comparison/compare.html", "out/tables.md"],
    "docs/memory.md": ["memory.jsonl"],
    "docs/repair.md": ["mended.png"],
    "docs/results.md": ["out/comparison/blocks-bench-en-truth.svg"],
    "docs/serving.md": ["circles.png", "star.png", "stars.png"],
}
# Pages without commands that can run in a test.
WITHOUT_COMMANDS = {"docs/cli.md", "docs/clients.md", "docs/studio.md"}
OTHER_PAGES = ("docs/clients.md", "docs/studio.md", "CONTRIBUTING.md", "CHANGELOG.md")
_CLUSTER = "needs several machines; tests/evals/test_ray_engine.py has two"
# Blocks that are not run: page and first line, and why.
_SETTINGS = "settings of another program"
_BINDING = (
    "ok       workflow: prompt: CLIPTextEncode (node 6) text; negative: CLIPTextEncode (node 7) text; "
    "seed: KSampler (node 3)"
)
NOT_RUN = {
    ("README.md", "pip install ."): "needs a package index; scripts/check_wheel.py installs the wheel",
    ("README.md", "gems setup"): "looks at this machine; tests/apps/test_setup.py runs it against servers",
    ("README.md", "make run"): "creates .venv; .ci/run runs it, and a test below that the targets exist",
    ("README.md", "START -> begin -> planner ----+"): "a diagram",
    ("README.md", "src/gems/        service.py is the entry point; settings, types, state, events, errors"): (
        "a tree, checked below"
    ),
    ("docs/clients.md", "IMAGE_GEN_OAI_API_KEY=KEY"): _SETTINGS,
    ("docs/clients.md", "endpoints:"): _SETTINGS,
    ("docs/clients.md", "model_list:"): _SETTINGS,
    ("docs/clients.md", 'import { writeFileSync } from "node:fs";'): "tests/clients runs both programs",
    ("docs/clients.md", "npx @modelcontextprotocol/inspector-cli@1 --cli gems mcp --method tools/call \\"): (
        "needs the npm registry; tests/clients runs the same command"
    ),
    ("docs/cluster.md", "ray start --head --port 6379"): _CLUSTER,
    ("docs/cluster.md", "export RAY_ADDRESS=head:6379"): _CLUSTER,
    ("docs/generators.md", _BINDING): ("what the command before it prints"),
    ("docs/generators.md", "vllm serve Qwen/Qwen3-VL-32B-Instruct --port 8000"): (
        "needs vLLM and a GPU; the README's same command is run with the stub"
    ),
    ("docs/serving.md", "cd deploy"): "needs Docker; tests/test_deploy.py checks the files",
    ("docs/serving.md", "sudo useradd --system gems"): "needs root; tests/test_deploy.py checks the units",
    ("docs/serving.md", '{"mcpServers": {"gems": {"command": "gems", "args": ["mcp"]}}}'): (
        "a configuration; the program after it starts the same command"
    ),
    ("docs/studio.md", "langgraph dev"): "never ends; tests/studio starts it",
}
# Shorter forms for tests of what takes hours.
SHORTENED = {"docs/results.md": [("for seed in 1 2 3", "for seed in 1"), (" --seed", " --limit 2 --seed")]}
# Variables of examples, and of other programs that are started by the tests only.
OTHER_VARIABLES = {"GEMS_KEY", "GEMS_SERVER_KEY", "GEMS_DEBUG", "GEMS_HOME"}
# Exit code 3 only says that a requirement is not met, as can happen with the built-in world.
# A server is a child of the shell itself, so that it can be stopped as the page says.
_SHELL = """set -euo pipefail
trap 'jobs -p | xargs -r kill' EXIT
ollama() { test "$1" = pull; }
gems() {
    [ "$1" != serve ] || exec gems "$@"
    command gems "$@" || { code=$?; [ $code -eq 3 ] || return $code; }
}
"""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FOLDERS = ("benchmarks", "docs", "graphs", "memory", "nodes", "notebooks", "scripts", "skills", "src", "tests")
_PATH = re.compile(rf"`((?:{'|'.join(_FOLDERS)})/[\w./-]+\.\w+)`")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page: str) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", text_of(page))


def script_of(page: str) -> str:
    """The shell and Python blocks of a page as one script."""
    blocks = [block for block in _BLOCK.findall(text_of(page)) if block[0] in ("sh", "python")]
    assert blocks
    text = "\n".join(
        block if language == "sh" else f"python - <<'PROGRAM'\n{block}PROGRAM" for language, block in blocks
    )
    for long, short in SHORTENED.get(page, []):
        assert text.count(long) == 1
        text = text.replace(long, short)
    return _SHELL + text


def test_no_page_is_left_out() -> None:
    pages = {f"docs/{path.relative_to(DOCS).as_posix()}" for path in DOCS.rglob("*.md")}
    assert pages | {"README.md"} == {*PAGES, *WITHOUT_COMMANDS}


def test_blocks_that_are_not_run_have_a_reason() -> None:
    """The blocks of cli.md are generated."""
    found = {
        (page, block.splitlines()[0])
        for page in {*PAGES, *WITHOUT_COMMANDS} - {"docs/cli.md"}
        for language, block in _BLOCK.findall(text_of(page))
        if language not in ("sh", "python")
    }
    assert found == set(NOT_RUN)


@pytest.fixture
def a1111() -> Iterator[A1111Server]:
    with serving_a1111() as server:
        yield server


@pytest.fixture
def comfyui() -> Iterator[ComfyUIServer]:
    with serving_comfyui() as server:
        yield server


@pytest.mark.parametrize("page", PAGES)
def test_commands(page: str, tmp_path: Path, stub: StubServer, a1111: A1111Server, comfyui: ComfyUIServer) -> None:
    """All in order, in one shell and one home; the stub or the built-in world replaces real models."""
    script = script_of(page)
    if "curl" in script and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    script = re.sub(r"(?:openai|langchain:\w+):([\w./:-]+)(@[^\s\"']+)?", rf"openai:\1@{stub.base_url}", script)
    script = script.replace("http://127.0.0.1:8188", comfyui.url)
    script = re.sub(r"openai-chat:([\w./-]+)@[^\s\"']+", rf"openai-chat:\1@{stub.base_url}", script)
    script = script.replace("a1111:http://127.0.0.1:7860", f"a1111:{a1111.url}")
    script = script.replace("diffusers:z-image-turbo", "blocks")
    # Not where the home is: `python -` would take its folder `gems` for the package.
    work = tmp_path / "work"
    work.mkdir()
    save(work, text_to_image())
    # Pages name files as they are in a clone.
    for folder in ("benchmarks", "docs"):
        (work / folder).symlink_to(ROOT / folder)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("gems", f'exec {shlex.join(forked())} "$@"\n'), ("python", _python())):
        (programs / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        (programs / name).chmod(0o755)
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    done = subprocess.run(
        ["bash", "-c", script.replace("8765", port)],
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
        env=os.environ | {"PATH": path, "GEMS_SERVE__PORT": port},
        cwd=work,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert bool(stub.requests) == (stub.base_url in script)
    assert bool(a1111.drawings()) == (a1111.url in script)
    for wanted in PAGES[page]:
        assert wanted in done.stdout
    for name in FILES.get(page, []):
        assert (work / name).is_file()


def _python() -> str:
    """A shell program that does what `python -m` and `python -` do, and hands everything else to Python."""
    module, program = shlex.join(forked()[:-1]), shlex.join(forked("-"))
    cases = f'-m) shift; exec {module} "$@" ;; -) shift; exec {program} "$@" ;;'
    return f'case "$1" in {cases} esac\nexec {sys.executable} "$@"\n'


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_links_and_paths_exist(page: str) -> None:
    text, folder = prose_of(page), (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        found = (folder / path) if path else ROOT / page
        assert found.exists(), target
        assert not anchor or anchor in anchors_of(found), target
    assert [path for path in _PATH.findall(text) if not (ROOT / path).exists()] == []


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@dataclass(frozen=True)
class Usage:
    """A command that is named in a page, with its options."""

    command: str
    options: tuple[str, ...]


def usages(page: str) -> Iterator[Usage]:
    """The commands in running text, in tables, and in blocks that are not run."""
    blocks = [block for language, block in _BLOCK.findall(text_of(page)) if language not in ("sh", "python")]
    lines = [*"\n".join(blocks).replace("\\\n", "").splitlines(), *re.findall(r"`([^`]+)`", prose_of(page))]
    for line in lines:
        if re.match(r"gems( |$)", line):
            words = line.split()
            yield Usage(" ".join(words[1:]), tuple(re.findall(r"(?<!\S)--[a-z][\w-]*", line)))


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_named_commands_and_options_exist(page: str) -> None:
    import typer

    from gems.apps.cli.app import app

    for usage in usages(page):
        command: Any = typer.main.get_command(app)
        options = {"--help", "--version"}
        for word in usage.command.split():
            parts = getattr(command, "commands", {})
            if not parts or "|" in usage.command:
                break
            assert word in parts or word.startswith("-"), usage
            command = parts.get(word, command)
        for parameter in command.params:
            options |= {*parameter.opts, *parameter.secondary_opts}
        assert set(usage.options) <= options, usage


@pytest.mark.parametrize("page", PAGES)
def test_named_benchmarks_and_their_options_exist(page: str) -> None:
    for module, options in re.findall(r"python -m benchmarks\.(\w+)([^`\n]*)", text_of(page)):
        source = (ROOT / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")
        for option in re.findall(r"--[\w-]+", options):
            assert f'"{option}"' in source, (module, option)


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_named_settings_exist(page: str) -> None:
    example = set(re.findall(r"^#(GEMS_\w+)=", text_of(".env.example"), re.MULTILINE))
    roles = ("PLANNER", "JUDGE", "REFLECTOR", "EVAL_JUDGE")
    known = example | {name.replace("_CHAT_", f"_{role}_") for name in example for role in roles}
    named = set(re.findall(r"\bGEMS_[A-Z0-9_]*[A-Z0-9]\b", text_of(page)))
    assert named - known - OTHER_VARIABLES == set()


def test_the_tree_of_the_readme_exists() -> None:
    (tree,) = [block for _, block in _BLOCK.findall(text_of("README.md")) if block.startswith("src/gems/")]
    parent = folders = ""
    for indent, name in re.findall(r"^( *)([\w/]+/) ", tree, re.MULTILINE):
        parent = parent if indent else name
        path = ROOT / (parent + name if indent else name)
        assert path.is_dir(), name
        folders += name
    assert folders.count("/") > 10
    assert [name for name in re.findall(r"[\w/]+\.py", tree) if not list(ROOT.glob(f"*/**/{name}"))] == []


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^make (\w+)|`make (\w+)`", text_of("README.md"), re.MULTILINE))
    names = {one or other for one, other in targets}
    assert names == {"run", "test", "bench"}
    for target in names:
        done = subprocess.run(
            ["make", "-n", "-C", str(ROOT), target], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_configuration_for_mcp_clients_starts_the_tool_server() -> None:
    (text,) = [block for language, block in _BLOCK.findall(text_of("docs/serving.md")) if language == "json"]
    server = json.loads(text)["mcpServers"]["gems"]
    assert [server["command"], *server["args"]] == ["gems", "mcp"]


def test_what_the_page_on_security_names_is_there() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?!GEMS_HOME)[\w/]+/[\w.]+\.py)`", text))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (DOCS.parent / path).is_file()] == []
    modules = {path.name for path in (DOCS.parent / "tests" / "security").glob("test_*.py")}
    assert [name for name in sorted(modules) if f"tests/security/{name}" not in text] == []


def test_the_page_on_security_knows_the_pins() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    pins = (DOCS.parent / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(line.split("==") for line in pins.lower().splitlines() if "==" in line and line[0] != "#")
    rows = re.findall(r"^\| ([\w-]+) \| .* \| ([\d.]*) \| ([\d.]+) \|", text, re.MULTILINE)
    assert len(rows) > 15
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest: dict[str, list[Version]] = {}
    extras = project["optional-dependencies"].values()
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        named = Requirement(line)
        lowest.setdefault(named.name, []).extend(
            Version(part.version) for part in named.specifier if part.operator == ">="
        )
    for package, mended, pin in rows:
        assert pinned[package] == pin
        assert not mended or min([Version(pin), *lowest.get(package, [])]) >= Version(mended), package


def test_the_page_on_clusters_holds_the_table_that_follows_from_what_was_measured() -> None:
    page = (DOCS / "cluster.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^python (-m benchmarks\.sizing .*)$", page, re.MULTILINE)
    made = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, check=True, timeout=300, cwd=ROOT
    ).stdout
    assert made in page, "Put what the command prints into docs/cluster.md."
    assert made.count("\n") == 2 + 12
