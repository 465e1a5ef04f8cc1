"""SKILL.md taken apart: the standard, the paper's headings, and faults with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import skills_ref

from gems.skills.discovery import read_skill
from gems.skills.models import normalise_name
from gems.skills.parser import Document, is_skill_name, read_document
from tests.support.skill_folders import skill_in, text_of, write

NAME = "my-skill"
WELL_FORMED = {
    "smallest": text_of(NAME),
    "every field": text_of(
        NAME, license="MIT", compatibility="Any", allowed_tools="Bash Read", metadata="\n  author: me\n  version: 1"
    ),
    "quoted": text_of(NAME, description='"Use when: always"'),
    "single quoted": text_of(NAME, description="'It''s for cats.'"),
    "folded": text_of(NAME, description=">\n  Long\n  lines."),
    "literal": text_of(NAME, description="|\n  Long\n  lines."),
    "plain over two lines": text_of(NAME, description="Long\n  lines."),
    "comment": text_of(NAME, description="For cats. # and dogs"),
    "chinese description": text_of(NAME, description="用于文字"),
    "longest description": text_of(NAME, description="d" * 1024),
    "number as text": text_of(NAME, description="42"),
    "line of the body": text_of(NAME, body="One.\n\n---\n\nTwo."),
    "crlf": text_of(NAME).replace("\n", "\r\n"),
    "no line end": text_of(NAME).rstrip("\n"),
    "name in quotes": text_of(NAME).replace(f"name: {NAME}", f'name: "{NAME}"'),
}
MALFORMED = {
    "no front matter": "Just text.",
    "empty": "",
    "not closed": "---\nname: my-skill\ndescription: x\n",
    "blank first line": f"\n{text_of(NAME)}",
    "no fields": "---\nhello\n---\nbody",
    "list": "---\n- name\n---\nbody",
    "no name": "---\ndescription: x\n---\nbody",
    "empty name": text_of("").replace("name: ", 'name: ""'),
    "no description": "---\nname: my-skill\n---\nbody",
    "empty description": text_of(NAME, description=""),
    "blank description": text_of(NAME, description='"  "'),
    "list as description": text_of(NAME, description="\n  - a\n  - b"),
    "long description": text_of(NAME, description="d" * 1025),
    "long compatibility": text_of(NAME, compatibility="c" * 501),
    "capital letters": text_of("My-Skill"),
    "underscore": text_of("my_skill"),
    "two hyphens": text_of("my--skill"),
    "hyphen at the end": text_of("my-skill-"),
    "blank": text_of("my skill"),
    "another name": text_of("other"),
    "long name": text_of("n" * 65),
    "unknown field": text_of(NAME, author="me"),
    "field in capital letters": text_of(NAME).replace("name:", "Name:"),
    "colon": text_of(NAME, description="Use when: always"),
    "quotation mark": text_of(NAME, description='"not closed'),
    "tab": text_of(NAME, metadata="\n\tauthor: me"),
    "given twice": text_of(NAME, metadata="\n  a: b\nname: other"),
    "headings": "# Skill: Mine\n\n## Description\nx\n\n## Instructions\ny\n",
}
# The standard's text and its validator do not say the same about these; the reason stands beside each.
DIFFERENT = {
    "byte order mark": (f"\ufeff{text_of(NAME)}", True, "Editors on Windows write one; it says nothing."),
    "empty body": (text_of(NAME, body=""), False, "A skill without guidance does nothing to a prompt."),
    "hyphens in a text": (text_of(NAME, description='"a --- b"'), True, "The validator cuts at any ---."),
    "flow style": (text_of(NAME, metadata="{author: me}"), True, "YAML, though the validator's parser takes none."),
    "empty compatibility": (text_of(NAME, compatibility=""), False, "The standard wants 1 to 500 characters."),
    "list as metadata": (text_of(NAME, metadata="\n  - a"), False, "The standard wants a map."),
}


def read(text: str, folder: str = NAME, **more: Any) -> Document:
    return read_document(text, folder, **more)


def is_standard(folder: Path) -> bool:
    findings = read_skill(folder, "home", trusted=True).findings
    return not any(finding.level in ("unusable", "nonstandard") for finding in findings)


@pytest.mark.parametrize("text", WELL_FORMED.values(), ids=WELL_FORMED)
def test_well_formed_documents_are_so_for_the_public_validator_too(text: str, tmp_path: Path) -> None:
    folder = write(tmp_path / NAME, {"SKILL.md": text})
    assert skills_ref.validate(folder) == []
    assert is_standard(folder)


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_documents_are_so_for_the_public_validator_too(text: str, tmp_path: Path) -> None:
    folder = write(tmp_path / NAME, {"SKILL.md": text})
    assert skills_ref.validate(folder) != []
    assert not is_standard(folder)


@pytest.mark.parametrize(("text", "standard", "why"), DIFFERENT.values(), ids=DIFFERENT)
def test_where_the_public_validator_says_otherwise(text: str, standard: bool, why: str, tmp_path: Path) -> None:
    folder = write(tmp_path / NAME, {"SKILL.md": text})
    assert is_standard(folder) == standard, why
    assert (skills_ref.validate(folder) == []) != standard


@pytest.mark.parametrize("folder", ["日本語", "größe", "v2-3"])
def test_names_in_any_script(folder: str, tmp_path: Path) -> None:
    written = write(tmp_path / folder)
    assert skills_ref.validate(written) == []
    assert is_standard(written)


def test_what_is_read() -> None:
    document = read(WELL_FORMED["every field"])
    assert (document.name, document.description, document.body) == (NAME, f"For {NAME}.", "Say it better.")
    assert document.metadata == {"author": "me", "version": "1"}
    assert (document.findings, document.is_usable) == ((), True)


def test_all_faults_come_together_with_their_lines() -> None:
    text = "---\nname: My_Skill\nauthor: me\ncompatibility:\ndescription: ''\nlicense: [a]\n---\n"
    found = {finding.line: finding for finding in read(text).findings}
    assert sorted(found) == [0, 2, 3, 4, 5, 6]
    assert str(found[5]).startswith("SKILL.md:5: The description is empty.")
    assert (found[5].level, found[3].level, found[0].level) == ("unusable", "nonstandard", "unusable")
    assert "'my-skill'" in found[2].message


def test_line_of_broken_yaml() -> None:
    (fault,) = read('---\nname: my-skill\n\ndescription: "x\n---\nbody\n').findings
    assert (fault.line, fault.level) == (4, "nonstandard")
    assert "description is not valid YAML" in fault.message


SAID = f"For {NAME}."
FRONT_MATTERS = {
    "two lists": (text_of(NAME, argument_hint="[a] [b]"), SAID),
    "optional argument": (text_of(NAME, argument_hint="<file> [--fast] | [--slow]"), SAID),
    "star": (text_of(NAME, allowed_tools="*"), SAID),
    "tools with colons": (text_of(NAME, allowed_tools="Bash(git: *), Read: all"), SAID),
    "tools of a program": (text_of(NAME, allowed_tools="Bash(git:*), Read, mcp__x__*"), SAID),
    "list of tools": (text_of(NAME, allowed_tools="\n- Bash(npm run *)\n- Read"), SAID),
    "at": (text_of(NAME, author="@someone"), SAID),
    "percent": (text_of(NAME, version="%VERSION%"), SAID),
    "placeholder": (text_of(NAME, version="{{ version }}"), SAID),
    "backtick": (text_of(NAME, license="`MIT`"), SAID),
    "tag": (text_of(NAME, license="!important MIT: see LICENSE"), SAID),
    "tab in a field": (text_of(NAME, hooks="\n\tPreToolUse: x"), SAID),
    "open quotation mark": (text_of(NAME, author='"me'), SAID),
    "nested hooks": (text_of(NAME, hooks="\n  Stop:\n    - matcher: '*'\n      hooks: [{type: command}]"), SAID),
    "types": (text_of(NAME, version="1.10", user_invocable="true", tags="[a, b]", updated="2025-01-01"), SAID),
    "twice": (text_of(NAME, model="opus\nmodel: haiku"), SAID),
    "deep": (text_of(NAME, x="[" * 50 + "]" * 50), SAID),
    "zero": (text_of(NAME, x="a\0b"), SAID),
    "dots": (text_of(NAME, x="y\n..."), SAID),
    "stray line": (text_of(NAME).replace("---\n", "---\nMy skill\n\n", 1), SAID),
    "comment with a list": (text_of(NAME, x="[a] [b]\n# [c"), SAID),
    "indented": ("---\n  name: my-skill\n  x: [a] [b]\n  description: Long: text.\n---\nbody", "Long: text."),
    "no blanks": ("---\nname:my-skill\ndescription:Draws cats.\n---\nbody", "Draws cats."),
    "colons": (text_of(NAME, description="Use when: a: b. Triggers: c"), "Use when: a: b. Triggers: c"),
    "colon at the end": (text_of(NAME, description="Draws the following: cats:"), "Draws the following: cats:"),
    "colon in a second line": (text_of(NAME, description="Draws.\n  Use when: asked."), "Draws. Use when: asked."),
    "lines without indent": (text_of(NAME, description="\nDraws [a] cats\nand dogs."), "Draws [a] cats and dogs."),
    "label": (text_of(NAME, description="[Beta] Draws cats"), "[Beta] Draws cats"),
    "bold": (text_of(NAME, description="**Draws** cats"), "**Draws** cats"),
    "quoted word": (text_of(NAME, description='"Cats" are drawn'), '"Cats" are drawn'),
    "apostrophe": (text_of(NAME, description="'It's for cats.'"), "It's for cats."),
    "tabs in a block": (text_of(NAME, description="|\n\tDraws: cats.\n\tAnd dogs."), "Draws: cats. And dogs."),
    "folded with a colon": (text_of(NAME, description=">-\n  Use when: x\n  y: z", x="[a] [b]"), "Use when: x y: z"),
    "carriage returns": (text_of(NAME, x="[a] [b]").replace("\n", "\r\n"), SAID),
    "mark and blanks": (f"\ufeff{text_of(NAME, x='[a] [b]')}".replace("---\n", "---  \n"), SAID),
}


@pytest.mark.parametrize(("text", "description"), FRONT_MATTERS.values(), ids=FRONT_MATTERS)
def test_no_other_field_makes_a_skill_unusable(text: str, description: str, tmp_path: Path) -> None:
    skill = skill_in(write(tmp_path / NAME, {"SKILL.md": text}))
    assert (skill.name, skill.description) == (NAME, description)
    assert {finding.level for finding in skill.findings} <= {"nonstandard"}
    fields_of_the_standard = ("list of tools", "tools of a program")
    assert skill.findings or any(text is FRONT_MATTERS[name][0] for name in fields_of_the_standard)


def test_each_fault_is_told_with_its_field_and_line() -> None:
    text = text_of(NAME, argument_hint="[a] [b]", metadata="\n  note: a: b\n  gems-conflicts: other-skill", x="*")
    document = read(text)
    assert document.conflicts == {"other-skill"}
    assert [(finding.line, finding.message.split()[0]) for finding in document.findings] == [
        (4, "argument-hint"),
        (5, "metadata"),
        (8, "x"),
    ]


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        (text_of(NAME, description="Use when: always"), "Use when: always"),
        (text_of(NAME, description="d" * 1100), "d" * 1024),
        (text_of(NAME, metadata="\n  gems-conflicts: [a]"), f"For {NAME}."),
        (text_of(NAME, description="one\ndescription: two"), "one"),
        (f"\n\n{text_of(NAME)}", f"For {NAME}."),
    ],
    ids=["colon", "long", "nested", "twice", "late"],
)
def test_what_is_clear_is_used_and_told(text: str, read_as: str) -> None:
    document = read(text)
    assert (document.description, document.is_usable) == (read_as, True)
    assert {finding.level for finding in document.findings} == {"nonstandard"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_headings_of_the_paper(end: str, mark: str, tmp_path: Path) -> None:
    text = (
        "# Skill: Creative Drawing\n\n## Description\nFor\nideas.\n\n## Instructions\nDream.\n\n"
        "```\n## Description\nno heading\n```\n\n## Examples\nOne.\n"
    )
    folder = write(tmp_path / "creative_drawing", {"SKILL.md": mark + text.replace("\n", end)})
    found = read_skill(folder, "home", trusted=True)
    assert {finding.level for finding in found.findings} == {"nonstandard"}
    document = read(text, "creative_drawing")
    assert (document.name, document.description) == ("creative-drawing", "For ideas.")
    assert document.body.startswith("Dream.")
    assert document.body.endswith("## Examples\nOne.")


@pytest.mark.parametrize(
    "text", ["# Skill: X\n\n## Instructions\ny\n", "# Skill: X\n\n## Description\nx\n", "# Skill: X\n"]
)
def test_headings_that_lack_a_part(text: str) -> None:
    assert not read(text).is_usable


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("text_rendering", "text-rendering"),
        (" Text  Rendering! ", "text-rendering"),
        ("--a--b--", "a-b"),
        ("ｗｉｄｅ", "wide"),
        ("___", ""),
    ],
)
def test_names_are_made_of_anything(written: str, name: str) -> None:
    assert normalise_name(written) == name


def test_conflicts() -> None:
    document = read(text_of(NAME, metadata='\n  gems-conflicts: "a_b, c  d"'))
    assert document.conflicts == {"a-b", "c", "d"}


def test_code_needs_no_guidance() -> None:
    assert read(text_of(NAME, body=""), has_code=True).is_usable
    assert not read(text_of(NAME, body="")).is_usable


@pytest.mark.parametrize("body", ["a\n" * 501, "a" * 20_001])
def test_long_guidance_is_told_and_used(body: str) -> None:
    document = read(text_of(NAME, body=body))
    assert document.is_usable
    assert [finding.level for finding in document.findings] == ["advice"]


@pytest.mark.parametrize("name", ["judge", "none", "auto"])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    document = read_document(text_of(name), name)
    assert not document.is_usable
    assert [finding.line for finding in document.findings] == [2]


@pytest.mark.parametrize("name", ["judge", "none", "Big", "a_b", "a" * 65, ""])
def test_names_that_no_new_skill_can_have(name: str) -> None:
    assert is_skill_name("night-scenes")
    assert not is_skill_name(name)
