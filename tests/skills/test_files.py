"""Files of a skill: what is read, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gems.errors import SkillError
from gems.skills.files import MAX_BYTES, MAX_CHARACTERS, find_references, read_guidance, read_text, within
from gems.skills.models import Skill
from tests.support.skill_folders import skill_in, write

NOTES = "references/notes.md"


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"a\r\nb", "a\nb"), (b"a\rb", "a\nb"), (b"\xef\xbb\xbfa", "a"), ("é文".encode(), "é文"), (b"", "")],
)
def test_text_is_read_with_plain_line_feeds(raw: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(raw)
    assert read_text(tmp_path, "a.md") == text


@pytest.mark.parametrize("relative", ["../a.md", "references/../../a.md", "/etc/passwd", "..\\a.md", "..", "a\0.md"])
def test_paths_that_lead_out_are_refused(relative: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("secret")
    (tmp_path / "skill").mkdir()
    with pytest.raises(SkillError, match="leads out"):
        read_text(tmp_path / "skill", relative)


def test_links_that_lead_out_are_refused_and_others_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "skill", {NOTES: "inside"})
    (tmp_path / "secret.md").write_text("secret")
    (folder / "out.md").symlink_to(tmp_path / "secret.md")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in.md").symlink_to(folder / NOTES)
    (folder / "circle.md").symlink_to(folder / "circle.md")
    for relative in ("out.md", "up/secret.md"):
        with pytest.raises(SkillError, match="link that leads out"):
            read_text(folder, relative)
    with pytest.raises(SkillError):
        read_text(folder, "circle.md")
    assert read_text(folder, "in.md") == "inside"
    assert within(folder, NOTES) == folder / NOTES


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(SkillError, match="not a regular file"):
        read_text(tmp_path, "pipe.md")
    with pytest.raises(SkillError, match="cannot be read"):
        read_text(tmp_path, "folder.md")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "big.md").write_bytes(b"a" * (MAX_BYTES + 1))
    (tmp_path / "full.md").write_bytes(b"a" * MAX_BYTES)
    (tmp_path / "odd.md").write_bytes(b"one\ntwo \xff")
    assert len(read_text(tmp_path, "full.md")) == MAX_BYTES
    for relative, told in (
        ("big.md", "1,000,000"),
        ("odd.md", "line 2, is not UTF-8"),
        ("none.md", "There is no file none.md"),
    ):
        with pytest.raises(SkillError, match=told):
            read_text(tmp_path, relative)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("See `references/a.md`, references/b/c.txt and references/a.md.", ["references/a.md", "references/b/c.txt"]),
        ("[fonts](./references/a.md)", ["./references/a.md"]),
        ("(../references/a.md)", ["../references/a.md"]),
        ("https://example.org/references/a.md, references/a.mdx, references/run.py", []),
    ],
)
def test_files_that_a_body_names(body: str, named: list[str]) -> None:
    assert find_references(body) == named


async def test_named_files_stand_behind_the_body(tmp_path: Path) -> None:
    files = {NOTES: "The notes.", "references/other.md": "Not named."}
    skill = skill_in(write(tmp_path / "skill", files, body=f"Read {NOTES}."))
    assert skill.body is None
    assert await read_guidance(skill) == (f"Read {NOTES}.\n\n## {NOTES}\n\nThe notes.", [])


@pytest.mark.parametrize("named", ["references/none.md", "../references/up.md", "references/out.md"])
async def test_named_files_that_cannot_be_read_are_told(named: str, tmp_path: Path) -> None:
    write(tmp_path, {"references/up.md": "secret", "secret.md": "secret"})
    folder = write(tmp_path / "skill", {NOTES: "The notes."}, body=f"Read {named} and {NOTES}.")
    (folder / "references/out.md").symlink_to(tmp_path / "secret.md")
    text, faults = await read_guidance(skill_in(folder))
    assert "secret" not in text
    assert "The notes." in text
    assert len(faults) == 1
    assert named in faults[0]


async def test_no_more_is_sent_than_a_model_takes(tmp_path: Path) -> None:
    files = {"references/long.md": "l" * MAX_CHARACTERS, "references/short.md": "The short one."}
    body = "references/long.md references/short.md"
    text, faults = await read_guidance(skill_in(write(tmp_path / "skill", files, body=body)))
    assert text.endswith("The short one.")
    assert len(faults) == 1
    assert "references/long.md" in faults[0]
    text, faults = await read_guidance(Skill(name="a", description="b", body="c" * 100_000))
    assert (len(text), len(faults)) == (MAX_CHARACTERS, 1)


async def test_what_changed_since_it_was_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "skill", body="Old.")
    skill = skill_in(folder)
    write(folder, body="New.")
    assert await read_guidance(skill) == ("New.", [])
    for broken in ('---\nname: "skill\n---\nbody', "---\nname: skill\ndescription: x\n---\n"):
        (folder / "SKILL.md").write_text(broken)
        with pytest.raises(SkillError, match="has changed and cannot be used"):
            await read_guidance(skill)
    (folder / "SKILL.md").unlink()
    with pytest.raises(SkillError, match="There is no file"):
        await read_guidance(skill)


def test_half_a_character_names_no_file(tmp_path: Path) -> None:
    with pytest.raises(SkillError, match="not a valid file name"):
        read_text(tmp_path, "references/\ud800.md")
