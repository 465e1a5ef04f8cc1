"""Where skills are looked for, and whose code runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gems.errors import ConfigurationError, SkillError
from gems.nodes.skills import skill_graph, skill_verifiers
from gems.skills.discovery import BUILTIN, SkillCatalogue, SkillSearchPath
from gems.skills.loader import build_skill_graph
from gems.skills.models import SkillRegistry
from gems.skills.trust import distrust, is_trusted, trust, trusted_folders
from tests.support.skill_folders import write

RELATIVE = {
    "agents": ".agents/skills",
    "claude": ".claude/skills",
    "home": "gems/skills",
    "project agents": "project/.agents/skills",
    "project claude": "project/.claude/skills",
    "path": "path",
    "later path": "later",
}


@pytest.fixture
def where(tmp_path: Path) -> SkillSearchPath:
    """The user's home is the test's folder."""
    (tmp_path / "project").mkdir()
    path = os.pathsep.join(map(str, (tmp_path / "path", "", tmp_path / "later")))
    return SkillSearchPath(home=tmp_path / "gems", path=path, project=tmp_path / "project")


def scanned(where: SkillSearchPath) -> SkillRegistry:
    return SkillCatalogue(where.places).scan()


def test_the_later_place_counts(where: SkillSearchPath, tmp_path: Path) -> None:
    trust(where.home, tmp_path / "project")
    write(tmp_path / ".agents/skills/spatial-layout")
    before = scanned(where).get("spatial-layout")
    assert before is not None
    assert (before.place, before.folder != BUILTIN / "spatial-layout") == ("user", True)
    for relative in RELATIVE.values():
        folder = write(tmp_path / relative / "spatial-layout")
        counting = scanned(where).get("spatial-layout")
        assert counting is not None
        assert counting.folder == folder
    assert len(scanned(where).left_out) == len(RELATIVE)


def test_built_in_skills_are_there(where: SkillSearchPath) -> None:
    assert {"spatial-layout", "text-rendering"} <= {
        skill.name for skill in scanned(where).all() if skill.place == "built-in"
    }


def test_a_project_is_not_looked_into_before_it_is_trusted(where: SkillSearchPath, tmp_path: Path) -> None:
    folder = tmp_path / "project/.agents/skills"
    write(folder / "mine")
    assert scanned(where).get("mine") is None
    assert where.untrusted() == [folder]
    trust(where.home, tmp_path / "project")
    assert scanned(where).get("mine") is not None
    assert where.untrusted() == []
    distrust(where.home, tmp_path / "project")
    assert scanned(where).get("mine") is None


MARKING = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
def build(context):
    return context.default()
def verifiers(context):
    return []
"""


@pytest.mark.parametrize(
    ("place", "runs"),
    [("agents", False), ("claude", False), ("home", True), ("project agents", True), ("path", True)],
)
def test_code_runs_from_trusted_places_only(
    place: str, runs: bool, where: SkillSearchPath, tmp_path: Path
) -> None:
    trust(where.home, tmp_path / "project")
    folder = write(tmp_path / RELATIVE[place] / "mine", {"graph.py": MARKING})
    skill = scanned(where).get("mine")
    assert skill is not None
    assert {"load", "enhance", "keep"} <= set(skill_graph(skill).nodes)
    assert skill_verifiers(skill) == []
    assert (folder / "ran").exists() == runs


def test_untrusted_code_cannot_be_loaded_by_mistake(where: SkillSearchPath, tmp_path: Path) -> None:
    folder = write(tmp_path / ".agents/skills/mine", {"graph.py": MARKING})
    skill = scanned(where).get("mine")
    assert skill is not None
    with pytest.raises(SkillError, match="not trusted"):
        build_skill_graph(skill, None)  # type: ignore[arg-type]
    assert not (folder / "ran").exists()


def test_code_of_other_programs_skills_runs_once_it_is_trusted(
    where: SkillSearchPath, tmp_path: Path
) -> None:
    folder = write(tmp_path / ".claude/skills/mine", {"graph.py": MARKING})
    trust(where.home, tmp_path / ".claude")
    skill = scanned(where).get("mine")
    assert skill is not None
    skill_graph(skill)
    assert (folder / "ran").exists()


def test_a_skill_of_the_path_may_be_named_itself(tmp_path: Path) -> None:
    folder = write(tmp_path / "somewhere" / "mine")
    assert scanned(SkillSearchPath(home=tmp_path / "gems", path=str(folder))).get("mine") is not None


@pytest.mark.parametrize("part", ["~nobody-of-this-name/skills", "nowhere"])
def test_a_path_that_leads_nowhere_breaks_nothing(part: str, tmp_path: Path) -> None:
    assert scanned(SkillSearchPath(home=tmp_path / "gems", path=part)).get("spatial-layout") is not None


def test_trust_covers_what_stands_below(tmp_path: Path) -> None:
    home, inner = tmp_path / "gems", tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert trust(home, tmp_path / "link") == (tmp_path / "a").resolve()
    folders = trusted_folders(home)
    assert is_trusted(inner, folders)
    assert is_trusted(tmp_path / "link" / "b", folders)
    assert not is_trusted(tmp_path / "ab", folders)
    with pytest.raises(ConfigurationError, match="not among") as caught:
        distrust(home, inner)
    assert str(tmp_path / "a") in str(caught.value)
    with pytest.raises(ConfigurationError, match="is not a folder"):
        trust(home, tmp_path / "missing")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"folders": [1]}', "\udcff", '{"folders": ["\\ud800"]}', "[" * 50_000]
)
def test_a_damaged_list_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "trusted.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        trusted_folders(tmp_path)
