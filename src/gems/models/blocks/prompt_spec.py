"""Prompts as groups of things and their relations, and as questions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import Link, Mention, Reading, parse_text
from gems.models.chat.schemas import RequirementReply

ATTRIBUTES = ("size", "colour", "texture")
Fact = tuple[str, int]
"""(`object` | `count` | `colour` | `size` | `texture` | `text` | `relation` | `background`, index)."""
_NUMBERED = re.compile(r"^\s*\d+[.)]\s*(.+?)\s*$", re.MULTILINE)
MOST_REQUIREMENTS = 20
_MOST_UNKNOWN = 5
"""Requirements about what is not understood."""
_LONGEST_PART = 120
LIMITS = (
    "the built-in world draws and knows only flat shapes, their colours, sizes, textures and relative places, "
    "background colours and short texts"
)


@dataclass(slots=True)
class Group:
    """Things of one kind, or one quoted text.

    `noun` is a shape, `text`, or any shape in a negation; `count` is None for a plural without a number and 0 for
    a negation; `explicit` says whether the
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
    spec = builder.spec
    spec.unknown = (*reading.unknown, *_find_free_places(spec, reading, places))
    if spec.empty and not spec.unknown:
        spec.unknown = (" ".join(prompt.split()) or "nothing",)
    return spec


def _find_free_places(spec: PromptSpec, reading: Reading, groups: list[int | None]) -> Iterator[str]:
    """Yield places in the image: they are understood as a stress on a relation only."""
    related = {index for relation in spec.relations for index in (relation.subject, relation.target)}
    for mention, raw in reading.places:
        group = groups[mention] if mention < len(groups) else None
        if group not in related:
            yield raw if group is None else f"{phrase(spec, group)} {raw}"


def find_group(spec: PromptSpec, mention: Mention) -> int | None:
    """Return the index of the group that shares most attributes with a mention and contradicts none."""
    best, best_shared = None, -1
    for index, group in enumerate(spec.groups):
        if (group.count == 0) != (mention.count == 0):
            continue
        if group.noun != mention.noun or fold_text(group.word) != fold_text(mention.word):
            continue
        pairs = [(value, group.attributes.get(name)) for name, value in mention.attributes.items()]
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
        attributes = {**mention.predicate, **mention.attributes}
        self.spec.groups.append(Group(mention.noun, mention.count, mention.explicit, attributes, mention.word))
        index = len(self.spec.groups) - 1
        self._born[index] = mention.sentence
        self._stress(index, mention, mention.modes - {"again"}, first=True)
        return index

    def _known(self, mention: Mention) -> int | None:
        best = find_group(self.spec, mention)
        stressed = bool(mention.modes & {"important", "exactly", "again"})
        if best is None:
            return self._overridden(mention) if stressed else None
        group = self.spec.groups[best]
        same = group.attributes == mention.attributes
        if mention.noun == words.TEXT or (same and (mention.count is None or group.count in (None, mention.count))):
            return best
        # A count makes it a second group: `exactly two circles and exactly one red circle`.
        differs = mention.explicit and group.explicit and mention.count != group.count
        second = differs and not mention.definite and self._born[best] == mention.sentence
        return best if (mention.definite or stressed) and not second else None

    def _overridden(self, mention: Mention) -> int | None:
        """Return the only group of this noun, if a later statement corrects it."""
        same = [index for index, group in enumerate(self.spec.groups) if group.noun == mention.noun]
        return same[0] if len(same) == 1 and self._born[same[0]] < mention.sentence else None

    def _repeat(self, index: int, mention: Mention) -> None:
        group = self.spec.groups[index]
        group.attributes.update({**mention.attributes, **mention.predicate})
        if mention.explicit or group.count is None:
            group.count = mention.count if mention.count is not None else group.count
            group.explicit = group.explicit or mention.explicit
        group.word = mention.word or group.word
        self._stress(index, mention, mention.modes - {"again"} or {"again"}, first=False)

    def _stress(self, index: int, mention: Mention, modes: set[str], *, first: bool) -> None:
        kinds = ["text" if mention.noun == words.TEXT else "object", *mention.attributes, *mention.predicate]
        for kind in [*kinds, "count"] if mention.explicit or first else kinds:
            self.spec.emphasis[kind, index] |= {"repeat" if mode == "again" else mode for mode in modes}

    def _paint(self, mention: Mention) -> None:
        colour = mention.attributes.get("colour") or mention.predicate.get("colour")
        if colour is not None:
            repeated = {"repeat"} if self.spec.background is not None else set()
            self.spec.emphasis["background", 0] |= mention.modes - {"again"} or repeated
            self.spec.background = colour

    def relate(self, link: Link, subject: int | None, target: int | None) -> None:
        """Add a relation, or stress the known one between the same groups."""
        if subject is None or target is None or subject == target or self.spec.groups[target].count == 0:
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
        if mention.count == 0:
            return [("count", index)]
        if mention.noun == words.TEXT:
            return [("text", index)]
        if mention.predicate:
            return [(name, index) for name in mention.predicate]
        return [("count" if mention.explicit else "object", index)]
    return []


def decompose_prompt(prompt: str) -> list[RequirementReply]:
    """Return 1 to 20 distinct requirements of a prompt, parents before their children."""
    spec = parse_prompt(prompt)
    if spec.empty:
        # The whole prompt is quoted, which must not be parsed as a mention.
        asked = " ".join(prompt.split()) or "nothing"
        return [RequirementReply(question=f"Does this image show: {asked}?", kind="other")]
    found: dict[str, RequirementReply] = {}
    position: dict[int, int] = {}

    def add(question: str, kind: str, *groups: int) -> None:
        parents = [position[index] for index in groups if index in position]
        reply = RequirementReply.model_validate({"question": question, "kind": kind, "parents": parents})
        found.setdefault(question, reply)

    related = {relation.subject for relation in spec.relations}
    for index, group in enumerate(spec.groups):
        if group.count == 0 and index in related:
            continue  # circles are allowed, but not inside the square
        question, kind = _ask_for_group(spec, index)
        if question not in found:
            add(question, kind)
            position[index] = len(found)
    for index in range(len(spec.groups)):
        for question in _ask_for_attributes(spec, index):
            add(question, "attribute", index)
    for relation in spec.relations:
        question = _ask_for_relation(spec, relation)
        add(question, "relation", relation.subject, relation.target)
    if spec.background:
        add(f"Is the background {spec.background}?", "style")
    unknown = [
        RequirementReply(question=f"Does this image show {part}?", kind="other")
        for part in spec.unknown[:_MOST_UNKNOWN]
    ]
    return [*list(found.values())[: MOST_REQUIREMENTS - len(unknown)], *unknown]


def explain_limits(prompt: str) -> str:
    """Say what of a prompt the built-in world does not understand, and what it does; empty if it understands all."""
    spec = parse_prompt(prompt)
    if not spec.unknown:
        return ""
    # Quote a prompt of which nothing is understood as it is.
    parts = (" ".join(prompt.split()) or "nothing",) if spec.empty else spec.unknown
    shown = [part if len(part) <= _LONGEST_PART else f"{part[:_LONGEST_PART]}..." for part in parts]
    more = f" and {len(shown) - _MOST_UNKNOWN} more" if len(shown) > _MOST_UNKNOWN else ""
    listed = ", ".join(map(quoted, shown[:_MOST_UNKNOWN]))
    understood = ", ".join(describe_spec(spec)) or "nothing"
    return (
        f"Out of reach of the built-in models: {listed}{more}. Understood: {understood}. "
        f"What is out of reach stays unchecked, since {LIMITS}. Run `gems setup` to connect real models."
    )


def describe_spec(spec: PromptSpec) -> Iterator[str]:
    """Yield each group, relation and background that was understood."""
    for index, group in enumerate(spec.groups):
        name = phrase(spec, index)
        if group.noun != words.TEXT:
            name = words.noun_phrase(group.noun, *map(group.attributes.get, ATTRIBUTES), many=group.many)
        if group.count == 1 and not group.explicit:
            yield words.with_article(name)
        elif group.count is None:
            yield name
        else:
            yield f"{words.number_word(group.count) if group.count else 'no'} {name}"
    for relation in spec.relations:
        yield f"{phrase(spec, relation.subject)} {relation.name} {phrase(spec, relation.target)}"
    if spec.background:
        yield f"a {spec.background} background"


def _ask_for_group(spec: PromptSpec, index: int) -> tuple[str, str]:
    """Return a question about the presence or the count of a group, and its kind."""
    group, name = spec.groups[index], phrase(spec, index)
    if group.count == 0:
        return f"Is the image free of {name}?", "count"
    if group.noun == words.TEXT:
        return f"Does the image show the {name}?", "text"
    if group.count is None:
        return f"Are there {name}?", "object"
    if group.count == 1 and not group.explicit:
        return f"Is there {words.with_article(name)}?", "object"
    said = descriptor(spec, index).items()
    # The question would also count things of another group that fits it.
    shared = any(
        i != index and other.noun == group.noun and said <= other.attributes.items()
        for i, other in enumerate(spec.groups)
    )
    verb, amount = "Are" if group.many else "Is", "at least" if shared else "exactly"
    return f"{verb} there {amount} {words.number_word(group.count)} {name}?", "count"


def _ask_for_relation(spec: PromptSpec, relation: Relation) -> str:
    group = spec.groups[relation.subject]
    verb = "Is the image free of" if group.count == 0 else "Are all" if group.many else "Is the"
    return f"{verb} {phrase(spec, relation.subject)} {relation.name} the {phrase(spec, relation.target)}?"


def _ask_for_attributes(spec: PromptSpec, index: int) -> Iterator[str]:
    group, said = spec.groups[index], descriptor(spec, index)
    for name in ("texture", "size"):
        if name in group.attributes and name not in said and group.count != 0:
            verb = "Are the" if group.many else "Is the"
            yield f"{verb} {phrase(spec, index)} {group.attributes[name]}?"


def descriptor(spec: PromptSpec, index: int) -> dict[str, str]:
    """Return attributes that distinguish a group from others of its noun: the colour, and more if needed."""
    group = spec.groups[index]
    if group.count == 0:
        return dict(group.attributes)
    chosen = {name: value for name, value in group.attributes.items() if name == "colour"}
    for name in ("texture", "size"):
        rivals = [
            other
            for i, other in enumerate(spec.groups)
            if i != index
            and other.noun == group.noun
            and all(other.attributes.get(key) in (None, value) for key, value in chosen.items())
        ]
        if name in group.attributes and any(o.attributes.get(name) != group.attributes[name] for o in rivals):
            chosen[name] = group.attributes[name]
    return chosen


def phrase(spec: PromptSpec, index: int) -> str:
    """Name a group without article: `red circles`, `text "GO"`."""
    group = spec.groups[index]
    if group.noun == words.TEXT:
        return f"text {quoted(group.word)}" if group.word else "text"
    said = descriptor(spec, index)
    return words.noun_phrase(group.noun, *map(said.get, ATTRIBUTES), many=group.many)


def quoted(word: str) -> str:
    """Quote a word with quotation marks that it does not contain."""
    return f"“{word}”" if '"' in word else f'"{word}"'
