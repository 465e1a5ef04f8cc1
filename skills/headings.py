"""Read the format of the paper's skills: `# Skill: Name`, `## Description`, `## Instructions`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class HeadingSections:
    """Sections of a skill file that uses headings.

    Attributes:
        description: Text below `## Description`; None without this heading.
        description_line: The heading's line, from 1; 0 without it.
        body: Text below `## Instructions`; None without this heading.
    """

    description: str | None
    description_line: int
    body: str | None


def read_headings(text: str) -> HeadingSections:
    """Return the sections of a skill file without front matter.

    A Markdown parser finds the headings, so that code blocks are not mistaken for headings. Everything after
    `## Instructions` belongs to the body.

    Source: the format of the skills that came with GEMS (arXiv:2603.28088).
    """
    lines = text.split("\n")
    headings = _find_headings(text)
    found: dict[str, tuple[int, str]] = {}
    for index, (name, line, level) in enumerate(headings):
        word = name.strip().rstrip(":").lower()
        if level > 1 and word in ("description", "instructions") and word not in found:
            later = [at for _, at, depth in headings[index + 1 :] if depth <= level]
            end = later[0] - 1 if later and word == "description" else len(lines)
            found[word] = (line, "\n".join(lines[line:end]).strip())
    line, description = found.get("description", (0, None))
    return HeadingSections(description, line, found.get("instructions", (0, None))[1])


def _find_headings(text: str) -> list[tuple[str, int, int]]:
    """Return text, line from 1, and level of each heading."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only few files need it

    tokens = MarkdownIt("commonmark").parse(text)
    found = []
    for token, inner in pairwise(tokens):
        if token.type == "heading_open" and token.map is not None:
            found.append((inner.content, token.map[0] + 1, int(token.tag[1:])))
    return found
