"""Text in images: the text a prompt asks for, the text read in the image, and their differences."""

from gems.skills.lettering.ocr import RapidReader, TextLine, TextReader
from gems.skills.lettering.verifier import Comparison, TextVerifier, compare, told
from gems.skills.lettering.wanted_text import wanted_texts

__all__ = ["Comparison", "RapidReader", "TextLine", "TextReader", "TextVerifier", "compare", "told", "wanted_texts"]
