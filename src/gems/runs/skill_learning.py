"""`Gems.skills.learn`: draft skills from groups of lessons."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from gems.errors import InternalError, ProviderError, SkillError, UnreachableError
from gems.memory.clustering import failing_kinds, is_refuted
from gems.memory.experience import experience_key, no_record
from gems.memory.retrieval import estimate_tokens, format_lesson, text_with_outcome, trust
from gems.models.chat.client import ChatClient
from gems.models.schemas import DraftReply
from gems.nodes.prompts import numbered, question
from gems.options import MAX_PROMPT
from gems.resources import Resources
from gems.runs.memory_admin import MemoryAdmin
from gems.skills.files import MAX_CHARACTERS, read_body
from gems.skills.models import Skill, normalise_name
from gems.skills.parser import MAX_DESCRIPTION, MAX_NAME, is_skill_name
from gems.skills.reports import SkillDraft, SkillDrafts
from gems.skills.scaffold import (
    Draft,
    drafts_folder,
    known_drafts,
    known_metadata,
    standard_fields,
    write_draft,
)
from gems.types import Recalled, TrackRecord

_OTHER_KIND = "other"
_MAX_SHOWN = 40
_MAX_SHOWN_TOKENS = 4_000
"""Maximum tokens of the lessons of a group that are shown to a chat model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A lesson, or an experience without a lesson.

    Attributes:
        key: Its key in the store.
        generator: The image model.
        skills: Skills of its runs.
        kind: The main kind of requirement that it is about.
        text: On one line.
        record: Its track record.
        sources: Run and round of each experience behind it.
    """

    key: str
    generator: str
    skills: tuple[str, ...]
    kind: str
    text: str
    record: TrackRecord
    sources: tuple[tuple[str, int], ...]

    @property
    def line(self) -> str:
        """The text for a chat model."""
        return format_lesson(cast("Recalled", {"text": self.text, "record": self.record}))


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonGroup:
    """Enough evidence for a skill, or for an amendment of one.

    Attributes:
        generator: The image model.
        skill: The skill of its runs; None if there was none.
        kinds: The kinds of requirements; a single one if there was no skill.
        evidence: The most trusted first.
    """

    generator: str
    skill: str | None
    kinds: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    @property
    def stamp(self) -> str:
        """A hash of the evidence."""
        keys = json.dumps(sorted(item.key for item in self.evidence))
        return hashlib.sha256(keys.encode()).hexdigest()[:16]

    def shown(self) -> list[Evidence]:
        """Return the best lessons that fit into a question."""
        chosen: list[Evidence] = []
        room = _MAX_SHOWN_TOKENS
        for item in self.evidence[:_MAX_SHOWN]:
            room -= estimate_tokens(item.line)
            if room < 0:
                break
            chosen.append(item)
        return chosen


def collect_evidence(
    lessons: Mapping[str, Mapping[str, Any]], experiences: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Evidence], int]:
    """Return lessons and experiences (both by key) as evidence, and the number of refuted ones left out."""
    covered = {experience_key(*source) for lesson in lessons.values() for source in lesson["sources"]}
    alone = {key: value for key, value in experiences.items() if key not in covered}
    found = [_of_lesson(key, value, experiences) for key, value in lessons.items() if not is_refuted(value)]
    found += [_of_experience(key, value) for key, value in alone.items() if not is_refuted(value)]
    return found, len(lessons) + len(alone) - len(found)


def group_evidence(
    evidence: Sequence[Evidence], least: int, learnt: Mapping[tuple[str, str], str]
) -> list[LessonGroup]:
    """Return groups of at least `least` pieces of evidence, the largest first.

    A skill is amended by all kinds of which there is enough. What was made with several skills counts for
    each of them.

    Args:
        evidence: What there is.
        least: Minimum number for one generator, skill and kind.
        learnt: Generator and kind -> the skill that was drafted from such evidence and is in use now.
    """
    groups: dict[tuple[str, str | None, str], list[Evidence]] = defaultdict(list)
    for item in evidence:
        for skill in item.skills or (learnt.get((item.generator, item.kind)),):
            groups[(item.generator, skill, item.kind)].append(item)
    joined: dict[tuple[str, str | None, str], list[tuple[str, list[Evidence]]]] = defaultdict(list)
    for (generator, skill, kind), items in groups.items():
        if len(items) >= least:
            joined[(generator, skill, "" if skill else kind)].append((kind, items))
    found = [
        LessonGroup(
            generator=generator,
            skill=skill,
            kinds=tuple(sorted(kind for kind, _ in parts)),
            evidence=tuple(sorted((item for _, items in parts for item in items), key=_evidence_rank)),
        )
        for (generator, skill, _), parts in joined.items()
    ]
    return sorted(
        found, key=lambda group: (-len(group.evidence), group.generator, group.skill or "", group.kinds)
    )


def _evidence_rank(item: Evidence) -> tuple[float, int, str]:
    return -trust(item.record), -len(item.sources), item.key


def _of_lesson(key: str, value: Mapping[str, Any], experiences: Mapping[str, Mapping[str, Any]]) -> Evidence:
    sources = [(str(run), int(number)) for run, number in value["sources"]]
    known = [experiences[name] for source in sources if (name := experience_key(*source)) in experiences]
    counts = Counter(kind for source in known for kind in failing_kinds(source)[:1])
    mostly = [kind for kind, _ in counts.most_common(1)] or list(value["kinds"])
    return _evidence(key, value, mostly, str(value["text"]), sources)


def _of_experience(key: str, value: Mapping[str, Any]) -> Evidence:
    source = (str(value["run"]), int(value["round"]))
    return _evidence(key, value, failing_kinds(value), text_with_outcome(dict(value)), [source])


def _evidence(
    key: str, value: Mapping[str, Any], kinds: list[str], text: str, sources: list[tuple[str, int]]
) -> Evidence:
    return Evidence(
        key=key,
        generator=str(value["generator"]),
        skills=tuple(dict.fromkeys(map(str, value.get("skills") or ()))),
        kind=kinds[0] if kinds else _OTHER_KIND,
        text=" ".join(text.split()),
        record=value.get("record") or no_record(),
        sources=tuple(sources),
    )


SECTION = "## What earlier runs learnt"
_MAX_LISTED = 20
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The usable parts of what a chat model wrote.

    Attributes:
        name: Empty if it is not valid.
        description: Empty if the default one is to be used.
        body: Empty if the list of lessons is to be used.
        warnings: Problems that were found.
    """

    name: str = ""
    description: str = ""
    body: str = ""
    warnings: list[str] = field(default_factory=list)


class Author:
    """Lets a chat model write skills."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    async def write(self, group: LessonGroup, body: str) -> Guidance:
        """Write a new skill, or amend the guidance `body` of an existing one.

        A reply that is not usable leads to warnings; UnreachableError and ConfigurationError are raised.
        """
        slots = {"skill": body, "lessons": numbered(item.line for item in group.shown())}
        try:
            reply = await self._client.ask(question("author", slots))
        except UnreachableError:
            raise
        except ProviderError as error:
            return Guidance(warnings=[f"{_FALLBACK} gave no usable answer: {error}"])
        return _check_reply(reply.form(DraftReply), body)


_FALLBACK = "The list of lessons is used, because the chat model"


def _check_reply(reply: DraftReply, old_body: str) -> Guidance:
    body = remove_control_characters(reply.body).strip()
    if not body:
        return Guidance(warnings=[f"{_FALLBACK} wrote no guidance."])
    if len(body) > max(MAX_CHARACTERS, len(old_body)):
        return Guidance(warnings=[f"{_FALLBACK} wrote {len(body):,} characters of guidance."])
    warnings = []
    if old_body:
        if 2 * len(body) < len(old_body):
            warnings.append("The amended guidance is much shorter than the skill's: check what is missing.")
        return Guidance(body=body, warnings=warnings)
    name, description = valid_name(reply.name), " ".join(remove_control_characters(reply.description).split())
    if not name:
        warnings.append(f"The chat model's name {reply.name[:80]!r} is not valid; another one is used.")
    if not description:
        warnings.append("The chat model wrote no description; the default one is used.")
    if len(description) > MAX_DESCRIPTION:
        warnings.append(f"The description had {len(description):,} characters; it was cut.")
        description = _cut_description(description)
    return Guidance(name=name, description=description, body=body, warnings=warnings)


def valid_name(text: str) -> str:
    """Convert text to a valid skill name of ASCII letters; "" if that is impossible."""
    name = normalise_name(text)[:MAX_NAME].strip("-")
    return name if _NAME.fullmatch(name) and is_skill_name(name) else ""


def remove_control_characters(text: str) -> str:
    """Remove control characters and lone surrogates from the text of a model or a lesson."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return _CONTROL.sub("", plain)


def list_lessons(name: str, group: LessonGroup) -> str:
    """Return the guidance of a new skill as a list of its lessons."""
    title = name.replace("-", " ").capitalize()
    return f"# {title}\n\n{_format_lessons(group)}"


def append_lessons(body: str, group: LessonGroup) -> str:
    """Append the best lessons to a skill's guidance, replacing those of an earlier amendment."""
    kept, skipping = [], False
    for line in body.split("\n"):
        if line.startswith(("# ", "## ")):
            skipping = line.rstrip() == SECTION
        if not skipping:
            kept.append(line)
    rest = "\n".join(kept).strip()
    return f"{rest}\n\n{SECTION}\n\n{_format_lessons(group)}".strip()


def _format_lessons(group: LessonGroup) -> str:
    about = " ".join(remove_control_characters(group.generator).split())
    heading = (
        f"What earlier runs with {about} learnt about requirements of the kind {', '.join(group.kinds)}, "
        "with what came of it. Use what fits the prompt; keep everything that the user asked for."
    )
    lines = [
        f"- {' '.join(remove_control_characters(item.line).split())}" for item in group.shown()[:_MAX_LISTED]
    ]
    return "\n".join([heading, "", *lines])


def _cut_description(text: str) -> str:
    """Cut to as many whole sentences as a description may have, or words if the first one is longer."""
    part = text[:MAX_DESCRIPTION]
    end = max(part.rfind(mark) for mark in (". ", "! ", "? ", "。"))
    return part[: end + 1] if end > 0 else f"{part[: MAX_DESCRIPTION - 1].rsplit(' ', 1)[0]}…"


MIN_LESSONS = 5
GENERATOR, KINDS, SOURCES, STAMP = "gems-generator", "gems-kinds", "gems-sources", "gems-lessons"
"""Keys of a draft's metadata: generator, kinds, number and digest of its lessons."""
Metadata = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """A request for skill drafts.

    Attributes:
        least: Minimum number of lessons of one kind.
        generator: Only lessons about this generator.
        use_model: Whether the reflector's chat model writes; otherwise a list of the best lessons is used.
        force: Replace existing drafts.
        dry_run: Only report what would be written.
    """

    least: int = MIN_LESSONS
    generator: str | None = None
    use_model: bool = True
    force: bool = False
    dry_run: bool = False


class DraftWriter:
    """Writes the drafts of one call, each under a unique name."""

    def __init__(
        self,
        home: Path,
        request: DraftRequest,
        author: Author | None,
        skills: Mapping[str, Skill],
        existing: Metadata,
    ) -> None:
        self._home, self._request, self._author = home, request, author
        self._skills, self._existing = skills, existing
        self._taken = {*skills, *existing}

    async def draft(self, group: LessonGroup, prompts: Sequence[str]) -> SkillDraft:
        """Draft a skill from a group; SkillError if the skill to amend cannot be read."""
        existing_name = self._existing_draft(group)
        if existing_name is not None and not self._request.force:
            return self._report(group, existing_name, "exists")
        if self._request.dry_run:
            return self._report(
                group,
                existing_name or group.skill or self._unused_name(_default_name(group), group),
                "planned",
            )
        skill = self._skills[group.skill] if group.skill is not None else None
        body = (await read_body(skill)).strip() if skill is not None else ""
        guidance = await self._author.write(group, body) if self._author else Guidance()
        name = group.skill or existing_name or self._unused_name(guidance.name or _default_name(group), group)
        draft = await asyncio.to_thread(self._build_draft, group, name, guidance, body, prompts)
        self._taken.add(name)
        await asyncio.to_thread(write_draft, self._home, draft, force=self._request.force)
        written = self._report(group, name, "written")
        return written.model_copy(
            update={
                "by": "model" if draft.body == guidance.body else "list",
                "examples": len(prompts),
                "warnings": draft.warnings,
            }
        )

    def _existing_draft(self, group: LessonGroup) -> str | None:
        """Return the existing draft for the same skill, or the same generator and kinds."""
        if group.skill is not None:
            return group.skill if group.skill in self._existing else None
        key = (group.generator, " ".join(group.kinds))
        return next(
            (
                name
                for name, data in self._existing.items()
                if name not in self._skills and (data.get(GENERATOR), data.get(KINDS)) == key
            ),
            None,
        )

    def _unused_name(self, base_name: str, group: LessonGroup) -> str:
        """Return a name that neither a skill nor a draft has, so that a draft never replaces a skill."""
        if base_name not in self._taken:
            return base_name
        named = valid_name(f"{base_name}-{group.generator}") or base_name
        numbered = (valid_name(f"{base_name[:50]}-{number}") for number in range(2, len(self._taken) + 3))
        return next(name for name in (named, *numbered) if name and name not in self._taken)

    def _build_draft(
        self, group: LessonGroup, name: str, guidance: Guidance, body: str, prompts: Sequence[str]
    ) -> Draft:
        """Build the draft from the model's text, or from the list of lessons if that is invalid. Blocking."""
        skill = self._skills[group.skill] if group.skill is not None else None
        listed = append_lessons(body, group) if skill is not None else list_lessons(name, group)
        warnings = list(guidance.warnings)
        if skill is not None and skill.code:
            warnings.append("The skill has code, which is executed once the draft is among your skills.")
        for text, description in ((guidance.body, guidance.description), (listed, "")):
            if not text:
                continue
            fields = self._fields(group, name, description, skill)
            draft = Draft(
                name=name,
                fields=fields,
                body=text,
                prompts=prompts,
                source=skill.folder if skill is not None else None,
                warnings=warnings,
            )
            faults = draft.faults()
            if not faults:
                return draft
            warnings.append(
                f"The list of lessons is used instead of the chat model's text: {' '.join(faults)}"
            )
        raise InternalError(f"The draft {name} is not a valid skill: {' '.join(faults)}")

    def _fields(
        self, group: LessonGroup, name: str, description: str, skill: Skill | None
    ) -> dict[str, object]:
        about = ", ".join(group.kinds)
        plain = (
            f"What earlier runs learnt about requirements of the kind {about}. For prompts whose main "
            f"difficulty is of this kind; not for plain ones."
        )
        fields: dict[str, object] = {"name": name, "description": description or plain}
        metadata: dict[str, str] = {}
        if skill is not None:
            # The description decides when the skill is chosen; the model does not see it, so it stays.
            fields = standard_fields(skill)
            metadata = dict(fields.get("metadata") or {})  # type: ignore[call-overload]
        own = {
            GENERATOR: group.generator,
            KINDS: " ".join(group.kinds),
            SOURCES: str(len(group.evidence)),
            STAMP: group.stamp,
        }
        return fields | {"metadata": metadata | own}

    def _report(self, group: LessonGroup, name: str, state: str) -> SkillDraft:
        return SkillDraft.model_validate(
            {
                "name": name,
                "amends": group.skill is not None,
                "generator": group.generator,
                "kinds": list(group.kinds),
                "lessons": len(group.evidence),
                "by": None,
                "state": state,
                "folder": str(drafts_folder(self._home) / name),
                "examples": 0,
                "warnings": [],
            }
        )


def _default_name(group: LessonGroup) -> str:
    return f"learnt-{group.kinds[0]}"


_MAX_EXAMPLES = 20


async def propose_skills(
    memories: MemoryAdmin,
    resources: Resources,
    home: Path,
    request: DraftRequest,
    progress: Callable[[int, int], None] | None = None,
) -> SkillDrafts:
    """Draft a skill, or an amendment of one, from each group of lessons.

    Args:
        memories: The lessons and experiences.
        resources: The opened models, and the existing skills.
        home: GEMS_HOME.
        request: What to propose.
        progress: Called with the number of groups that are done, and their total.
    """
    await memories.flush()
    memory_items = await memories.listed(generator=request.generator)
    lessons = {memory.key: memory.value for memory in memory_items if memory.kind == "lesson"}
    experiences = {memory.key: memory.value for memory in memory_items if memory.kind == "experience"}
    evidence, refuted = collect_evidence(lessons, experiences)
    skills = {skill.name: skill for skill in resources.skills.current.all()}
    in_use = await asyncio.to_thread(_skill_metadata, skills)
    selection = _select_groups(
        group_evidence(evidence, request.least, _learned_skills(in_use)), skills, in_use
    )
    author = Author(resources.chats["reflector"]) if request.use_model else None
    existing = await asyncio.to_thread(known_drafts, home)
    drafter = DraftWriter(home, request, author, skills, existing)
    drafts: list[SkillDraft] = []
    for number, group in enumerate(selection.kept, 1):
        try:
            drafts.append(await drafter.draft(group, await _prompts(group, experiences, resources)))
        except SkillError as error:
            selection.left_out.append(f"{group.skill}: {error.message}")
        if progress is not None:
            progress(number, len(selection.kept))
    return SkillDrafts(
        lessons=len(evidence) + refuted, refuted=refuted, drafts=drafts, left_out=selection.left_out
    )


@dataclass
class _Selection:
    kept: list[LessonGroup] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _skill_metadata(skills: Mapping[str, Skill]) -> dict[str, dict[str, str]]:
    return {name: known_metadata(skill.folder) for name, skill in skills.items() if skill.folder is not None}


def _learned_skills(in_use: Metadata) -> dict[tuple[str, str], str]:
    """Return generator and kind of the accepted skills that were drafted from lessons without a skill."""
    return {
        (data[GENERATOR], data[KINDS]): name
        for name, data in in_use.items()
        if GENERATOR in data and KINDS in data
    }


def _select_groups(
    memory_items: Sequence[LessonGroup], skills: Mapping[str, Skill], in_use: Metadata
) -> _Selection:
    """Select the groups to draft: only the largest about each skill, and none that it already includes."""
    result = _Selection()
    amended: dict[str, str] = {}
    for group in memory_items:
        count = f"{len(group.evidence)} lessons about {group.generator}"
        if group.skill is None:
            result.kept.append(group)
        elif group.skill not in skills:
            result.left_out.append(f"{group.skill}: {count}, but the skill no longer exists")
        elif in_use.get(group.skill, {}).get(STAMP) == group.stamp:
            result.left_out.append(f"{group.skill}: {count}, from which it was already written")
        elif group.skill in amended:
            result.left_out.append(
                f"{group.skill}: {count}, but only one amendment at a time: {amended[group.skill]} has more"
            )
        else:
            amended[group.skill] = group.generator
            result.kept.append(group)
    return result


async def _prompts(
    group: LessonGroup, experiences: Mapping[str, Mapping[str, str]], resources: Resources
) -> list[str]:
    """Return known prompts of the runs that a group's lessons come from."""
    prompts: dict[str, None] = {}
    known = {(value["run"]): value["prompt"] for value in experiences.values()}
    for run in dict.fromkeys(run for item in group.evidence for run, _ in item.sources):
        prompt = known.get(run)
        if prompt is None:
            row = await resources.ledger.run(run)
            prompt = row["prompt"] if row else ""
        if prompt.strip() and len(prompt) <= MAX_PROMPT:
            prompts[prompt] = None
        if len(prompts) == _MAX_EXAMPLES:
            break
    return list(prompts)
