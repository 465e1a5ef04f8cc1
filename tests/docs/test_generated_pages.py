"""The generated pages and schemas are up to date, and do not depend on the terminal."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from scripts.make_docs import DIALECT, OUTPUTS
from tests.support.fork_server import forked

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def made(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*forked("scripts.make_docs"), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_pages_are_up_to_date() -> None:
    done = made("--check")
    assert done.returncode == 0, done.stderr


def test_outdated_missing_and_unexpected_files_are_reported(tmp_path: Path) -> None:
    odd = {"COLUMNS": "40", "GITHUB_ACTIONS": "true", "FORCE_COLOR": "1", "TERMINAL_WIDTH": "33"}
    docs = tmp_path / "docs"
    folder = ["--folder", str(docs)]
    assert made("--check", *folder).returncode == 1
    assert not docs.exists()
    assert made(*folder, **odd).returncode == 0
    assert made("--check", *folder).returncode == 0
    page = docs / "cli.md"
    assert page.read_text() == (DOCS / "cli.md").read_text()
    page.write_text(page.read_text().replace("gems doctor", "gems medic"))
    (docs / "schemas" / "RunList.json").unlink()
    (docs / "schemas" / "Gone.json").write_text("{}")
    done = made("--check", *folder)
    assert done.returncode == 1
    problems = ["cli.md is outdated", "RunList.json is missing", "Gone.json is unexpected"]
    found = [line.partition(": ")[0].rpartition("/")[2] for line in done.stderr.splitlines()]
    assert found == problems
    assert made(*folder).returncode == 0
    assert not (docs / "schemas" / "Gone.json").exists()


def test_every_schema_is_one_of_a_command() -> None:
    assert {path.stem for path in (DOCS / "schemas").iterdir()} == set(OUTPUTS)
    assert {path.suffix for path in (DOCS / "schemas").iterdir()} == {".json"}


@pytest.mark.parametrize("name", OUTPUTS)
def test_schemas_are_valid_and_named(name: str) -> None:
    schema = json.loads((DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert (schema["$schema"], schema["title"], schema["type"]) == (DIALECT, name, "object")


def test_every_command_with_json_is_in_the_table() -> None:
    import typer

    from gems.apps.cli.app import app
    from scripts.make_docs import commands

    root = typer.main.get_command(app)
    with_json = set()
    for path in commands(root):
        command = root
        for word in path.split():
            command = command.commands[word]
        if any("--json" in parameter.opts for parameter in command.params):
            with_json.add(path)
    named = {name.partition(" --")[0] for printed_by, _ in OUTPUTS.values() for name in printed_by.split(", ")}
    assert named == with_json | {"every command"}
