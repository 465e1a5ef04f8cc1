"""Which text a prompt or a requirement asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PAIRS = {pair[0]: pair[1:] for pair in ('""', "“”", "„“”", "«»", "»«", "‘’", "''", "``", "「」", "『』", "《》")}
"""Opening mark -> closing marks."""
_SINGLE = frozenset("'’")
_MAX_SENTENCE = 1_000
"""Characters before a text that are examined."""
_MAX_QUOTE = 3000
_NO_OPENING = re.compile(r"'(?:\d0s\b|n'|tis\b|twas\b|em\b|cause\b|til\b)", re.IGNORECASE)

WRITING_WORDS = re.compile(
    r"\b(?:sign(?:s|age|post|board)?|posters?|banners?|billboards?|labels?|label+ed|placards?|plaques?|stickers?"
    r"|logos?|brand(?:ed|ing)?|titles?|titled|entitled|heading|headlines?|subtitles?|captions?|captioned|slogans?"
    r"|taglines?|mottos?|text|texts|words?|wording|letters?|lettering|lettered|phrases?|quotes?|messages?"
    r"|inscriptions?|inscribed|inscribing|engraved|engraving|carved|etched|embossed|embroidered|stitched|stamped"
    r"|printed|written|writing|writes|painted|spelled|spelling|spells?|reads?|reading|says?|saying|stat(?:es|ing)"
    r"|marked|tattoo(?:ed)?|graffiti|typography|font|calligraphy|handwritten|chalkboard|blackboard|whiteboard"
    r"|menu|neon|t-?shirt|shirt|jersey|mug|cover|magazine|newspaper|book|album|screen|display(?:s|ed|ing)?|bubble"
    r"|button|badge|tag|card|flag|ticket|flyer|leaflet|packag(?:e|ing)|bottle|jar|storefront|shop|store|caf[eé]"
    r"|bakery|restaurant|bar|hotel|cinema|ship|boat|hull|license plate|number plate|plate|door|wall|cake)\b"
    r"|[写印刻题标签牌匾幅报书字文题名店招语封]",
    re.IGNORECASE,
)
"""Words near which a quoted text is probably meant to be written."""
_WRITING_AT_ONCE = re.compile(
    r"(?:\b(?:reads?|reading|says?|saying|text|words?|letters?|titled?|label+ed|written|spelling|spells|phrase)\b"
    r"|[写印刻题标字])\W*\w{0,4}\W*$",
    re.IGNORECASE,
)
_NAMING = re.compile(
    r"(?:\b(?:called|named|nicknamed|dubbed|known as|aka|so-called|goes by|answers to|by the name of|name is)"
    r"|名叫|名为|叫做|叫|绰号|昵称|外号)\s*[,:：]?\s*$",
    re.IGNORECASE,
)
_ALLUDING = re.compile(
    r"(?:\b(?:in the style of|inspired by|reminiscent of|based on|scene from|still from|character from|as in"
    r"|the (?:film|movie|novel|song|game|series|concept of|feeling of|idea of|theme of|mood of|term)"
    r"|so-called|evok(?:es|ing)|symboli[sz](?:es|ing)))\s*(?:the )?$",
    re.IGNORECASE,
)
_MANNER = re.compile(
    r"^[\s,-]*(?:style|styled|aesthetics?|look|feel|vibe|mood|atmosphere|theme|themed|effect|pose|风格|风|感)\b"
    r"|^[\s的]*(?:风格|感觉|氛围)",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:\b(?:without|no|not|never|avoid|instead of|rather than|don'?t|remove|excluding)\b[^.;,!?\n]{0,40}"
    r"|(?:不要|没有|不写|去掉|避免)[^。；，！？\n]{0,12})$",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(r"\b(?:but|except|other than|besides|apart from|only|just|than)\b|除", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(?:words?|texts?|phrase|slogan|caption|title[ds]?|letters|numbers?|says?|saying|reads?|reading|label+ed"
    r"|marked|signs?|banner|logo|show(?:s|ing)?|spell(?:s|ed|ing)?)\b[\s:]+"
    r"((?-i:[A-Z0-9][^\s.,;:!?\"“”]*(?:[ \t]+[A-Z0-9&+=][^\s.,;:!?\"“”]*)*)[!?]*)",
    re.IGNORECASE,
)
"""Capitalised words after a word of writing."""
_CONTENT = re.compile(r"[^\s.,…\-–—_*]")


@dataclass(frozen=True, slots=True)
class QuotedText:
    """A text in quotation marks, which starts with `mark` and ends before `end`."""

    start: int
    end: int
    text: str
    mark: str


def find_quoted(prompt: str) -> list[QuotedText]:
    """Return all quoted texts; quotation marks within quotation marks belong to the text."""
    found, at = [], 0
    while at < len(prompt):
        closing = _find_closing(prompt, at) if _opens_quote(prompt, at) else None
        if closing is None:
            at += 1
            continue
        found.append(QuotedText(at, closing + 1, _clean_lines(prompt[at + 1 : closing]), prompt[at]))
        at = closing + 1
    return [one for one in found if one.text]


def is_wanted(prompt: str, one: QuotedText) -> bool:
    """Return whether a quoted text should be written in the image, as most should.

    Exceptions are names of living things and the like (`a dog called "Rex"`, without a sign, label, book or
    shop in the sentence), styles and works alluded to (`"vaporwave" style`, `inspired by "Dune"`), and
    forbidden text (`without the word "SALE"`). Titles in 《》 count only after a word of writing.
    """
    # The limit avoids reading the whole prompt for each of a thousand quotations.
    before = re.split(r"(?<=[.!?。！？])\s+|\n", prompt[max(0, one.start - _MAX_SENTENCE) : one.start])[-1]
    negated = _NEGATED.search(before)
    if negated and not _EXCEPTION.search(negated[0]):
        return False
    if _WRITING_AT_ONCE.search(before):
        return True
    if _ALLUDING.search(before) or _MANNER.search(prompt[one.end : one.end + 20]):
        return False
    if one.mark == "《" or _NAMING.search(before):
        return WRITING_WORDS.search(before) is not None
    return True


def _opens_quote(prompt: str, at: int) -> bool:
    mark = prompt[at]
    if mark not in _PAIRS:
        return False
    before, after = prompt[at - 1 : at], prompt[at + 1 : at + 2]
    if mark == "'":
        # An apostrophe is within or after a word.
        fits = not before.isalnum() or not before.isascii()
        return fits and bool(after.strip()) and not _NO_OPENING.match(prompt, at)
    if mark == '"':
        # Inches: a 24" monitor.
        return not before.isdigit()
    return True


def _find_closing(prompt: str, at: int) -> int | None:
    ends = _PAIRS[prompt[at]]
    for place in range(at + 1, min(len(prompt), at + _MAX_QUOTE)):
        if prompt[place] not in ends:
            continue
        if prompt[place] in _SINGLE and not _closes_single_quote(prompt, at, place):
            continue
        return place
    return None


def _closes_single_quote(prompt: str, at: int, place: int) -> bool:
    before, after = prompt[place - 1], prompt[place + 1 : place + 2]
    if (after.isalnum() and after.isascii()) or before.isspace():
        return False
    if before not in "sS":
        return True
    # `'The Dogs' Home'`: an apostrophe of a genitive, if a better end follows before the next start.
    rest = prompt[place + 1 : place + 40]
    better = re.match(rf"[^\n.;{prompt[at]}'’]*[^\W_sS][!?.]?['’](?!\w)", rest)
    return better is None


def _clean_lines(text: str) -> str:
    """Strip blanks and escapes around the lines, and the trailing comma of American usage."""
    lines = [line.strip() for line in text.replace("\\n", "\n").strip("\\ ").splitlines()]
    return "\n".join(line for line in lines if line).rstrip(",，").strip()


def wanted_texts(prompt: str) -> list[str]:
    r"""Return the texts that an image should contain, in the prompt's order, without duplicates.

    Quoted texts in any language are taken except those that are clearly not to be written (a dog called
    "Rex", "vaporwave" style, without the word "SALE"). Several lines within one pair of quotation marks stay
    one text, joined by `\n`. Without quotation marks only capitals are taken, after a word such as `reads`
    (the word GO): the decomposer's requirements quote all other text.
    """
    return _distinct(text for text, quoted in _find_texts(prompt) if quoted or _is_in_capitals(text))


def texts_asked(question: str) -> list[str]:
    """Return the texts that a requirement's question names, capitalised words at its end included."""
    asked = question.rstrip("?？ ")
    return _distinct(
        text for text, quoted in _find_texts(asked) if quoted or _is_in_capitals(text) or asked.endswith(text)
    )


def _find_texts(prompt: str) -> Iterator[tuple[str, bool]]:
    """Yield texts in the prompt's order, and whether they are quoted."""
    marked = find_quoted(prompt)
    found = [(one.start, one.text, True) for one in marked if is_wanted(prompt, one)]
    for one in marked:
        prompt = prompt[: one.start] + "," * (one.end - one.start) + prompt[one.end :]
    for match in _NAMED.finditer(prompt):
        if not _NEGATED.search(prompt[max(0, match.start() - _MAX_SENTENCE) : match.start(1)]):
            found.append((match.start(1), match[1], False))
    return ((text, quoted) for _, text, quoted in sorted(found) if _CONTENT.search(text))


def _is_in_capitals(text: str) -> bool:
    return text.isupper() and sum(map(str.isalpha, text)) > 1


def _distinct(texts: Iterable[str]) -> list[str]:
    kept: dict[str, str] = {}
    for text in texts:
        kept.setdefault(" ".join(text.casefold().split()), text)
    return list(kept.values())
