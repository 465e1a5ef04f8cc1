"""Prompt as groups, relations; as questions."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import Link, Mention, parse_text
from gems.models.schemas import RequirementReply

ATTRIBUTES = ("size", "colour", "texture")
Fact = tuple[str, int]
"""(`object` | `count` | `colour` | `size` | `texture` | `text` | `relation` | `background`, index)."""


@dataclass(slots=True)
class Group:
    """Things of one kind, or one quoted text.

    `noun` is a shape or `text`; `count` is None for a plural without a number; `explicit` says whether the
    count is a number in the prompt; `attributes` are `colour`, `size`, `texture` if specified.
    """

    noun: str
    count: int | None = 1
    explicit: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    word: str = ""

    @property
    def many(self) -> bool:
        """Whether its noun is a plural."""
        return self.count != 1


@dataclass(slots=True)
class Relation:
    """`groups[subject]` is `name` `groups[target]`."""

    subject: int
    name: str
    target: int


@dataclass(slots=True)
class PromptSpec:
    """A parsed prompt.

    `groups` are in the order of their first mention; `unknown` are phrases outside the vocabulary, such as
    `a cat`; `emphasis` maps facts to the wordings that stress them.
    """

    groups: list[Group] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    background: str | None = None
    unknown: tuple[str, ...] = ()
    emphasis: defaultdict[Fact, set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def empty(self) -> bool:
        """Whether nothing was understood."""
        return not self.groups and self.background is None


def fold_text(text: str) -> str:
    """Normalise text for comparison: ignores case, blanks and differences of similar glyphs."""
    plain = "".join(character for character in text.casefold() if character.isalnum()) or text.strip()
    return plain.translate(str.maketrans("01", "ol")).replace("i", "l")


def parse_prompt(prompt: str) -> PromptSpec:
    """Parse a prompt as far as the built-in world understands it."""
    reading = parse_text(prompt)
    builder = _SpecBuilder()
    places = [builder.place(mention) for mention in reading.mentions]
    for link in reading.links:
        builder.relate(link, places[link.subject], places[link.target])
    for mention, index in zip(reading.mentions, places, strict=True):
        if "place" in mention.modes and index is not None:
            builder.stress_places(index)
    builder.spec.unknown = tuple(reading.unknown)
    return builder.spec


def find_group(spec: PromptSpec, mention: Mention, *, predicates: bool = False) -> int | None:
    """Return the index of the best group for a mention; `predicates` must match too if set."""
    said = {**mention.predicate, **mention.attributes} if predicates else mention.attributes
    best, best_shared = None, -1
    for index, group in enumerate(spec.groups):
        if group.noun != mention.noun or fold_text(group.word) != fold_text(mention.word):
            continue
        pairs = [(value, group.attributes.get(name)) for name, value in said.items()]
        if all(have in (None, value) for value, have in pairs):
            shared = sum(have == value for value, have in pairs)
            if shared > best_shared:
                best, best_shared = index, shared
    return best


class _SpecBuilder:
    def __init__(self) -> None:
        self.spec = PromptSpec()
        self._born: dict[int, int] = {}

    def place(self, mention: Mention) -> int | None:
        """Return the index of the mention's group, adding it if new; None for the background."""
        if mention.noun == words.BACKGROUND:
            self._paint(mention)
            return None
        index = self._known(mention)
        if index is not None:
            self._repeat(index, mention)
            return index
        spec = self.spec
        spec.groups.append(
            Group(
                mention.noun,
                mention.count,
                mention.explicit,
                {**mention.predicate, **mention.attributes},
                mention.word,
            )
        )
        index = len(spec.groups) - 1
        self._born[index] = mention.sentence
        self._stress(index, mention, mention.modes - {"again"}, first=True)
        return index

    def _known(self, mention: Mention) -> int | None:
        best = find_group(self.spec, mention)
        strong = mention.definite or bool(mention.modes & {"important", "exactly", "again"})
        if mention.noun == words.TEXT or best is None:
            return best if best is not None else self._overridden(mention)
        group = self.spec.groups[best]
        same = group.attributes == mention.attributes and (
            mention.count is None or group.count in (None, mention.count)
        )
        return best if same or (strong and not self._sibling(best, mention)) else None

    def _sibling(self, index: int, mention: Mention) -> bool:
        """Whether a count makes it a second group: `exactly two circles and exactly one red circle`."""
        group = self.spec.groups[index]
        differs = mention.explicit and group.explicit and mention.count != group.count
        return differs and not mention.definite and self._born[index] == mention.sentence

    def _overridden(self, mention: Mention) -> int | None:
        """Return the only group of this noun, if a later, stressed statement corrects it."""
        if not mention.modes & {"important", "exactly", "again"}:
            return None
        same = [index for index, group in enumerate(self.spec.groups) if group.noun == mention.noun]
        if len(same) == 1 and self._born[same[0]] < mention.sentence:
            return same[0]
        return None

    def _repeat(self, index: int, mention: Mention) -> None:
        group = self.spec.groups[index]
        group.attributes.update({**mention.attributes, **mention.predicate})
        if mention.explicit or group.count is None:
            group.count = mention.count if mention.count is not None else group.count
            group.explicit = group.explicit or mention.explicit
        group.word = mention.word or group.word
        self._stress(index, mention, mention.modes - {"again"} or {"again"}, first=False)

    def _stress(self, index: int, mention: Mention, modes: set[str], *, first: bool) -> None:
        wordings = {"repeat" if mode == "again" else mode for mode in modes}
        emphasis = self.spec.emphasis
        emphasis["text" if mention.noun == words.TEXT else "object", index] |= wordings
        for name in {**mention.attributes, **mention.predicate}:
            emphasis[name, index] |= wordings
        if mention.explicit or first:
            emphasis["count", index] |= wordings

    def _paint(self, mention: Mention) -> None:
        colour = mention.attributes.get("colour") or mention.predicate.get("colour")
        if colour is None:
            return
        repeated = self.spec.background is not None
        modes = mention.modes - {"again"} or ({"again"} if repeated else set())
        self.spec.emphasis["background", 0] |= {"repeat" if mode == "again" else mode for mode in modes}
        self.spec.background = colour

    def relate(self, link: Link, subject: int | None, target: int | None) -> None:
        """Add a relation, or stress the known one between the same groups."""
        if subject is None or target is None or subject == target:
            return
        modes = {mode for mode in link.modes if mode != "again"}
        for index, known in enumerate(self.spec.relations):
            if {known.subject, known.target} == {subject, target}:
                turned = link.relation if known.subject == subject else words.INVERSE.get(link.relation)
                if turned is None:
                    known.subject, known.target, turned = subject, target, link.relation
                known.name = turned
                self.spec.emphasis["relation", index] |= modes or {"repeat"}
                return
        self.spec.relations.append(Relation(subject, link.relation, target))
        self.spec.emphasis["relation", len(self.spec.relations) - 1] |= modes

    def stress_places(self, index: int) -> None:
        """Stress the relations of a group whose place is mentioned."""
        for number, relation in enumerate(self.spec.relations):
            if index in (relation.subject, relation.target):
                self.spec.emphasis["relation", number].add("place")


_NUMBERED = re.compile(r"^\s*\d+[.)]\s*(.+?)\s*$", re.MULTILINE)


def parse_numbered(text: str) -> list[str]:
    """Return the lines of a numbered list without their numbers."""
    return _NUMBERED.findall(text)


def find_facts(question: str, spec: PromptSpec) -> list[Fact]:
    """Return the facts of a spec that a question is about."""
    reading = parse_text(question)
    if reading.links:
        link = reading.links[0]
        ends = {find_group(spec, reading.mentions[i]) for i in (link.subject, link.target)}
        return [("relation", i) for i, r in enumerate(spec.relations) if {r.subject, r.target} == ends]
    for mention in reading.mentions:
        if mention.noun == words.BACKGROUND:
            return [("background", 0)] if spec.background else []
        index = find_group(spec, mention)
        if index is None:
            continue
        if mention.noun == words.TEXT:
            return [("text", index)]
        if mention.predicate:
            return [(name, index) for name in mention.predicate]
        return [("count" if mention.explicit else "object", index)]
    return []


MOST_REQUIREMENTS = 20


def decompose_prompt(prompt: str) -> list[RequirementReply]:
    """Return 1 to 20 distinct requirements of a prompt."""
    spec = parse_prompt(prompt)
    if spec.empty:
        # The whole prompt is quoted, which must not be parsed as a mention.
        asked = " ".join(prompt.split()) or "nothing"
        return [RequirementReply(question=f"Does this image show: {asked}?", kind="other")]
    return _Decomposer(spec).requirements()


def descriptor(spec: PromptSpec, index: int) -> dict[str, str]:
    """Return attributes that distinguish a group from others of its noun: the colour, and more if needed."""
    group = spec.groups[index]
    chosen = {name: value for name, value in group.attributes.items() if name == "colour"}
    for name in ("texture", "size"):
        rivals = [o for i, o in enumerate(spec.groups) if i != index and _fits(o, group.noun, chosen)]
        if name in group.attributes and any(o.attributes.get(name) != group.attributes[name] for o in rivals):
            chosen[name] = group.attributes[name]
    return chosen


def phrase(spec: PromptSpec, index: int, *, many: bool | None = None) -> str:
    """Name a group without article: `red circles`, `text "GO"`."""
    group = spec.groups[index]
    if group.noun == words.TEXT:
        return f"text {quoted(group.word)}"
    said = descriptor(spec, index)
    return words.noun_phrase(
        group.noun, *(said.get(name) for name in ATTRIBUTES), many=group.many if many is None else many
    )


def quoted(word: str) -> str:
    """Quote a word with quotation marks that it does not contain."""
    return f"“{word}”" if '"' in word else f'"{word}"'


def _fits(group: Group, noun: str, said: dict[str, str]) -> bool:
    return group.noun == noun and all(group.attributes.get(n) in (None, value) for n, value in said.items())


class _Decomposer:
    def __init__(self, spec: PromptSpec) -> None:
        self._spec = spec
        self._found: list[RequirementReply] = []
        self._position: dict[int, int] = {}

    def requirements(self) -> list[RequirementReply]:
        """Return all questions, things first, so that parents precede their children."""
        for index in range(len(self._spec.groups)):
            self._thing(index)
        for index, group in enumerate(self._spec.groups):
            self._attributes(index, group)
        for relation in self._spec.relations:
            subject, target = relation.subject, relation.target
            parents = [self._position[i] for i in (subject, target) if i in self._position]
            many = self._spec.groups[subject].many
            verb = "Are all" if many else "Is the"
            question = (
                f"{verb} {phrase(self._spec, subject)} {relation.name} the {phrase(self._spec, target)}?"
            )
            self._add(question, "relation", parents)
        if self._spec.background:
            self._add(f"Is the background {self._spec.background}?", "style", [])
        for unknown in self._spec.unknown:
            self._add(f"Does this image show {unknown}?", "other", [])
        return self._found[:MOST_REQUIREMENTS]

    def _thing(self, index: int) -> None:
        group = self._spec.groups[index]
        if group.noun == words.TEXT:
            question, kind = f"Does the image show the {phrase(self._spec, index)}?", "text"
        elif group.count is None:
            question, kind = f"Are there {phrase(self._spec, index)}?", "object"
        elif group.count == 1 and not group.explicit:
            question, kind = f"Is there {words.with_article(phrase(self._spec, index))}?", "object"
        else:
            verb = "Is" if group.count == 1 else "Are"
            amount = "at least" if self._rivals(index) else "exactly"
            number = words.number_word(group.count)
            question, kind = f"{verb} there {amount} {number} {phrase(self._spec, index)}?", "count"
        if self._add(question, kind, []):
            self._position[index] = len(self._found)

    def _rivals(self, index: int) -> bool:
        """Whether the question would also count things of another group."""
        group, said = self._spec.groups[index], descriptor(self._spec, index)
        return any(
            i != index
            and other.noun == group.noun
            and all(other.attributes.get(n) == v for n, v in said.items())
            for i, other in enumerate(self._spec.groups)
        )

    def _attributes(self, index: int, group: Group) -> None:
        said = descriptor(self._spec, index)
        for name in ("texture", "size"):
            if name in group.attributes and name not in said and group.count != 0:
                verb = "Are the" if group.many else "Is the"
                question = f"{verb} {phrase(self._spec, index)} {group.attributes[name]}?"
                self._add(question, "attribute", [self._position[index]] if index in self._position else [])

    def _add(self, question: str, kind: str, parents: list[int]) -> bool:
        if any(known.question == question for known in self._found):
            return False
        self._found.append(
            RequirementReply.model_validate({"question": question, "kind": kind, "parents": parents})
        )
        return True
