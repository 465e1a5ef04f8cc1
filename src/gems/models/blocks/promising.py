"""What a picture that follows a prompt exactly is bound to show, asked by the judge's own rules.

A promise is a scene without places: a thing has the attributes that the prompt says and no others, and
stands in the relations that the prompt says and those that follow from them. What the prompt leaves open is
not promised, even where the drawing engine always does it in one way.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gems.models.blocks import vocabulary as words
from gems.models.blocks.judge import judged
from gems.models.blocks.parser import Mention, read
from gems.models.blocks.prompt_spec import Brief, matching, understand
from gems.models.blocks.questions import decomposed
from gems.models.blocks.scene import Scene, Thing
from gems.types import AnswerValue

MOST_OF_A_KIND = 16
"""Larger counts are not told from each other, so that no prompt can keep the judge busy."""
_MOST_GROUPS = 24
_OPEN_COUNTS = (2, MOST_OF_A_KIND + 1)
"""A plural without a number may mean the one or the other: only what holds for both is promised."""
_NOWHERE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Promised(Thing):
    """A thing of a group, of a size that is said or left open."""

    group: int = 0
    said_size: str = ""


@dataclass(frozen=True, slots=True)
class _Promise(Scene):
    """A scene whose things stand where the prompt says."""

    edges: frozenset[tuple[int, str, int]] = frozenset()

    def size(self, thing: Thing) -> str:
        """What the prompt says; empty where it says nothing."""
        return thing.said_size if isinstance(thing, _Promised) else ""

    def holds(self, subject: Thing, relation: str, target: Thing) -> bool:
        """Whether the prompt says so, or it follows."""
        if not isinstance(subject, _Promised) or not isinstance(target, _Promised):
            return False
        return (subject.group, relation, target.group) in self.edges


@dataclass(slots=True)
class Promise:
    """What a prompt asks for.

    Attributes:
        prompt: The text.
        brief: What the world understands of it.
        questions: What the decomposer asks of it.
    """

    prompt: str
    brief: Brief = field(init=False)
    questions: frozenset[str] = field(init=False)
    _scenes: tuple[Scene, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.brief = understand(self.prompt)
        asked = decomposed(self.prompt) if self.prompt.strip() else []
        self.questions = frozenset(requirement.question for requirement in asked)
        self._scenes = tuple(_scene(self.brief, count) for count in _OPEN_COUNTS)

    def answer(self, question: str) -> AnswerValue:
        """Yes where every picture that follows the prompt meets the question; unknown where none can tell."""
        if question in self.questions:
            return "yes"
        mentions = read(question).mentions
        if any(self._unsaid(mention) for mention in mentions):
            return "no"
        found = {judged(question, scene).answer for scene in self._scenes} if mentions else {"unknown"}
        return "unknown" if "unknown" in found else "no" if "no" in found else "yes"

    def _unsaid(self, mention: Mention) -> bool:
        """Whether something is to be absent, or there in large numbers, that the prompt does not say so."""
        if not mention.explicit or mention.count is None or 0 < mention.count <= MOST_OF_A_KIND:
            return False
        index = matching(self.brief, mention)
        return index is None or self.brief.groups[index].count != mention.count


def _scene(brief: Brief, open_count: int) -> Scene:
    things = []
    for index, group in enumerate(brief.groups[:_MOST_GROUPS]):
        said = group.attributes
        thing = _Promised(
            group.noun,
            said.get("colour", ""),
            said.get("texture", ""),
            _NOWHERE,
            group.word,
            index,
            said.get("size", ""),
        )
        count = open_count if group.count is None else min(group.count, MOST_OF_A_KIND + 1)
        # Copies: the judge tells things of a group from each other.
        things += [replace(thing) for _ in range(count)]
    return _Promise(1, 1, brief.background or "", tuple(things), _edges(brief))


def _edges(brief: Brief) -> frozenset[tuple[int, str, int]]:
    """Relations between groups, turned round and followed on: what stands on something is above it."""
    found = {
        edge
        for r in brief.relations
        if max(r.subject, r.target) < _MOST_GROUPS
        for edge in _turned(r.subject, r.name, r.target)
    }
    while True:
        onward: dict[int, list[tuple[str, int]]] = {}
        for start, name, end in found:
            onward.setdefault(start, []).append((name, end))
        more = {
            edge
            for start, first, middle in found
            for second, end in onward.get(middle, ())
            if start != end and _follows(first, second)
            for edge in _turned(start, second, end)
        }
        if more <= found:
            return frozenset(found)
        found |= more


def _turned(subject: int, name: str, target: int) -> set[tuple[int, str, int]]:
    """The relation itself and what says the same."""
    said = {(subject, name, target)} | ({(subject, "above", target)} if name == "on" else set())
    return said | {(end, words.INVERSE[one], start) for start, one, end in said if one in words.INVERSE}


def _follows(first: str, second: str) -> bool:
    """Whether `a first b` and `b second c` make `a second c`."""
    return (first == second and first != "on") or (first == "inside" and second in words.INVERSE)
