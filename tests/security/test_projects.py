"""A project that somebody else has written runs no code because somebody draws in its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gems.settings import load_settings
from gems.skills.trust import trusted_folders
from tests.support.skill_folders import write
from tests.support.terminal import here

CODE = """
from pathlib import Path
Path({ran!r}).write_text("it ran")
def build(context):
    return context.default()
"""
DRAW = ("run", "two green stars", "--size", "256x256", "--rounds", "1", "--seed", "7", "--skills", "mine")


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Written by the project's code."""
    return tmp_path / "ran"


@pytest.fixture
def project(tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a skill whose code leaves a trace, in every place that a project may hope for."""
    folder = tmp_path / "project"
    for place in ("skills", "home/skills", ".agents/skills", ".claude/skills", "graphs"):
        write(folder / place / "mine", {"graph.py": CODE.format(ran=str(ran))})
    # And the claim that it is trusted.
    (folder / "home" / "trusted.json").write_text(json.dumps({"folders": [str(tmp_path), "/"]}))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GEMS_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folder


LINES = [
    "",
    "GEMS_SKILLS_PATH=skills",
    "GEMS_SKILLS_PATH=./skills:graphs",
    "gems_skills_path=graphs/mine",
    "GEMS_SKILLS_PATH={project}/skills",
    "GEMS_HOME=home",
    "GEMS_HOME={project}/home\nGEMS_SKILLS_PATH=skills",
    "export GEMS_HOME='./home'",
]


@pytest.mark.parametrize("lines", LINES)
def test_no_code_runs(lines: str, project: Path, ran: Path) -> None:
    (project / ".env").write_text(lines.format(project=project))
    done = here(*DRAW)
    assert done.exit_code in (0, 2, 3), done.stderr
    assert here("skills", "list").exit_code == 0
    assert not ran.exists()


@pytest.mark.parametrize("lines", LINES[1:])
def test_it_does_once_the_user_trusts_the_folder(lines: str, project: Path, ran: Path, tmp_path: Path) -> None:
    """Or the tests above would hold because of something else."""
    (project / ".env").write_text(lines.format(project=project))
    trusted = here("skills", "trust", ".")
    assert trusted.exit_code == 0, trusted.stderr
    done = here(*DRAW)
    assert done.exit_code in (0, 3), done.stderr
    assert ran.read_text() == "it ran"
    if "HOME" in lines:
        assert trusted_folders(tmp_path / "data" / "gems") == {project.resolve()}


@pytest.mark.parametrize("name", ["GEMS_HOME", "GEMS_SKILLS_PATH"])
def test_what_the_user_has_set_is_the_users(
    name: str, project: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".env").write_text("GEMS_SKILLS_PATH=skills\nGEMS_HOME=home")
    monkeypatch.setenv(name, {"GEMS_HOME": "home", "GEMS_SKILLS_PATH": "skills"}[name])
    assert here(*DRAW).exit_code in (0, 3)
    assert ran.exists()


def test_a_home_elsewhere_stays_the_users_own(project: Path, tmp_path: Path, ran: Path) -> None:
    """A `.env` of one's own that names a folder outside of the project."""
    os.rename(project / "home", tmp_path / "mine")
    (project / ".env").write_text(f"GEMS_HOME={tmp_path / 'mine'}")
    settings = load_settings()
    assert settings.trust_home == settings.home == tmp_path / "mine"
    assert here(*DRAW).exit_code in (0, 3)
    assert ran.exists()
