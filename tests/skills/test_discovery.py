"""Where skills are looked for, what is found, left out and read again, and whose code runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from gems.errors import ConfigurationError, SkillError
from gems.files.trust import distrust, is_trusted, trust, trusted_folders
from gems.nodes.skills import skill_graph, skill_verifiers
from gems.skills import discovery
from gems.skills.discovery import BUILTIN, Place, Scanner, SkillCatalogue, SkillSearchPath, resolve_duplicates
from gems.skills.files import MAX_BYTES
from gems.skills.loader import build_skill_graph
from gems.skills.models import FaultySkill, Skill, SkillRegistry
from gems.skills.parser import read_document
from tests.support.skill_folders import changed, faults, found_in, text_of, write

needs_rights = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")


def pipe(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / "SKILL.md")


def link_out(folder: Path) -> None:
    other = write(folder.parent.parent / "elsewhere")
    folder.mkdir(parents=True)
    (folder / "SKILL.md").symlink_to(other / "SKILL.md")


def code_out(folder: Path) -> None:
    other = write(folder.parent.parent / "elsewhere", {"graph.py": ""})
    write(folder)
    (folder / "graph.py").symlink_to(other / "graph.py")


def folder_out(folder: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(write(folder.parent.parent / "elsewhere"))


def circle(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").symlink_to(folder / "SKILL.md")


def holding(raw: bytes) -> Any:
    return lambda folder: write(folder, {"SKILL.md": raw})


def directory(folder: Path) -> None:
    (folder / "SKILL.md").mkdir(parents=True)


FAULTY = {
    "pipe": (pipe, "not a regular file"),
    "link": (link_out, "leads out"),
    "code": (code_out, "leads out"),
    "folder": (folder_out, "leads out of its parent"),
    "circle": (circle, "SKILL.md"),
    "directory": (directory, "cannot be read"),
    "large": (holding(b"a" * (MAX_BYTES + 1)), "1,000,000"),
    "binary": (holding(b"\x89PNG\r\n\xff"), "is not UTF-8"),
    "zeros": (holding(b"---\nname: \0\n---\n"), "no description"),
    "empty": (holding(b""), "no front matter"),
    "words": (holding(b"Hello."), "no front matter"),
    "lists in lists": (holding(b"---\n" + b"[" * 400_000 + b"\n---\nbody"), "nested too deeply"),
    "fields in fields": (holding(b"---\n" + b"{a: " * 200_000 + b"\n---\nbody"), "nested too deeply"),
}


@pytest.mark.parametrize(("make", "told"), FAULTY.values(), ids=FAULTY)
def test_a_faulty_skill_is_left_out_and_told_once(
    make: Any, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "place"
    make(place / "faulty")
    write(place / "good")
    scanner = Scanner()
    with caplog.at_level(logging.WARNING):
        faulty, good = found_in(place, scanner=scanner)
        found_in(place, scanner=scanner)
    assert isinstance(good, Skill)
    assert told in " ".join(faults(faulty))
    (record,) = caplog.records
    assert str(place / "faulty") in record.getMessage()


@needs_rights
@pytest.mark.parametrize("closed", ["faulty", "faulty/SKILL.md"])
def test_what_may_not_be_read_is_told(closed: str, tmp_path: Path) -> None:
    write(tmp_path / "faulty")
    write(tmp_path / "good")
    (tmp_path / closed).chmod(0)
    try:
        faulty, good = found_in(tmp_path)
    finally:
        (tmp_path / closed).chmod(0o700)
    assert isinstance(good, Skill)
    assert "cannot be read" in faults(faulty)[0]


def test_a_closed_folder_is_no_skill_that_nobody_hears_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for whoever may read everything: the system's answers are those of a closed folder."""
    write(tmp_path / "good")
    closed = tmp_path / "closed"
    closed.mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and real(path, mode))
    found = found_in(tmp_path)
    assert [type(item) for item in found] == [FaultySkill, Skill]


@pytest.mark.parametrize("error", [PermissionError(13, "not allowed"), NotADirectoryError(20, "no folder")])
def test_a_place_that_cannot_be_read_is_told_once(
    error: OSError, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "good" / "skill")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == tmp_path / "bad":
            raise error
        return real(path)

    monkeypatch.setattr(discovery.os, "scandir", scandir)
    scanner = Scanner()
    for _ in range(2):
        assert len(found_in(tmp_path / "bad", tmp_path / "good", scanner=scanner)) == 1
    assert len(caplog.records) == 1


def test_what_is_no_skill_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / ".hidden")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.md").write_text("x")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    write(tmp_path / "skill")
    assert [skill.name for skill in found_in(tmp_path, tmp_path / "missing") if isinstance(skill, Skill)] == ["skill"]
    assert caplog.records == []


@pytest.mark.parametrize("name", ["SKILL.md", "skill.md"])
def test_both_spellings_of_the_file_are_found(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text(text_of("mine"))
    (skill,) = found_in(tmp_path)
    assert isinstance(skill, Skill)
    assert (skill.file, skill.body, skill.code) == (name, None, False)


def test_links_within_places_are_followed_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "agents" / "mine")
    (tmp_path / "claude").mkdir()
    (tmp_path / "claude" / "mine").symlink_to(folder)
    assert len(found_in(tmp_path / "agents", tmp_path / "claude")) == 1


def test_a_folder_that_is_named_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write(tmp_path / "mine"))
    (skill,) = found_in(tmp_path / "link")
    assert isinstance(skill, Skill)
    assert (skill.name, skill.findings) == ("mine", ())


def catalogue(place: Path) -> SkillCatalogue:
    return SkillCatalogue(lambda: [Place("home", place, runs_code=True)])


def names(known: SkillCatalogue) -> list[str]:
    return [skill.name for skill in known.scan().all()]


def test_places_are_looked_through_anew(tmp_path: Path) -> None:
    known = catalogue(tmp_path)
    assert names(known) == []
    folder = write(tmp_path / "one")
    assert names(known) == ["one"]
    changed(folder / "SKILL.md", text_of("one", description="Another."))
    assert known.scan().all()[0].description == "Another."
    changed(folder / "SKILL.md", text_of("one", description="Onother."))
    assert known.scan().all()[0].description == "Onother."
    (folder / "graph.py").write_text("")
    assert known.scan().all()[0].code
    folder.rename(tmp_path / "two")
    write(tmp_path / "two")
    assert names(known) == ["two"]
    (tmp_path / "two" / "SKILL.md").write_text("broken")
    assert names(known) == []
    assert len(known.current.left_out) == 1
    write(tmp_path / "two")
    assert (names(known), known.current.left_out) == (["two"], ())
    (tmp_path / "two" / "SKILL.md").unlink()
    assert names(known) == []


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(text: str, folder: str, **more: Any) -> Any:
        read.append(folder)
        return read_document(text, folder, **more)

    monkeypatch.setattr(discovery, "read_document", counted)
    write(tmp_path / "one")
    write(tmp_path / "two")
    known = catalogue(tmp_path)
    known.scan()
    known.scan()
    assert read == ["one", "two"]
    (tmp_path / "two" / "graph.py").write_text("")
    known.scan()
    assert read == ["one", "two", "two"]


def test_of_two_in_one_place_the_first_folder_counts(tmp_path: Path) -> None:
    write(tmp_path / "my-skill", body="Hyphen.")
    write(tmp_path / "my_skill", body="Underscore.")
    (kept,), (left,) = resolve_duplicates(found_in(tmp_path))
    assert (kept.folder, left.folder) == (tmp_path / "my-skill", tmp_path / "my_skill")
    assert str(tmp_path / "my-skill") in left.findings[-1].message


def test_of_two_in_two_places_the_later_place_counts(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a" / "mine"), write(tmp_path / "b" / "mine")
    (kept,), (left,) = resolve_duplicates(found_in(tmp_path / "a", tmp_path / "b"))
    assert (kept.folder, left.folder) == (second, first)


def test_a_faulty_one_does_not_stand_in_for_a_good_one(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "mine")
    write(tmp_path / "b" / "mine", {"SKILL.md": "broken"})
    (kept,), (left,) = resolve_duplicates(found_in(tmp_path / "a", tmp_path / "b"))
    assert kept.folder == first
    assert isinstance(left, FaultySkill)


def test_of_a_folder_in_two_places_the_later_one_says_whether_code_runs(tmp_path: Path) -> None:
    write(tmp_path / "mine", {"graph.py": ""})
    places = [Place("user", tmp_path, runs_code=False), Place("path", tmp_path, runs_code=True)]
    (kept,), left = resolve_duplicates(found_in(*places))
    assert (kept.place, kept.runs_code, left) == ("path", True, [])


def test_code_that_may_not_run_is_no_guidance(tmp_path: Path) -> None:
    write(tmp_path / "mine", {"graph.py": ""}, body="")
    (trusted,) = found_in(tmp_path)
    (untrusted,) = found_in(Place("user", tmp_path, runs_code=False))
    assert isinstance(trusted, Skill)
    assert "no graph.py that may run" in faults(untrusted)[0]


def test_a_folder_that_the_user_named_and_that_is_not_there_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = [Place("path", tmp_path / "mistyped", runs_code=True), Place("home", tmp_path / "no", runs_code=True)]
    assert found_in(*places) == []
    (record,) = caplog.records
    assert "mistyped cannot be listed" in record.getMessage()


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
    ("place", "runs"), [("agents", False), ("claude", False), ("home", True), ("project agents", True), ("path", True)]
)
def test_code_runs_from_trusted_places_only(place: str, runs: bool, where: SkillSearchPath, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir(exist_ok=True)
    folder = write(tmp_path / RELATIVE[place] / "mine", {"graph.py": MARKING})
    trust(where.home, tmp_path / "project")
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


def test_code_of_other_programs_skills_runs_once_it_is_trusted(where: SkillSearchPath, tmp_path: Path) -> None:
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
