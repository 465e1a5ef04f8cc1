"""What the built-in image model gets wrong, how often, and which wording helps against what.

Text-to-image models fail in known ways: later parts of a prompt get lost, counts above four slip, colours
leak to neighbours, relations are swapped, details are ignored, text is misspelt. So does this one. Every
fault is drawn from the prompt and the seed alone, with the probabilities below; this is their only place:

    fault       rate without emphasis                        repeat  important  exactly  place  spelled
    lost        0.05 per group before it, at most 0.20         0.20       0.70     0.90   0.80     0.80
    miscount    0.05 for three and four, 0.40 for five
                and six, 0.50 above                            0.90       0.70     0.15      -        -
    colour      0.14 beside a group of another colour          0.80       0.20     0.60      -        -
    size        0.22                                           0.80       0.75     0.20      -        -
    texture     0.24                                           0.20       0.80     0.85      -        -
    relation    0.25                                           0.90       0.75     0.90   0.12        -
    text        0.07 per letter, at most 0.45                  0.90       0.75     0.80      -     0.12
    background  0.22                                           0.70       0.15     0.80      -        -

A wording that stresses a fact multiplies the rate of its fault; of several wordings the strongest counts.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import Brief, Group, Relation, folded

EFFECTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "lost": {"repeat": 0.2, "important": 0.7, "exactly": 0.9, "place": 0.8, "spelled": 0.8},
        "miscount": {"repeat": 0.9, "important": 0.7, "exactly": 0.15},
        "colour": {"repeat": 0.8, "important": 0.2, "exactly": 0.6},
        "size": {"repeat": 0.8, "important": 0.75, "exactly": 0.2},
        "texture": {"repeat": 0.2, "important": 0.8, "exactly": 0.85},
        "relation": {"repeat": 0.9, "important": 0.75, "exactly": 0.9, "place": 0.12},
        "text": {"repeat": 0.9, "important": 0.75, "exactly": 0.8, "spelled": 0.12},
        "background": {"repeat": 0.7, "important": 0.15, "exactly": 0.8},
    }
)
"""Fault -> wording -> factor on the fault's rate; 1 where a wording is not listed."""

_FLAT_RATES = {"colour": 0.14, "size": 0.22, "texture": 0.24, "relation": 0.25, "background": 0.22}


def rate(fault: str, *, amount: int = 0, wordings: Iterable[str] = ()) -> float:
    """Probability of a fault in [0, 1].

    Args:
        fault: A key of `EFFECTS`.
        amount: For `lost` the groups before this one, for `miscount` the count, for `text` the letters.
        wordings: What stresses the fact.
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
    """What will be drawn: a brief with the model's faults in it and every gap filled.

    Attributes:
        groups: With a count, and for shapes a colour, a texture and a size, each.
        relations: Between groups.
        background: A colour; empty for the neutral default.
        faults: What went wrong, as `fault index`, for records.
    """

    groups: list[Group] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    background: str = ""
    faults: list[str] = field(default_factory=list)


def dice(*key: object) -> random.Random:
    """Random numbers that depend on the key alone."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - for pictures, not for secrets


def sketched(brief: Brief, prompt: str, seed: int) -> Sketch:
    """Draw the faults of one picture."""
    return _Hand(brief, prompt, seed).sketch()


class _Hand:
    def __init__(self, brief: Brief, prompt: str, seed: int) -> None:
        self._brief = brief
        self._key = (prompt, seed)
        self._faults: list[str] = []

    def _fails(self, fault: str, fact: str, index: int, amount: int = 0) -> bool:
        wordings = self._brief.emphasis.get((fact, index), ())
        failed = self._dice(fault, index).random() < rate(fault, amount=amount, wordings=wordings)
        if failed:
            self._faults.append(f"{fault} {index}")
        return failed

    def _dice(self, *what: object) -> random.Random:
        return dice(*self._key, *what)

    def sketch(self) -> Sketch:
        kept: dict[int, int] = {}
        groups: list[Group] = []
        for index, group in enumerate(self._brief.groups):
            fact = "text" if group.noun == words.TEXT else "object"
            if group.count != 0 and not self._fails("lost", fact, index, index):
                kept[index] = len(groups)
                groups.append(self._text(index) if group.noun == words.TEXT else self._things(index))
        relations = [
            self._relation(number, kept)
            for number, relation in enumerate(self._brief.relations)
            if relation.subject in kept and relation.target in kept
        ]
        return Sketch(groups, relations, self._background(), self._faults)

    def _text(self, index: int) -> Group:
        word = self._brief.groups[index].word
        if self._fails("text", "text", index, sum(map(str.isalnum, word))):
            word = misspelt(word, self._dice("letters", index))
        return Group(words.TEXT, word=word)

    def _things(self, index: int) -> Group:
        asked = self._brief.groups[index]
        count = min(asked.count if asked.count is not None else 3, words.MAX_COUNT)
        if self._fails("miscount", "count", index, count):
            count += self._dice("slip", index).choice((-1, 1)) if count < words.MAX_COUNT else -1
        attributes = {"colour": self._colour(index), "texture": "plain", "size": "medium"}
        for name in ("texture", "size"):
            if name in asked.attributes:
                ignored = self._fails(name, name, index)
                attributes[name] = (
                    self._other(name, asked.attributes[name], index) if ignored else asked.attributes[name]
                )
        return Group(asked.noun, count, True, attributes)

    def _other(self, name: str, asked: str, index: int) -> str:
        if name == "texture":
            return "plain" if asked != "plain" else "striped"
        return (
            "medium" if asked != "medium" else self._dice("size", index, "other").choice(("small", "large"))
        )

    def _colour(self, index: int) -> str:
        brief = self._brief
        asked = brief.groups[index].attributes.get("colour")
        said = [group.attributes.get("colour") for group in brief.groups]
        if asked is None:
            free = [c for c in words.COLOURS if c not in said and c != brief.background]
            # Without a number of their own, several groups of no colour would all look alike.
            return self._dice("free colour", index).choice(free or list(words.COLOURS))
        near = sorted(
            (abs(other - index), colour) for other, colour in enumerate(said) if colour not in (None, asked)
        )
        if near and self._fails("colour", "colour", index):
            return str(near[0][1])
        return asked

    def _relation(self, number: int, kept: Mapping[int, int]) -> Relation:
        asked = self._brief.relations[number]
        subject, target = kept[asked.subject], kept[asked.target]
        if self._fails("relation", "relation", number):
            subject, target = target, subject
        return Relation(subject, asked.name, target)

    def _background(self) -> str:
        asked = self._brief.background or ""
        return "" if asked and self._fails("background", "background", 0) else asked


def misspelt(word: str, rng: random.Random) -> str:
    """`word` with one typical slip: a letter dropped, doubled, swapped or replaced; never reads the same."""
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
        if folded(slip) != folded(word):
            return slip.upper() if word.isupper() else slip.lower() if word.islower() else slip
    return word + "E"
