"""`gems skills test` and `gems skills learn`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gems.skills.reports import SkillDrafts, SkillTrial
from tests.support.scripted_service import PATIENCE_S
from tests.support.skill_folders import example, skill_folder
from tests.support.stub import Fault, StubServer
from tests.support.terminal import PROMPT, gems, here, started, wait_until

LETTERS = [
    example('the word "GO" above two red circles', True, '"GO"', "two red circles"),
    example('a blue square with the text "IN"', True, '"IN"'),
    example("three green stars", False),
]


@pytest.fixture
def home() -> Path:
    return Path(os.environ["GEMS_HOME"])


@pytest.fixture
def letters(home: Path) -> Path:
    """A skill that the built-in planner chooses for quoted texts."""
    return skill_folder(home / "skills", "lettering", LETTERS)


def told(*arguments: str, code: int = 0) -> Any:
    done = here("skills", *arguments, "--json")
    assert done.exit_code == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def lesson(number: int, **more: Any) -> dict[str, Any]:
    text = f"Lesson {number}: say counts exactly."
    return {
        "type": "lesson",
        "key": f"key{number}",
        "generator": "blocks",
        "kinds": ["count"],
        "text": text,
        "sources": [[f"run{number}", 1]],
        "by": "model",
    } | more


def remembered(tmp_path: Path, *lessons: dict[str, Any]) -> None:
    path = tmp_path / "lessons.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lessons), encoding="utf-8")
    done = here("memory", "import", str(path))
    assert done.exit_code == 0, done.stderr


def test_all_came_out_as_said(letters: Path) -> None:
    done = gems("skills", "test", "lettering")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("lettering: precision 1.00, recall 1.00, kept 3 of 3, ")
    assert "3 of 3 examples" in done.stderr
    assert here("runs").stdout.count("\n") <= 1


def test_json(letters: Path) -> None:
    trial = SkillTrial.model_validate(told("test", "lettering", "--limit", "2"))
    assert (trial.passed, trial.recall, len(trial.examples), trial.calls) == (True, 1.0, 2, trial.calls)
    assert trial.calls >= 6
    assert json.loads(here("runs", "--json").stdout) == {"runs": []}


def test_what_did_not_come_out_is_listed(home: Path) -> None:
    lines = [*LETTERS, example("two red circles", True, "a golden dragon"), example('the word "NO"', False)]
    skill_folder(home / "skills", "lettering", lines)
    done = here("skills", "test", "lettering")
    assert done.exit_code == 3
    first, second, summary = done.stdout.splitlines()
    assert first.startswith("line   4  not selected; lost: a golden dragon")
    assert first.endswith("two red circles")
    assert second.startswith("line   5  selected, but should not be")
    assert summary.startswith("lettering: precision 0.67, recall 0.67, kept 3 of 4")
    assert told("test", "lettering", code=3)["passed"] is False


def test_a_folder(tmp_path: Path) -> None:
    folder = skill_folder(tmp_path / "mine", "lettering", LETTERS)
    assert told("test", str(folder))["skill"] == "lettering"
    assert told("test", "mine/lettering")["passed"] is True
    assert told("test", "lettering", code=2)["error"]["type"] == "OptionError"
    (folder / "SKILL.md").write_text("---\nname: lettering\n---\nNo description.\n", encoding="utf-8")
    assert "no description" in told("test", str(folder), code=2)["error"]["message"]
    assert told("test", "./nowhere", code=2)["error"]["type"] == "OptionError"


def test_bad_usage(home: Path) -> None:
    assert "Known skills: aesthetic-drawing" in told("test", "nothing", code=2)["error"]["hint"]
    skill_folder(home / "skills", "plain")
    assert "no file examples.jsonl" in told("test", "plain", code=2)["error"]["message"]
    skill_folder(home / "skills", "broken", '{"prompt": "a"}\n\nx\n')
    message = told("test", "broken", code=2)["error"]["message"]
    assert "line 1: trigger: field required" in message
    assert "line 3: it: invalid json" in message
    assert gems("skills", "test", "broken", "--limit", "0").returncode == 2
    assert gems("skills", "test").returncode == 2


def test_models_that_fail(letters: Path, stub: StubServer) -> None:
    spec = f"openai:qwen3-vl@{stub.base_url}"
    assert told("test", "lettering", "--chat", spec)["passed"] is True
    nowhere = told("test", "lettering", "--chat", "openai:qwen3-vl@http://127.0.0.1:9/v1", code=1)
    assert nowhere["error"]["type"] == "UnreachableError"
    assert told("test", "lettering", "--chat", "nonsense:", code=2)["error"]["type"] == "ModelSpecError"


def test_what_is_not_answered_is_listed(letters: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_CHAT__ATTEMPTS", "1")
    stub.fault(Fault("500"), when=lambda body: "three green stars" in str(body["messages"]))
    done = gems("skills", "test", "lettering", "--chat", f"openai:qwen3-vl@{stub.base_url}")
    assert done.returncode == 3, done.stderr
    line, summary = done.stdout.splitlines()
    assert line.startswith("line   3  unanswered: ")
    assert "precision 1.00, recall 1.00, kept 3 of 3, unanswered 1, " in summary
    assert "Run , round" not in done.stderr


def test_ctrl_c(letters: Path, stub: StubServer) -> None:
    stub.fault(Fault("hang", seconds=600))
    with started("skills", "test", "lettering", "--chat", f"openai:qwen3-vl@{stub.base_url}") as process:
        wait_until(lambda: bool(stub.requests), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130


def test_nothing_to_learn(home: Path) -> None:
    done = here("skills", "learn")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "Nothing to draft" in done.stderr
    assert SkillDrafts.model_validate(told("learn")).drafts == []
    assert not (home / "drafts").exists()


def test_a_draft_is_written_validated_and_tried(home: Path, tmp_path: Path) -> None:
    remembered(tmp_path, *(lesson(n) for n in range(5)))
    planned = here("skills", "learn", "--dry-run")
    assert planned.stdout.startswith("new skill learnt-count from 5 lessons of blocks about count: would be ")
    assert not (home / "drafts").exists()
    done = gems("skills", "learn")
    assert done.returncode == 0, done.stderr
    (name,) = [folder.name for folder in (home / "drafts" / "skills").iterdir()]
    folder = home / "drafts" / "skills" / name
    assert f"new skill {name} from 5 lessons of blocks about count: drafted in {folder}" in done.stdout
    assert f"gems skills validate {folder}" in done.stderr
    assert here("skills", "validate", str(folder)).exit_code == 0
    assert name not in [skill["name"] for skill in told("list")["skills"]]
    (again,) = SkillDrafts.model_validate(told("learn")).drafts
    assert again.state == "exists"
    (forced,) = SkillDrafts.model_validate(told("learn", "--force", "--no-model")).drafts
    assert (forced.state, forced.by, forced.name) == ("written", "list", name)
    assert here("skills", "validate", str(folder)).exit_code == 0


def test_accepted_drafts_are_found(home: Path, tmp_path: Path) -> None:
    remembered(tmp_path, *(lesson(n) for n in range(5)))
    (draft,) = SkillDrafts.model_validate(told("learn", "--no-model")).drafts
    (home / "skills").mkdir(exist_ok=True)
    Path(draft.folder).rename(home / "skills" / draft.name)
    assert "learnt-count" in [skill["name"] for skill in told("list")["skills"]]
    done = here("skills", "learn")
    assert "skipped: learnt-count: 5 lessons about blocks, from which it was already written" in done.stderr


def test_an_amendment_of_a_built_in_skill(home: Path, tmp_path: Path) -> None:
    remembered(tmp_path, *(lesson(n, skills=["counting-and-binding"]) for n in range(5)))
    (draft,) = SkillDrafts.model_validate(told("learn", "--dry-run")).drafts
    assert (draft.name, draft.amends, draft.state) == ("counting-and-binding", True, "planned")
    done = here("skills", "learn", "--no-model")
    assert "skipped: counting-and-binding: Only a chat model can amend a skill." in done.stderr
    assert not (home / "drafts").exists()


def test_runs_teach(home: Path) -> None:
    for seed in (1, 2):
        prompt = f"seven red circles above {seed + 6} striped blue squares"
        assert here("run", prompt, "--rounds", "2", "--seed", str(seed), "--quiet").exit_code in (0, 3)
    done = SkillDrafts.model_validate(told("learn", "--least", "1", "--no-model"))
    assert done.lessons - done.refuted > 0
    assert done.drafts
    for draft in done.drafts:
        assert draft.examples > 0
        assert here("skills", "validate", draft.folder).exit_code == 0


def test_learning_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert gems("skills", "learn", "--least", "0").returncode == 2
    remembered(tmp_path, *(lesson(n) for n in range(5)))
    nowhere = told("learn", "--chat", "openai:qwen3-vl@http://127.0.0.1:9/v1", code=1)
    assert nowhere["error"]["type"] == "UnreachableError"
    monkeypatch.setenv("GEMS_EXPERIENCE", "off")
    assert told("learn", code=2)["error"]["type"] == "OptionError"


def test_a_run_uses_no_draft(home: Path, tmp_path: Path) -> None:
    remembered(tmp_path, *(lesson(n) for n in range(5)))
    (draft,) = SkillDrafts.model_validate(told("learn", "--no-model")).drafts
    done = here("run", PROMPT, "--skills", draft.name, "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["type"]) == (2, "OptionError")
