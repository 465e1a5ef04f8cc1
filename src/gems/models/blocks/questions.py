"""Decompose a spec into self-contained yes/no questions."""

from __future__ import annotations

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import ATTRIBUTES, Group, PromptSpec, parse_prompt
from gems.models.schemas import RequirementReply

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
