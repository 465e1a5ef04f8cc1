"""Validate a skill's folder: its SKILL.md, the files it names, and its code without running it."""

from __future__ import annotations

import ast
from pathlib import Path

from gems.errors import SkillError
from gems.skills.discovery import CODE, read_skill
from gems.skills.files import read_references, read_text, within
from gems.skills.models import Level, Skill, SkillFinding, unusable
from gems.skills.parser import read_document
from gems.skills.reports import Validated


def validate(folder: Path) -> Validated:
    """Check a skill's folder, or that of a SKILL.md; its code is not run. Blocking."""
    folder = (folder.parent if folder.name.lower() == "skill.md" else folder).absolute()
    if not folder.is_dir():
        missing = unusable(str(folder), "The folder does not exist.")
        return Validated(folder=str(folder), name=None, valid=False, findings=[missing])
    found = read_skill(folder, "path", trusted=False)
    findings = list(found.findings)
    references: list[str] = []
    if isinstance(found, Skill):
        references, faults = _check_references(found)
        findings += faults
    findings += _code_findings(folder)
    usable = isinstance(found, Skill) and all(finding.level != "unusable" for finding in findings)
    return Validated(
        folder=str(folder),
        name=found.name if isinstance(found, Skill) and usable else None,
        valid=all(finding.level == "advice" for finding in findings),
        references=references,
        findings=findings,
    )


def _check_references(skill: Skill) -> tuple[list[str], list[SkillFinding]]:
    """Return the files that are sent with the guidance, and findings about others that it names."""
    folder = skill.folder or Path()
    text = read_text(folder, skill.file)
    body = read_document(text, folder.name, file=skill.file, has_code=skill.code).body
    texts, ignored = read_references(skill, body)
    findings = []
    for relative, reason in ignored.items():
        at = text.find(relative)
        line = text[:at].count("\n") + 1 if at >= 0 else 0
        # A picture or a long file may be of use to other programs; a missing one is a mistake.
        level: Level = "advice" if _is_inside(folder, relative) else "nonstandard"
        findings.append(SkillFinding(file=skill.file, line=line, level=level, message=reason))
    return list(texts), findings


def _is_inside(folder: Path, relative: str) -> bool:
    try:
        return within(folder, relative).exists()
    except SkillError:
        return False


def _code_findings(folder: Path) -> list[SkillFinding]:
    """Check `graph.py` without running it."""
    if not (folder / CODE).exists():
        return []
    try:
        within(folder, CODE)
        tree = ast.parse(read_text(folder, CODE), filename=CODE)
    except SkillError as error:
        return [unusable(CODE, error.message)]
    except (SyntaxError, ValueError, RecursionError) as error:
        return [unusable(CODE, f"Not valid Python: {error}.", getattr(error, "lineno", 0) or 0)]
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {name for node in tree.body for name in _bound_names(node)}
    fault = unusable(CODE, "It has no function build(context) that makes the skill's graph.")
    return [] if "build" in names else [fault]


def _bound_names(node: ast.stmt) -> list[str]:
    """Return the names that an import or an assignment binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
