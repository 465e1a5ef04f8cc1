"""Parse SKILL.md: front matter or headings, and the body."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import yaml

from gems.skills.models import Level, SkillFinding, normalise_name

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
_FENCE = "---"
_MAX_DEPTH = 20
_MAX_LENIENT = 50_000
"""Characters of a front matter that is read field by field if it is not valid YAML, which bounds the time."""
_LINE_FIELD = re.compile(r"(name|description|[A-Za-z_][\w.-]*(?=[ \t]*:(?:[ \t]|$)))[ \t]*:")
_BLOCK_MARK = re.compile(r"[|>][+-]?\d?[+-]?(?:\s|$)")


@dataclass(slots=True)
class Fields:
    """Fields of a front matter or of headings, with line numbers (from 1) and problems."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    findings: list[SkillFinding] = field(default_factory=list)
    is_readable: bool = True
    is_headed: bool = False

    def found(self, line: int, level: Level, message: str) -> None:
        """Add a finding."""
        self.findings.append(SkillFinding(file=self.file, line=line, level=level, message=message))


def split_front_matter(text: str) -> tuple[str, int, int] | None:
    """Return front matter, its first line number, and that of the body, 0 if unclosed; None without one."""
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if first == len(lines) or lines[first].rstrip() != _FENCE:
        return None
    for number in range(first + 1, len(lines)):
        if lines[number].rstrip() == _FENCE:
            return "\n".join(lines[first + 1 : number]), first + 2, number + 2
    return "\n".join(lines[first + 1 :]), first + 2, 0


def read_fields(source: str, first_line: int, file: str) -> Fields:
    """Return the fields of the front matter that starts on `first_line` of `file`; problems are findings."""
    fields = Fields(file)
    line, problem = first_line, "it has no fields such as `name: my-skill`"
    try:
        # Scalars stay texts, and nodes know their lines.
        node = _parse_yaml(source)
    except (yaml.YAMLError, RecursionError) as error:
        problem, offset = _yaml_problem(error)
        line += offset
    else:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                _add_field(fields, key, value, first_line)
            return fields
    if len(source) <= _MAX_LENIENT:
        _read_field_by_field(fields, source, first_line)
    fields.is_readable = bool(fields.values)
    if not fields.findings or not fields.is_readable:
        level: Level = "nonstandard" if fields.is_readable else "unusable"
        fields.found(line, level, f"The front matter is not valid YAML: {problem}.")
    return fields


def _yaml_problem(error: Exception) -> tuple[str, int]:
    """Return what is wrong in one line, and the line's offset."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())[:200], 0
    mark = error.problem_mark or error.context_mark
    return str(error.problem or error.context), mark.line if mark else 0


def _read_field_by_field(fields: Fields, source: str, first_line: int) -> None:
    """Read a front matter that is not valid YAML, so that a field's fault affects that field alone.

    Name and description are taken as they stand: people leave texts unquoted that YAML wants quoted.
    """
    for offset, name, text in _split_fields(source):
        line = first_line + offset
        try:
            node, problem = _parse_yaml(text), "it has no value"
        except (yaml.YAMLError, RecursionError) as error:
            node, problem = None, _yaml_problem(error)[0]
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                _add_field(fields, key, value, line)
        elif name in fields.values:
            fields.found(line, "nonstandard", f"The field {name} is given twice; the first one counts.")
        elif name in ("name", "description"):
            fields.lines[name], fields.values[name] = line, _plain_text(text)
            fields.found(
                line, "nonstandard", f"{name} is not valid YAML ({problem}) and is read as it stands; quote it."
            )
        elif name == "metadata":
            inner = _split_fields(text.partition("\n")[2])
            fields.lines[name], fields.values[name] = line, {key: _plain_text(value) for _, key, value in inner}
            fields.found(line, "nonstandard", f"metadata is not valid YAML ({problem}) and is read line by line.")
        else:
            fields.found(line, "nonstandard", f"{name} is not valid YAML ({problem}) and is ignored.")


def _split_fields(source: str) -> list[tuple[int, str, str]]:
    """Return line offset, name and all lines of each field that begins in the first column."""
    found: list[tuple[int, str, str]] = []
    for offset, line in enumerate(textwrap.dedent(source).split("\n")):
        if match := _LINE_FIELD.match(line):
            found.append((offset, match[1], line))
        elif found and not line.startswith("#"):
            found[-1] = (*found[-1][:2], f"{found[-1][2]}\n{line}")
    return found


def _plain_text(field_lines: str) -> str:
    """Return a field's value as one line of text, without quotes around it or the mark of a block."""
    printable = "".join(c if c.isprintable() else " " for c in field_lines.partition(":")[2])
    text = " ".join(_BLOCK_MARK.sub("", printable.strip(), count=1).split())
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _parse_yaml(source: str) -> yaml.Node | None:
    """Return the YAML's nodes; reject deep nesting, which would crash the C parser."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    depth = 0
    for event in yaml.parse(source, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            mark: Any = event.start_mark  # that of the parser in C is of another class
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=mark)
    return yaml.compose(source, Loader=loader)


def _add_field(fields: Fields, key: yaml.Node, value: yaml.Node, first_line: int) -> None:
    line = first_line + key.start_mark.line
    if not isinstance(key, yaml.ScalarNode):
        fields.found(line, "nonstandard", "A field name must be a plain text.")
    elif key.value in fields.values:
        fields.found(line, "nonstandard", f"The field {key.value} is given twice; the first one counts.")
    else:
        fields.lines[key.value] = line
        fields.values[key.value] = _plain_value(value)


def _plain_value(node: yaml.Node) -> Any:
    """Return texts, lists of texts and one level of fields; None for deeper nesting."""
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_scalar_text(item) for item in node.value]
    return {key.value: _scalar_text(value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _scalar_text(node: yaml.Node) -> Any:
    return node.value if isinstance(node, yaml.ScalarNode) else None


def _read_headings(text: str) -> dict[str, tuple[int, str]]:
    """Return line (from 1) and text of the sections `description` and `instructions` of a skill file.

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
    return found


def _find_headings(text: str) -> list[tuple[str, int, int]]:
    """Return text, line from 1, and level of each heading."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only few files need it

    tokens = MarkdownIt("commonmark").parse(text)
    return [
        (inner.content, token.map[0] + 1, int(token.tag[1:]))
        for token, inner in pairwise(tokens)
        if token.type == "heading_open" and token.map is not None
    ]


@dataclass(frozen=True, slots=True)
class Document:
    """Content of a SKILL.md: normalised name, description of at most 1,024 characters, guidance, metadata."""

    name: str
    description: str
    body: str
    metadata: dict[str, str]
    findings: tuple[SkillFinding, ...]

    @property
    def is_usable(self) -> bool:
        """Whether the skill can be used."""
        return not any(finding.level == "unusable" for finding in self.findings)

    @property
    def conflicts(self) -> frozenset[str]:
        """Names of skills that it cannot be combined with."""
        names = self.metadata.get(CONFLICTS, "").replace(",", " ").split()
        return frozenset(map(normalise_name, names))


def is_skill_name(text: str) -> bool:
    """Return whether a new skill may have this name: valid in the standard and not reserved."""
    return bool(text) and normalise_name(text) == text and len(text) <= MAX_NAME and text not in RESERVED


def read_document(text: str, folder: str, *, file: str = "SKILL.md", has_code: bool = False) -> Document:
    """Parse the SKILL.md of a folder; it needs no body if it `has_code`: a `graph.py` that may run."""
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


def _read_front_matter(text: str, source: str, first_line: int, body_line: int, file: str) -> tuple[Fields, str]:
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
    sections, fields = _read_headings(text), Fields(file, is_headed=True)
    if not sections:
        fields.is_readable = False
        fields.found(1, "unusable", "There is no front matter: the file must begin with a line ---.")
        return fields, ""
    fields.found(1, "nonstandard", "The skill uses headings; the standard requires front matter.")
    if "description" in sections:
        fields.lines["description"], description = sections["description"]
        fields.values["description"] = " ".join(description.split())
    # In this format the folder's name identifies the skill; the title is only text.
    return fields, sections.get("instructions", (0, ""))[1]


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
        elif name != "allowed-tools" and not isinstance(value, str):
            level = "unusable" if name == "description" else "nonstandard"
            fields.found(line, level, f"{name} must be a text.")  # type: ignore[arg-type]
    compatibility = fields.values.get("compatibility")
    if isinstance(compatibility, str) and not 0 < len(compatibility) <= MAX_COMPATIBILITY:
        message = f"has {len(compatibility)} characters; the standard wants 1 to {MAX_COMPATIBILITY}."
        fields.found(fields.lines["compatibility"], "nonstandard", f"compatibility {message}")


def _read_name(fields: Fields, folder: str) -> str:
    """Return the name; the folder's if the file has none."""
    given: Any = fields.values.get("name")
    line = fields.lines.get("name", 1)
    from_folder = normalise_name(folder)
    if not isinstance(given, str) or not given.strip():
        if fields.is_readable and not fields.is_headed:
            message = f"There is no name; it is called {from_folder!r} by its folder."
            fields.found(line, "nonstandard", message)
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
        message = f"The name has {len(name)} characters; the standard wants {MAX_NAME}."
        fields.found(line, "nonstandard", message)
    if unicodedata.normalize("NFKC", folder) != plain:
        fields.found(line, "nonstandard", f"The name {given!r} is not the folder's, which is {folder!r}.")
    return name


def _read_description(fields: Fields) -> str:
    given: Any = fields.values.get("description")
    line = fields.lines.get("description", 1)
    if isinstance(given, str) and given.strip():
        if len(given) > MAX_DESCRIPTION:
            message = f"The description has {len(given)} characters; only {MAX_DESCRIPTION} are used."
            fields.found(line, "nonstandard", message)
        return given.strip()[:MAX_DESCRIPTION]
    if fields.is_readable:
        fault = "The description is empty" if "description" in fields.values else "There is no description"
        fields.found(line, "unusable", f"{fault}. The planner could not know when to use the skill.")
    return ""


def _check_body(fields: Fields, body: str, *, has_code: bool) -> None:
    if not body.strip():
        if not has_code and fields.is_readable:
            fields.found(0, "unusable", "There is no guidance, and no graph.py that may run.")
        return
    count = body.count("\n") + 1
    if count > _MAX_BODY_LINES or len(body) > 4 * _MAX_BODY_TOKENS:
        message = "move what is seldom needed to references/, since all of it is sent to a chat model."
        size = f"{count} lines and {len(body):,} characters"
        fields.found(0, "advice", f"The guidance has {size}: {message}")
