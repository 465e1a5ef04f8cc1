"""Errors of the built-in image model, editors and detector, their rates, and the wordings that reduce them.

Text-to-image models fail in known ways: later parts of a prompt get lost, counts above four are wrong,
colours leak to neighbours, relations are swapped, details are ignored, text is misspelt. So does this one.
Faults depend on the prompt and the seed alone. A wording that stresses a fact multiplies the rate of its
fault; of several wordings the strongest counts.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import Group, PromptSpec, Relation, fold_text

EFFECTS: Mapping[str, Mapping[str, float]] = {
    "lost": {"repeat": 0.2, "important": 0.7, "exactly": 0.9, "place": 0.8, "spelled": 0.8},
    "miscount": {"repeat": 0.9, "important": 0.7, "exactly": 0.15},
    "colour": {"repeat": 0.8, "important": 0.2, "exactly": 0.6},
    "size": {"repeat": 0.8, "important": 0.75, "exactly": 0.2},
    "texture": {"repeat": 0.2, "important": 0.8, "exactly": 0.85},
    "relation": {"repeat": 0.9, "important": 0.75, "exactly": 0.9, "place": 0.12},
    "text": {"repeat": 0.9, "important": 0.75, "exactly": 0.8, "spelled": 0.12},
    "background": {"repeat": 0.7, "important": 0.15, "exactly": 0.8},
}
"""Fault -> wording -> factor on the fault's rate; 1 where a wording is not listed."""


@dataclass(frozen=True, slots=True)
class EditorRates:
    """How often an edit mends the fault that it is for, or breaks something else instead; else it changes nothing."""

    fixes: float
    breaks: float


EDITORS: Mapping[str, EditorRates] = {"good": EditorRates(0.60, 0.20), "poor": EditorRates(0.37, 0.31)}
"""The rates of both editors; those of `poor` are of 2,269 edits in a public log of an agent."""
DEFAULT_EDITOR = "good"

DETECTOR_ERROR = 0.05
"""How often the built-in detector errs about a phrase in an image: it overlooks a thing, or sees one too many."""

_FLAT_RATES = {"colour": 0.14, "size": 0.22, "texture": 0.24, "relation": 0.25, "background": 0.22}


def fault_rate(fault: str, *, amount: int = 0, wordings: Iterable[str] = ()) -> float:
    """Return the probability in [0, 1] of a fault, a key of `EFFECTS`, for a fact stressed by `wordings`.

    `amount` is the number of groups before this one for `lost`, the count for `miscount`, the number of
    letters for `text`.
    """
    if fault == "lost":
        base = min(0.2, 0.05 * amount)
    elif fault == "miscount":
        base = 0.0 if amount < 3 else 0.05 if amount < 5 else 0.4 if amount < 7 else 0.5
    elif fault == "text":
        base = min(0.45, 0.07 * amount)
    else:
        base = _FLAT_RATES[fault]
    return base * min((EFFECTS[fault].get(wording, 1.0) for wording in wordings), default=1.0)


@dataclass(slots=True)
class Sketch:
    """A complete spec of the image to draw, with the model's faults.

    Each group has a count and each shape a colour, texture and size; an empty `background` is the neutral
    default; `faults` are records of the form `fault index`.
    """

    groups: list[Group] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    background: str = ""
    faults: list[str] = field(default_factory=list)


def seeded_random(*key: object) -> random.Random:
    """Return a random number generator that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - for pictures, not for secrets


def make_sketch(spec: PromptSpec, prompt: str, seed: int) -> Sketch:
    """Choose the faults of one image."""
    return _SketchMaker(spec, prompt, seed).sketch()


class _SketchMaker:
    def __init__(self, spec: PromptSpec, prompt: str, seed: int) -> None:
        self._spec = spec
        self._key = (prompt, seed)
        self._faults: list[str] = []

    def _fails(self, fault: str, fact: str, index: int, amount: int = 0) -> bool:
        wordings = self._spec.emphasis.get((fact, index), ())
        failed = self._dice(fault, index).random() < fault_rate(fault, amount=amount, wordings=wordings)
        if failed:
            self._faults.append(f"{fault} {index}")
        return failed

    def _dice(self, *what: object) -> random.Random:
        return seeded_random(*self._key, *what)

    def sketch(self) -> Sketch:
        kept: dict[int, int] = {}
        groups: list[Group] = []
        for index, group in enumerate(self._spec.groups):
            fact = "text" if group.noun == words.TEXT else "object"
            if group.count != 0 and not self._fails("lost", fact, index, index):
                kept[index] = len(groups)
                groups.append(self._text(index) if group.noun == words.TEXT else self._things(index))
        relations = [
            self._relation(number, kept)
            for number, relation in enumerate(self._spec.relations)
            if relation.subject in kept and relation.target in kept
        ]
        return Sketch(groups, relations, self._background(), self._faults)

    def _text(self, index: int) -> Group:
        word = self._spec.groups[index].word
        if self._fails("text", "text", index, sum(map(str.isalnum, word))):
            word = misspell(word, self._dice("letters", index))
        return Group(words.TEXT, word=word)

    def _things(self, index: int) -> Group:
        asked = self._spec.groups[index]
        count = min(asked.count if asked.count is not None else 3, words.MAX_COUNT)
        if self._fails("miscount", "count", index, count):
            count += self._dice("slip", index).choice((-1, 1)) if count < words.MAX_COUNT else -1
        attributes = {"colour": self._colour(index), "texture": "plain", "size": "medium"}
        for name in ("texture", "size"):
            if name in asked.attributes:
                ignored = self._fails(name, name, index)
                value = asked.attributes[name]
                attributes[name] = self._other(name, value, index) if ignored else value
        return Group(asked.noun, count, True, attributes)

    def _other(self, name: str, asked: str, index: int) -> str:
        if name == "texture":
            return "plain" if asked != "plain" else "striped"
        if asked != "medium":
            return "medium"
        return self._dice("size", index, "other").choice(("small", "large"))

    def _colour(self, index: int) -> str:
        spec = self._spec
        asked = spec.groups[index].attributes.get("colour")
        said = [group.attributes.get("colour") for group in spec.groups]
        if asked is None:
            free = [c for c in words.COLOURS if c not in said and c != spec.background]
            # Keyed by the index, or all groups without a colour would get the same one.
            return self._dice("free colour", index).choice(free or list(words.COLOURS))
        drawn = [(other, colour) for other, colour in enumerate(said) if spec.groups[other].count != 0]
        near = sorted((abs(other - index), colour) for other, colour in drawn if colour not in (None, asked))
        if near and self._fails("colour", "colour", index):
            return str(near[0][1])
        return asked

    def _relation(self, number: int, kept: Mapping[int, int]) -> Relation:
        asked = self._spec.relations[number]
        subject, target = kept[asked.subject], kept[asked.target]
        if self._fails("relation", "relation", number):
            subject, target = target, subject
        return Relation(subject, asked.name, target)

    def _background(self) -> str:
        asked = self._spec.background or ""
        return "" if asked and self._fails("background", "background", 0) else asked


def misspell(word: str, rng: random.Random) -> str:
    """Return `word` with a letter dropped, doubled, swapped or replaced, such that it reads differently."""
    letters = [index for index, character in enumerate(word) if character.isalnum()]
    alphabet = "ABEHKMNPRSTUVXZ"
    for _ in range(20):
        if not letters:
            break
        at = rng.choice(letters)
        slips = [word[:at] + word[at] + word[at:], word[:at] + rng.choice(alphabet) + word[at + 1 :]]
        if len(letters) > 1:
            slips.append(word[:at] + word[at + 1 :])
        if at + 1 < len(word):
            slips.append(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
        slip = rng.choice(slips)
        if fold_text(slip) != fold_text(word):
            return slip.upper() if word.isupper() else slip.lower() if word.islower() else slip
    return word + "E"
