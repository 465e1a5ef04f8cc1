"""Folders of skills, written for tests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gems.skills.discovery import Place, Scanner, read_skill
from gems.skills.models import FaultySkill, ScannedSkill, Skill


def text_of(name: str, body: str = "Say it better.", **more: str) -> str:
    """A SKILL.md with front matter."""
    fields = {"name": name, "description": f"For {name}."} | {
        key.replace("_", "-"): value for key, value in more.items()
    }
    lines = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"---\n{lines}---\n{body}\n"


def write(folder: Path, files: Mapping[str, str | bytes] | None = None, **more: str) -> Path:
    """A skill's folder: a well-formed SKILL.md and whatever else is to stand there.

    Args:
        folder: Where.
        files: Texts or bytes by relative path.
        **more: `body`, and further fields of the front matter.
    """
    listed: dict[str, str | bytes] = {"SKILL.md": text_of(folder.name, **more)}
    for relative, content in (listed | dict(files or {})).items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def changed(path: Path, text: str) -> None:
    """Another text in a file, with the size and the second that it had before where that is possible."""
    before = path.stat()
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def found_in(*places: Path | Place, scanner: Scanner | None = None) -> list[ScannedSkill]:
    """What stands in places, which are trusted where nothing else is said."""
    listed = [place if isinstance(place, Place) else Place("home", place, runs_code=True) for place in places]
    return (scanner or Scanner()).scan(listed)


def skill_in(folder: Path, *, trusted: bool = True) -> Skill:
    """The skill in a folder, which must be usable."""
    found = read_skill(folder, "home", trusted=trusted)
    assert isinstance(found, Skill), found
    return found


def coded(folder: Path, code: str, **more: Any) -> Skill:
    """A trusted skill with a `graph.py`."""
    return skill_in(write(folder, {"graph.py": code}, **more))


def faults(found: ScannedSkill) -> list[str]:
    """What keeps a folder from being used, as it is told."""
    assert isinstance(found, FaultySkill), found
    return [str(finding) for finding in found.findings if finding.level == "unusable"]


SKILL = """\
---
name: {name}
description: Paints {name}. For prompts about it; not for plain ones.
license: MIT
metadata:
  author: somebody
---

# {name}

The body of {name}.
"""


def skill_folder(parent: Path, name: str, examples: list[Any] | str | None = None, *, code: str = "") -> Path:
    """A folder with a skill; examples are values of lines, or the whole text."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(SKILL.format(name=name), encoding="utf-8")
    if examples is not None:
        lines = "".join(f"{json.dumps(line)}\n" for line in examples)
        (folder / "examples.jsonl").write_text(examples if isinstance(examples, str) else lines)
    if code:
        (folder / "graph.py").write_text(code)
    return folder


def example(prompt: str, trigger: bool = True, *keeps: str) -> dict[str, Any]:
    return {"prompt": prompt, "trigger": trigger, "keeps": list(keeps)}
