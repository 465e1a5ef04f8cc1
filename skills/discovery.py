"""Search paths of skills, their scan, and the catalogue of what was found."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from gems.errors import SkillError
from gems.files.trust import Trust, read_trust
from gems.skills.files import read_text, within
from gems.skills.models import BUILT_IN, FaultySkill, ScannedSkill, Skill, SkillFinding, SkillRegistry, unusable
from gems.skills.parser import read_document

logger = logging.getLogger(__name__)

FILE_NAMES = ("SKILL.md", "skill.md")
CODE = "graph.py"
_LOOK_AGAIN = "See what has changed, and trust it, with `gems skills trust DIR`."
Stamp = tuple[int, ...]
BUILTIN = Path(__file__).parent / "builtin"
_SHARED_FOLDERS = (Path(".agents", "skills"), Path(".claude", "skills"))


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that contains skill folders; with the name `path` it may also be that of a single skill.

    Where `runs_code` is false, code runs from skills whose files are those that the user saw, according to `trust`.
    """

    name: str
    folder: Path
    runs_code: bool
    trust: Trust = field(default=Trust(), hash=False)


@dataclass(frozen=True, slots=True)
class SkillSearchPath:
    """Settings that determine where skills are searched.

    Attributes:
        home: GEMS_HOME.
        path: GEMS_SKILLS_PATH: folders, separated as in PATH.
        trust_home: Folder of the list of trusted folders, if not `home`.
        is_doubtful: Whether a project's `.env` has set `home` or `skills_path`; code there runs only if the user has
            seen it.
    """

    home: Path
    path: str = ""
    project: Path | None = None
    trust_home: Path | None = None
    is_doubtful: Callable[[Literal["home", "skills_path"]], bool] = lambda _name: False

    def places(self) -> list[Place]:
        """Return the folders; of two skills with one name, that of the later folder is used. Blocking.

        Other programs fill `~/.agents/skills` and `~/.claude/skills`, so code there runs only if the user has seen
        it. A project is not even read before it is trusted. Raises `ConfigurationError` if the list of what is
        trusted cannot be read.
        """
        known = read_trust(self.trust_home or self.home)

        def doubtful(name: str, folder: Path) -> Place:
            return Place(name, folder, runs_code=False, trust=known)

        def own(name: Literal["home", "path"], folder: Path) -> Place:
            setting: Literal["home", "skills_path"] = "home" if name == "home" else "skills_path"
            return doubtful(name, folder) if self.is_doubtful(setting) else Place(name, folder, runs_code=True)

        found = [Place(BUILT_IN, BUILTIN, runs_code=True)]
        for relative in _SHARED_FOLDERS:
            if (user := _user_home()) is not None:
                found.append(doubtful("user", user / relative))
        found.append(own("home", self.home / "skills"))
        if self.project is not None and known.covers(self.project):
            found += [doubtful("project", self.project / relative) for relative in _SHARED_FOLDERS]
        named = [Path(os.path.expanduser(part)) for part in self.path.split(os.pathsep) if part.strip()]
        return [*found, *(own("path", folder) for folder in named)]

    def untrusted(self) -> list[Path]:
        """Return the skill folders of the project that are not read until it is trusted. Blocking."""
        if self.project is None or read_trust(self.trust_home or self.home).covers(self.project):
            return []
        if self.project == _user_home():
            return []  # These are the user's own folders.
        return [folder for relative in _SHARED_FOLDERS if (folder := self.project / relative).is_dir()]


def _user_home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no home folder at all
        return None


class Scanner:
    """Scans folders for skills. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, Place], tuple[object, ScannedSkill]] = {}
        self._told: set[str] = set()

    def scan(self, places: Iterable[Place]) -> list[ScannedSkill]:
        """Return the skills by place and folder name; log each unusable folder once. Blocking."""
        listed = list(places)
        found: list[ScannedSkill] = []
        known: dict[tuple[Path, Place], tuple[object, ScannedSkill]] = {}
        for place in listed:
            for folder in self._folders_of(place, [other.folder for other in listed]):
                stamp, seen = _file_stamp(folder), self._seen_code(place, folder)
                known_stamp, item = self._known.get((folder, place), (None, None))
                if item is None or known_stamp != (stamp, seen):
                    item = read_skill(
                        folder, place.name, trusted=place.runs_code or seen is not None, stamp=stamp, seen=seen
                    )
                    if isinstance(item, FaultySkill):
                        logger.warning("%s", item)
                known[folder, place] = ((stamp, seen), item)
                found.append(item)
        self._known = known
        return found

    def _seen_code(self, place: Place, folder: Path) -> str | None:
        """Return the digest of the code that the user saw, if nothing of the skill has changed since."""
        if place.runs_code or not os.path.exists(folder / CODE) or not place.trust.covers(folder):
            return None
        seen = place.trust.seen_code(folder, CODE)
        if seen is None:
            self._warn(f"{folder} was changed or added after you trusted it, so its code does not run. {_LOOK_AGAIN}")
        return seen

    def _warn(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.warning("%s", message)

    def _folders_of(self, place: Place, others: list[Path]) -> list[Path]:
        try:
            return list(_skill_folders(place, others))
        except OSError as error:
            self._warn(f"Skills in {place.folder} cannot be listed: {error.strerror or error}")
            return []


def read_skill(
    folder: Path, place: str, *, trusted: bool, stamp: Stamp | None = None, seen: str | None = None
) -> ScannedSkill:
    """Return the skill in a folder, or its faults. Blocking.

    `trusted` says whether its code may run; with `seen`, the SHA-256 of the code that the user saw, only that.
    """
    name = skill_file_name(folder)
    if findings := _check_links(folder, name):
        return FaultySkill(folder=folder, place=place, findings=tuple(findings))
    has_code = os.path.exists(folder / CODE)
    try:
        document = read_document(read_text(folder, name), folder.name, file=name, has_code=has_code and trusted)
    except SkillError as error:
        return FaultySkill(folder=folder, place=place, findings=(unusable(name, error.message),))
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
        seen=seen,
        conflicts=document.conflicts,
        stamp=_file_stamp(folder) if stamp is None else stamp,
        findings=document.findings,
    )


def skill_file_name(folder: Path) -> str:
    """Return the name of the folder's SKILL.md in its actual spelling; `SKILL.md` if there is none."""
    return next((name for name in FILE_NAMES if os.path.lexists(folder / name)), FILE_NAMES[0])


def resolve_duplicates(found: Iterable[ScannedSkill]) -> tuple[list[Skill], list[ScannedSkill]]:
    """Return the skill of each name, of the latest place and its first folder, and those left out."""
    chosen: dict[str, Skill] = {}
    left_out: list[ScannedSkill] = []
    for item in found:
        if isinstance(item, FaultySkill):
            left_out.append(item)
            continue
        known_item = chosen.get(item.name)
        known_folder = known_item.folder if known_item is not None else None
        # Listed by two places: the later one's permission counts.
        if known_item is None or known_folder is None or item.folder in (None, known_folder):
            chosen[item.name] = item
        elif item.folder is not None and known_folder.parent == item.folder.parent:
            left_out.append(_mark_shadowed(item, known_item))
        else:
            left_out.append(_mark_shadowed(known_item, item))
            chosen[item.name] = item
    return list(chosen.values()), left_out


def _mark_shadowed(skill: Skill, other: Skill) -> Skill:
    message = f"Another skill {other.name!r} takes precedence: {other.folder}."
    finding = SkillFinding(file=skill.file, line=0, level="advice", message=message)
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
            raise  # Named by the user; the other places are optional.
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


def _check_links(folder: Path, name: str) -> list[SkillFinding]:
    """Return findings about links that lead out of the skill's folder."""
    findings = []
    if folder.is_symlink() and not folder.resolve().is_relative_to(folder.parent.resolve()):
        message = "The folder is a link that leads out of its parent; add the target to GEMS_SKILLS_PATH."
        findings.append(unusable(name, message))
    for relative in (name, CODE):
        try:
            within(folder, relative)
        except SkillError as error:
            findings.append(unusable(relative, error.message))
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


class SkillCatalogue:
    """The skills in the folders that `places` returns, scanned on demand; without it those of `fixed`."""

    def __init__(self, places: Callable[[], list[Place]] | None = None, *, fixed: SkillRegistry | None = None) -> None:
        self._places = places
        self._scanner = Scanner()
        self._lock = threading.Lock()
        self._current = fixed or SkillRegistry()

    @property
    def current(self) -> SkillRegistry:
        """The result of the last scan."""
        return self._current

    async def refreshed(self) -> SkillRegistry:
        """Scan again and return the skills; `ConfigurationError` if the trusted folders cannot be read."""
        return self._current if self._places is None else await asyncio.to_thread(self.scan)

    def scan(self) -> SkillRegistry:
        """Scan for skills. Blocking: 1,000 skills take tens of milliseconds if few have changed."""
        if self._places is None:
            return self._current
        with self._lock:
            skills, left_out = resolve_duplicates(self._scanner.scan(self._places()))
            self._current = SkillRegistry(skills, left_out)
            return self._current
