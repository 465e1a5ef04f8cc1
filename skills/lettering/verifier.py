"""Answer requirements about text by reading the image."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from gems.skills.authoring import VerifierAnswer, VerifierRequest
from gems.skills.lettering.alignment import split_units
from gems.skills.lettering.comparing import Comparison, compare, told
from gems.skills.lettering.ocr import TextLine, TextReader
from gems.skills.lettering.wanted_text import WRITING_WORDS, find_quoted, wanted_texts
from gems.types import Requirement

_APPEARANCE = re.compile(
    r"\b(?:fonts?|typefaces?|typography|serif|sans|cursive|script|italics?|bold|handwritten|calligraph\w*"
    r"|colou?r(?:ed|s)?|red|orange|yellow|green|blue|purple|pink|brown|black|white|gr[ae]y|gold(?:en)?|silver|neon"
    r"|glowing|large|larger|largest|big|bigger|small|smaller|tiny|huge|size|legible|readable|style|styled"
    r"|upper|lower|above|below|beneath|under|underneath|left|right|top|bottom|cent(?:er|re)(?:ed|d)?|middle|corner|beside"
    r"|between|next to|behind|in front|curved|vertical(?:ly)?|horizontal(?:ly)?|aligned|arched|upside"
    r"|mirrored|stylish|shadow|outline[ds]?|letters made|uppercase|lowercase"
    r"|upper case|lower case|capitals?|capitali[sz]ed)\b"
    r"|字体|颜色|红色|金色|黑色|白色|蓝色|绿色|黄色|大小|上方|下方|左|右|中央|中间|居中|书法|楷书|草书",
    re.IGNORECASE,
)
"""Words about appearance or position, which OCR does not determine."""
_NEGATED_QUESTION = re.compile(
    r"\b(?:no|not|without|free of|lack(?:s|ing)?|never|absent|missing|any other|anything else)\b|n't\b"
    r"|没有|不"
    r"|\b(?:at least|at most|exactly|two|three|four|five|six|twice|three times|\d+ times|how many)\b",
    re.IGNORECASE,
)
"""Negations and counts: questions that the judge must answer."""
_HARMLESS = re.compile(
    r"\b(?:exactly|only|just) (?:once|one(?: time)?)\b|\bboth\b|只出现一次"
    r"|\b(?:with(?:out| no)|free of|no) (?:any )?(?:spelling )?(?:mistakes?|errors?|typos?|misspellings?)\b",
    re.IGNORECASE,
)
"""Phrases that look like counts or negations but are covered by every comparison."""
_LOW_CONFIDENCE = 0.8
"""Confidence below which a line may be misread, so that a difference in it proves nothing."""


class TextVerifier:
    """A `gems.skills.authoring.Verifier` by OCR.

    Args:
        reader: Reads the image, once for all requirements.
    """

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader

    def takes(self, requirement: Requirement) -> bool:
        """Return whether it asks if text is present or spelled correctly, not about its look or position."""
        question = requirement["question"]
        about_text = requirement["kind"] == "text" or (
            requirement["kind"] in ("object", "other")
            and WRITING_WORDS.search(_unquoted(question)) is not None
        )
        return about_text and _asks_what_is_written(question) and bool(_texts_asked(question))

    async def verify(self, request: VerifierRequest) -> Mapping[str, VerifierAnswer]:
        """Answer yes if every text of the question is present, correctly spelled and not repeated.

        If the only difference is in lines that were read with low confidence, the answer is `unknown`, and
        the judge decides.

        Raises:
            GemsError: The image cannot be read.
        """
        taken = [requirement for requirement in request.requirements if self.takes(requirement)]
        if not taken:
            return {}
        lines = await self._reader.read(request.image)
        return await asyncio.to_thread(_answer_all, taken, wanted_texts(request.user_prompt), lines)


def _answer_all(
    requirements: Sequence[Requirement], prompted: Sequence[str], lines: Sequence[TextLine]
) -> dict[str, VerifierAnswer]:
    texts = [line.text for line in lines]
    together = {_same_key(found.text): found for found in compare(prompted, texts)}
    answers = {}
    for requirement in requirements:
        asked = _texts_asked(requirement["question"])
        # Compared along with the prompt's other texts, so that a word in two of them is no repetition.
        found = [together.get(_same_key(text)) or compare([text], texts)[0] for text in asked]
        answers[requirement["id"]] = _answer_one(found, lines)
    return answers


def _answer_one(found: Sequence[Comparison], lines: Sequence[TextLine]) -> VerifierAnswer:
    failed = [one for one in found if not one.is_met]
    if not failed:
        return VerifierAnswer(answer="yes", evidence=told(found[0]))
    if any(_may_be_misread(one, lines) for one in failed):
        return VerifierAnswer(answer="unknown", evidence=told(failed[0]))
    return VerifierAnswer(answer="no", evidence=told(failed[0]))


def _may_be_misread(one: Comparison, lines: Sequence[TextLine]) -> bool:
    """Return whether the difference was read with low confidence."""
    differing = {unit.key for _, read in one.wrong for unit in split_units([read])}
    return any(
        line.confidence < _LOW_CONFIDENCE and differing & {unit.key for unit in split_units([line.text])}
        for line in lines
    )


def _asks_what_is_written(question: str) -> bool:
    asked = _HARMLESS.sub(" ", _unquoted(question))
    return _APPEARANCE.search(asked) is None and _NEGATED_QUESTION.search(asked) is None


def _texts_asked(question: str) -> list[str]:
    """Return the texts that a question names, without the question's own question mark."""
    return wanted_texts(question.rstrip("?？ "))


def _unquoted(question: str) -> str:
    """Return the question without the texts it names, whose words say nothing about what is asked."""
    marked = find_quoted(question)
    for one in reversed(marked):
        question = f"{question[: one.start]} {question[one.end :]}"
    for text in [] if marked else _texts_asked(question):
        question = question.replace(text, " ")
    return question


def _same_key(text: str) -> str:
    return " ".join(text.casefold().split())
