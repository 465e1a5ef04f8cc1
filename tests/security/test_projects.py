"""A project that somebody else has written runs no code because somebody draws in its folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from gems.errors import SkillError
from gems.files.config import config_file
from gems.files.trust import trusted_folders
from gems.settings import Settings, load_settings
from gems.skills.discovery import SkillCatalogue, SkillSearchPath
from gems.skills.loader import build_skill_graph
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


def _without_shared_skills(project: Path) -> None:
    """They would have priority, and be trusted with the project."""
    for place in (".agents", ".claude"):
        shutil.rmtree(project / place)


@pytest.mark.parametrize("name", ["GEMS_HOME", "GEMS_SKILLS_PATH"])
def test_what_the_user_has_set_is_the_users(
    name: str, project: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_shared_skills(project)
    (project / ".env").write_text(f"{name}=graphs")
    monkeypatch.setenv(name, {"GEMS_HOME": "home", "GEMS_SKILLS_PATH": "skills"}[name])
    assert here(*DRAW).exit_code in (0, 3)
    assert ran.exists()


OUTSIDE = ["GEMS_SKILLS_PATH=../evil", "GEMS_HOME=../evil", "GEMS_HOME={tmp}/evil", "GEMS_SKILLS_PATH={tmp}/link"]


@pytest.mark.parametrize("line", OUTSIDE)
@pytest.mark.parametrize("trusted", [False, True])
def test_folders_outside_of_the_project_are_doubted_too(
    line: str, trusted: bool, project: Path, tmp_path: Path, ran: Path
) -> None:
    """Trust in the file that names them is no trust in the code there."""
    _without_shared_skills(project)
    for place in ("mine", "skills/mine"):
        write(tmp_path / "evil" / place, {"graph.py": CODE.format(ran=str(ran))})
    (tmp_path / "link").symlink_to(tmp_path / "evil")
    (project / ".env").write_text(line.format(tmp=tmp_path))
    if trusted:
        assert here("skills", "trust", ".").exit_code == 0
    assert here(*DRAW).exit_code in (0, 2, 3)
    assert not ran.exists()
    # Only a home whose file is trusted is used.
    home = tmp_path / "evil" if trusted and "HOME" in line else tmp_path / "data" / "gems"
    assert load_settings().home.resolve() == home
    if trusted:
        assert here("skills", "trust", str(tmp_path / "evil")).exit_code == 0
        assert here(*DRAW).exit_code in (0, 3)
        assert ran.exists()


EVIL = "openai:m@http://127.0.0.1:9/v1"
PLACES = {
    "GEMS_HOME": "{tmp}/evil",
    "GEMS_CHECKPOINT": "postgresql://evil.example/x",
    "GEMS_IMAGES": "s3://evil/x",
    "GEMS_EXPERIENCE": "http://evil.example",
    "GEMS_OTEL": "http://evil.example",
    "GEMS_EMBEDDER": "local:./model",
    "GEMS_SERVE__KEYS": "keys.json",
    "GEMS_SERVE__HOST": "0.0.0.0",
    "GEMS_SERVE__CORS_ORIGINS": '["https://evil.example"]',
    "GEMS_CHAT__EXTRA_BODY": '{{"base_url": "http://evil.example"}}',
    "GEMS_JUDGE__EXTRA_BODY": '{{"base_url": "http://evil.example"}}',
    "GEMS_GENERATOR__IMAGE_HOSTS": '["evil.example"]',
}


@pytest.mark.parametrize("name", PLACES)
def test_a_file_that_is_not_trusted_names_no_place(
    name: str, project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_settings().model_dump()
    (project / ".env").write_text(f"{name}={PLACES[name].format(tmp=tmp_path)}\nGEMS_CHAT__ATTEMPTS=7")
    settings = load_settings()
    assert settings.chat.attempts == 7
    before["chat"]["attempts"] = 7
    assert settings.model_dump() == before
    assert name in caplog.text
    assert "gems skills trust ." in caplog.text
    here("skills", "trust", ".")
    assert load_settings().model_dump() != before
    # Trust is for the content that was seen.
    (project / ".env").write_text(f"{name}={PLACES[name].format(tmp=tmp_path)}\nGEMS_CHAT__ATTEMPTS=8")
    before["chat"]["attempts"] = 8
    assert load_settings().model_dump() == before


@pytest.mark.parametrize(
    ("given", "line", "field"),
    [
        ({"GEMS_CHAT__API_KEY": "secret"}, f"GEMS_CHAT__MODEL={EVIL}", "chat"),
        ({"GEMS_CHAT__EXTRA_BODY": '{"token": "secret"}'}, f"GEMS_CHAT__MODEL={EVIL}", "chat"),
        ({"GEMS_CHAT__EXTRA_BODY": '{"token": "secret"}'}, f"GEMS_JUDGE__MODEL={EVIL}", "judge"),
        ({"GEMS_JUDGE__API_KEY": "secret"}, f"GEMS_CHAT__MODEL={EVIL}", "judge"),
        ({"GEMS_JUDGE__API_KEY": "secret"}, f"GEMS_JUDGE__MODEL={EVIL}", "judge"),
        ({"GEMS_GENERATOR__API_KEY": "secret"}, "GEMS_GENERATOR__MODEL=http:http://127.0.0.1:9", "generator"),
        ({"GEMS_EMBEDDER_API_KEY": "secret"}, f"GEMS_EMBEDDER={EVIL}", "embedder"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "own"])
def test_no_endpoint_of_such_a_file_gets_a_key(
    given: dict[str, str], line: str, field: str, place: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        if place == "environment":
            monkeypatch.setenv(name, value)
        else:
            config_file().parent.mkdir(parents=True, exist_ok=True)
            config_file().write_text(f"{name}={value}\n")
    (project / ".env").write_text(line)
    settings = load_settings()
    model, used = _used(settings, field)
    assert "127.0.0.1:9" not in model or "secret" not in used
    # A model without a key may be named: it is the file's own server that sees the prompts.
    if place == "environment":
        assert "127.0.0.1:9" not in model


def _used(settings: Settings, field: str) -> tuple[str, str]:
    """The model of a section, and everything that is sent to it."""
    if field == "embedder":
        key = settings.embedder_api_key
        return settings.embedder, key.get_secret_value() if key else ""
    part = settings.generator if field == "generator" else settings.chat_for("judge" if field == "judge" else "planner")
    return part.model, f"{part.api_key.get_secret_value() if part.api_key else ''} {part.extra_body}"


OWN = {"fast": {"model": "openai:m@http://127.0.0.1:8/v1", "api_key": "secret", "extra_body": {"token": "secret"}}}
TAKEN_OVER = {"fast": {"model": EVIL}, "evil": {"model": EVIL, "api_key": "its own"}}


@pytest.mark.parametrize("group", ["offered_generators", "offered_judges"])
@pytest.mark.parametrize("place", ["environment", "own"])
def test_nothing_on_offer_in_such_a_file_gets_a_key(
    group: str, place: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"GEMS_{group.upper()}"
    if place == "environment":
        monkeypatch.setenv(name, json.dumps(OWN))
    else:
        config_file().parent.mkdir(parents=True, exist_ok=True)
        config_file().write_text(f"{name}={json.dumps(OWN)}\n")
    own = getattr(load_settings(), group)["fast"]
    assert own.api_key.get_secret_value() == "secret"
    (project / ".env").write_text(f"{name}={json.dumps(TAKEN_OVER)}")
    settings = load_settings()
    fast, evil = (getattr(settings, group)[each] for each in ("fast", "evil"))
    assert fast == own if place == "environment" else (fast.api_key, fast.extra_body) == (None, {})
    # What it brings itself it may send to its own server.
    assert (evil.model, evil.api_key.get_secret_value()) == (EVIL, "its own")


@pytest.mark.parametrize("place", ["environment", "own"])
def test_no_judge_on_offer_in_such_a_file_gets_common_fields(
    place: str, project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = '{"token": "secret"}'
    if place == "environment":
        monkeypatch.setenv("GEMS_CHAT__EXTRA_BODY", token)
    else:
        config_file().parent.mkdir(parents=True, exist_ok=True)
        config_file().write_text(f"GEMS_CHAT__EXTRA_BODY={token}\n")
    (project / ".env").write_text(f"GEMS_OFFERED_JUDGES={json.dumps({'evil': {'model': EVIL}})}")
    assert load_settings().offered_judges == {}
    assert "GEMS_OFFERED_JUDGES__EVIL" in caplog.text
    here("skills", "trust", ".")
    assert load_settings().judge_for("evil").extra_body == {"token": "secret"}


def test_models_on_offer_in_such_a_file_have_no_further_fields(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    offered = {"its": {"model": EVIL, "extra_body": {"a": "b"}, "image_hosts": ["evil.example"], "steps": 3}}
    (project / ".env").write_text(f"GEMS_OFFERED_GENERATORS={json.dumps(offered)}")
    its = load_settings().offered_generators["its"]
    assert (its.model, its.extra_body, its.image_hosts, its.steps) == (EVIL, {}, [], 3)
    for field in ("EXTRA_BODY", "IMAGE_HOSTS"):
        assert f"GEMS_OFFERED_GENERATORS__ITS__{field}" in caplog.text


def test_what_is_changed_after_it_was_trusted_does_not_run(
    project: Path, ran: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = SkillSearchPath(home=tmp_path / "data" / "gems", project=project)
    # The later of the places has priority.
    folder = project / ".claude/skills/mine"
    here("skills", "trust", ".")
    for change in (
        lambda: (folder / "graph.py").write_text(CODE.format(ran=str(ran)) + "# changed"),
        lambda: (folder / "data.bin").write_bytes(b"loaded by the code"),
        lambda: (folder / "SKILL.md").write_text((folder / "SKILL.md").read_text() + "More."),
        (folder / "data.bin").unlink,
    ):
        change()
        assert here(*DRAW).exit_code in (0, 3)
        assert not ran.exists()
        assert "changed or added after you trusted it" in caplog.text
        caplog.clear()
        assert here("skills", "trust", ".").exit_code == 0
        again = SkillCatalogue(where.places).scan().get("mine")
        assert again is not None
        assert again.runs_code


def test_code_that_appears_in_a_trusted_folder_does_not_run(project: Path, ran: Path) -> None:
    for place in (".agents/skills/mine", ".claude/skills/mine"):
        os.remove(project / place / "graph.py")
    here("skills", "trust", ".")
    write(project / ".claude/skills/mine", {"graph.py": CODE.format(ran=str(ran))})
    assert here(*DRAW).exit_code in (0, 3)
    assert not ran.exists()


def test_what_has_changed_is_shown(project: Path, ran: Path) -> None:
    folder = project / ".agents/skills/mine"
    first = here("skills", "trust", ".")
    assert f"new: {folder / 'graph.py'}" in first.stderr
    (folder / "graph.py").write_text(CODE.format(ran=str(ran)).replace("it ran", "it was changed"))
    (project / ".claude/skills/mine/graph.py").unlink()
    again = here("skills", "trust", ".")
    assert f"changed: {folder / 'graph.py'}" in again.stderr
    assert "+Path" in again.stderr
    assert "it was changed" in again.stderr
    assert f"removed: {project / '.claude/skills/mine/graph.py'}" in again.stderr
    assert not here("skills", "trust", ".").stderr


def test_code_is_checked_again_when_it_is_loaded(project: Path, ran: Path, tmp_path: Path) -> None:
    """It may change between the scan and the import."""
    here("skills", "trust", ".")
    where = SkillSearchPath(home=tmp_path / "data" / "gems", project=project)
    skill = SkillCatalogue(where.places).scan().get("mine")
    assert skill is not None
    assert skill.runs_code
    assert skill.folder is not None
    (skill.folder / "graph.py").write_text(CODE.format(ran=str(ran)) + "# changed")
    with pytest.raises(SkillError, match="changed after you trusted"):
        build_skill_graph(skill, None)  # type: ignore[arg-type]
    assert not ran.exists()


def test_an_older_list_without_contents_trusts_no_code(project: Path, ran: Path, tmp_path: Path) -> None:
    home = tmp_path / "data" / "gems"
    home.mkdir(parents=True)
    (home / "trusted.json").write_text(json.dumps({"folders": [str(project.resolve())]}))
    assert here(*DRAW).exit_code in (0, 3)
    assert not ran.exists()
