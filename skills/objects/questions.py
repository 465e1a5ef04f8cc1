"""Which objects a question asks for, how many, and where.

Only plain English questions are read whose answer follows from boxes alone; all others are the judge's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gems.types import Requirement

Relation = Literal["left of", "right of", "above", "below"]
Across = Literal["", "left", "centre", "right"]
Down = Literal["", "top", "middle", "bottom"]

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_AMOUNTS = {word: number for number, word in enumerate(_NUMBERS, 1)} | {"a single": 1}
_IMAGE = r"(?:the|this) (?:image|picture|photo(?:graph)?|scene|drawing|painting|frame)"
_TAIL = rf"(?: (?:in|within) {_IMAGE}| in total| visible| shown| present| depicted)*"
_AMOUNT = (
    r"(?:(?P<bound>exactly|precisely|only|just|at least) )?"
    rf"(?P<amount>{'|'.join(sorted(_AMOUNTS, key=len, reverse=True))}|\d{{1,2}}|an?|any|no)"
)
_PHRASE = r"[a-z][a-z'-]*(?: [a-z][a-z'-]*){0,4}?"
_POSTURE = r"(?: (?:placed|positioned|located|standing|sitting|lying|shown|drawn|visible))?"
_RELATIONS: dict[Relation, str] = {
    "left of": r"(?:(?:to|on|at) the )?left(?: side)? of",
    "right of": r"(?:(?:to|on|at) the )?right(?: side)? of",
    "above": r"above",
    "below": r"below",
}
_RELATION = "|".join(f"(?P<r{number}>{pattern})" for number, pattern in enumerate(_RELATIONS.values()))
_DOWN: dict[str, Down] = {"upper": "top", "top": "top", "lower": "bottom", "bottom": "bottom"}
_DOWN |= dict.fromkeys(("centre", "center", "middle"), "middle")
_PLACE = (
    rf"(?:(?P<down>{'|'.join(_DOWN)})(?:[ -](?P<across>left|right))?|(?P<side>left|right))"
    r"(?:[ -]hand)?(?: (?:corner|half|side|part|edge|area))?"
)
_COUNTED = (
    rf"(?:is|are) there (?:{_AMOUNT} )?(?P<phrase>{_PHRASE}){_TAIL}",
    rf"(?:is|are) (?:{_AMOUNT}) (?P<phrase>{_PHRASE}) (?:visible|shown|present|depicted){_TAIL}",
    rf"(?:does|do) {_IMAGE} (?:show|contain|have|depict|include) (?:{_AMOUNT} )?(?P<phrase>{_PHRASE}){_TAIL}",
    rf"is {_IMAGE} (?P<amount>free) of (?:any )?(?P<phrase>{_PHRASE})",
)
_SUBJECT = rf"(?:is|are)(?P<every> all)?(?: (?:of )?the| an?)? (?P<phrase>{_PHRASE}){_POSTURE}"
_RELATED = rf"{_SUBJECT} (?:{_RELATION}) (?:the|an?) (?P<target>{_PHRASE}){_TAIL}"
_PLACED = rf"{_SUBJECT} (?:in|on|at|near) the {_PLACE}(?: (?:of|in) {_IMAGE})?"
_OTHER_WORDS = """
    about above across against all along and another any around as at before behind below beneath beside
    between both but by different each either every for from his her in inside into is its left like more near
    no not of off on only or other out over right same several some than that the their them to under up very
    which who whose with without wearing background foreground text texts word words letter letters caption
    style colour color lighting light mood shadow shadows reflection reflections sign signs visible shown
    left-hand right-hand exactly image picture photo photograph scene drawing painting frame
"""
_OTHERS = frozenset(_OTHER_WORDS.split())
"""Words that show that a phrase is no plain name of an object."""
_NOUNS_IN_ING = frozenset(("building", "ceiling", "earring", "king", "railing", "ring", "string", "swing", "wing"))
_IRREGULAR = """
    buses bus calves calf children child deer deer feet foot fish fish geese goose knives knife leaves leaf loaves loaf
    men man mice mouse people person scarves scarf sheep sheep shelves shelf teeth tooth wolves wolf women woman
"""
_PLURALS = dict(zip(_IRREGULAR.split()[::2], _IRREGULAR.split()[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Counted:
    """So many objects of a phrase are asked for; `most` is None for any number from `least` on."""

    phrase: str
    least: int
    most: int | None = None

    @property
    def phrases(self) -> tuple[str, ...]:
        """What to look for."""
        return (self.phrase,)


@dataclass(frozen=True, slots=True)
class Related:
    """The objects of a phrase are to stand in a relation to those of another one; `every` for each of them."""

    phrase: str
    relation: Relation
    target: str
    every: bool = False

    @property
    def phrases(self) -> tuple[str, ...]:
        """What to look for."""
        return self.phrase, self.target


@dataclass(frozen=True, slots=True)
class Placed:
    """The objects of a phrase are to be in a part of the image; an empty direction is not asked about."""

    phrase: str
    across: Across = ""
    down: Down = ""

    @property
    def phrases(self) -> tuple[str, ...]:
        """What to look for."""
        return (self.phrase,)


ObjectQuestion = Counted | Related | Placed


def parse_question(question: str) -> ObjectQuestion | None:
    """Return what a question asks of objects; None for any other question."""
    asked = " ".join(question.lower().split()).rstrip("?").rstrip()
    if not question.rstrip().endswith("?") or "?" in asked:
        return None
    for pattern in _COUNTED:
        if found := re.fullmatch(pattern, asked):
            return _read_count(found)
    if found := re.fullmatch(_PLACED, asked):
        return _read_place(found)
    if found := re.fullmatch(_RELATED, asked):
        return _read_relation(found)
    return None


def find_phrases(requirement: Requirement, requirements: Iterable[Requirement]) -> tuple[str, ...]:
    """Return what a requirement is about: the objects of its question, else of those that it presupposes."""
    known = {item["id"]: item for item in requirements}
    if (own := parse_question(requirement["question"])) is not None:
        return own.phrases
    parents = (parse_question(known[name]["question"]) for name in requirement["parents"] if name in known)
    return tuple(dict.fromkeys(phrase for parent in parents if parent is not None for phrase in parent.phrases))


def _read_count(found: re.Match[str]) -> Counted | None:
    groups = found.groupdict()
    amount, bound = groups.get("amount"), groups.get("bound")
    is_plural = amount is None or amount in ("no", "any", "free") or _number(amount) not in (None, 1)
    phrase = _read_phrase(groups["phrase"], is_plural=is_plural)
    if phrase is None:
        return None
    if amount in ("no", "free"):
        return Counted(phrase, 0, 0) if bound is None else None
    number = _number(amount or "")
    if number is None:
        # An article, or a plural without a number.
        return Counted(phrase, 1) if bound is None or amount in ("a", "an") else None
    return Counted(phrase, number, None if bound == "at least" else number)


def _read_relation(found: re.Match[str]) -> Related | None:
    subject = _read_phrase(found["phrase"], is_plural=bool(found["every"]) or found[0].startswith("are"))
    target = _read_phrase(found["target"], is_plural=False)
    relation = next(name for number, name in enumerate(_RELATIONS) if found[f"r{number}"])
    if subject is None or target is None or subject == target:
        return None
    return Related(subject, relation, target, every=bool(found["every"]))


def _read_place(found: re.Match[str]) -> Placed | None:
    subject = _read_phrase(found["phrase"], is_plural=bool(found["every"]) or found[0].startswith("are"))
    across: Across = found["across"] or found["side"] or ""  # type: ignore[assignment]
    down = _DOWN[found["down"]] if found["down"] else ""
    if down == "middle" and not across:
        across = "centre"
    return Placed(subject, across, down) if subject is not None else None


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else _AMOUNTS.get(word)


def _read_phrase(phrase: str, *, is_plural: bool) -> str | None:
    """Return a phrase in the singular; None if it is no plain name of an object."""
    *adjectives, noun = words = phrase.split()
    if _OTHERS & set(words) or any(word.endswith("ing") and word not in _NOUNS_IN_ING for word in words):
        return None
    return " ".join([*adjectives, _singular(noun) if is_plural else noun])


def _singular(noun: str) -> str:
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if noun.endswith(("sses", "xes", "zes", "ches", "shes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun
