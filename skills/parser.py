"""Parse a SKILL.md and check it against the Agent Skills standard, reporting all problems together."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from gems.skills.frontmatter import Fields, read_fields, split_front_matter
from gems.skills.headings import read_headings
from gems.skills.models import Finding, normalise_name

MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_COMPATIBILITY = 500
_MAX_BODY_LINES = 500
_MAX_BODY_TOKENS = 5_000
_FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
RESERVED = frozenset({"auto", "none", "judge", "confirmation", "parent"})
"""Names used for choices of skills and sources of answers."""
CONFLICTS = "gems-conflicts"
"""Key of `metadata`: names of skills, separated by blanks, that this one cannot be combined with."""


@dataclass(frozen=True, slots=True)
class Document:
    """Content of a SKILL.md.

    Attributes:
        name: Normalised name; see `normalise_name`.
        description: At most 1,024 characters.
        body: The guidance.
        metadata: Texts by key.
        findings: Problems.
    """

    name: str
    description: str
    body: str
    metadata: dict[str, str]
    findings: tuple[Finding, ...]

    @property
    def is_usable(self) -> bool:
        """Whether the skill can be used."""
        return not any(finding.level == "unusable" for finding in self.findings)

    @property
    def conflicts(self) -> frozenset[str]:
        """Names of skills that it cannot be combined with."""
        return frozenset(
            normalise_name(word) for word in self.metadata.get(CONFLICTS, "").replace(",", " ").split()
        )


def is_skill_name(text: str) -> bool:
    """Return whether a new skill may have this name: valid in the standard and not reserved."""
    return bool(text) and normalise_name(text) == text and len(text) <= MAX_NAME and text not in RESERVED


def read_document(text: str, folder: str, *, file: str = "SKILL.md", has_code: bool = False) -> Document:
    """Take a SKILL.md apart.

    Args:
        text: Of the file, with plain line feeds.
        folder: The folder's name.
        file: The file's name, for the findings.
        has_code: Whether a `graph.py` that may run stands beside it: then it needs no body.
    """
    parts = split_front_matter(text)
    if parts is None:
        fields, body = _read_heading_sections(text, file)
    else:
        fields, body = _read_front_matter(text, *parts, file)
    name = _read_name(fields, folder)
    if name in RESERVED:
        message = f"The name {name!r} means something else to GEMS; choose another one."
        fields.found(fields.lines.get("name", 1), "unusable", message)
    description = _read_description(fields)
    _check_body(fields, body, has_code=has_code)
    metadata = fields.values.get("metadata")
    kept = {key: value for key, value in metadata.items() if value} if isinstance(metadata, dict) else {}
    found = sorted(fields.findings, key=lambda finding: finding.line)
    return Document(name, description, body.strip(), kept, tuple(found))


def _read_front_matter(
    text: str, source: str, first_line: int, body_line: int, file: str
) -> tuple[Fields, str]:
    if not body_line:
        fields = Fields(file, is_readable=False)
        fields.found(first_line - 1, "unusable", "The front matter is not closed: a line --- is missing.")
        return fields, ""
    fields = read_fields(source, first_line, file)
    if first_line > 2:
        fields.found(1, "nonstandard", "The front matter must begin on the first line.")
    _check_fields(fields)
    return fields, "\n".join(text.split("\n")[body_line - 1 :])


def _read_heading_sections(text: str, file: str) -> tuple[Fields, str]:
    headed, fields = read_headings(text), Fields(file, is_headed=True)
    if headed.description is None and headed.body is None:
        fields.is_readable = False
        fields.found(1, "unusable", "There is no front matter: the file must begin with a line ---.")
        return fields, ""
    fields.found(1, "nonstandard", "The skill is told by headings; the standard wants front matter.")
    fields.lines["description"] = headed.description_line or 1
    if headed.description is not None:
        fields.values["description"] = " ".join(headed.description.split())
    # In this format the folder's name identifies the skill; the title is only text.
    return fields, headed.body or ""


def _check_fields(fields: Fields) -> None:
    for name, value in fields.values.items():
        line = fields.lines[name]
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            fields.found(line, "nonstandard", f"The standard has no field {name!r}; it has {known}.")
        elif name == "metadata":
            if not isinstance(value, dict):
                fields.found(line, "nonstandard", "metadata must hold fields of its own; it is ignored.")
            elif None in value.values():
                fields.found(line, "nonstandard", "metadata must hold texts only; the rest is ignored.")
        elif name == "allowed-tools":
            continue
        elif not isinstance(value, str):
            level = "unusable" if name == "description" else "nonstandard"
            fields.found(line, level, f"{name} must be a text.")  # type: ignore[arg-type]
    compatibility = fields.values.get("compatibility")
    if isinstance(compatibility, str) and not 0 < len(compatibility) <= MAX_COMPATIBILITY:
        fields.found(
            fields.lines["compatibility"],
            "nonstandard",
            f"compatibility has {len(compatibility)} characters; the standard wants 1 to "
            f"{MAX_COMPATIBILITY}.",
        )


def _read_name(fields: Fields, folder: str) -> str:
    """Return the name; the folder's if the file has none."""
    given: Any = fields.values.get("name")
    line = fields.lines.get("name", 1)
    from_folder = normalise_name(folder)
    if not isinstance(given, str) or not given.strip():
        if fields.is_readable and not fields.is_headed:
            fields.found(
                line, "nonstandard", f"There is no name; it is called {from_folder!r} by its folder."
            )
        return from_folder
    name = normalise_name(given)
    plain = unicodedata.normalize("NFKC", given.strip())
    if not name:
        fields.found(line, "nonstandard", f"{given!r} holds no letter; it is called {from_folder!r}.")
        return from_folder
    if name != plain:
        wanted = "lower-case letters, digits and single hyphens"
        fields.found(line, "nonstandard", f"The name {given!r} must be {wanted}; it is read as {name!r}.")
    if len(name) > MAX_NAME:
        fields.found(
            line, "nonstandard", f"The name has {len(name)} characters; the standard wants {MAX_NAME}."
        )
    if unicodedata.normalize("NFKC", folder) != plain:
        fields.found(line, "nonstandard", f"The name {given!r} is not the folder's, which is {folder!r}.")
    return name


def _read_description(fields: Fields) -> str:
    given: Any = fields.values.get("description")
    line = fields.lines.get("description", 1)
    if isinstance(given, str) and given.strip():
        if len(given) > MAX_DESCRIPTION:
            fields.found(
                line,
                "nonstandard",
                f"The description has {len(given)} characters; only {MAX_DESCRIPTION} are used.",
            )
        return given.strip()[:MAX_DESCRIPTION]
    if fields.is_readable:
        message = (
            "The description is empty." if "description" in fields.values else "There is no description."
        )
        fields.found(line, "unusable", f"{message} The planner could not know when to use the skill.")
    return ""


def _check_body(fields: Fields, body: str, *, has_code: bool) -> None:
    if not body.strip():
        if not has_code and fields.is_readable:
            fields.found(0, "unusable", "There is no guidance, and no graph.py that may run.")
        return
    count = body.count("\n") + 1
    if count > _MAX_BODY_LINES or len(body) > 4 * _MAX_BODY_TOKENS:
        fields.found(
            0,
            "advice",
            f"The guidance has {count} lines and {len(body):,} characters: move what is seldom needed to "
            "references/, since all of it is sent to a chat model.",
        )
