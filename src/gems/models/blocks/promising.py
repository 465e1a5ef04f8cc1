"""Decide what every image that follows a prompt must show, by the judge's rules.

A promise is a scene without positions: things have exactly the attributes of the prompt, its relations and
those that follow from them. Unspecified properties are not promised, even if the drawing engine always
chooses the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gems.models.blocks import vocabulary as words
from gems.models.blocks.judge import judge_question
from gems.models.blocks.parser import Mention, parse_text
from gems.models.blocks.prompt_spec import PromptSpec, decompose_prompt, find_group, parse_prompt
from gems.models.blocks.scene import Scene, Thing
from gems.types import AnswerValue

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
