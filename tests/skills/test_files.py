"""Files of a skill: what is read, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gems.errors import SkillError
from gems.skills.files import MAX_BYTES, MAX_CHARACTERS, find_references, read_guidance, read_text, within
from gems.skills.models import Skill
from gems.skills.validator import validate
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
        ("[fonts](./references/a.md)", ["references/a.md"]),
        ("(../references/a.md)", ["../references/a.md"]),
        ("https://example.org/references/a.md, references/a.mdx, references/run.py", []),
    ],
)
def test_files_that_a_body_names(body: str, named: list[str], tmp_path: Path) -> None:
    assert find_references(body, tmp_path) == named


FILES = {"rules/palette.md": "Red.", "a/b.txt": "Blue.", "my notes.md": "Green.", "data/c.json": "{}", "run.sh": "ls"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("See rules/palette.md.", ["rules/palette.md"]),
        ("Read `rules/palette.md`, then `./a/b.txt`.", ["rules/palette.md", "a/b.txt"]),
        ("```\ncat data/c.json\n```", ["data/c.json"]),
        ("[x](./a/b.txt) and [x](rules/palette.md#reds 'Title')", ["a/b.txt", "rules/palette.md"]),
        ("[x](my%20notes.md?plain=1) [y](<my notes.md>)", ["my notes.md"]),
        ("[x][1]\n\n[1]: rules/palette.md#top", ["rules/palette.md"]),
        ("[script](run.sh) but not `run.sh`", ["run.sh"]),
        ("`out/result.md` is written; [gone](gone.md)", ["gone.md"]),
        ("[a](https://x.org/a.md) [b](#top) [c](mailto:a@b.c) [d](//x.org/a.md) [e](SKILL.md) [f](http://[)", []),
    ],
)
def test_files_that_a_body_links_to(body: str, named: list[str], tmp_path: Path) -> None:
    folder = write(tmp_path / "skill", FILES)
    assert find_references(body, folder) == named


@pytest.mark.parametrize(
    ("body", "level"),
    [
        ("[x](../secret.md)", "nonstandard"),
        ("[x](%2e%2e/secret.md)", "nonstandard"),
        ("[x](/etc/passwd)", "nonstandard"),
        ("[x](out.md)", "nonstandard"),
        ("`out.md`", "nonstandard"),
        ("[x](up/secret.md)", "nonstandard"),
        ("[x](none.md)", "nonstandard"),
        ("[x](.env)", "advice"),
        ("![x](picture.png)", "advice"),
        ("[x](rules)", "advice"),
        ("[x](big.txt)", "advice"),
        ("[x](long.txt)", "advice"),
    ],
)
async def test_links_to_what_is_not_sent_are_told(body: str, level: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "skill", body=f"{body} {NOTES}")
    write(tmp_path, {"secret.md": "secret"})
    write(
        folder,
        {NOTES: "The notes.", "rules/a.md": "", ".env": "secret", "picture.png": b"\x89PNG\0\0secret"},
        body=f"{body} {NOTES}",
    )
    write(folder, {"big.txt": "secret" * MAX_BYTES, "long.txt": "secret" * 7_000}, body=f"{body} {NOTES}")
    (folder / "out.md").symlink_to(tmp_path / "secret.md")
    (folder / "up").symlink_to(tmp_path)
    text, faults = await read_guidance(skill_in(folder))
    found = validate(folder)
    assert "The notes." in text
    assert "secret" not in text.removeprefix(body)
    assert (len(faults), [finding.level for finding in found.findings], found.references) == (1, [level], [NOTES])
    assert found.valid == (level == "advice")


async def test_linked_files_are_sent_and_listed(tmp_path: Path) -> None:
    folder = write(tmp_path / "skill", FILES, body="Read [the palette](rules/palette.md#reds).")
    text, faults = await read_guidance(skill_in(folder))
    assert (text, faults) == ("Read [the palette](rules/palette.md#reds).\n\n## rules/palette.md\n\nRed.", [])
    assert validate(folder).references == ["rules/palette.md"]


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
