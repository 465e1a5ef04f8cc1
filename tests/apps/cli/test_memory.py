"""`gems memory`: output for people and programs, confirmations, progress."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from gems.apps.cli.schemas import ExportFile, MemoryList, Reindexed
from gems.runs.memory_admin import ConsolidationReport, Forgotten, ImportReport, Memory, Rebuilt, Stats
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
    shown = here("memory", "stats").stdout
    assert "experiences: 1 (1 about blocks)" in shown
    (step,) = stats.steps
    assert (step.generator, step.improved + step.not_improved) == ("blocks", 1)
    assert re.search(
        rf"(?m)^blocks  {step.action} (with|for) {step.kind}( unmet)?  better {step.improved} of 1$", shown
    )


def test_what_instruments_and_boxes_were_worth_is_shown() -> None:
    counted = ("three red circles, two green stars and four blue squares", "--skills", "counting-and-binding")
    assert here("run", *counted, "--seed", "7", "--detector", "blocks:1", "--rounds", "2").exit_code in (0, 3)
    stats = Stats.model_validate(told("stats"))
    tally = stats.instruments["blocks"]["count"]
    told_of = f"blocks, count: agreed with the judge {tally['agreed']} times"
    shown = here("memory", "stats").stdout
    torn = tally["instrument"] + tally["judge"]
    assert f"{told_of}, was right {tally['instrument']} of {torn} times when not" in shown
    for placed_by, kinds in stats.boxes.items():
        for kind, boxes in kinds.items():
            assert f"boxes of {placed_by}, {kind}: {boxes['fixed']} of {boxes['edits']} edit" in shown
    assert told("forget", "--matching", "GREEN", "--yes")["measurements"] >= 1
    assert told("stats")["instruments"] == {}


def test_no_memory() -> None:
    assert here("run", HOPELESS, "--rounds", "2", "--seed", "7", "--no-memory").exit_code == 3
    assert told("list") == {"memories": []}
    assert not (Path(os.environ["GEMS_HOME"]) / "experience").exists()


def test_consolidate(run: str) -> None:
    here("run", f"{HOPELESS} here", "--rounds", "2", "--seed", "8", "--profile", "paper")
    report = ConsolidationReport.model_validate(told("consolidate"))
    assert (report.experiences, report.lessons, report.added) == (2, 1, 1)
    assert here("memory", "consolidate", "--no-model").stdout == "1 lesson from 2 experiences: 0 added, 0 removed\n"
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


GREEK = ("alpha", "beta", "gamma")


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
