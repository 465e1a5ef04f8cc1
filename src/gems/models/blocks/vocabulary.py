"""Words of the built-in world and their meanings. Words that are not listed are not understood."""

from __future__ import annotations

SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "rectangle",
    "diamond",
    "pentagon",
    "hexagon",
    "star",
    "heart",
    "cross",
    "crescent",
    "arrow",
)
COLOURS: tuple[str, ...] = (
    "red",
    "orange",
    "yellow",
    "green",
    "cyan",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "gray",
)
SIZES: tuple[str, ...] = ("small", "medium", "large")
TEXTURES: tuple[str, ...] = ("plain", "striped", "spotted", "checkered")
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below", "inside", "on")

TEXT = "text"
"""The noun of quoted words."""
BACKGROUND = "background"
"""The noun of the background."""

_PLURALS = {"cross": "crosses"}
_SHAPE_SYNONYMS = {
    "disc": "circle",
    "disk": "circle",
    "rhombus": "diamond",
    "oblong": "rectangle",
    "plus": "cross",
}


def plural(shape: str) -> str:
    """Return the plural of a shape's name."""
    return _PLURALS.get(shape, f"{shape}s")


SHAPE_WORDS: dict[str, tuple[str, bool]] = {
    **{shape: (shape, False) for shape in SHAPES},
    **{plural(shape): (shape, True) for shape in SHAPES},
    **{word: (shape, False) for word, shape in _SHAPE_SYNONYMS.items()},
    **{f"{word}s": (shape, True) for word, shape in _SHAPE_SYNONYMS.items()},
}
"""Word -> (shape, whether the word is a plural)."""

COLOUR_WORDS: dict[str, str] = {
    **{colour: colour for colour in COLOURS},
    "grey": "gray",
    "violet": "purple",
    "turquoise": "cyan",
    "teal": "cyan",
}
SIZE_WORDS: dict[str, str] = {
    **{size: size for size in SIZES},
    "tiny": "small",
    "little": "small",
    "big": "large",
    "huge": "large",
    "giant": "large",
}
TEXTURE_WORDS: dict[str, str] = {
    **{texture: texture for texture in TEXTURES},
    "solid": "plain",
    "stripe": "striped",
    "stripes": "striped",
    "stripy": "striped",
    "spots": "spotted",
    "dotted": "spotted",
    "dots": "spotted",
    "spotty": "spotted",
    "checked": "checkered",
    "chequered": "checkered",
    "checks": "checkered",
    "checkerboard": "checkered",
}
ADJECTIVES: dict[str, tuple[str, str]] = {
    **{word: ("colour", value) for word, value in COLOUR_WORDS.items()},
    **{word: ("size", value) for word, value in SIZE_WORDS.items()},
    **{word: ("texture", value) for word, value in TEXTURE_WORDS.items()},
}
"""Word -> (attribute, value)."""

NUMBERS: tuple[str, ...] = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
MAX_COUNT = 9
"""Largest count that is drawn."""
COUNT_WORDS: dict[str, int] = {
    **{word: number for number, word in enumerate(NUMBERS)},
    "no": 0,
    "without": 0,
    "single": 1,
    "pair": 2,
    "couple": 2,
    "dozen": 12,
}

INVERSE: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "contains": "inside",
}
"""Relation -> the equivalent one with subject and target swapped."""


def number_word(number: int) -> str:
    """Write a number as a word, from thirteen on in digits."""
    return NUMBERS[number] if 0 <= number < len(NUMBERS) else str(number)


def noun_phrase(noun: str, *adjectives: str | None, many: bool = False) -> str:
    """Join adjectives and noun: `large blue striped square`."""
    words = [word for word in adjectives if word]
    return " ".join([*words, plural(noun) if many else noun])


def with_article(phrase: str) -> str:
    """Prefix the indefinite article: `a blue square`, `an orange star`."""
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"
