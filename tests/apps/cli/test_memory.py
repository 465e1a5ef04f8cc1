"""`gems memory`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gems.runs.memory_admin import ConsolidationReport, Forgotten, ImportReport, Rebuilt, Stats
from tests.support.terminal import HOPELESS, gems, here


def told(*arguments: str, code: int = 0) -> Any:
    done = here("memory", *arguments, "--json")
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def run() -> str:
    """The id of a finished run that taught something."""
    done = here("run", HOPELESS, "--rounds", "2", "--seed", "7", "--json")
    assert done.exit_code == 3, done.stderr
    return str(json.loads(done.stdout)["run_id"])


def test_nothing_is_remembered_yet() -> None:
    done = here("memory", "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "No lessons or experiences found" in done.stderr
    assert told("search", "a cat") == {"memories": []}
    assert told("stats")["experiences"] == {}


def test_what_is_remembered_is_shown(run: str) -> None:
    key = f"{run}:1"
    assert [memory["key"] for memory in told("list")["memories"]] == [key]
    assert told("list", "--kind", "lesson") == {"memories": []}
    (found,) = told("search", HOPELESS)["memories"]
    assert (found["key"], found["similarity"] > 0.5) == (key, True)
    listed = here("memory", "list").stdout
    assert listed.startswith(f"{key}  experience  blocks  not tried\n")
    shown = here("memory", "show", key).stdout
    assert f"prompt: {HOPELESS}" in shown
    assert told("show", key)["value"]["round"] == 1
    assert told("show", "nothing", code=2)["error"]["type"] == "OptionError"
    stats = Stats.model_validate(told("stats"))
    assert (stats.experiences, stats.embedder) == ({"blocks": 1}, "lexical:1/384")
    assert "experiences: 1 (1 about blocks)" in here("memory", "stats").stdout


def test_no_memory() -> None:
    assert here("run", HOPELESS, "--rounds", "2", "--no-memory").exit_code == 3
    assert told("list") == {"memories": []}
    assert not (Path(os.environ["GEMS_HOME"]) / "experience").exists()


def test_consolidate(run: str) -> None:
    here("run", f"{HOPELESS} here", "--rounds", "2", "--seed", "8", "--profile", "paper")
    report = ConsolidationReport.model_validate(told("consolidate"))
    assert (report.experiences, report.lessons, report.added) == (2, 1, 1)
    assert (
        here("memory", "consolidate", "--no-model").stdout
        == "1 lesson from 2 experiences: 0 added, 0 removed\n"
    )
    (lesson,) = told("list", "--kind", "lesson")["memories"]
    assert lesson["value"]["by"] == "model"


def test_forget_asks_first(run: str) -> None:
    declined = gems("memory", "forget", "--run", run, given="n\n")
    assert declined.returncode == 1
    assert "1 experience, 0 lessons to delete" in declined.stderr
    assert told("forget", "--run", run, code=2)["error"]["type"] == "OptionError"
    assert told("forget", code=2)["error"]["type"] == "OptionError"
    assert Forgotten.model_validate(told("forget", "--older-than", "1d", "--dry-run")).experiences == 0
    done = gems("memory", "forget", "--run", run, given="y\n")
    assert (done.returncode, done.stdout) == (0, "deleted\n")
    assert told("list") == {"memories": []}


def test_export_and_import(run: str, tmp_path: Path) -> None:
    lines = here("memory", "export").stdout
    assert here("memory", "export", "--out", str(tmp_path / "m.jsonl")).exit_code == 0
    assert (tmp_path / "m.jsonl").read_text(encoding="utf-8") == lines
    assert here("memory", "forget", "--run", run, "--yes").exit_code == 0
    broken = gems("memory", "import", "-", given=f"{{\n{lines}")
    assert (broken.returncode, broken.stdout) == (1, "1 added, 0 updated, 0 unchanged\n")
    assert broken.stderr.startswith("line 1: it is not JSON")
    again = ImportReport.model_validate(told("import", str(tmp_path / "m.jsonl")))
    assert (again.added, again.unchanged) == (0, 1)
    assert told("import", str(tmp_path / "missing.jsonl"), code=2)["error"]["type"] == "OptionError"


def test_rebuild(run: str) -> None:
    assert here("memory", "forget", "--run", run, "--yes").exit_code == 0
    assert gems("memory", "rebuild", given="n\n").returncode == 1
    assert Rebuilt.model_validate(told("rebuild", "--yes")).experiences == 1
    assert len(told("list")["memories"]) == 1


def test_another_embedder_and_reindex(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gems.memory.embeddings import LexicalEmbedder

    monkeypatch.setattr(LexicalEmbedder, "identity", "lexical:2/384")
    monkeypatch.setenv("GEMS_EMBEDDER", "lexical")
    done = here("memory", "search", "a cat")
    assert done.exit_code == 2
    assert "gems memory reindex" in done.stderr
    assert told("reindex") == {"items": 1, "embedder": "lexical:2/384"}
    assert here("memory", "search", "a cat").exit_code == 0


def test_memory_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_EXPERIENCE", "off")
    assert "GEMS_EXPERIENCE" in told("list", code=2)["error"]["hint"]
    monkeypatch.setenv("GEMS_EXPERIENCE", "nowhere")
    assert "GEMS_EXPERIENCE" in told("list", code=2)["error"]["message"]
