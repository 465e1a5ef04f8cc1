"""Parse the front matter of a SKILL.md, with the line of each field."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from gems.skills.models import Finding, Level

_FENCE = "---"
_MAX_DEPTH = 20
# Values of these are often unquoted although they contain a colon.
_UNQUOTED = re.compile(
    r"^(name|description|license|compatibility):[ \t]+(?![\"'>|\[{&*!#])(\S.*)$", re.MULTILINE
)


@dataclass(slots=True)
class Fields:
    """Fields of a front matter.

    Attributes:
        values: Texts by field name; for `metadata` a dictionary of texts.
        lines: Line number of each field, from 1.
        findings: Problems of the fields.
        is_readable: Whether it is known what is present and what is missing.
        is_headed: Whether the fields come from headings and not from a front matter.
    """

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    is_readable: bool = True
    is_headed: bool = False

    def found(self, line: int, level: Level, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(file=self.file, line=line, level=level, message=message))


def split_front_matter(text: str) -> tuple[str, int, int] | None:
    """Return the YAML between the fences, its first line number, and that of the body.

    None if the text has no front matter. The body's line number is 0 if it is not closed.
    """
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if first == len(lines) or lines[first].rstrip() != _FENCE:
        return None
    for number in range(first + 1, len(lines)):
        if lines[number].rstrip() == _FENCE:
            return "\n".join(lines[first + 1 : number]), first + 2, number + 2
    return "\n".join(lines[first + 1 :]), first + 2, 0


def read_fields(source: str, first_line: int, file: str) -> Fields:
    """Return the fields of a front matter, with problems as findings.

    `first_line` is the line of `file` on which the YAML in `source` starts.
    """
    fields = Fields(file)
    try:
        node = _compose(source, first_line, fields)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (mark.line if mark else 0)
        fields.is_readable = False
        fields.found(line, "unusable", f"The YAML cannot be read: {error.problem or error.context}.")
        return fields
    except (yaml.YAMLError, RecursionError) as error:
        fields.is_readable = False
        fields.found(
            first_line, "unusable", f"The YAML cannot be read: {' '.join(str(error).split())[:200]}."
        )
        return fields
    if not isinstance(node, yaml.MappingNode):
        fields.is_readable = False
        fields.found(first_line, "unusable", "The front matter has no fields such as `name: my-skill`.")
        return fields
    for key, value in node.value:
        _add_field(fields, key, value, first_line)
    return fields


def _compose(source: str, first_line: int, fields: Fields) -> yaml.Node | None:
    """Return the YAML's nodes, which know their lines; scalars stay texts.

    A colon within plain text is invalid YAML but clear to people, so the text is quoted and parsed again.
    """
    try:
        return _parse_yaml(source)
    except yaml.MarkedYAMLError as error:
        if error.problem is None or "mapping values are not allowed" not in error.problem:
            raise
        quoted = _UNQUOTED.sub(
            lambda found: f"{found[1]}: {json.dumps(found[2], ensure_ascii=False)}", source
        )
        node = _parse_yaml(quoted)
        line = first_line + (error.problem_mark.line if error.problem_mark else 0)
        fields.found(line, "nonstandard", "Text that contains a colon must be quoted.")
        return node


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
        return
    name = key.value
    if name in fields.values:
        fields.found(line, "nonstandard", f"The field {name} is given twice; the first one counts.")
        return
    fields.lines[name] = line
    fields.values[name] = _plain_value(value)


def _plain_value(node: yaml.Node) -> Any:
    """Return texts, lists of texts and one level of fields; None for deeper nesting."""
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [item.value if isinstance(item, yaml.ScalarNode) else None for item in node.value]
    return {
        key.value: value.value if isinstance(value, yaml.ScalarNode) else None
        for key, value in node.value
        if isinstance(key, yaml.ScalarNode)
    }
