"""Folders of skills, made for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
