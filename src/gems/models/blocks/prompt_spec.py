"""A prompt understood as one picture: groups of things, relations, background, and what is stressed.

Prompts of later rounds say the same thing twice ("... Make sure: exactly three red circles"). A second
mention is the same group said with more emphasis, never a second group.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.parser import Link, Mention, read

ATTRIBUTES = ("size", "colour", "texture")
Fact = tuple[str, int]
"""(`object` | `count` | `colour` | `size` | `texture` | `text` | `relation` | `background`, index)."""


@dataclass(slots=True)
class Group:
    """Things of one kind, or one quoted text.

    Attributes:
        noun: A shape, or `text`.
        count: How many; None where a plural leaves it open.
        explicit: Whether the prompt gives the count as a number.
        attributes: `colour`, `size`, `texture` where the prompt says them.
        word: The quoted text.
    """

    noun: str
    count: int | None = 1
    explicit: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    word: str = ""

    @property
    def many(self) -> bool:
        """Whether a plural names it."""
        return self.count != 1


@dataclass(slots=True)
class Relation:
    """`groups[subject]` is `name` `groups[target]`."""

    subject: int
    name: str
    target: int


@dataclass(slots=True)
class Brief:
    """What a picture is to show.

    Attributes:
        groups: In the order of their first mention.
        relations: Between groups.
        background: A colour; None where the prompt does not say.
        unknown: Phrases outside of the vocabulary, such as `a cat`.
        emphasis: The wordings that stress each fact.
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


def folded(text: str) -> str:
    """Text as the judge compares it: case, blanks and glyphs that look alike do not count."""
    plain = "".join(character for character in text.casefold() if character.isalnum()) or text.strip()
    return plain.translate(str.maketrans("01", "ol")).replace("i", "l")


def understand(prompt: str) -> Brief:
    """Everything the built-in world understands of a prompt; empty where it understands nothing."""
    reading = read(prompt)
    builder = _Builder()
    places = [builder.place(mention) for mention in reading.mentions]
    for link in reading.links:
        builder.relate(link, places[link.subject], places[link.target])
    for mention, index in zip(reading.mentions, places, strict=True):
        if "place" in mention.modes and index is not None:
            builder.stress_places(index)
    builder.brief.unknown = tuple(reading.unknown)
    return builder.brief


def matching(brief: Brief, mention: Mention, *, predicates: bool = False) -> int | None:
    """Index of the group that fits a mention best; None where none does.

    Args:
        brief: Where to look.
        mention: What is looked for.
        predicates: Whether what is said behind the noun must fit as well.
    """
    said = {**mention.predicate, **mention.attributes} if predicates else mention.attributes
    best, best_shared = None, -1
    for index, group in enumerate(brief.groups):
        if group.noun != mention.noun or folded(group.word) != folded(mention.word):
            continue
        pairs = [(value, group.attributes.get(name)) for name, value in said.items()]
        if all(have in (None, value) for value, have in pairs):
            shared = sum(have == value for value, have in pairs)
            if shared > best_shared:
                best, best_shared = index, shared
    return best


class _Builder:
    def __init__(self) -> None:
        self.brief = Brief()
        self._born: dict[int, int] = {}

    def place(self, mention: Mention) -> int | None:
        """Index of the mention's group, new or known; None for the background."""
        if mention.noun == words.BACKGROUND:
            self._paint(mention)
            return None
        index = self._known(mention)
        if index is not None:
            self._repeat(index, mention)
            return index
        brief = self.brief
        brief.groups.append(
            Group(
                mention.noun,
                mention.count,
                mention.explicit,
                {**mention.predicate, **mention.attributes},
                mention.word,
            )
        )
        index = len(brief.groups) - 1
        self._born[index] = mention.sentence
        self._stress(index, mention, mention.modes - {"again"}, first=True)
        return index

    def _known(self, mention: Mention) -> int | None:
        best = matching(self.brief, mention)
        strong = mention.definite or bool(mention.modes & {"important", "exactly", "again"})
        if mention.noun == words.TEXT or best is None:
            return best if best is not None else self._overridden(mention)
        group = self.brief.groups[best]
        same = group.attributes == mention.attributes and (
            mention.count is None or group.count in (None, mention.count)
        )
        return best if same or (strong and not self._sibling(best, mention)) else None

    def _sibling(self, index: int, mention: Mention) -> bool:
        """`exactly two circles and exactly one red circle`: counts of one sentence speak of two groups."""
        group = self.brief.groups[index]
        differs = mention.explicit and group.explicit and mention.count != group.count
        return differs and not mention.definite and self._born[index] == mention.sentence

    def _overridden(self, mention: Mention) -> int | None:
        """The only group of this noun, which a later, stressed statement corrects."""
        if not mention.modes & {"important", "exactly", "again"}:
            return None
        same = [index for index, group in enumerate(self.brief.groups) if group.noun == mention.noun]
        if len(same) == 1 and self._born[same[0]] < mention.sentence:
            return same[0]
        return None

    def _repeat(self, index: int, mention: Mention) -> None:
        group = self.brief.groups[index]
        group.attributes.update({**mention.attributes, **mention.predicate})
        if mention.explicit or group.count is None:
            group.count = mention.count if mention.count is not None else group.count
            group.explicit = group.explicit or mention.explicit
        group.word = mention.word or group.word
        self._stress(index, mention, mention.modes - {"again"} or {"again"}, first=False)

    def _stress(self, index: int, mention: Mention, modes: set[str], *, first: bool) -> None:
        wordings = {"repeat" if mode == "again" else mode for mode in modes}
        emphasis = self.brief.emphasis
        emphasis["text" if mention.noun == words.TEXT else "object", index] |= wordings
        for name in {**mention.attributes, **mention.predicate}:
            emphasis[name, index] |= wordings
        if mention.explicit or first:
            emphasis["count", index] |= wordings

    def _paint(self, mention: Mention) -> None:
        colour = mention.attributes.get("colour") or mention.predicate.get("colour")
        if colour is None:
            return
        repeated = self.brief.background is not None
        modes = mention.modes - {"again"} or ({"again"} if repeated else set())
        self.brief.emphasis["background", 0] |= {"repeat" if mode == "again" else mode for mode in modes}
        self.brief.background = colour

    def relate(self, link: Link, subject: int | None, target: int | None) -> None:
        """Add a relation, or stress the one that is known between the same two groups."""
        if subject is None or target is None or subject == target:
            return
        modes = {mode for mode in link.modes if mode != "again"}
        for index, known in enumerate(self.brief.relations):
            if {known.subject, known.target} == {subject, target}:
                turned = link.relation if known.subject == subject else words.INVERSE.get(link.relation)
                if turned is None:
                    known.subject, known.target, turned = subject, target, link.relation
                known.name = turned
                self.brief.emphasis["relation", index] |= modes or {"repeat"}
                return
        self.brief.relations.append(Relation(subject, link.relation, target))
        self.brief.emphasis["relation", len(self.brief.relations) - 1] |= modes

    def stress_places(self, index: int) -> None:
        """A place said of a group stresses the relations it stands in."""
        for number, relation in enumerate(self.brief.relations):
            if index in (relation.subject, relation.target):
                self.brief.emphasis["relation", number].add("place")
