"""`gems skills list`, `show`, `new`, `validate` and `trust`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.skill_folders import write
from tests.support.terminal import gems, here

HOME = Path("../gems")
"""GEMS_HOME of every test, from its current folder."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own: the one around it is the user's."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def told(*arguments: str) -> Any:
    done = here("skills", *arguments, "--json")
    return json.loads(done.stdout)


def test_list_says_where_skills_come_from_and_which_are_left_out() -> None:
    write(HOME / "skills" / "mine")
    write(HOME / "skills" / "broken", {"SKILL.md": "---\nname: broken\n---\n"})
    write(Path(".agents/skills/project-skill"))
    done = here("skills", "list")
    assert done.exit_code == 0
    assert "mine  (home)" in done.stdout
    assert "text-rendering  (built-in, graph.py)" in done.stdout
    assert "broken (home)" in done.stdout
    assert "unusable: SKILL.md" in done.stdout
    assert "project-skill" not in done.stdout
    assert "not trusted" in done.stderr
    found = told("list")
    assert len(found["skills"]) == 7
    assert [Path(item["folder"]).name for item in found["left_out"]] == ["broken"]
    assert len(found["untrusted"]) == 1


def test_looking_at_skills_leaves_the_logs_as_they_were() -> None:
    before = logging.getLogger("gems.skills").level
    here("skills", "list")
    assert logging.getLogger("gems.skills").level == before


def test_a_project_is_read_once_it_is_trusted() -> None:
    write(Path(".agents/skills/project-skill"), {"graph.py": "def build(context):\n    return context.default()\n"})
    assert here("skills", "show", "project-skill").exit_code == 2
    (folder,) = told("trust", ".")["folders"]
    assert Path(folder) == Path.cwd()
    shown = told("show", "project-skill")
    assert (shown["skill"]["place"], shown["skill"]["runs_code"]) == ("project", True)
    assert told("trust", "--list")["folders"] == [folder]
    assert told("trust", ".", "--remove")["folders"] == []
    assert here("skills", "show", "project-skill").exit_code == 2


def test_show_has_the_guidance_and_the_files() -> None:
    done = here("skills", "show", "Text Rendering")
    assert done.exit_code == 0
    assert "graph.py, references/typefaces-and-carriers.md" in done.stdout
    assert "# Text rendering" in done.stdout


@pytest.mark.parametrize("more", [[], ["--with-graph"]])
def test_a_new_skill_works_as_it_is(more: list[str]) -> None:
    done = here("skills", "new", "my-skill", *more)
    folder = Path(done.stdout.strip())
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["SKILL.md", "examples.jsonl", *(["graph.py"] if more else [])]
    )
    assert here("skills", "validate", str(folder)).exit_code == 0
    run = gems("run", "a red circle on a white background", "--skills", "my-skill", "--seed", "3", "--json")
    result = json.loads(run.stdout)
    assert [(use["name"], use["fault"]) for use in result["skill_uses"]] == [("my-skill", "")]
    assert result["warnings"] == []
    sources = {item["source"] for item in result["requirements"] if "background" in item["question"]}
    assert sources == ({"my-skill"} if more else {"confirmation"})


@pytest.mark.parametrize("name", ["My Skill", "a--b", "-a", "", "a" * 65, "../up", "judge", "none"])
def test_names_that_no_skill_can_have(name: str) -> None:
    done = here("skills", "new", "--", name)
    assert done.exit_code == 2
    assert "Invalid skill name" in done.stderr


def test_a_skill_that_is_there_is_not_overwritten() -> None:
    assert here("skills", "new", "mine").exit_code == 0
    again = here("skills", "new", "mine")
    assert again.exit_code == 2
    assert "already exists" in again.stderr


def test_validate_tells_all_faults_together(tmp_path: Path) -> None:
    text = "---\nname: Two Faults\nlicence: MIT\n---\n"
    folder = write(tmp_path / "two-faults", {"SKILL.md": text})
    done = here("skills", "validate", str(folder), "text-rendering")
    assert done.exit_code == 1
    assert "SKILL.md:2:" in done.stdout
    assert "SKILL.md:3:" in done.stdout
    assert done.stdout.count("unusable") == 2
    assert "text-rendering: valid" in done.stdout
    found = told("validate", str(folder))
    assert (found["skills"][0]["valid"], found["skills"][0]["name"]) == (False, None)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def build(context:\n", "graph.py:1: Not valid Python"),
        ("x = 1\n", "no function build"),
        ("raise SystemExit(9)\n\ndef build(context): ...\n", ""),
    ],
)
def test_validate_looks_at_code_without_running_it(code: str, said: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", {"graph.py": code})
    done = here("skills", "validate", str(folder))
    assert done.exit_code == (1 if said else 0)
    assert said in done.stdout


def test_validate_finds_what_is_not_there(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", body="See references/colours.md and references/../../x.md.")
    done = here("skills", "validate", str(folder))
    assert done.exit_code == 1
    assert "There is no file references/colours.md" in done.stdout
    assert "leads out of the skill's folder" in done.stdout
    assert here("skills", "validate", str(tmp_path / "nowhere")).exit_code == 1
