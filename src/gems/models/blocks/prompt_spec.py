"""Parse a prompt into groups of things, relations, background and emphasis.

Prompts of later rounds repeat facts ("... Make sure: exactly three red circles"): a second mention of a group
is emphasis, not a second group.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import Link, Mention, parse_text

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
