"""`gems memory`: what it prints for programs, what it asks, how far it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gems.apps.cli.schemas import ExportFile, MemoryList, Reindexed
from gems.runs.memory_admin import ConsolidationReport, Forgotten, Memory, Rebuilt
from tests.support.terminal import HOPELESS, here

GREEK = ("alpha", "beta", "gamma")


def told(*arguments: str, code: int = 0) -> Any:
    done = here("memory", *arguments, "--json")
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Three experiences that are alike."""
    path = tmp_path / "lines.jsonl"
    values = [
        {
            "type": "experience",
            "run": name,
            "round": 1,
            "generator": "flat",
            "prompt": f"{name} cats on a red mat",
            "failed": [{"kind": "count", "question": "Are there enough cats on the red mat?"}],
            "score": 0.5,
            "text": f"\x1b[2J{name} cats were too few.",
        }
        for name in GREEK
    ]
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")
    return path


@pytest.fixture
def imported(lines: Path) -> Path:
    done = here("memory", "import", str(lines))
    assert (done.exit_code, done.stdout) == (0, "3 added, 0 updated, 0 unchanged\n")
    return lines


def test_forms_of_json(imported: Path, tmp_path: Path) -> None:
    found = MemoryList.model_validate(told("list"))
    assert sorted(memory.value["run"] for memory in found.memories) == list(GREEK)
    assert Memory.model_validate(told("show", "beta:1")).value["text"].endswith("beta cats were too few.")
    target = tmp_path / "out.jsonl"
    assert ExportFile.model_validate(told("export", "--out", str(target))).lines == 3
    assert len(target.read_text(encoding="utf-8").splitlines()) == 3
    assert Reindexed.model_validate(told("reindex")).items == 0


def test_export_as_json_needs_a_file(imported: Path, tmp_path: Path) -> None:
    assert "--out" in told("export", code=2)["error"]["hint"]
    assert here("memory", "export", "--out", str(tmp_path)).exit_code == 1


def test_texts_cannot_act_on_the_terminal(imported: Path) -> None:
    for arguments in (["list"], ["show", "beta:1"], ["search", "cats"]):
        done = here("memory", *arguments)
        assert "beta cats were too few." in done.stdout
        assert "\x1b" not in done.stdout


def test_limits_of_lists(imported: Path) -> None:
    assert len(told("list", "-n", "2")["memories"]) == 2
    assert len(told("search", "cats", "-n", "1")["memories"]) == 1
    assert told("list", "--generator", "round") == {"memories": []}


def test_progress_is_told_beside_the_result(imported: Path) -> None:
    done = here("memory", "consolidate", "--no-model")
    assert done.stdout == "1 lesson from 3 experiences: 1 added, 0 removed\n"
    assert done.stderr == "1 of 1 cluster\n"
    again = ConsolidationReport.model_validate(told("consolidate"))
    assert (again.added, again.removed, again.lessons) == (0, 0, 1)


def test_consolidating_needs_no_generator(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_GENERATOR__MODEL", "nonsense")
    assert told("consolidate")["lessons"] == 1


def test_forgetting_nothing_asks_nothing(imported: Path) -> None:
    done = here("memory", "forget", "--run", "nobody")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "0 experiences, 0 lessons to delete" in done.stderr
    both = told("forget", "--run", "beta", "--older-than", "1d", "--yes")
    assert Forgotten.model_validate(both).experiences == 0
    gone = told("forget", "--matching", "CATS", "--yes")
    assert (gone["experiences"], gone["done"]) == (3, True)
    assert here("memory", "forget", "--older-than", "soon").exit_code == 2


def test_rebuilding_can_be_looked_at_first(imported: Path) -> None:
    assert here("run", HOPELESS, "--rounds", "2", "--seed", "7").exit_code == 3
    assert told("rebuild", code=2)["error"]["type"] == "OptionError"
    looked = Rebuilt.model_validate(told("rebuild", "--dry-run"))
    assert (looked.runs, looked.experiences, looked.aside, looked.done) == (1, 1, "", False)
    assert len(told("list")["memories"]) == 4
    done = here("memory", "rebuild", "--yes")
    assert (done.exit_code, done.stdout) == (0, "1 experience of 1 run\n")
    assert "1 of 1 run\n" in done.stderr
    assert "The old store was moved to" in done.stderr
    assert len(told("list")["memories"]) == 1
