"""Compare wanted text with the text read, and answer requirements by it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from gems.models.detectors.base import join_boxes
from gems.models.images import open_image
from gems.skills.authoring import VerifierAnswer, VerifierRequest
from gems.skills.lettering.alignment import Fit, Page, single_line, split_units
from gems.skills.lettering.ocr import TextLine, TextReader
from gems.skills.lettering.wanted_text import WRITING_WORDS, find_quoted, texts_asked, wanted_texts
from gems.types import Requirement

_MAX_LINE = 300
_MAX_FAULTS = 150
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
INSTRUMENT = "ocr"
"""The name under which its agreement with the judge is counted."""
_LOW_CONFIDENCE = 0.8
"""Confidence below which a line may be misread, so that a difference in it proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Result of comparing one wanted text."""

    text: str
    found: str
    """The read text that fits best, on one line; empty if none does."""
    distance: float
    """Normalised edit distance in [0, 1] between the two; 1 if nothing was found."""
    recall: float
    """Share of the wanted units that were read, in [0, 1], in any order."""
    missing: tuple[str, ...] = ()
    wrong: tuple[tuple[str, str], ...] = ()
    """A wanted unit and what was read in its position, such as `("STORE", "STROE")`."""
    doubled: tuple[str, ...] = ()
    """Units, or the whole text, that occur more often than wanted."""

    @property
    def is_met(self) -> bool:
        """Whether the text is present, spelled as wanted, without repetitions."""
        return self.distance == 0 and not self.doubled


def compare(wanted: Sequence[str], lines: Sequence[str]) -> list[Comparison]:
    """Return one comparison per wanted text, in order.

    Case, punctuation, blanks, hyphens and line breaks are ignored. A text may span several lines, and each
    unit read counts for one wanted text only. Other words cost nothing unless they are within a line of a
    wanted text or repeat it.

    Args:
        wanted: The texts that the image should contain.
        lines: The lines that were read, in reading order.

    Source: LongText-Bench (X-Omni) counts matches of words, for Chinese of characters, as multisets, and
    ignores extra text; OneIG-Bench (NeurIPS 2025) combines edit distance, exact texts and word recall. Both
    pool over many images and distinguish less: what is missing, wrong or doubled in one image is ours.
    """
    page = Page(lines)
    fits: dict[int, Fit] = {}
    for number in _claim_order(wanted, page):
        fits[number] = page.claim(split_units(wanted[number].splitlines()))
    # Repetitions are known only after every text has claimed its units.
    return [_build_comparison(text, fits[number], page) for number, text in enumerate(wanted)]


def told(comparison: Comparison) -> str:
    """Format a comparison on one line of at most 300 characters: wanted text, read text and errors."""
    faults = _shorten("; ".join(_list_faults(comparison)), _MAX_FAULTS)
    room = (_MAX_LINE - len(faults) - len('wanted ""; read ""; ')) // 2
    wanted = f'wanted "{_shorten(single_line(comparison.text), room)}"'
    if not comparison.found:
        return f"{wanted}; nothing like it was read"
    read = f'{wanted}; read "{_shorten(comparison.found, room)}"'
    return f"{read}; {faults}" if faults else read


def _claim_order(wanted: Sequence[str], page: Page) -> list[int]:
    """Return the order of claims: exact matches first, longer texts before those that they contain."""
    found = [split_units(text.splitlines()) for text in wanted]
    return sorted(range(len(wanted)), key=lambda n: (not page.holds(found[n]), -len(found[n]), n))


def _build_comparison(text: str, fit: Fit, page: Page) -> Comparison:
    if not fit.wanted:
        return _compare_signs(text, page)
    repeated = page.repeated(fit)
    return Comparison(
        text=text,
        found=fit.found,
        distance=fit.distance,
        recall=1 - (len(fit.missing) + len(fit.wrong)) / len(fit.wanted),
        missing=tuple(fit.missing),
        wrong=tuple(fit.wrong),
        doubled=(single_line(text),) if page.repeats(fit) else tuple(dict.fromkeys(fit.doubled + repeated)),
    )


def _compare_signs(text: str, page: Page) -> Comparison:
    """Compare a text such as "?", which is present or not."""
    there = any(single_line(text) in line for line in page.lines)
    found, missing = (single_line(text), ()) if there else ("", (single_line(text),))
    return Comparison(text=text, found=found, distance=1.0 - there, recall=float(there), missing=missing)


def _list_faults(comparison: Comparison) -> list[str]:
    faults = []
    if comparison.missing:
        faults.append("missing: " + ", ".join(f'"{unit}"' for unit in comparison.missing))
    if comparison.wrong:
        faults.append("wrong: " + ", ".join(f'"{read}" for "{unit}"' for unit, read in comparison.wrong))
    if comparison.doubled:
        faults.append("doubled: " + ", ".join(f'"{unit}"' for unit in comparison.doubled))
    if not faults and not comparison.is_met:
        faults.append("words in another order, or others between them")
    return faults


def _shorten(text: str, length: int) -> str:
    """Shorten in the middle: the start identifies the text, and errors are often at the end."""
    if len(text) <= length:
        return text
    kept = length - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


class TextVerifier:
    """A `gems.skills.authoring.Verifier` by OCR, which reads an image once for all requirements."""

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader

    def takes(self, requirement: Requirement) -> bool:
        """Return whether it asks if text is present or spelled correctly, not about its look or position."""
        kind, rest = requirement["kind"], _unquoted(requirement["question"])
        writing = kind in ("object", "other") and WRITING_WORDS.search(rest)
        excluded = any(pattern.search(_HARMLESS.sub(" ", rest)) for pattern in (_APPEARANCE, _NEGATED_QUESTION))
        return (kind == "text" or bool(writing)) and not excluded and bool(texts_asked(requirement["question"]))

    async def verify(self, request: VerifierRequest) -> Mapping[str, VerifierAnswer]:
        """Answer yes if every text of the question is present, correctly spelled and not repeated.

        If the only difference is in lines that were read with low confidence, the answer is `unknown`, and
        the judge decides. Raises GemsError if the image cannot be read.
        """
        taken = [requirement for requirement in request.requirements if self.takes(requirement)]
        if not taken:
            return {}
        lines = await self._reader.read(request.image)
        with open_image(request.image) as opened:
            size = opened.size
        return await asyncio.to_thread(_answer_all, taken, request.user_prompt, lines, size)


def _answer_all(
    requirements: Sequence[Requirement], prompt: str, lines: Sequence[TextLine], size: tuple[int, int]
) -> dict[str, VerifierAnswer]:
    texts = [line.text for line in lines]
    asked = {requirement["id"]: texts_asked(requirement["question"]) for requirement in requirements}
    wanted = wanted_texts(prompt)
    for text in sorted(dict.fromkeys(chain(*asked.values())), key=len, reverse=True):
        if not any(_same_key(text) in _same_key(known) for known in wanted):
            wanted.append(text)
    # Compared together, so that a word in two of them is no repetition.
    together = {_same_key(found.text): found for found in compare(wanted, texts)}
    answers = {}
    for name, parts in asked.items():
        found = [together.get(_same_key(text)) or compare([text], texts)[0] for text in parts]
        answers[name] = _answer_one(found, lines, size)
    return answers


def _answer_one(found: Sequence[Comparison], lines: Sequence[TextLine], size: tuple[int, int]) -> VerifierAnswer:
    failed = [one for one in found if not one.is_met]
    if not failed:
        return VerifierAnswer(answer="yes", evidence=told(found[0]), instrument=INSTRUMENT)
    if any(_may_be_misread(one, lines) for one in failed):
        return VerifierAnswer(answer="unknown", evidence=told(failed[0]))
    box = _find_place(failed[0], lines, size)
    return VerifierAnswer(answer="no", evidence=told(failed[0]), box=box, instrument=INSTRUMENT)


def _find_place(one: Comparison, lines: Sequence[TextLine], size: tuple[int, int]) -> list[int]:
    """Return the box of the lines with the wrong words, else of the incomplete text; empty if nothing was read."""
    wrong = " ".join([*(read for _, read in one.wrong), *one.doubled]) or one.found
    keys = {unit.key for unit in split_units([wrong])}
    placed = [line for line in lines if keys & {unit.key for unit in split_units([line.text])}]
    boxes = [(line.left, line.top, line.right, line.bottom) for line in placed]
    if not boxes:
        return []
    sides = (*size, *size)
    return [min(1000, max(0, round(1000 * edge / side))) for edge, side in zip(join_boxes(boxes), sides, strict=True)]


def _may_be_misread(one: Comparison, lines: Sequence[TextLine]) -> bool:
    """Return whether the difference was read with low confidence."""
    differing = {unit.key for _, read in one.wrong for unit in split_units([read])}
    return any(
        line.confidence < _LOW_CONFIDENCE and differing & {unit.key for unit in split_units([line.text])}
        for line in lines
    )


def _unquoted(question: str) -> str:
    """Return the question without the texts it names, whose words say nothing about what is asked."""
    marked = find_quoted(question)
    for one in reversed(marked):
        question = f"{question[: one.start]} {question[one.end :]}"
    for text in [] if marked else texts_asked(question):
        question = question.replace(text, " ")
    return question


def _same_key(text: str) -> str:
    return " ".join(text.casefold().split())
