"""Drafts of skills: folders that a person looks at, and that nobody scans for skills."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gems.errors import SkillError
from gems.memory.faults import storage_error
from gems.skills.discovery import FILE_NAMES, skill_file_name
from gems.skills.examples import FILE as EXAMPLES
from gems.skills.examples import read_examples
from gems.skills.files import read_text
from gems.skills.frontmatter import read_fields, split_front_matter
from gems.skills.models import Skill
from gems.skills.parser import MAX_COMPATIBILITY, read_document

_FILE = FILE_NAMES[0]
_SKIPPED_FOLDERS = ("__pycache__",)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


_KEPT_FIELDS: dict[str, Callable[[Any], bool]] = {
    "license": _is_text,
    "compatibility": lambda value: _is_text(value) and len(value) <= MAX_COMPATIBILITY,
    "allowed-tools": lambda value: all(map(_is_text, value if isinstance(value, list) else [value])),
}
"""Fields of a front matter that an amendment keeps where they are as the standard wants them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a draft's folder is to hold.

    Attributes:
        name: The folder's and the skill's.
        fields: The front matter.
        body: The guidance.
        prompts: For `examples.jsonl`: prompts that call for the skill.
        source: The folder of the skill that is amended; everything in there is copied.
    """

    name: str
    fields: Mapping[str, Any]
    body: str
    prompts: Sequence[str] = ()
    source: Path | None = None
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The SKILL.md."""
        front = yaml.safe_dump(
            dict(self.fields), sort_keys=False, allow_unicode=True, width=100, default_flow_style=False
        )
        return f"---\n{front}---\n\n{self.body.strip()}\n"

    def faults(self) -> list[str]:
        """What the standard has against it; nothing where it says what it is meant to say."""
        document = read_document(self.text(), self.name)
        found = [str(finding) for finding in document.findings if finding.level != "advice"]
        if not found and (document.description, document.body) != (
            self.fields["description"],
            self.body.strip(),
        ):
            found.append(f"{_FILE}: It is not read as it was written.")
        return found


def drafts_folder(home: Path) -> Path:
    """Where drafts of skills stand; below no place of `gems.skills.places`.

    Args:
        home: GEMS_HOME.
    """
    return home / "drafts" / "skills"


def known_metadata(folder: Path) -> dict[str, str]:
    """The metadata of the skill in a folder; nothing where it cannot be read. Blocking."""
    try:
        return read_document(read_text(folder, skill_file_name(folder)), folder.name).metadata
    except SkillError:
        return {}


def known_drafts(home: Path) -> dict[str, dict[str, str]]:
    """The metadata of the drafts that there are, by their folders' names. Blocking."""
    try:
        folders = [folder for folder in sorted(drafts_folder(home).iterdir()) if folder.is_dir()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, drafts_folder(home)) from error
    return {folder.name: known_metadata(folder) for folder in folders if not folder.name.startswith(".")}


def standard_fields(skill: Skill) -> dict[str, Any]:
    """The front matter of a skill, without what the standard does not have. Blocking.

    Raises:
        SkillError: its file cannot be read.
    """
    fields: dict[str, Any] = {"name": skill.name, "description": skill.description}
    if skill.folder is None:
        return fields
    parts = split_front_matter(read_text(skill.folder, skill.file))
    given = read_fields(parts[0], parts[1], skill.file).values if parts is not None else {}
    fields |= {
        name: given[name] for name, fits in _KEPT_FIELDS.items() if name in given and fits(given[name])
    }
    fields["metadata"] = known_metadata(skill.folder)
    return fields


def write_draft(home: Path, draft: Draft, *, force: bool = False) -> Path:
    """Write a draft whole or not at all; `draft.warnings` says what was not taken over. Blocking.

    Args:
        home: GEMS_HOME.
        draft: The draft.
        force: Whether one of its name is replaced.

    Raises:
        StorageError: it cannot be written.
        SkillError: there is one of its name.
    """
    folder = drafts_folder(home) / draft.name
    if folder.exists() and not force:
        raise SkillError(f"There is a draft in {folder} already.", hint="--force replaces it.")
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        if draft.source is not None:
            draft.warnings.extend(_copy_files(draft.source, new))
        (new / _FILE).write_text(draft.text(), encoding="utf-8", newline="\n")
        _write_examples(new, draft)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise storage_error(error, folder) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _copy_files(source: Path, target: Path) -> Iterator[str]:
    """Copy a skill's files, without its SKILL.md; yields what is left out."""
    for root, folders, names in os.walk(source):
        for name in sorted(names + [folder for folder in folders if (Path(root) / folder).is_symlink()]):
            path = Path(root) / name
            relative = path.relative_to(source)
            if str(relative) in FILE_NAMES:
                continue
            if path.is_symlink() or not path.is_file():
                # It may lead to what is nobody's to share, or nowhere.
                yield f"{relative} is a link or no file, and is not copied."
                continue
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / relative)
        folders[:] = [
            folder for folder in folders if not folder.startswith(".") and folder not in _SKIPPED_FOLDERS
        ]


def _write_examples(folder: Path, draft: Draft) -> None:
    """Add the prompts to the examples that the amended skill has."""
    path, before = folder / EXAMPLES, ""
    known: set[str] = set()
    if path.exists():
        try:
            known = {example.prompt for example in read_examples(folder)}
            before = read_text(folder, EXAMPLES)
        except SkillError as error:
            draft.warnings.append(f"No example was added: {error.message}")
            return
    lines = [
        json.dumps({"prompt": prompt, "trigger": True, "keeps": []}, ensure_ascii=False)
        for prompt in draft.prompts
        if prompt not in known
    ]
    if lines:
        text = "".join(f"{line}\n" for line in [before.rstrip("\n"), *lines] if line)
        path.write_text(text, encoding="utf-8", newline="\n")
