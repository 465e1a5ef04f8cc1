"""Patches of skills, wordings, recipes and rules: their form, their files, and which of them are in force.

Below `evolution` in the home lie one JSON file for each patch, and `versions.json`, to which each adoption and each
reversal is appended. The last version says what is in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gems.errors import ConfigurationError, CorruptStoreError, RequestError
from gems.files.shared import changing, write_atomically
from gems.memory.sqlite import storage_error

logger = logging.getLogger(__name__)

MOST_CHARACTERS = 100_000
"""Longest text of a patch."""
_SHORTEST_PREFIX = 4
Value = int | float | str
PatchKind = Literal["skill", "wording", "recipe", "rule"]
PatchStatus = Literal["proposed", "refused", "proven", "adopted", "reverted"]


class Counts(BaseModel):
    """Outcomes of pairs: one image without and one with a patch, of the same prompt and seed."""

    model_config = ConfigDict(frozen=True)

    pairs: int = 0
    met: int = Field(0, description="Pairs whose image without the patch meets everything.")
    better: int = Field(0, description="Pairs in which only the image with the patch meets everything.")
    worse: int = Field(0, description="Pairs in which only the image without it does, or that with it has no result.")
    left_out: int = Field(0, description="Pairs whose image without the patch could not be measured.")


class Evidence(BaseModel):
    """What a trial found."""

    model_config = ConfigDict(frozen=True)

    trial: str
    created: str = Field(description="UTC, ISO 8601.")
    decision: Literal["proven", "refused", "unfinished"]
    reason: str = Field(description="Why, as a sentence.")
    held: Counts = Field(description="On held-out prompts.")
    keep: Counts = Field(description="On prompts that are to go on passing.")
    p: float = Field(description="One-sided p-value of the exact test on the held-out prompts.")
    level: float = Field(description="What it had to reach, after the correction for earlier trials.")
    tried: int = Field(description="Which trial on these prompts it was, from 1.")
    images: int = Field(description="Images of all runs of the trial.")
    images_with: int = Field(description="Of these those with the patch.")
    measured_by: str = Field(description="Known truth, or the judge that no run used.")
    models: dict[str, str]
    base: tuple[str, ...] = Field(description="Patches that were in force in both arms.")


class Patch(BaseModel):
    """A small change: of a text, where `before` is replaced by `after`, or of values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: PatchKind
    target: str = Field(
        min_length=1, max_length=500, description="A skill, a task, a generator, or an option of runs, by name."
    )
    before: str = Field("", max_length=MOST_CHARACTERS, description="The passage to replace; empty: `after` is added.")
    after: str = Field("", max_length=MOST_CHARACTERS)
    values: dict[str, Value] = Field(
        default_factory=dict, description="Of a recipe: guidance, steps, negative_prompt; of a rule: value."
    )
    reason: str = Field("", max_length=2_000)
    runs: tuple[str, ...] = Field((), description="Runs that speak for it.")
    source: str = Field("", max_length=200, description="Who proposed it.")
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    evidence: Evidence | None = None

    @model_validator(mode="after")
    def _check_form(self) -> Patch:
        texts = bool(self.before or self.after)
        if self.kind in ("skill", "wording") and (not texts or self.values or self.before == self.after):
            raise ValueError("it changes no text; name `before` and `after`")
        if self.kind in ("recipe", "rule") and (texts or not self.values):
            raise ValueError("it has no values")
        return self

    @property
    def id(self) -> str:
        """A digest of what it changes; reason, time and evidence do not count."""
        return _digest(self.model_dump(include={"kind", "target", "before", "after", "values"}))[:12]

    @property
    def seal(self) -> str:
        """A digest of the whole patch with its evidence."""
        return _digest(self.model_dump(mode="json"))

    def amend(self, text: str) -> str:
        """Return the text with the change; ConfigurationError if it does not hold the passage exactly once."""
        if not self.before:
            return f"{text.rstrip()}\n\n{self.after}\n" if self.kind == "skill" else f"{text} {self.after}"
        if text.count(self.before) != 1:
            raise ConfigurationError(
                f"The patch {self.id} no longer fits the {self.kind} {self.target}: its passage is there "
                f"{text.count(self.before)} times.",
                hint=f"Take it back with `gems evolve revert {self.id}`, and propose it anew.",
            )
        return text.replace(self.before, self.after)


class Version(BaseModel):
    """An adoption or a reversal."""

    model_config = ConfigDict(frozen=True)

    number: int
    created: str
    action: Literal["adopt", "revert"]
    patch: str
    in_force: tuple[str, ...] = Field(description="Patches in force from then on, in the order of their adoption.")
    seal: str = Field(description="SHA-256 of this entry, the patch with its evidence, and the seal before it.")


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of a home, by id, and those in force."""

    known: Mapping[str, Patch] = field(default_factory=dict)
    in_force: tuple[str, ...] = ()

    def select(self, names: Iterable[str]) -> tuple[Patch, ...]:
        """Return patches by id; ConfigurationError if one is not there any more."""
        names = tuple(names)
        if missing := [name for name in names if name not in self.known]:
            raise ConfigurationError(
                f"The patch {missing[0]}, which the run uses, is not there any more.", hint="Start a new run."
            )
        return tuple(self.known[name] for name in names)


NO_PATCHES = Patches()


class PatchStore:
    """The patches below a home. All methods but `refreshed` block."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "evolution"
        self._stamp: object = None
        self._current = NO_PATCHES

    @property
    def current(self) -> Patches:
        """The result of the last refresh."""
        return self._current

    async def refreshed(self) -> Patches:
        """Read again what has changed."""
        if (stamp := self._file_stamp()) != self._stamp:
            self._current = await asyncio.to_thread(self._read)
            self._stamp = stamp
        return self._current

    def _file_stamp(self) -> object:
        paths = (self.folder / "patches", self._versions_path)
        return tuple((status.st_mtime_ns, status.st_ino) for path in paths if (status := _stat(path)))

    def _read(self) -> Patches:
        known = {patch.id: patch for patch in self.all()}
        try:
            versions = self.versions()
        except CorruptStoreError as error:
            # What cannot be verified is not in force; the runs go on.
            logger.warning("No patch is in force: %s", error)
            return Patches(known)
        in_force = []
        for name in versions[-1].in_force if versions else ():
            if name in known and _is_sealed(known[name], versions):
                in_force.append(name)
            else:
                logger.warning("The patch %s is not in force: its file was changed or lost since its adoption.", name)
        return Patches(known, tuple(in_force))

    @property
    def _versions_path(self) -> Path:
        return self.folder / "versions.json"

    def all(self) -> list[Patch]:
        """Return all patches, oldest first; damaged files are left out and logged."""
        found = []
        for path in sorted((self.folder / "patches").glob("*.json")):
            try:
                patch = Patch.model_validate_json(path.read_bytes())
            except (ValidationError, OSError) as error:
                logger.warning("The patch in %s cannot be read: %s", path, type(error).__name__)
                continue
            if patch.id == path.stem:
                found.append(patch)
            else:
                logger.warning("The patch in %s is ignored: its content is that of another id.", path)
        return sorted(found, key=lambda patch: (patch.created, patch.id))

    def get(self, name: str) -> Patch:
        """Return a patch by its id, or the beginning of it; RequestError if there is none or more than one."""
        found = [patch for patch in self.all() if patch.id == name]
        if not found and len(name) >= _SHORTEST_PREFIX:
            found = [patch for patch in self.all() if patch.id.startswith(name)]
        if len(found) != 1:
            fault = "More than one patch begins with" if found else "There is no patch"
            raise RequestError(f"{fault} {name[:80]!r}.", hint="`gems evolve list` names them.")
        return found[0]

    def save(self, patch: Patch) -> None:
        """Write a patch."""
        self._write(self.folder / "patches" / f"{patch.id}.json", patch.model_dump(mode="json"))

    def status(self, patch: Patch, versions: list[Version]) -> PatchStatus:
        """Return how far a patch has come."""
        if versions and patch.id in versions[-1].in_force:
            return "adopted"
        if any(version.patch == patch.id for version in versions):
            return "reverted"
        decision = patch.evidence.decision if patch.evidence else "unfinished"
        return "proposed" if decision == "unfinished" else decision

    def versions(self) -> list[Version]:
        """Return all adoptions and reversals, oldest first; CorruptStoreError if the file is damaged."""
        try:
            return TypeAdapter(list[Version]).validate_json(self._versions_path.read_bytes())
        except FileNotFoundError:
            return []
        except ValidationError as error:
            raise CorruptStoreError(f"{self._versions_path} is damaged.", hint="Restore it, or remove it.") from error
        except OSError as error:
            raise storage_error(error, self._versions_path) from error

    def append(self, action: Literal["adopt", "revert"], patch: Patch, in_force: tuple[str, ...]) -> Version:
        """Append a version and return it."""
        with changing(self._versions_path):
            versions = self.versions()
            version = Version(
                number=len(versions) + 1,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                action=action,
                patch=patch.id,
                in_force=in_force,
                seal="",
            )
            sealed = version.model_copy(update={"seal": _seal(version, patch, versions[-1].seal if versions else "")})
            self._write(self._versions_path, [each.model_dump(mode="json") for each in (*versions, sealed)])
        return sealed

    @staticmethod
    def _write(path: Path, value: Any) -> None:
        try:
            write_atomically(path, f"{json.dumps(value, indent=2, ensure_ascii=False)}\n".encode())
        except OSError as error:
            raise storage_error(error, path) from error


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except OSError:
        return None


def _seal(version: Version, patch: Patch, earlier: str) -> str:
    return _digest([version.model_dump(mode="json", exclude={"seal"}), patch.seal, earlier])


def _is_sealed(patch: Patch, versions: list[Version]) -> bool:
    """Return whether a patch is still what was adopted last under its id."""
    adoptions = [n for n, each in enumerate(versions) if (each.action, each.patch) == ("adopt", patch.id)]
    if not adoptions:
        return False
    at = adoptions[-1]
    return versions[at].seal == _seal(versions[at], patch, versions[at - 1].seal if at else "")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
