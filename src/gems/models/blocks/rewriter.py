"""Enhance, check and restore a prompt; draft a skill (simplified)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from types import MappingProxyType

from gems.models.blocks import vocabulary as words
from gems.models.blocks.judge import judge_question
from gems.models.blocks.parser import Mention, Token, locate_tokens, parse_text
from gems.models.blocks.prompt_spec import (
    ATTRIBUTES,
    Fact,
    Group,
    PromptSpec,
    decompose_prompt,
    find_facts,
    find_group,
    fold_text,
    parse_numbered,
    parse_prompt,
    quoted,
)
from gems.models.blocks.reflector import (
    HELD,
    TOPICS,
    Record,
    is_reliable,
    learn_line,
    list_facts,
    list_wordings,
    write_clause,
    write_outcomes,
    write_sentence,
)
from gems.models.blocks.scene import Scene, Thing
from gems.models.schemas import DraftReply, KeptReply, LossReply
from gems.types import AnswerValue

SECTION = "## Rules from lessons"
_NAMES = {
    "object": "showing-everything",
    "count": "counting-shapes",
    "colour": "keeping-colours",
    "size": "keeping-sizes",
    "texture": "keeping-textures",
    "relation": "spatial-placing",
    "text": "spelling-text",
    "background": "keeping-backgrounds",
}
"""Kind of fact -> skill name."""
_NOTHING = "drawing-shapes"
_EXAMPLE = parse_prompt('six small red circles above a striped blue square, the word "GO", a pink background')
_HEADING = re.compile(r"^#\s+(.+?)\s*#*$", re.MULTILINE)
_OWN_SECTION = re.compile(rf"^{re.escape(SECTION)}[ \t]*$.*?(?=^##? |\Z)", re.MULTILINE | re.DOTALL)
Key = tuple[str, str]
"""Kind of fact and wording."""


@dataclass
class _Evidence:
    """Combined evidence of all lessons."""

    record: Record = field(default_factory=Record)
    held: Counter[Key] = field(default_factory=Counter)
    used: Counter[Key] = field(default_factory=Counter)
    lessons: int = 0
    kept: list[str] = field(default_factory=list)
    """Rules of an earlier draft that these lessons do not cover, verbatim."""
    silent: int = 0
    """Lessons without wordings, or that failed more often than they held."""

    def take(self, line: str) -> None:
        """Add a lesson."""
        one = Record()
        if is_reliable(line):
            learn_line(one, line)
        self.lessons += 1
        keys = {*one.worked, *one.failed}
        self.silent += not keys
        self.record.worked.update(one.worked)
        self.record.failed.update(one.failed)
        if match := HELD.match(line):
            self.held.update(dict.fromkeys(keys, int(match[1])))
            self.used.update(dict.fromkeys(keys, int(match[2])))

    def keep(self, section: str) -> None:
        """Keep rules of an earlier draft, except those for which the lessons have newer figures."""
        known = set(self.rules())
        for line in section.splitlines():
            one = Record()
            one.learn(line)
            keys = {*one.worked, *one.failed}
            if keys and not keys & known:
                self.kept.append(line)
                self.record.worked.update(one.worked)
                self.record.failed.update(one.failed)

    def rules(self) -> list[Key]:
        """Return the known wordings, most frequent first."""
        worked, failed = self.record.worked, self.record.failed
        return sorted({*worked, *failed}, key=lambda key: (-worked[key] - failed[key], key))

    def kinds(self) -> list[str]:
        """Return the known kinds of facts, most frequent first."""
        seen: Counter[str] = Counter()
        for counted in (self.record.worked, self.record.failed):
            for (kind, _), times in counted.items():
                seen[kind] += times
        return sorted(seen, key=lambda kind: (-seen[kind], kind))

    def helped(self, kind: str) -> bool:
        """Whether a wording for a kind of fact worked more often than not."""
        worked, failed = self.record.worked, self.record.failed
        return any(key[0] == kind and worked[key] > failed[key] for key in worked)


def draft_skill(skill: str, lessons: str) -> DraftReply:
    """Draft a skill from numbered lessons, or amend the guidance `skill`, empty for a new one."""
    evidence, skill = _Evidence(), "" if skill.strip() == "(none)" else skill.strip()
    for line in parse_numbered(lessons):
        evidence.take(line)
    told = evidence.rules()
    for section in _OWN_SECTION.findall(skill):
        evidence.keep(section)
    kinds = evidence.kinds()
    name = _make_slug(skill) or _NAMES.get(kinds[0] if kinds else "", _NOTHING)
    useful = [kind for kind in kinds if evidence.helped(kind)]
    section = f"{SECTION}\n\n{_format_rules(evidence, told)}"
    head = (
        _OWN_SECTION.sub("", skill).strip()
        if skill
        else f"# {_format_title(name)}\n\n{_format_purpose(useful)}"
    )
    return DraftReply(
        name=name, description=_format_description(useful), body=f"{head}\n\n{section}\n".lstrip()
    )


def _format_rules(evidence: _Evidence, told: list[Key]) -> str:
    lines = [f"- {_format_rule(evidence, key)}" for key in told] + evidence.kept
    if not evidence.lessons:
        lines.append("- There were no lessons.")
    if evidence.silent:
        lines.append(
            f"- {evidence.silent} of {evidence.lessons} lessons told of no wording that can be used."
        )
    return "\n".join(lines)


def _format_rule(evidence: _Evidence, key: Key) -> str:
    worked, failed = evidence.record.worked[key], evidence.record.failed[key]
    text = write_outcomes(*key, worked, failed)
    if evidence.used[key]:
        text += f" Lessons that say so held {evidence.held[key]} of {evidence.used[key]} times."
    for example in _find_examples(key):
        text += f" {'For example' if worked >= failed else 'Do not rely on'}: `{example}`"
    return text


def _find_examples(key: Key) -> Iterator[str]:
    kind, wording = key
    fact = next((fact for fact in list_facts(_EXAMPLE) if fact[0] == kind), None)
    if fact is not None and wording in list_wordings(_EXAMPLE, fact):
        yield write_sentence(_EXAMPLE, fact, wording)


def _join_topics(kinds: list[str]) -> str:
    names = [TOPICS[kind] for kind in kinds]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _format_purpose(kinds: list[str]) -> str:
    if not kinds:
        return "No wording was found to work: leave the prompt as it is."
    return (
        f"How to state {_join_topics(kinds)} so that they are drawn as asked. Keep the prompt as it is, and "
        "behind it state each such fact once more in a wording that worked."
    )


def _format_description(kinds: list[str]) -> str:
    if not kinds:
        return "Of no use yet: the lessons told of no wording that worked."
    return (
        f"States {_join_topics(kinds)} in wordings that earlier runs found to work. For prompts with several "
        "such facts; not for plain ones."
    )


def _format_title(name: str) -> str:
    return name.replace("-", " ").capitalize()


def _make_slug(skill: str) -> str:
    """Convert the first heading to a name of at most three words; empty if there is none."""
    heading = _HEADING.search(skill)
    return "-".join(re.findall(r"[a-z0-9]+", heading[1].lower())[:3]) if heading else ""


_NEUTRAL_TRUST = 0.5
"""`Record.trust` without evidence: only wordings above it are recommended."""
_TOPIC_PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "count": re.compile(r"\b(?:count(?:s|ed|ing)?|numbers?|how many)\b", re.IGNORECASE),
        "relation": re.compile(
            r"\b(?:places?|placed|placing|placement|positions?|positioned|positioning|layouts?|spatial"
            r"|arrangements?)\b",
            re.IGNORECASE,
        ),
        "text": re.compile(
            r"\b(?:lettering|letters?|texts?|quoted|spell(?:s|ed|ing)?|typography)\b", re.IGNORECASE
        ),
    }
)
_DEFAULT_WORDINGS: Mapping[str, str] = MappingProxyType(
    {"count": "exactly", "relation": "place", "text": "spelled"}
)
_NOT_LETTERING = re.compile(r"\btext[- ]to[- ]image\b", re.IGNORECASE)


def enhance_prompt(prompt: str, guidance: str) -> str:
    """Append a sentence for each fact that the guidance is about."""
    spec, said = parse_prompt(prompt), prompt.strip().splitlines()
    for fact, wording in _plan_sentences(spec, guidance):
        line = write_sentence(spec, fact, wording)
        if line not in said and _keeps_meaning(spec, "\n".join([*said, line])):
            said.append(line)
    return "\n".join(said)


def find_topics(guidance: str) -> set[str]:
    """Return the kinds of facts that the headings and the first paragraph of a guidance mention."""
    opening = _NOT_LETTERING.sub("", _find_opening(guidance))
    return {kind for kind, pattern in _TOPIC_PATTERNS.items() if pattern.search(opening)}


def _find_opening(guidance: str) -> str:
    """Return the headings before the first paragraph, and that paragraph."""
    taken: list[str] = []
    for block in re.split(r"\n\s*\n", guidance.strip()):
        lines = block.strip().splitlines()
        taken += lines
        if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
            break
    return "\n".join(taken)


def _plan_sentences(spec: PromptSpec, guidance: str) -> Iterator[tuple[Fact, str]]:
    record, spoken = Record(), find_topics(guidance)
    record.learn(guidance)
    for fact in list_facts(spec):
        kind, index = fact
        if kind == "count" and not spec.groups[index].count:
            continue
        options = list_wordings(spec, fact)
        best = max(options, key=lambda wording: record.trust(fact[0], wording))
        customary = _DEFAULT_WORDINGS.get(kind)
        if record.trust(kind, best) > _NEUTRAL_TRUST:
            yield fact, best
        elif kind in spoken and customary in options and record.trust(kind, customary) >= _NEUTRAL_TRUST:
            yield fact, customary


def _keeps_meaning(spec: PromptSpec, text: str) -> bool:
    """Whether a longer prompt still describes the same image."""
    again = parse_prompt(text)
    return (again.groups, again.relations, again.background) == (
        spec.groups,
        spec.relations,
        spec.background,
    )


_MAX_EXCHANGES = 24
"""Most proposals per question: each is parsed and checked."""
_Edit = tuple[tuple[int, int, str], ...]
"""Start, end and new text of each change."""
_Spans = list[tuple[Token, int, int]]


def propose_exchanges(prompt: str, question: str) -> Iterator[str]:
    """Yield prompts with one wording replaced to match a question, everywhere first, then once.

    Most are wrong: the caller checks each by parsing it.
    """
    yield from islice(_iterate_exchanges(prompt, question), _MAX_EXCHANGES)


def _iterate_exchanges(prompt: str, question: str) -> Iterator[str]:
    spans, reading = locate_tokens(prompt), parse_text(question)
    found: dict[tuple[str, str], list[_Edit]] = {}
    for mention in reading.mentions:
        for said, edit in _edit_mention(spans, mention):
            found.setdefault(said, []).append(edit)
    for link in reading.links:
        for said, edit in _edit_relation(spans, link.relation):
            found.setdefault(said, []).append(edit)
    for edits in found.values():
        if len(edits) > 1:
            yield _apply_edit(prompt, tuple(change for edit in edits for change in edit))
        for edit in edits:
            yield _apply_edit(prompt, edit)


def _edit_mention(spans: _Spans, mention: Mention) -> Iterator[tuple[tuple[str, str], _Edit]]:
    """Yield edits, keyed by old and new wording."""
    said = {**mention.predicate, **mention.attributes}
    for place, (token, start, end) in enumerate(spans):
        if token.kind == "adjective":
            name, value = words.ADJECTIVES[token.value]
            if said.get(name, value) != value:
                yield (token.value, said[name]), _edit_adjective(spans, place, said[name])
        elif token.kind == "quoted" and mention.word and token.value != mention.word:
            yield (token.raw, mention.word), ((start, end, quoted(mention.word)),)
        elif token.kind in ("count", "article") and mention.noun in words.SHAPES and mention.count:
            edit = _edit_count(spans, place, mention)
            if edit:
                yield (f"{token.value} {mention.noun}", str(mention.count)), edit


def _edit_adjective(spans: _Spans, place: int, wanted: str) -> _Edit:
    _, start, end = spans[place]
    before, *_ = spans[place - 1] if place else (Token("end", "", ""), 0, 0)
    if before.kind != "article":
        return ((start, end, wanted),)
    return ((spans[place - 1][1], end, _match_case(before.raw, words.with_article(wanted))),)


def _edit_count(spans: _Spans, place: int, mention: Mention) -> _Edit:
    """Replace a number and the noun after it; empty if another noun or none follows."""
    token, start, end = spans[place]
    for following, noun_start, noun_end in spans[place + 1 :]:
        if following.kind == "shape":
            shape, _ = words.SHAPE_WORDS[following.value]
            if shape != mention.noun or mention.count is None:
                return ()
            one = mention.count == 1
            number = words.number_word(mention.count) if mention.explicit or not one else "one"
            noun = shape if one else words.plural(shape)
            return (start, end, _match_case(token.raw, number)), (noun_start, noun_end, noun)
        if following.kind not in ("adjective", "other", "pause"):
            return ()
    return ()


def _edit_relation(spans: _Spans, relation: str) -> Iterator[tuple[tuple[str, str], _Edit]]:
    for token, start, end in spans:
        if token.kind == "relation":
            for wanted in (relation, words.INVERSE.get(relation)):
                if wanted and wanted != token.value:
                    yield (token.raw.lower(), wanted), ((start, end, wanted),)


def _apply_edit(prompt: str, edit: _Edit) -> str:
    for start, end, text in sorted(edit, reverse=True):
        prompt = prompt[:start] + text + prompt[end:]
    return prompt


def _match_case(old: str, new: str) -> str:
    return f"{new[:1].upper()}{new[1:]}" if old[:1].isupper() else new


MOST_OF_A_KIND = 16
"""Larger counts are treated as equal, which bounds the judge's time."""
_MOST_GROUPS = 24
_OPEN_COUNTS = (2, MOST_OF_A_KIND + 1)
"""Counts tried for a plural without a number: only what holds for both is promised."""
_NO_BOX = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Promised(Thing):
    """A thing of a group; `said_size` is empty if the prompt does not specify it."""

    group: int = 0
    said_size: str = ""


@dataclass(frozen=True, slots=True)
class _Promise(Scene):
    """A scene with the relations of the prompt."""

    edges: frozenset[tuple[int, str, int]] = frozenset()

    def size(self, thing: Thing) -> str:
        """Return the size in the prompt; empty if unspecified."""
        return thing.said_size if isinstance(thing, _Promised) else ""

    def holds(self, subject: Thing, relation: str, target: Thing) -> bool:
        """Whether the relation is in the prompt or follows from it."""
        if not isinstance(subject, _Promised) or not isinstance(target, _Promised):
            return False
        return (subject.group, relation, target.group) in self.edges


@dataclass(slots=True)
class Promise:
    """Facts that a prompt guarantees; `questions` are the decomposer's for it."""

    prompt: str
    spec: PromptSpec = field(init=False)
    questions: frozenset[str] = field(init=False)
    _scenes: tuple[Scene, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.spec = parse_prompt(self.prompt)
        asked = decompose_prompt(self.prompt) if self.prompt.strip() else []
        self.questions = frozenset(requirement.question for requirement in asked)
        self._scenes = tuple(_make_scene(self.spec, count) for count in _OPEN_COUNTS)

    def answer(self, question: str) -> AnswerValue:
        """Return yes if every image that follows the prompt meets the question; unknown if undecidable."""
        if question in self.questions:
            return "yes"
        mentions = parse_text(question).mentions
        if any(self._unsaid(mention) for mention in mentions):
            return "no"
        found = (
            {judge_question(question, scene).answer for scene in self._scenes} if mentions else {"unknown"}
        )
        return "unknown" if "unknown" in found else "no" if "no" in found else "yes"

    def _unsaid(self, mention: Mention) -> bool:
        """Whether the question needs an absence or a large count that the prompt does not specify."""
        if not mention.explicit or mention.count is None or 0 < mention.count <= MOST_OF_A_KIND:
            return False
        index = find_group(self.spec, mention)
        return index is None or self.spec.groups[index].count != mention.count


def _make_scene(spec: PromptSpec, open_count: int) -> Scene:
    things = []
    for index, group in enumerate(spec.groups[:_MOST_GROUPS]):
        said = group.attributes
        thing = _Promised(
            group.noun,
            said.get("colour", ""),
            said.get("texture", ""),
            _NO_BOX,
            group.word,
            index,
            said.get("size", ""),
        )
        count = open_count if group.count is None else min(group.count, MOST_OF_A_KIND + 1)
        # Copies, since the judge compares things by identity.
        things += [replace(thing) for _ in range(count)]
    return _Promise(1, 1, spec.background or "", tuple(things), _find_edges(spec))


def _find_edges(spec: PromptSpec) -> frozenset[tuple[int, str, int]]:
    """Return relations between groups, with inverse and transitive ones; on implies above."""
    found = {
        edge
        for r in spec.relations
        if max(r.subject, r.target) < _MOST_GROUPS
        for edge in _equivalent_edges(r.subject, r.name, r.target)
    }
    while True:
        onward: dict[int, list[tuple[str, int]]] = {}
        for start, name, end in found:
            onward.setdefault(start, []).append((name, end))
        more = {
            edge
            for start, first, middle in found
            for second, end in onward.get(middle, ())
            if start != end and _is_transitive(first, second)
            for edge in _equivalent_edges(start, second, end)
        }
        if more <= found:
            return frozenset(found)
        found |= more


def _equivalent_edges(subject: int, name: str, target: int) -> set[tuple[int, str, int]]:
    """Return the relation and equivalent ones."""
    said = {(subject, name, target)} | ({(subject, "above", target)} if name == "on" else set())
    return said | {(end, words.INVERSE[one], start) for start, one, end in said if one in words.INVERSE}


def _is_transitive(first: str, second: str) -> bool:
    """Whether `a first b` and `b second c` imply `a second c`."""
    return (first == second and first != "on") or (first == "inside" and second in words.INVERSE)


_SHOWN = re.compile(
    r"\W*do(?:es)?\s+(?:this|the)\s+(?:image|picture)\s+(?:show|contain|depict)\s*:?\s*(.+)", re.IGNORECASE
)
_THERE = re.compile(r"\W*(is|are)\s+there\s+(.+)", re.IGNORECASE)
_BEING = re.compile(r"\W*(is|are|was|were)\s+(.+)", re.IGNORECASE)
_AUXILIARY = re.compile(r"\W*(?:do|does|did|has|have|can|could|will|would|should)\s+(.+)", re.IGNORECASE)
_BREAK = re.compile(
    r"\s(?=(?:in|on|at|under|with|made|very|from|by|like|not|as|seen|left|right|above|below)\b)"
)
_SMALL = """
    the this that these those all each every any and for are was were is has have does did with from there
    image picture show shows shown contain contains depict depicts exactly least not
"""
_SMALL_WORDS = frozenset(_SMALL.split())


def find_content_words(text: str) -> set[str]:
    """Return the content words of a text, as singulars."""
    found = re.findall(r"\w{3,}", text.lower())
    return {word.removesuffix("s") for word in found if word not in _SMALL_WORDS}


def state_question(question: str) -> str:
    """Turn a yes/no question into a statement: `Is it dark?` becomes `It is dark.`."""
    asked = " ".join(question.split()).rstrip(" ?.!")
    if match := _SHOWN.fullmatch(asked):
        said = match[1]
        text = f"there is {said}" if re.match(r"an?\s|the\s|one\s", said, re.IGNORECASE) else said
    elif match := _THERE.fullmatch(asked):
        text = f"there {match[1].lower()} {match[2]}"
    elif match := _BEING.fullmatch(asked):
        text = _move_verb(match[1].lower(), match[2])
    elif match := _AUXILIARY.fullmatch(asked):
        text = f"make sure of this: {match[1]}"
    else:
        text = f"make sure of this: {asked}"
    return f"{text[:1].upper()}{text[1:]}."


def _move_verb(verb: str, rest: str) -> str:
    """Move the verb after the subject: before the predicate, or before the last word."""
    subject, *others = _BREAK.split(rest, maxsplit=1)
    predicate = others[0] if others else ""
    if not predicate:
        subject, _, predicate = rest.rpartition(" ")
    return f"{subject} {verb} {predicate}" if subject else f"it {verb} {predicate}"


def propose_statements(question: str, user: PromptSpec, new: PromptSpec) -> Iterator[str]:
    """Yield sentences that may restore a question, the least intrusive first.

    Things are named so that they are distinct in `user`, the user's prompt; a thing that `new`, the new
    prompt, names without its attributes gets them instead of being mentioned twice.
    """
    for kind, index in find_facts(question, user):
        if kind in ("object", "count"):
            yield from _describe_group(user, index, new)
        said = write_clause(user, ("object" if kind == "count" else kind, index))
        yield _format_sentence(said.replace("there are zero ", "there are no "))
    if _is_plain(question):
        yield state_question(question)


def _describe_group(user: PromptSpec, index: int, new: PromptSpec) -> Iterator[str]:
    """Yield `The circles are red.` if the new prompt names such things with fewer attributes."""
    group = user.groups[index]
    if group.noun == words.TEXT:
        return
    for other in new.groups:
        missing = [name for name in ATTRIBUTES if name in group.attributes and name not in other.attributes]
        shared = other.attributes.items() <= group.attributes.items()
        if other.noun == group.noun and shared and missing:
            said = [other.attributes.get(name) for name in ATTRIBUTES]
            noun = words.noun_phrase(other.noun, *said, many=other.many)
            adjectives = " and ".join(group.attributes[name] for name in missing)
            yield _format_sentence(f"the {noun} {'are' if other.many else 'is'} {adjectives}")


def _is_plain(question: str) -> bool:
    """Whether a statement would mean the same: no known things, or a form that is understood."""
    return not parse_text(question).mentions or bool(_THERE.match(question) or _SHOWN.match(question))


def _format_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


_MAX_CHARACTERS = 2000
"""Longest prompt in which words are replaced."""


def restore_prompt(user_prompt: str, new_prompt: str, questions: list[str]) -> KeptReply:
    """Return the yes/no questions that the new prompt lost, and the corrected prompt; empty if none."""
    return _Comparison(user_prompt.strip(), questions).reply(new_prompt.strip())


@dataclass
class _Comparison:
    user_prompt: str
    questions: list[str]
    _promises: dict[str, Promise] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._user = parse_prompt(self.user_prompt)

    def reply(self, new_prompt: str) -> KeptReply:
        lost = self._lost(new_prompt)
        if not lost:
            return KeptReply()
        losses = [
            LossReply(number=n + 1, how="contradicted" if self._contradicted(new_prompt, n) else "dropped")
            for n in lost
        ]
        return KeptReply(lost=losses, prompt=self._corrected(new_prompt, losses))

    def _promise(self, prompt: str) -> Promise:
        if prompt not in self._promises:
            self._promises[prompt] = Promise(prompt)
        return self._promises[prompt]

    def _lost(self, prompt: str) -> list[int]:
        return [n for n, question in enumerate(self.questions) if not self._keeps(prompt, question)]

    def _keeps(self, prompt: str, question: str) -> bool:
        answer = self._promise(prompt).answer(question)
        if answer == "unknown":
            return find_content_words(question) <= find_content_words(prompt)
        return answer == "yes"

    def _contradicted(self, prompt: str, number: int) -> bool:
        question = self.questions[number]
        if self._promise(prompt).answer(question) == "unknown":
            # Text that is not understood can be missing, but not recognised as contradicted.
            return False
        return self._stranger(prompt, question) or self._put_back(prompt, number) is None

    def _stranger(self, prompt: str, question: str) -> bool:
        """Whether the prompt replaces a requested thing by one of its kind that the user never named."""
        nouns = {mention.noun for mention in parse_text(question).mentions}
        return any(
            group.noun in nouns and not any(_is_compatible(group, own) for own in self._user.groups)
            for group in self._promise(prompt).spec.groups
        )

    def _put_back(self, prompt: str, number: int) -> str | None:
        """Add a sentence that restores a question; None if that loses something else."""
        before, asked = set(self._lost(prompt)), self._promise(prompt)
        if asked.answer(self.questions[number]) == "unknown" and parse_text(self.questions[number]).mentions:
            # A phrase such as "not red" would be parsed as its opposite.
            return None
        best: tuple[int, str] | None = None
        for sentence in propose_statements(self.questions[number], self._user, asked.spec):
            text = f"{prompt}\n{sentence}".strip()
            promise = self._promise(text)
            sound = all(self._keeps(text, question) for question in asked.questions)
            lost = set(self._lost(text))
            if sound and _is_extension(asked.spec, promise.spec) and number not in lost and lost <= before:
                # Fewer things in the image are better.
                size = len(promise.spec.groups)
                best = min(best or (size, text), (size, text), key=lambda pair: pair[0])
        return best[1] if best else None

    def _corrected(self, prompt: str, losses: list[LossReply]) -> str:
        for loss in losses:
            if loss.how == "contradicted":
                prompt = self._exchanged(prompt, loss.number - 1)
        for number in self._lost(prompt):
            if not self._keeps(prompt, self.questions[number]):
                prompt = self._put_back(prompt, number) or prompt
        own = self._from_the_user()
        return prompt if not own or set(self._lost(prompt)) <= set(self._lost(own)) else own

    def _exchanged(self, prompt: str, number: int) -> str:
        """Replace one wording to restore a question without losing another."""
        before = set(self._lost(prompt))
        if number not in before or len(prompt) > _MAX_CHARACTERS:
            return prompt
        texts = [text for text in propose_exchanges(prompt, self.questions[number]) if text != prompt]
        # A word may be enough, or a word and a sentence: another count, and a missing colour.
        for mended in [*texts, *(self._put_back(text, number) for text in texts)]:
            if mended and not self._stranger(mended, self.questions[number]):
                lost = set(self._lost(mended))
                if number not in lost and lost < before:
                    return mended
        return prompt

    def _from_the_user(self) -> str:
        """Return the user's prompt with sentences for questions that even it does not answer."""
        prompt = self.user_prompt
        for number in self._lost(prompt):
            prompt = self._put_back(prompt, number) or prompt
        return prompt


def _is_compatible(group: Group, own: Group) -> bool:
    """Whether both can be the same things: no attributes contradict each other."""
    if group.noun != own.noun or fold_text(group.word) != fold_text(own.word):
        return False
    return all(own.attributes.get(name, value) == value for name, value in group.attributes.items())


def _is_extension(old: PromptSpec, new: PromptSpec) -> bool:
    """Whether the new spec keeps all facts of the old one and adds only unspecified ones."""
    return all(
        before.noun == after.noun
        and before.count in (None, after.count)
        and before.attributes.items() <= after.attributes.items()
        for before, after in zip(old.groups, new.groups, strict=False)
    )
