"""Words and colours."""

from __future__ import annotations

RELATIONS = ("left of", "right of", "above", "below", "inside", "on")
TEXT = "text"
"""The noun of quoted words."""
BACKGROUND = "background"
"""The noun of the background."""
ANYTHING = "shape"
"""The noun of any shape, in negations such as `nothing red`."""
MAX_COUNT = 9
"""Largest count that is drawn."""
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
"""Relation -> the equivalent one with subject and target swapped."""
INK: Rgb = (14, 16, 26)
INK_BELOW = 44
"""Pixels whose brightest channel is below this are outline."""
PLATE: Rgb = (255, 243, 208)
"""Colour of the plates behind texts."""
LETTERS: Rgb = (66, 62, 150)
NEUTRAL: Rgb = (232, 234, 224)
"""Default background."""
TONES: dict[str, tuple[Rgb, Rgb]] = {
    "red": ((216, 44, 48), (246, 134, 118)),
    "orange": ((243, 142, 30), (188, 96, 8)),
    "yellow": ((252, 216, 48), (214, 170, 0)),
    "green": ((44, 158, 70), (146, 214, 128)),
    "cyan": ((64, 204, 214), (18, 140, 158)),
    "blue": ((44, 92, 212), (134, 174, 246)),
    "purple": ((124, 58, 178), (186, 140, 228)),
    "pink": ((248, 138, 196), (208, 72, 142)),
    "brown": ((124, 74, 40), (184, 134, 90)),
    "black": ((64, 64, 70), (104, 104, 112)),
    "white": ((254, 254, 254), (208, 210, 218)),
    "gray": ((146, 148, 154), (180, 182, 190)),
}
"""Each colour's base tone and the second tone of its textures."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _synonyms(**words: str) -> dict[str, str]:
    """Return synonym -> word."""
    return {synonym: word for word, synonyms in words.items() for synonym in synonyms.split()}


SHAPES = _words("circle square triangle rectangle diamond pentagon hexagon star heart cross crescent arrow")
COLOURS = _words("red orange yellow green cyan blue purple pink brown black white gray")
SIZES = _words("small medium large")
TEXTURES = _words("plain striped spotted checkered")
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve")


_SHAPE_SYNONYMS = _synonyms(circle="disc disk", diamond="rhombus", rectangle="oblong", cross="plus")


def plural(shape: str) -> str:
    """Return the plural of a shape's name."""
    return "crosses" if shape == "cross" else f"{shape}s"


SHAPE_WORDS: dict[str, tuple[str, bool]] = {
    **{shape: (shape, False) for shape in SHAPES},
    **{plural(shape): (shape, True) for shape in SHAPES},
    **{word: (shape, False) for word, shape in _SHAPE_SYNONYMS.items()},
    **{f"{word}s": (shape, True) for word, shape in _SHAPE_SYNONYMS.items()},
}
"""Word -> (shape, whether the word is a plural)."""

_COLOUR_SYNONYMS = _synonyms(gray="grey", purple="violet", cyan="turquoise teal")
_SIZE_SYNONYMS = _synonyms(small="tiny little", large="big huge giant")
_TEXTURE_SYNONYMS = _synonyms(
    plain="solid",
    striped="stripe stripes stripy",
    spotted="spots dotted dots spotty",
    checkered="checked chequered checks checkerboard",
)
ADJECTIVES: dict[str, tuple[str, str]] = {
    word: (attribute, synonyms.get(word, word))
    for attribute, known, synonyms in (
        ("colour", COLOURS, _COLOUR_SYNONYMS),
        ("size", SIZES, _SIZE_SYNONYMS),
        ("texture", TEXTURES, _TEXTURE_SYNONYMS),
    )
    for word in (*known, *synonyms)
}
"""Word -> (attribute, value)."""
COUNT_WORDS: dict[str, int] = {word: number for number, word in enumerate(NUMBERS)} | {
    "single": 1,
    "pair": 2,
    "couple": 2,
    "dozen": 12,
}


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


Rgb = tuple[int, int, int]


def _soft(base: Rgb) -> Rgb:
    red, green, blue = (round(0.66 * channel + 0.34 * 255) for channel in base)
    return red, green, blue


BACKGROUNDS: dict[str, Rgb] = {
    **{colour: _soft(base) for colour, (base, _) in TONES.items()},
    "black": (74, 74, 84),
    "white": (255, 255, 255),
    "gray": (172, 174, 180),
    "": NEUTRAL,
}
"""Background colours, softer than those of things; the empty name is the neutral default."""
