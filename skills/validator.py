"""Validate a skill's folder: its SKILL.md, the files it references, and its code without running it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from gems.errors import SkillError
from gems.skills.discovery import CODE, read_skill
from gems.skills.files import find_references, read_text, within
from gems.skills.models import FaultySkill, Finding, Skill
from gems.skills.parser import read_document


@dataclass(frozen=True, slots=True)
class Validation:
    """Result of a validation.

    Attributes:
        folder: The folder.
        skill: The skill; None if it cannot be used.
        findings: All findings.
    """

    folder: Path
    skill: Skill | None
    findings: tuple[Finding, ...]

    @property
    def is_valid(self) -> bool:
        """Whether it conforms to the standard and can be used."""
        return all(finding.level == "advice" for finding in self.findings)


def validate(folder: Path) -> Validation:
    """Check a skill's folder, or that of a SKILL.md; its code is not run. Blocking."""
    folder = folder.parent if folder.name.lower() == "skill.md" else folder
    folder = folder.absolute()
    if not folder.is_dir():
        missing = Finding(file=str(folder), line=0, level="unusable", message="The folder does not exist.")
        return Validation(folder, None, (missing,))
    found = read_skill(folder, "path", trusted=False)
    findings = list(found.findings)
    if isinstance(found, FaultySkill):
        return Validation(folder, None, (*findings, *_code_findings(folder)))
    findings += _reference_findings(found)
    findings += _code_findings(folder)
    usable = all(finding.level != "unusable" for finding in findings)
    return Validation(folder, found if usable else None, tuple(findings))


def _reference_findings(skill: Skill) -> list[Finding]:
    folder = skill.folder or Path()
    text = read_text(folder, skill.file)
    body = read_document(text, folder.name, file=skill.file, has_code=skill.code).body
    findings = []
    for relative in find_references(body):
        try:
            read_text(folder, relative)
        except SkillError as error:
            line = text[: text.find(relative)].count("\n") + 1
            findings.append(Finding(file=skill.file, line=line, level="nonstandard", message=error.message))
    return findings


def _code_findings(folder: Path) -> list[Finding]:
    """Check `graph.py` without running it."""
    if not (folder / CODE).exists():
        return []
    try:
        within(folder, CODE)
        tree = ast.parse(read_text(folder, CODE), filename=CODE)
    except SkillError as error:
        return [Finding(file=CODE, line=0, level="unusable", message=error.message)]
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 0) or 0
        return [Finding(file=CODE, line=line, level="unusable", message=f"Not valid Python: {error}.")]
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {name for node in tree.body for name in _bound_names(node)}
    if "build" in names:
        return []
    message = "It has no function build(context) that makes the skill's graph."
    return [Finding(file=CODE, line=0, level="unusable", message=message)]


def _bound_names(node: ast.stmt) -> list[str]:
    """Return the names that an import or an assignment binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
