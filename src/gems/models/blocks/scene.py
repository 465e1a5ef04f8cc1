"""The contents of an image, drawn or detected."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gems.models.blocks import vocabulary as words

SMALL_BELOW = 0.122
"""Things whose longer side is below this share of the image's shorter side are small."""
LARGE_FROM = 0.2
"""Things whose longer side is at least this share of the image's shorter side are large."""
_SLACK = 0.012
"""Tolerated overlap of separate boxes, as a share of the shorter side."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape, or a text (`noun` is `text`, without colour and texture); the box includes the outline."""

    noun: str
    colour: str
    texture: str
    box: Box
    word: str = ""

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """Contents of an image of `width` x `height` pixels; an empty `background` is the neutral default."""

    width: int
    height: int
    background: str
    things: tuple[Thing, ...]

    @property
    def unit(self) -> int:
        """Shorter side in pixels, the reference for sizes."""
        return min(self.width, self.height)

    def size(self, thing: Thing) -> str:
        """Return `small`, `medium` or `large`, by the longer side of the box."""
        left, top, right, bottom = thing.box
        share = max(right - left, bottom - top) / self.unit
        if share < SMALL_BELOW:
            return "small"
        return "large" if share >= LARGE_FROM else "medium"

    def attribute(self, thing: Thing, name: str) -> str:
        """Return the `colour`, `texture` or `size` of a thing."""
        return self.size(thing) if name == "size" else str(getattr(thing, name))

    def holds(self, subject: Thing, relation: str, target: Thing) -> bool:
        """Whether a relation of `vocabulary.RELATIONS` holds between two things."""
        slack = _SLACK * self.unit
        left, top, right, bottom = subject.box
        other_left, other_top, other_right, other_bottom = target.box
        if relation == "left of":
            return right <= other_left + slack
        if relation == "right of":
            return left >= other_right - slack
        if relation == "above":
            return bottom <= other_top + slack
        if relation == "below":
            return top >= other_bottom - slack
        if relation == "inside":
            return left > other_left and right < other_right and top > other_top and bottom < other_bottom
        # "on": standing on its upper edge
        middle = subject.centre[0]
        touching = abs(bottom - other_top) <= 2 * slack
        return touching and other_left - slack <= middle <= other_right + slack


def describe_scene(scene: Scene) -> str:
    """Describe the scene in one phrase."""
    texts = [thing.word for thing in scene.things if thing.noun == words.TEXT]
    shapes = [thing for thing in scene.things if thing.noun != words.TEXT]
    counts = Counter((scene.size(one), one.colour, one.texture, one.noun) for one in shapes)
    parts = [name_things(number, *key) for key, number in counts.items()]
    parts += [f'the text "{text}"' if text else "an empty sign" for text in texts]
    listed = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1] if parts else "no shapes"
    return f"{listed} on a {scene.background or 'neutral'} background"


def name_things(number: int, size: str, colour: str, texture: str, noun: str) -> str:
    """Name things: `three large red striped circles`."""
    quiet_size = "" if size == "medium" else size
    quiet_texture = "" if texture == "plain" else texture
    phrase = words.noun_phrase(noun, quiet_size, colour, quiet_texture, many=number != 1)
    if number == 1:
        return words.with_article(phrase)
    return f"{words.number_word(number) if number else 'no'} {phrase}"
