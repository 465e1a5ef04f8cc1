"""Find skills in folders; unchanged ones are not read again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from gems.errors import SkillError
from gems.skills.files import read_text, within
from gems.skills.models import FaultySkill, Finding, ScannedSkill, Skill
from gems.skills.parser import read_document
from gems.skills.places import Place

logger = logging.getLogger(__name__)

FILE_NAMES = ("SKILL.md", "skill.md")
CODE = "graph.py"
Stamp = tuple[int, ...]


class Scanner:
    """Scans folders for skills. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, Place], tuple[Stamp, ScannedSkill]] = {}
        self._told: set[str] = set()

    def scan(self, places: Iterable[Place]) -> list[ScannedSkill]:
        """Return the skills of the given places, in their order and within each by folder name. Blocking.

        A folder that cannot be used is logged as a warning once.
        """
        listed = list(places)
        found: list[ScannedSkill] = []
        known: dict[tuple[Path, Place], tuple[Stamp, ScannedSkill]] = {}
        for place in listed:
            for folder in self._folders_of(place, [other.folder for other in listed]):
                key = (folder, place)
                stamp = _file_stamp(folder)
                known_item = self._known.get(key)
                if known_item is None or known_item[0] != stamp:
                    item = read_skill(folder, place.name, trusted=place.runs_code, stamp=stamp)
                    if isinstance(item, FaultySkill):
                        logger.warning("%s", item)
                    known_item = (stamp, item)
                known[key] = known_item
                found.append(known_item[1])
        self._known = known
        return found

    def _folders_of(self, place: Place, others: list[Path]) -> list[Path]:
        try:
            return list(_skill_folders(place, others))
        except OSError as error:
            message = f"Skills in {place.folder} cannot be listed: {error.strerror or error}"
            if message not in self._told:
                self._told.add(message)
                logger.warning("%s", message)
            return []


def read_skill(folder: Path, place: str, *, trusted: bool, stamp: Stamp | None = None) -> ScannedSkill:
    """Return the skill in a folder, or its faults. Blocking.

    `trusted` says whether its code may run; `stamp` is the state of its files, determined if omitted.
    """
    name = skill_file_name(folder)
    findings = _check_links(folder, name)
    if findings:
        return FaultySkill(folder=folder, place=place, findings=tuple(findings))
    has_code = os.path.exists(folder / CODE)
    try:
        document = read_document(
            read_text(folder, name), folder.name, file=name, has_code=has_code and trusted
        )
    except SkillError as error:
        fault = Finding(file=name, line=0, level="unusable", message=error.message)
        return FaultySkill(folder=folder, place=place, findings=(fault,))
    if not document.is_usable:
        return FaultySkill(folder=folder, place=place, findings=document.findings)
    return Skill(
        name=document.name,
        description=document.description,
        folder=folder,
        file=name,
        place=place,
        code=has_code,
        trusted=trusted,
        conflicts=document.conflicts,
        stamp=_file_stamp(folder) if stamp is None else stamp,
        findings=document.findings,
    )


def skill_file_name(folder: Path) -> str:
    """Return the name of the folder's SKILL.md in its actual spelling; `SKILL.md` if there is none."""
    return next((name for name in FILE_NAMES if os.path.lexists(folder / name)), FILE_NAMES[0])


def resolve_duplicates(found: Iterable[ScannedSkill]) -> tuple[list[Skill], list[ScannedSkill]]:
    """Return the skill to use for each name, and those left out.

    A later place takes precedence over an earlier one; within a place the first folder does.
    """
    chosen: dict[str, Skill] = {}
    left_out: list[ScannedSkill] = []
    for item in found:
        if isinstance(item, FaultySkill):
            left_out.append(item)
            continue
        known_item = chosen.get(item.name)
        if known_item is None or known_item.folder is None or item.folder is None:
            chosen[item.name] = item
        elif known_item.folder == item.folder:
            # Listed by two places: the later one's permission counts.
            chosen[item.name] = item
        elif known_item.folder.parent == item.folder.parent:
            left_out.append(_mark_shadowed(item, known_item))
        else:
            left_out.append(_mark_shadowed(known_item, item))
            chosen[item.name] = item
    return list(chosen.values()), left_out


def _mark_shadowed(skill: Skill, other: Skill) -> Skill:
    message = f"Another skill {other.name!r} takes precedence: {other.folder}."
    finding = Finding(file=skill.file, line=0, level="advice", message=message)
    return replace(skill, findings=(*skill.findings, finding))


def _skill_folders(place: Place, others: list[Path]) -> Iterator[Path]:
    """Yield the folders of a place that hold a skill; the place itself if it is one."""
    if any(os.path.lexists(place.folder / name) for name in FILE_NAMES):
        # Named by the user, so a link is followed.
        yield place.folder.resolve()
        return
    try:
        with os.scandir(place.folder) as entries:
            listed = sorted((entry.name, entry.is_symlink()) for entry in entries if _is_folder(entry))
    except FileNotFoundError:
        if place.name == "path":
            # Named by the user; the other places are optional.
            raise
        return
    for name, is_link in listed:
        folder = place.folder / name
        if name.startswith(".") or not _may_hold_skill(folder):
            continue
        # Installers link one place to another; the skill is found there.
        if is_link and any(folder.resolve().parent == other.resolve() for other in others):
            continue
        yield folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _may_hold_skill(folder: Path) -> bool:
    """Return whether the folder has a SKILL.md, or cannot be read, which is worth a warning."""
    return any(os.path.lexists(folder / file) for file in FILE_NAMES) or not os.access(folder, os.X_OK)


def _check_links(folder: Path, name: str) -> list[Finding]:
    """Return findings about links that lead out of the skill's folder."""
    findings = []
    if folder.is_symlink() and not folder.resolve().is_relative_to(folder.parent.resolve()):
        message = "The folder is a link that leads out of its parent; add the target to GEMS_SKILLS_PATH."
        findings.append(Finding(file=name, line=0, level="unusable", message=message))
    for relative in (name, CODE):
        try:
            within(folder, relative)
        except SkillError as error:
            findings.append(Finding(file=relative, line=0, level="unusable", message=error.message))
    return findings


def _file_stamp(folder: Path) -> Stamp:
    """Return numbers that change when the skill's files change."""
    values: list[int] = []
    for name in (*FILE_NAMES, CODE):
        try:
            status = (folder / name).stat()
        except OSError:
            values += (0, 0, 0)
        else:
            values += (status.st_mtime_ns, status.st_size, status.st_ino)
    return tuple(values)
