"""Answers requirements about written text by reading the picture."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from gems.skills.authoring import VerifierAnswer, VerifierRequest
from gems.skills.lettering.comparing import Comparison, compare, told
from gems.skills.lettering.ocr import TextLine, TextReader
from gems.skills.lettering.quotes import WRITING_WORDS, find_quoted
from gems.skills.lettering.units import split_units
from gems.skills.lettering.wanted import wanted_texts
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
"""Words about how or where a text is, which reading it does not tell."""
_NEGATED_QUESTION = re.compile(
    r"\b(?:no|not|without|free of|lack(?:s|ing)?|never|absent|missing|any other|anything else)\b|n't\b"
    r"|没有|不"
    r"|\b(?:at least|at most|exactly|two|three|four|five|six|twice|three times|\d+ times|how many)\b",
    re.IGNORECASE,
)
"""What turns a question round, or counts: answered by somebody who understands it."""
_HARMLESS = re.compile(
    r"\b(?:exactly|only|just) (?:once|one(?: time)?)\b|\bboth\b|只出现一次"
    r"|\b(?:with(?:out| no)|free of|no) (?:any )?(?:spelling )?(?:mistakes?|errors?|typos?|misspellings?)\b",
    re.IGNORECASE,
)
"""What sounds like counting or negation and is what every comparison tells."""
_LOW_CONFIDENCE = 0.8
"""Confidence below which a line may have been misread, so that a difference in it proves nothing."""


class TextVerifier:
    """A `gems.skills.authoring.Verifier` by OCR.

    Args:
        reader: Reads the picture, once for all requirements.
    """

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader

    def takes(self, requirement: Requirement) -> bool:
        """Whether it asks if certain text is there or rightly spelled, not about its look or place."""
        question = requirement["question"]
        about_text = requirement["kind"] == "text" or (
            requirement["kind"] in ("object", "other")
            and WRITING_WORDS.search(_unquoted(question)) is not None
        )
        return about_text and _asks_what_is_written(question) and bool(_texts_asked(question))

    async def verify(self, request: VerifierRequest) -> Mapping[str, VerifierAnswer]:
        """Yes where every text of the question is there, rightly spelled and no more often than wanted.

        Where the picture's only difference lies in lines that were read without confidence, the answer is
        `unknown`, and the judge looks.

        Raises:
            GemsError: the picture cannot be read.
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
        # Among the prompt's other texts, so that a word that two of them share is not taken for a repetition.
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
    """Whether what differs was read without confidence."""
    differing = {unit.key for _, read in one.wrong for unit in split_units([read])}
    return any(
        line.confidence < _LOW_CONFIDENCE and differing & {unit.key for unit in split_units([line.text])}
        for line in lines
    )


def _asks_what_is_written(question: str) -> bool:
    asked = _HARMLESS.sub(" ", _unquoted(question))
    return _APPEARANCE.search(asked) is None and _NEGATED_QUESTION.search(asked) is None


def _texts_asked(question: str) -> list[str]:
    """The texts that a question names; its own question mark belongs to none of them."""
    return wanted_texts(question.rstrip("?？ "))


def _unquoted(question: str) -> str:
    """The question without the texts that it names, whose words say nothing about what is asked."""
    marked = find_quoted(question)
    for one in reversed(marked):
        question = f"{question[: one.start]} {question[one.end :]}"
    for text in [] if marked else _texts_asked(question):
        question = question.replace(text, " ")
    return question


def _same_key(text: str) -> str:
    return " ".join(text.casefold().split())
