"""Text in pictures: which text a prompt asks for, what is read in the picture, and how the two differ."""

from gems.skills.lettering.comparing import Comparison, compare, told
from gems.skills.lettering.ocr import RapidReader, TextLine, TextReader
from gems.skills.lettering.verifier import TextVerifier
from gems.skills.lettering.wanted import wanted_texts

__all__ = [
    "Comparison",
    "RapidReader",
    "TextLine",
    "TextReader",
    "TextVerifier",
    "compare",
    "told",
    "wanted_texts",
]
