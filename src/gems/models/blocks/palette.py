"""RGB values of the colours, distinguishable after JPEG compression."""

from __future__ import annotations

Rgb = tuple[int, int, int]

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
