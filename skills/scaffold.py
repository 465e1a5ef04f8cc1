"""Write new skills and drafts of skills."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import yaml

from gems.errors import OptionError, SkillError, StorageError
from gems.memory.sqlite import storage_error
from gems.skills.discovery import CODE, FILE_NAMES, skill_file_name
from gems.skills.examples import FILE as EXAMPLES
from gems.skills.examples import read_examples
from gems.skills.files import read_text
from gems.skills.models import Skill, normalise_name
from gems.skills.parser import (
    MAX_COMPATIBILITY,
    MAX_NAME,
    RESERVED,
    is_skill_name,
    read_document,
    read_fields,
    split_front_matter,
)

_FILE = FILE_NAMES[0]
_SKELETON = Path(__file__).parent / "skeleton"
# Keeps tools from treating the template as a module.
_TEMPLATE_SUFFIX = ".tmpl"


@dataclass(frozen=True, slots=True)
class Draft:
    """Content of a draft's folder: also examples with `prompts`, and the files of `source`."""

    name: str
    fields: Mapping[str, Any]
    body: str
    prompts: Sequence[str] = ()
    source: Path | None = None
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the text of SKILL.md."""
        front = yaml.safe_dump(dict(self.fields), sort_keys=False, allow_unicode=True, width=100)
        return f"---\n{front}---\n\n{self.body.strip()}\n"

    def faults(self) -> list[str]:
        """Return violations of the standard; empty if the draft is read as intended."""
        document = read_document(self.text(), self.name)
        found = [str(finding) for finding in document.findings if finding.level != "advice"]
        is_same = (document.description, document.body) == (self.fields["description"], self.body.strip())
        return found if found or is_same else [f"{_FILE}: It is not read as it was written."]


def drafts_folder(home: Path) -> Path:
    """Return the folder of drafts below GEMS_HOME, which is no folder of `gems.skills.discovery`."""
    return home / "drafts" / "skills"


def known_metadata(folder: Path) -> dict[str, str]:
    """Return the metadata of the skill in a folder; empty if it cannot be read. Blocking."""
    try:
        return read_document(read_text(folder, skill_file_name(folder)), folder.name).metadata
    except SkillError:
        return {}


def known_drafts(home: Path) -> dict[str, dict[str, str]]:
    """Return the metadata of all drafts by folder name. Blocking."""
    try:
        folders = [folder for folder in sorted(drafts_folder(home).iterdir()) if folder.is_dir()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, drafts_folder(home)) from error
    return {folder.name: known_metadata(folder) for folder in folders if not folder.name.startswith(".")}


def standard_fields(skill: Skill) -> dict[str, Any]:
    """Return the standard fields of a skill's front matter; `SkillError` if it is unreadable. Blocking."""
    fields: dict[str, Any] = {"name": skill.name, "description": skill.description}
    if skill.folder is None:
        return fields
    parts = split_front_matter(read_text(skill.folder, skill.file))
    given = read_fields(parts[0], parts[1], skill.file).values if parts is not None else {}
    for name in ("license", "compatibility", "allowed-tools"):
        value = given.get(name)
        texts = value if isinstance(value, list) and name == "allowed-tools" else [value]
        is_valid = all(isinstance(text, str) and text.strip() for text in texts)
        if name in given and is_valid and (name != "compatibility" or len(str(value)) <= MAX_COMPATIBILITY):
            fields[name] = value
    fields["metadata"] = known_metadata(skill.folder)
    return fields


def write_draft(home: Path, draft: Draft, *, force: bool = False) -> Path:
    """Write a draft atomically; raise `SkillError` if it exists, unless `force` replaces it. Blocking."""
    folder = drafts_folder(home) / draft.name
    if folder.exists() and not force:
        raise SkillError(f"A draft already exists in {folder}.", hint="Replace it with --force.")
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
    """Copy a skill's files without its SKILL.md; yield what is skipped."""
    for root, folders, names in os.walk(source):
        for name in sorted(names + [folder for folder in folders if (Path(root) / folder).is_symlink()]):
            path = Path(root) / name
            relative = path.relative_to(source)
            if str(relative) in FILE_NAMES:
                continue
            if path.is_symlink() or not path.is_file():
                # A link may lead to private files, or nowhere.
                yield f"{relative} is a link or not a regular file, and is not copied."
                continue
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / relative)
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]


def _write_examples(folder: Path, draft: Draft) -> None:
    """Add the prompts to the examples of the amended skill."""
    path, before = folder / EXAMPLES, ""
    known: set[str] = set()
    if path.exists():
        try:
            known = {example.prompt for example in read_examples(folder)}
            before = read_text(folder, EXAMPLES)
        except SkillError as error:
            draft.warnings.append(f"No examples were added: {error.message}")
            return
    new = [{"prompt": prompt, "trigger": True, "keeps": []} for prompt in draft.prompts if prompt not in known]
    if lines := [json.dumps(example, ensure_ascii=False) for example in new]:
        text = "".join(f"{line}\n" for line in [before.rstrip("\n"), *lines] if line)
        path.write_text(text, encoding="utf-8", newline="\n")


def create_skill(name: str, parent: Path, *, author: str = "me", with_graph: bool = False) -> Path:
    """Write a working skeleton below `parent`; raise `OptionError` for a bad or existing name. Blocking."""
    if not is_skill_name(name):
        like = normalise_name(name)[:MAX_NAME].strip("-")
        like = f"my-{like}" if like in RESERVED else like or "my-skill"
        raise OptionError(f"Invalid skill name: {name[:80]!r}.", hint=f"Use for example {like}.")
    folder = parent / name
    words = {"name": name, "title": name.replace("-", " "), "author": author}
    files = {path.name.removesuffix(_TEMPLATE_SUFFIX): path for path in sorted(_SKELETON.iterdir())}
    if not with_graph:
        files.pop(CODE)
    try:
        folder.mkdir(parents=True)
        for target, path in files.items():
            text = Template(path.read_text(encoding="utf-8")).safe_substitute(words)
            (folder / target).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise OptionError(f"{folder} already exists.", hint="Choose another name, or delete it.") from None
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror or error}.") from None
    return folder
