"""What is read of a skill only once it is wanted: its guidance, and the files that this names."""

from __future__ import annotations

import asyncio
import re

from gems.errors import SkillError
from gems.skills.files import read_text
from gems.skills.models import Skill
from gems.skills.parser import read_document

_REFERENCE = re.compile(r"(?<![\w/.-])((?:\.{1,2}/)*references/[\w./-]+\.(?:md|txt)(?!\w))")
MAX_CHARACTERS = 40_000
"""Of a body and the files that it names: about 10,000 tokens."""


async def read_guidance(skill: Skill) -> tuple[str, list[str]]:
    """The skill's body, with the files of `references/` that it names behind it, and what could not be read.

    Raises:
        SkillError: the skill has vanished since it was found, or is no longer usable.
    """
    body = await read_body(skill)
    faults: list[str] = []
    if len(body) > MAX_CHARACTERS:
        faults.append(f"Of the skill {skill.name} only the first {MAX_CHARACTERS:,} characters are sent.")
        body = body[:MAX_CHARACTERS]
    parts, size = [body], len(body)
    for relative in find_references(body):
        try:
            text = (await read_reference(skill, relative)).strip()
        except SkillError as error:
            faults.append(f"A file that the skill {skill.name} names is left out: {error.message}")
            continue
        if size + len(text) > MAX_CHARACTERS:
            faults.append(f"{relative} of the skill {skill.name} is left out: it names too much to be sent.")
            continue
        size += len(text)
        parts.append(f"## {relative}\n\n{text}")
    return "\n\n".join(part for part in parts if part), faults


async def read_body(skill: Skill) -> str:
    """The text below the skill's front matter; see `guidance`."""
    if skill.body is not None or skill.folder is None:
        return skill.body or ""
    return await asyncio.to_thread(_read_body, skill)


async def read_reference(skill: Skill, relative: str) -> str:
    """The text of a file in the skill's folder.

    Args:
        skill: The skill.
        relative: Path within its folder, with slashes.

    Raises:
        SkillError: see `gems.skills.files.read_text`; or the skill has no folder.
    """
    if skill.folder is None:
        raise SkillError(f"The skill {skill.name} has no folder, so there is no {relative}.")
    return await asyncio.to_thread(read_text, skill.folder, relative)


def find_references(body: str) -> list[str]:
    """Files of `references/` that a body names, in order and without repeats."""
    return list(dict.fromkeys(_REFERENCE.findall(body)))


def _read_body(skill: Skill) -> str:
    folder = skill.folder
    if folder is None:
        return ""
    document = read_document(
        read_text(folder, skill.file), folder.name, file=skill.file, has_code=skill.runs_code
    )
    if not document.is_usable:
        faults = " ".join(str(f) for f in document.findings if f.level == "unusable")
        raise SkillError(f"The skill {skill.name} has changed and cannot be used: {faults}")
    return document.body
