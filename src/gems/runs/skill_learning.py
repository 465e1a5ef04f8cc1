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
from typing import Any, Literal, cast

from gems.errors import InternalError, ProviderError, SkillError, UnreachableError
from gems.memory.clustering import failing_kinds, is_refuted
from gems.memory.experience import experience_key, no_record
from gems.memory.retrieval import estimate_tokens, format_lesson, text_with_outcome, trust
from gems.models.chat.client import ChatClient
from gems.models.chat.schemas import DraftReply
from gems.nodes.prompts import numbered, question
from gems.options import MAX_PROMPT
from gems.resources import Resources
from gems.runs.memory_admin import MemoryAdmin
from gems.skills.files import MAX_CHARACTERS, read_body
from gems.skills.models import Skill, normalise_name
from gems.skills.parser import MAX_DESCRIPTION, MAX_NAME, is_skill_name
from gems.skills.reports import SkillDraft, SkillDrafts
from gems.skills.scaffold import Draft, drafts_folder, known_drafts, known_metadata, standard_fields, write_draft
from gems.types import Recalled, TrackRecord

MIN_LESSONS = 5
GENERATOR, KINDS, SOURCES, STAMP = "gems-generator", "gems-kinds", "gems-sources", "gems-lessons"
"""Keys of a draft's metadata: generator, kinds, number and digest of its lessons."""
_MAX_SHOWN = 40
_MAX_SHOWN_TOKENS = 4_000
"""Maximum tokens of the lessons of a group that are shown to a chat model."""
_MAX_LISTED = 20
_MAX_EXAMPLES = 20
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
Metadata = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A lesson, or an experience without one; `sources` are run and round of the experiences behind it."""

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
    """Enough evidence, the most trusted first, for a skill about one kind or for an amendment of `skill`."""

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
    for key, value in alone.items():
        if not is_refuted(value):
            source = (str(value["run"]), int(value["round"]))
            text = text_with_outcome(dict(value))
            found.append(_evidence(key, value, failing_kinds(value), text, [source]))
    return found, len(lessons) + len(alone) - len(found)


def group_evidence(
    evidence: Sequence[Evidence], least: int, learnt: Mapping[tuple[str, str], str]
) -> list[LessonGroup]:
    """Return groups of at least `least` pieces of one generator, skill and kind, the largest first.

    A skill is amended by all kinds of which there is enough; evidence with several skills counts for each.
    `learnt` maps generator and kind to the skill in use that was drafted from such evidence.
    """
    groups: dict[tuple[str, str | None, str], list[Evidence]] = defaultdict(list)
    for item in evidence:
        for skill in item.skills or (learnt.get((item.generator, item.kind)),):
            groups[(item.generator, skill, item.kind)].append(item)
    joined: dict[tuple[str, str | None, str], list[Evidence]] = defaultdict(list)
    for (generator, skill, kind), items in groups.items():
        if len(items) >= least:
            joined[(generator, skill, "" if skill else kind)] += items
    found = [
        LessonGroup(
            generator=generator,
            skill=skill,
            kinds=tuple(sorted({item.kind for item in items})),
            evidence=tuple(sorted(items, key=lambda i: (-trust(i.record), -len(i.sources), i.key))),
        )
        for (generator, skill, _), items in joined.items()
    ]
    return sorted(found, key=lambda g: (-len(g.evidence), g.generator, g.skill or "", g.kinds))


def _of_lesson(key: str, value: Mapping[str, Any], experiences: Mapping[str, Mapping[str, Any]]) -> Evidence:
    sources = [(str(run), int(number)) for run, number in value["sources"]]
    known = [experiences[name] for source in sources if (name := experience_key(*source)) in experiences]
    counts = Counter(kind for source in known for kind in failing_kinds(source)[:1])
    mostly = [kind for kind, _ in counts.most_common(1)] or list(value["kinds"])
    return _evidence(key, value, mostly, str(value["text"]), sources)


def _evidence(
    key: str, value: Mapping[str, Any], kinds: list[str], text: str, sources: list[tuple[str, int]]
) -> Evidence:
    return Evidence(
        key=key,
        generator=str(value["generator"]),
        skills=tuple(dict.fromkeys(map(str, value.get("skills") or ()))),
        kind=kinds[0] if kinds else "other",
        text=" ".join(text.split()),
        record=value.get("record") or no_record(),
        sources=tuple(sources),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The usable parts of what a chat model wrote; without a body, `fault` says why it is not usable."""

    name: str = ""
    description: str = ""
    body: str = ""
    fault: str = ""
    warnings: list[str] = field(default_factory=list)


async def write_guidance(client: ChatClient, group: LessonGroup, body: str) -> Guidance:
    """Let a chat model write a skill, or amend the guidance `body`; raise only UnreachableError."""
    slots = {"skill": body, "lessons": numbered(item.line for item in group.shown())}
    try:
        reply = await client.ask(question("author", slots))
    except UnreachableError:
        raise
    except ProviderError as error:
        return Guidance(fault=f"gave no usable answer: {error}")
    return _check_reply(reply.form(DraftReply), body)


def _check_reply(reply: DraftReply, old_body: str) -> Guidance:
    body = remove_control_characters(reply.body).strip()
    if not body:
        return Guidance(fault="wrote no guidance.")
    if len(body) > max(MAX_CHARACTERS, len(old_body)):
        return Guidance(fault=f"wrote {len(body):,} characters of guidance.")
    warnings = []
    if old_body:
        if 2 * len(body) < len(old_body):
            warnings.append("The amended guidance is much shorter than the skill's: check what is missing.")
        return Guidance(body=body, warnings=warnings)
    name, description = valid_name(reply.name), _on_one_line(reply.description)
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


def _on_one_line(text: str) -> str:
    return " ".join(remove_control_characters(text).split())


def _cut_description(text: str) -> str:
    """Cut to as many whole sentences as a description may have, or words if the first one is longer."""
    part = text[:MAX_DESCRIPTION]
    end = max(part.rfind(mark) for mark in (". ", "! ", "? ", "。"))
    return part[: end + 1] if end > 0 else f"{part[: MAX_DESCRIPTION - 1].rsplit(' ', 1)[0]}…"


def list_lessons(name: str, group: LessonGroup) -> str:
    """Return the guidance of a new skill as a list of its lessons."""
    about = f"What earlier runs with {_on_one_line(group.generator)} learnt"
    use = "Use what fits the prompt; keep everything that the user asked for."
    heading = f"{about} about requirements of the kind {group.kinds[0]} and their results. {use}"
    lines = [f"- {_on_one_line(item.line)}" for item in group.shown()[:_MAX_LISTED]]
    return "\n".join([f"# {name.replace('-', ' ').capitalize()}", "", heading, "", *lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """A request for skill drafts.

    Attributes:
        least: Minimum number of lessons of one kind.
        generator: Only lessons about this generator.
        use_model: Whether the reflector's chat model writes; otherwise new skills are lists of the best
            lessons, and no skill is amended.
        force: Replace existing drafts.
        dry_run: Only report what would be written.
    """

    least: int = MIN_LESSONS
    generator: str | None = None
    use_model: bool = True
    force: bool = False
    dry_run: bool = False


class DraftWriter:
    """Writes the drafts of one call, each under a unique name; without a client as lists of lessons."""

    def __init__(
        self,
        home: Path,
        request: DraftRequest,
        client: ChatClient | None,
        skills: Mapping[str, Skill],
        existing: Metadata,
    ) -> None:
        self._home, self._request, self._client = home, request, client
        self._skills, self._existing = skills, existing
        self._taken = {*skills, *existing}

    async def draft(self, group: LessonGroup, prompts: Sequence[str]) -> SkillDraft:
        """Draft a skill from a group; raise `SkillError` if an amendment is not possible."""
        existing_name = self._existing_draft(group)
        if existing_name is not None and not self._request.force:
            return self._report(group, existing_name, "exists")
        if self._request.dry_run:
            name = existing_name or group.skill or self._unused_name(f"learnt-{group.kinds[0]}", group)
            return self._report(group, name, "planned")
        skill = self._skills[group.skill] if group.skill is not None else None
        if skill is not None and self._client is None:
            raise SkillError("Only a chat model can amend a skill.")
        body = (await read_body(skill)).strip() if skill is not None else ""
        guidance = await write_guidance(self._client, group, body) if self._client else Guidance()
        if skill is not None and guidance.fault:
            raise SkillError(f"The chat model {guidance.fault}")
        base_name = guidance.name or f"learnt-{group.kinds[0]}"
        name = group.skill or existing_name or self._unused_name(base_name, group)
        draft = await asyncio.to_thread(self._build_draft, group, name, guidance, skill, prompts)
        self._taken.add(name)
        await asyncio.to_thread(write_draft, self._home, draft, force=self._request.force)
        by_model = draft.body == guidance.body
        update = {"by": "model" if by_model else "list", "examples": len(prompts), "warnings": draft.warnings}
        return self._report(group, name, "written").model_copy(update=update)

    def _existing_draft(self, group: LessonGroup) -> str | None:
        """Return the existing draft for the same skill, or the same generator and kinds."""
        if group.skill is not None:
            return group.skill if group.skill in self._existing else None
        key = (group.generator, " ".join(group.kinds))
        drafts = {name: data for name, data in self._existing.items() if name not in self._skills}
        return next((n for n, data in drafts.items() if (data.get(GENERATOR), data.get(KINDS)) == key), None)

    def _unused_name(self, base_name: str, group: LessonGroup) -> str:
        """Return a name that neither a skill nor a draft has, so that a draft never replaces a skill."""
        if base_name not in self._taken:
            return base_name
        named = valid_name(f"{base_name}-{group.generator}") or base_name
        numbered = (valid_name(f"{base_name[:50]}-{number}") for number in range(2, len(self._taken) + 3))
        return next(name for name in (named, *numbered) if name and name not in self._taken)

    def _build_draft(
        self, group: LessonGroup, name: str, guidance: Guidance, skill: Skill | None, prompts: Sequence[str]
    ) -> Draft:
        """Build a draft from the model's text; of a new skill else from the list of lessons. Blocking."""
        warnings = list(guidance.warnings)
        if guidance.fault:
            warnings.append(f"The list of lessons is used, because the chat model {guidance.fault}")
        if skill is not None and skill.code:
            warnings.append("The skill has code, which is executed once the draft is among your skills.")
        texts = [(guidance.body, guidance.description)] if guidance.body else []
        if skill is None:
            texts.append((list_lessons(name, group), ""))
        faults: list[str] = []
        for text, description in texts:
            fields = _draft_fields(group, name, description, skill)
            source = skill.folder if skill is not None else None
            draft = Draft(name, fields, text, prompts, source, warnings)
            faults = draft.faults()
            if not faults:
                return draft
            wrong = "The list of lessons is used instead of the chat model's text:"
            warnings.append(f"{wrong} {' '.join(faults)}")
        if skill is not None:
            raise SkillError(f"The chat model wrote an invalid skill: {' '.join(faults)}")
        raise InternalError(f"The draft {name} is not a valid skill: {' '.join(faults)}")

    def _report(self, group: LessonGroup, name: str, state: Literal["written", "exists", "planned"]) -> SkillDraft:
        return SkillDraft(
            name=name,
            amends=group.skill is not None,
            generator=group.generator,
            kinds=list(group.kinds),
            lessons=len(group.evidence),
            by=None,
            state=state,
            folder=str(drafts_folder(self._home) / name),
            examples=0,
            warnings=[],
        )


def _draft_fields(group: LessonGroup, name: str, description: str, skill: Skill | None) -> dict[str, object]:
    if skill is not None:
        # The description decides when the skill is chosen; the model does not see it, so it stays.
        fields = standard_fields(skill)
    else:
        about = f"What earlier runs learnt about requirements of the kind {group.kinds[0]}."
        plain = f"{about} For prompts whose main difficulty is of this kind; not for plain ones."
        fields = {"name": name, "description": description or plain}
    own = {
        GENERATOR: group.generator,
        KINDS: " ".join(group.kinds),
        SOURCES: str(len(group.evidence)),
        STAMP: group.stamp,
    }
    return fields | {"metadata": (fields.get("metadata") or {}) | own}


async def propose_skills(
    resources: Resources, home: Path, request: DraftRequest, progress: Callable[[int, int], None] | None
) -> SkillDrafts:
    """Draft a skill, or an amendment of one, from each group of lessons; `home` is GEMS_HOME."""
    memories = MemoryAdmin(resources)
    await memories.flush()
    memory_items = await memories.listed(generator=request.generator)
    lessons = {memory.key: memory.value for memory in memory_items if memory.kind == "lesson"}
    experiences = {memory.key: memory.value for memory in memory_items if memory.kind == "experience"}
    evidence, refuted = collect_evidence(lessons, experiences)
    skills = {skill.name: skill for skill in resources.skills.current.all()}
    in_use = await asyncio.to_thread(_skill_metadata, skills)
    # Generator and kind of the accepted skills that were drafted from lessons without a skill.
    learnt = {
        (data[GENERATOR], data[KINDS]): name for name, data in in_use.items() if GENERATOR in data and KINDS in data
    }
    groups, left_out = _select_groups(group_evidence(evidence, request.least, learnt), skills, in_use)
    client = resources.chats["reflector"] if request.use_model else None
    writer = DraftWriter(home, request, client, skills, await asyncio.to_thread(known_drafts, home))
    drafts: list[SkillDraft] = []
    for number, group in enumerate(groups, 1):
        try:
            drafts.append(await writer.draft(group, await _prompts(group, experiences, resources)))
        except SkillError as error:
            left_out.append(f"{group.skill}: {error.message}")
        if progress is not None:
            progress(number, len(groups))
    return SkillDrafts(lessons=len(evidence) + refuted, refuted=refuted, drafts=drafts, left_out=left_out)


def _skill_metadata(skills: Mapping[str, Skill]) -> dict[str, dict[str, str]]:
    return {name: known_metadata(skill.folder) for name, skill in skills.items() if skill.folder is not None}


def _select_groups(
    groups: Sequence[LessonGroup], skills: Mapping[str, Skill], in_use: Metadata
) -> tuple[list[LessonGroup], list[str]]:
    """Select the largest group about each skill that does not include it yet; say why others are left out."""
    kept: list[LessonGroup] = []
    left_out: list[str] = []
    amended: dict[str, str] = {}
    for group in groups:
        reason = ""
        if group.skill is not None:
            if group.skill not in skills:
                reason = "but the skill no longer exists"
            elif in_use.get(group.skill, {}).get(STAMP) == group.stamp:
                reason = "from which it was already written"
            elif group.skill in amended:
                reason = f"but only one amendment at a time: {amended[group.skill]} has more"
            else:
                amended[group.skill] = group.generator
        if reason:
            left_out.append(f"{group.skill}: {len(group.evidence)} lessons about {group.generator}, {reason}")
        else:
            kept.append(group)
    return kept, left_out


async def _prompts(group: LessonGroup, experiences: Mapping[str, Mapping[str, str]], resources: Resources) -> list[str]:
    """Return known prompts of the runs that a group's lessons come from."""
    prompts: dict[str, None] = {}
    known = {value["run"]: value["prompt"] for value in experiences.values()}
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
