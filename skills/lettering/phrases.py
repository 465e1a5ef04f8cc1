"""Find the end of unquoted text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[ \t]*([^\s,.;:!?()\[\]{}<>|—–…\"“”，。；：！？、\ufffc]+(?:[.,:/]\d+)*[!?]*)")
TITLE_WORDS = frozenset(
    {"of", "the", "and", "a", "an", "to", "for", "in", "on", "at", "with", "or", "de", "la", "und"}
)
"""Words written in lower case within a title."""
_NOT_OF_A_TITLE = frozenset(
    {
        "english",
        "french",
        "german",
        "spanish",
        "italian",
        "chinese",
        "japanese",
        "latin",
        "helvetica",
        "arial",
    }
    | {"times", "comic", "gothic", "garamond", "futura", "impact", "roman", "cyrillic", "kanji", "art"}
)
"""Words after "in" that say how a text is written."""
STOP_WORDS = frozenset(
    {
        "in",
        "on",
        "at",
        "with",
        "and",
        "or",
        "but",
        "that",
        "which",
        "who",
        "whose",
        "while",
        "where",
        "when",
        "as",
    }
    | {
        "above",
        "below",
        "under",
        "underneath",
        "beneath",
        "over",
        "near",
        "beside",
        "besides",
        "by",
        "next",
        "from",
    }
    | {
        "behind",
        "across",
        "along",
        "against",
        "inside",
        "into",
        "onto",
        "around",
        "through",
        "between",
        "like",
    }
    | {"is", "are", "was", "were", "be", "has", "have", "should", "must", "can", "appears", "appear", "using"}
    | {"written", "painted", "printed", "drawn", "engraved", "carved", "embroidered", "stitched", "stamped"}
    | {
        "spelled",
        "displayed",
        "shown",
        "visible",
        "hanging",
        "standing",
        "floating",
        "glowing",
        "mounted",
        "made",
    }
    | {
        "placed",
        "set",
        "centered",
        "centred",
        "formed",
        "lettered",
        "surrounded",
        "then",
        "there",
        "it",
        "its",
    }
)
_STOP_VERBS = frozenset(
    {"is", "are", "was", "were", "be", "has", "have", "should", "must", "can", "it", "its", "there"}
)
_STOPS_AFTER_COLON = STOP_WORDS - _STOP_VERBS
_MAX_LOWER_CASE_WORDS = 8


def words_from(text: str, start: int) -> list[str]:
    """Return the words from `start` to punctuation or the line's end."""
    found = []
    while match := _WORD.match(text, start):
        found.append(match[1])
        start = match.end()
        if found[-1][-1] in "!?":
            break
    return found


def is_capitals(token: str) -> bool:
    """Return whether the token is in capital letters, a number or a sign."""
    return not any(character.islower() for character in token) and (
        any(character.isalnum() for character in token) or token in {"&", "+", "=", "-"}
    )


def is_loud(words: Sequence[str]) -> bool:
    """Return whether the words are in capitals, and more than a single letter or a number."""
    return all(map(is_capitals, words)) and sum(c.isalpha() for word in words for c in word) >= 2


def find_phrase(words: Sequence[str], *, announced: bool = False, single: bool = False) -> list[str]:
    """Return the beginning of `words` that is the text.

    `words` ends at punctuation. `announced` says that a colon precedes them, so that a sentence with its own
    verb may follow. `single` says that one word is announced; several are accepted only in capitals or as a
    title.
    """
    if not words:
        return []
    if is_capitals(words[0]) and not _is_article_of_title(words):
        return _phrase_in_capitals(words)
    if words[0][0].isupper() and (len(words) < 2 or single or not _continues_in_lower_case(words[1])):
        return _phrase_in_title_case(words)
    return _phrase_in_lower_case(words, _STOPS_AFTER_COLON if announced else STOP_WORDS)[
        : 1 if single else None
    ]


def _is_article_of_title(words: Sequence[str]) -> bool:
    """Return whether the next word decides how the text is written: `A Quiet Place`, `I love you`."""
    return words[0] in {"A", "I"} and len(words) > 1 and not is_capitals(words[1])


def _continues_in_lower_case(word: str) -> bool:
    return word[0].islower() and word not in STOP_WORDS and word not in TITLE_WORDS


def _phrase_in_capitals(words: Sequence[str]) -> list[str]:
    taken = 1
    while taken < len(words) and is_capitals(words[taken]):
        taken += 1
    # `GO 3 times`: the number belongs to what follows.
    counts = taken < len(words) and words[taken] not in STOP_WORDS and words[taken][0].islower()
    while counts and taken > 1 and words[taken - 1].isdigit():
        taken -= 1
    return list(words[:taken])


def _phrase_in_title_case(words: Sequence[str]) -> list[str]:
    taken = 1
    while taken < len(words):
        ahead = taken
        while ahead < len(words) and ahead < taken + 2 and words[ahead] in TITLE_WORDS:
            ahead += 1
        if ahead >= len(words) or not (words[ahead][0].isupper() or is_capitals(words[ahead])):
            break
        if ahead > taken and words[ahead].casefold() in _NOT_OF_A_TITLE:
            break
        taken = ahead + 1
    return list(words[:taken])


def _phrase_in_lower_case(words: Sequence[str], stops: frozenset[str]) -> list[str]:
    taken = 0
    while taken < len(words) and taken < _MAX_LOWER_CASE_WORDS and words[taken] not in stops:
        taken += 1
    return list(words[:taken])
