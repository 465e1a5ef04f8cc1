"""Evolution: propose, try, adopt and revert patches of one home.

    async with Gems() as gems:
        evolution = Evolution(gems)
        proposed = await evolution.propose()
        evidence = await evolution.try_patch(proposed.patches[0].id, TrialRequest(prompts=..., keep=..., budget=200))

Only one evolution at a time works on a home.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import GemsError, OptionError, RequestError, RunBusyError
from gems.evolution.instruments import open_instrument
from gems.evolution.proposals import Proposals, propose_patches
from gems.evolution.trial import Progress, Trial, TrialPlan, TrialRequest
from gems.evolution.validation import apply_patches, check_patch, read_text
from gems.memory.locks import hold_run_lock
from gems.memory.patches import Evidence, Patch, PatchStatus, Version
from gems.service import Gems

_LOCK = "evolution"


class ListedPatch(BaseModel):
    """A patch with how far it has come."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: PatchStatus
    patch: Patch


class PatchList(BaseModel):
    """All patches of a home, and what was adopted and taken back."""

    model_config = ConfigDict(frozen=True)

    patches: list[ListedPatch]
    in_force: list[str] = Field(description="In the order of their adoption.")
    versions: list[Version]
    refused: list[str] = Field(default_factory=list, description="Why other proposals cannot be tried.")


class Adopted(BaseModel):
    """A new version."""

    model_config = ConfigDict(frozen=True)

    version: Version
    patch: Patch
    difference: str = Field(description="What changes, as a unified diff.")
    built_upon: list[str] = Field(default_factory=list, description="Patches in force that were tried on top of it.")


class Comparison(BaseModel):
    """What was in force in one version and not in another."""

    model_config = ConfigDict(frozen=True)

    first: int
    second: int
    added: list[str] = Field(description="Patches that only the second version has.")
    removed: list[str] = Field(description="Patches that only the first one has.")
    difference: str = Field(description="What changes from the first to the second, as unified diffs.")


class Evolution:
    """Changes of one home that prove themselves."""

    def __init__(self, gems: Gems) -> None:
        self._gems = gems
        self._store = gems.resources.patches

    async def propose(self) -> PatchList:
        """Ask the chat model for patches, and store those that can be tried; see `propose_patches`."""
        async with self._alone():
            found = await propose_patches(self._gems, self._base())
            return await asyncio.to_thread(self._keep, found)

    async def add(self, patch: Patch) -> PatchList:
        """Store a patch that somebody wrote; RequestError if it cannot be applied."""
        async with self._alone():
            await check_patch(patch, self._gems.resources, self._base())
            return await asyncio.to_thread(self._keep, Proposals([patch], []))

    def _keep(self, found: Proposals) -> PatchList:
        known = {patch.id for patch in self._store.all()}
        for patch in found.patches:
            # An earlier proposal keeps its evidence.
            if patch.id not in known:
                self._store.save(patch.model_copy(update={"evidence": None}))
        ids = {patch.id for patch in found.patches}
        everything = self.list_patches()
        listed = [item for item in everything.patches if item.id in ids]
        return everything.model_copy(update={"patches": listed, "refused": found.refused})

    def list_patches(self) -> PatchList:
        """Return all patches. Blocking."""
        versions = self._store.versions()
        listed = [
            ListedPatch(id=patch.id, status=self._store.status(patch, versions), patch=patch)
            for patch in self._store.all()
        ]
        return PatchList(patches=listed, in_force=list(versions[-1].in_force) if versions else [], versions=versions)

    async def plan(self, name: str, request: TrialRequest) -> TrialPlan:
        """Return what a trial would do and cost, without doing it; raises as `try_patch`."""
        async with self._alone(), self._open_trial(name, request) as (_, trial):
            return await trial.plan()

    async def try_patch(
        self,
        name: str,
        request: TrialRequest,
        tell: Callable[[TrialPlan], None] | None = None,
        progress: Progress | None = None,
    ) -> Evidence:
        """Compare runs without and with a patch, and store what was found with it.

        An interrupted trial goes on where it was, and one that has ended is not repeated. `tell` is called with the
        plan before anything is paid for.

        Raises:
            RequestError: The prompts, the budget or the patch are of no use; nothing was paid for.
            ConfigurationError: Nothing but the loop's own judge could measure gains.
            RunBusyError: Another evolution works on this home.
            GemsError: A run failed; the trial can be continued.
        """
        async with self._alone(), self._open_trial(name, request) as (patch, trial):
            plan = await trial.plan()
            if tell is not None:
                tell(plan)
            evidence = await trial.run(progress)
            await asyncio.to_thread(self._store.save, patch.model_copy(update={"evidence": evidence}))
            return evidence

    @asynccontextmanager
    async def _open_trial(self, name: str, request: TrialRequest) -> AsyncIterator[tuple[Patch, Trial]]:
        request = request.checked()
        patch = await asyncio.to_thread(self._store.get, name)
        if patch.id in self._store.current.in_force:
            raise RequestError(f"The patch {patch.id} is in force already.", hint="Take it back to try it again.")
        if patch.kind == "rule" and patch.target == "max_rounds" and request.rounds is not None:
            raise OptionError("The patch is about the number of rounds, which is fixed.", hint="Leave --rounds out.")
        await check_patch(patch, self._gems.resources, self._base())
        async with open_instrument(self._gems.settings, self._gems.resources) as instrument:
            instrument.check([*request.prompts, *request.keep])
            trial = await asyncio.to_thread(Trial, self._gems, instrument, patch, request, self._store.folder)
            yield patch, trial

    async def adopt(self, name: str) -> Adopted:
        """Put a proven patch in force for the runs of profile `balanced` that begin from now on.

        Raises:
            RequestError: It is not proven, or what was in force during its trial is no longer the same.
        """
        async with self._alone():
            patch = await asyncio.to_thread(self._store.get, name)
            in_force = self._store.current.in_force
            if patch.id in in_force:
                raise RequestError(f"The patch {patch.id} is in force already.", hint="There is nothing to do.")
            evidence = patch.evidence
            if evidence is None or evidence.decision != "proven":
                why = f": {evidence.reason}" if evidence else "."
                raise RequestError(f"The patch {patch.id} is not proven{why}", hint="Try it with `gems evolve try`.")
            if evidence.base != in_force:
                raise RequestError(
                    f"The patch {patch.id} was tried with other patches in force than now.", hint="Try it again."
                )
            if evidence.models != self._gems.resources.models():
                raise RequestError(
                    f"The patch {patch.id} was tried with other models than those of the settings.",
                    hint="Try it again, or set the models with which it was tried.",
                )
            await check_patch(patch, self._gems.resources, self._base())
            return await self._change("adopt", patch, (*in_force, patch.id))

    async def revert(self, name: str) -> Adopted:
        """Take an adopted patch back; RequestError if it is not in force."""
        async with self._alone():
            versions = await asyncio.to_thread(self._store.versions)
            patch = await asyncio.to_thread(self._store.get, name)
            listed = versions[-1].in_force if versions else ()
            if patch.id not in listed:
                raise RequestError(f"The patch {patch.id} is not in force.", hint="`gems evolve list` says what is.")
            return await self._change("revert", patch, tuple(each for each in listed if each != patch.id))

    async def compare(self, first: int, second: int | None = None) -> Comparison:
        """Compare two versions, the newest one by default; 0 is the time before any. RequestError for others."""
        versions = await asyncio.to_thread(self._store.versions)
        known = {patch.id: patch for patch in await asyncio.to_thread(self._store.all)}
        second = len(versions) if second is None else second
        if unknown := [number for number in (first, second) if not 0 <= number <= len(versions)]:
            raise RequestError(f"There is no version {unknown[0]}.", hint=f"There are 0 to {len(versions)}.")
        old, new = (versions[number - 1].in_force if number else () for number in (first, second))
        removed, added = ([name for name in one if name not in other] for one, other in ((old, new), (new, old)))
        parts = []
        for action, names, places in (("revert", removed, old), ("adopt", added, new)):
            for name in names:
                base = [known[each] for each in places[: places.index(name)] if each in known]
                if name in known:
                    parts.append(await self._difference(action, known[name], base))
                else:
                    parts.append(f"{name}: its file is gone.")
        return Comparison(first=first, second=second, added=added, removed=removed, difference="\n".join(parts))

    async def _change(self, action: Literal["adopt", "revert"], patch: Patch, in_force: tuple[str, ...]) -> Adopted:
        known = self._store.current.known
        base = [known[each] for each in self._store.current.in_force if each in known and each != patch.id]
        difference = await self._difference(action, patch, base)
        upon = [each.id for each in base if each.evidence and patch.id in each.evidence.base]
        version = await asyncio.to_thread(self._store.append, action, patch, in_force)
        await self._store.refreshed()
        return Adopted(version=version, patch=patch, difference=difference, built_upon=upon)

    async def _difference(self, action: str, patch: Patch, base: Sequence[Patch]) -> str:
        if patch.kind in ("recipe", "rule"):
            lines = [f"{patch.kind} {patch.target}: {name} {value!r}" for name, value in patch.values.items()]
            return "\n".join(f"{'+' if action == 'adopt' else '-'} {line}" for line in lines)
        try:
            before = apply_patches(await read_text(patch, self._gems.resources), base, patch)
            texts = [before, patch.amend(before)]
        except GemsError:
            texts = [patch.before, patch.after]  # what it was about is gone; it can be taken back all the same
        first, second = (text.splitlines() for text in (texts if action == "adopt" else texts[::-1]))
        named = f"{patch.kind} {patch.target}"
        return "\n".join(difflib.unified_diff(first, second, named, named, lineterm="", n=1))

    def _base(self) -> list[Patch]:
        current = self._store.current
        return list(current.select(current.in_force))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        try:
            async with hold_run_lock(self._store.folder, _LOCK):
                await self._gems.resources.refresh()
                yield
        except RunBusyError as error:
            if _LOCK in error.message:
                raise RunBusyError(
                    f"Another evolution is working on {self._gems.settings.home}.", hint="Wait for it to finish."
                ) from None
            raise
