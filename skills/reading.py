"""Read a skill's guidance and the files it references, once it is chosen."""

from __future__ import annotations

import asyncio
import re

from gems.errors import SkillError
from gems.skills.files import read_text
from gems.skills.models import Skill
from gems.skills.parser import read_document

_REFERENCE = re.compile(r"(?<![\w/.-])((?:\.{1,2}/)*references/[\w./-]+\.(?:md|txt)(?!\w))")
MAX_CHARACTERS = 40_000
"""Limit for a body and its referenced files: about 10,000 tokens."""


async def read_guidance(skill: Skill) -> tuple[str, list[str]]:
    """Return the skill's body with the files of `references/` it names, and warnings about unreadable ones.

    Raises `SkillError` if the skill has vanished or is no longer usable.
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
            faults.append(f"A file referenced by the skill {skill.name} is ignored: {error.message}")
            continue
        if size + len(text) > MAX_CHARACTERS:
            faults.append(
                f"{relative} of the skill {skill.name} is ignored: its references are too long to send."
            )
            continue
        size += len(text)
        parts.append(f"## {relative}\n\n{text}")
    return "\n\n".join(part for part in parts if part), faults


async def read_body(skill: Skill) -> str:
    """Return the text below the skill's front matter; raises as `read_guidance`."""
    if skill.body is not None or skill.folder is None:
        return skill.body or ""
    return await asyncio.to_thread(_read_body, skill)


async def read_reference(skill: Skill, relative: str) -> str:
    """Return the text of a file in the skill's folder, by its relative path with slashes.

    Raises `SkillError` as `gems.skills.files.read_text`, or if the skill has no folder.
    """
    if skill.folder is None:
        raise SkillError(f"The skill {skill.name} has no folder, so there is no {relative}.")
    return await asyncio.to_thread(read_text, skill.folder, relative)


def find_references(body: str) -> list[str]:
    """Return the files of `references/` that a body names, in order and without duplicates."""
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
