"""Folders in which skills are searched."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gems.skills.trust import is_trusted, trusted_folders

BUILTIN = Path(__file__).parent / "builtin"
_SHARED_FOLDERS = (Path(".agents", "skills"), Path(".claude", "skills"))


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that contains skill folders.

    Attributes:
        name: `built-in`, `user`, `home`, `project` or `path`.
        folder: The folder; for `path` it may also be that of a single skill.
        runs_code: Whether skills' code may run.
    """

    name: str
    folder: Path
    runs_code: bool


@dataclass(frozen=True, slots=True)
class SkillSearchPath:
    """Settings that determine where skills are searched.

    Attributes:
        home: GEMS_HOME.
        path: GEMS_SKILLS_PATH: folders, separated as in PATH.
        project: The project's folder, if any.
        trust_home: Folder of the list of trusted folders; None for `home`.
        is_doubtful: Whether a place, named by `home` or `skills_path`, comes from a project; its code runs
            only if the user trusts it.
    """

    home: Path
    path: str = ""
    project: Path | None = None
    trust_home: Path | None = None
    is_doubtful: Callable[[Literal["home", "skills_path"], Path], bool] = lambda _name, _place: False

    def places(self) -> list[Place]:
        """Return the folders; of two skills with one name, that of the later folder is used. Blocking.

        Other programs fill `~/.agents/skills` and `~/.claude/skills`, so code there runs only if the user
        trusts it. A project is not even read before that. Raises `ConfigurationError` if the list of trusted
        folders cannot be read.
        """
        folders = trusted_folders(self.trust_home or self.home)

        def runs_code(name: Literal["home", "skills_path"], place: Path) -> bool:
            return not self.is_doubtful(name, place) or is_trusted(place, folders)

        found = [Place("built-in", BUILTIN, runs_code=True)]
        for relative in _SHARED_FOLDERS:
            if (user := _user_home()) is not None:
                found.append(Place("user", user / relative, is_trusted(user / relative, folders)))
        own = self.home / "skills"
        found.append(Place("home", own, runs_code("home", own)))
        if self.project is not None and is_trusted(self.project, folders):
            found += [
                Place("project", self.project / relative, runs_code=True) for relative in _SHARED_FOLDERS
            ]
        named = [Path(os.path.expanduser(part)) for part in self.path.split(os.pathsep) if part.strip()]
        return [*found, *(Place("path", folder, runs_code("skills_path", folder)) for folder in named)]

    def untrusted(self) -> list[Path]:
        """Return the skill folders of the project that are not read until it is trusted. Blocking."""
        if self.project is None or is_trusted(self.project, trusted_folders(self.trust_home or self.home)):
            return []
        if self.project == _user_home():
            # These are the user's own folders.
            return []
        return [folder for relative in _SHARED_FOLDERS if (folder := self.project / relative).is_dir()]


Places = Callable[[], list[Place]]


def _user_home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no home folder at all
        return None
