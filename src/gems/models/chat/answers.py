"""Read yes, no or unknown from what a chat model answers, in many languages and dresses.

A yes counts only where the text clearly says yes: hedges, conditions, contradictions and corrections are unknown, and
so is a sentence that merely holds one of the words, such as "No dog is visible".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gems.models.chat import answer_words as words
from gems.models.chat.answer_words import any_word, normalize
from gems.models.chat.parsing import find_values
from gems.types import AnswerValue

_YES, _NO, _UNKNOWN = (any_word(table) for table in (words.YES, words.NO, words.UNKNOWN))
_SIGNS = "✅✓✔☑👍❌✗✘✖👎"
# Vowel signs of Hindi and Thai are no letters to Python.
_NO_LETTER = r"(?![\w\u0300-\u036f\u0900-\u0963\u0e31\u0e34-\u0e3a\u0e47-\u0e4e])"
_DRESS = r"[\s*_#>`\"'¡«»“”‘’„「」『』【】（）()\[\]{}$~–—•-]*"
# Numbers and letters of lists: `1. Yes`, `(B) no`.
_NUMBER = r"(?:\(?(?:[1-9]|[a-d])[.)]\s+|\([1-9a-d]\)\s*)?"
_LEAD = re.compile(_DRESS + _NUMBER + _DRESS)
_PUNCTUATION = rf"[,;!?*_`\"'«»“”‘’{_SIGNS}」』】（(\[）)\]}}|\n،؛؟、。！？；…।–—=/]"
# `No. 3` is a number, `예:` means "for example", and in Thai a blank ends a sentence.
_SET_OFF = rf"(?:\s*(?:$|{_PUNCTUATION}|\.(?!\s?\d)|-+(?!\w))|(?<!예)\s?:|(?<=[\u0e00-\u0e7f])\s)"
_SAID_OF = r"\s(?:it|there|they|this|that|he|she)(?:'s|\s(?:is|are|does|do|has|have))\b"
_VERDICT = re.compile(
    rf"(?:(?P<unknown>{_UNKNOWN})|(?P<yes>{_YES})|(?P<no>{any_word(words.NO, words.PARTLY)}))"
    rf"(?:(?<=[{_SIGNS}])|{_NO_LETTER}(?:(?<=です)|(?={_SET_OFF}|{_SAID_OF})))"
)
"""A word that says yes or no where it can only be a verdict, since the sentence does not go on with it."""
_QUOTES = tuple("\"'\u00ab\u201c\u201e\u2018\u300c\u300e")
_QUOTED_SUBJECT = re.compile(
    r"[\"'\u00bb\u201d\u2019\u300d\u300f]\s+(?:is|are|was|would|can|stands?|appears?|on|in|at|written|as|and)\b"
)
"""What follows a quoted word that is seen in the picture, and no verdict."""
_LABEL = re.compile(
    r"(?:^|(?<=[\s*_#>\"'(\[{.,;:!?。，、！？；،|।]))"
    rf"(?:(?P<final>{any_word(words.FINAL_LABELS)})|{any_word(words.LABELS)}|(?<=\n)a|^a)[\s*_\"'`]*"
    rf"(?:\s+(?:{any_word(words.IS)}){_NO_LETTER}[\s:,*]*|(?<=[\u3040-\u9fff\uac00-\ud7af])(?:{any_word(words.IS)})[\s:]*"
    r"|[:=→–—,\t]|\s-\s|[\s=|:-]*\n)[\s:]*"
    rf"|(?:^|(?<=[\s.,;!。，；।]))(?<!and )(?<!but )(?:{any_word(words.THEREFORE)})[\s,:，]+",
    re.MULTILINE,
)
_QUESTION = re.compile(rf"{_DRESS}[?？؟]")
_AND = "and|or|und|oder|et|ou|y|o|e|и|или|و|أو|या|और|mi|ja|i|czy|atau|чи"
_CHINESE_AND = ("和", "或", "、")
_OTHER = re.compile(
    rf"(?:[\s,./|、،。;:*_…([（–—-]*(?:(?:{_AND}|{any_word(words.BETWEEN)}){_NO_LETTER}|还是|或|和|但是?|不过|也|でも|しかし|하지만|그러나)){{0,5}}+"
    rf"[\s,./|、،。;:*_…([（–—-]*(?=(?P<again>{_YES}|{_NO}|{_UNKNOWN}))"
)
_AND_AGAIN = re.compile(rf"\s*(?:(?:{_AND})\b|아니면|또는|也)")
_ANYWHERE = re.compile(
    rf"(?<![^\W\u3040-\u9fff\uac00-\ud7af])(?:(?P<yes>{_YES})|(?P<no>{_NO})|(?P<unknown>{_UNKNOWN})){_NO_LETTER}"
)
_HEDGE = re.compile(rf"[\s,.:;–—(、。-]*(?:{any_word(words.HEDGES)})(?:(?<=[\u3040-\u9fff\uac00-\ud7af])|{_NO_LETTER})")
_CORRECTION = re.compile(any_word(words.CORRECTIONS))
_UNSURE = re.compile(any_word(words.DOUBTS))
_SPEECH = re.compile(
    r"[\s,.!、。]*(?:i (?:can(?:'t|not)?|could|will|would|am|won't) (?!only |see|count|find|spot|also |clearly )"
    r"|i'(?:ll|d|m) |let me |here (?:is|are) |happy to|我(?:可以|来|來|会)|(?:画像を)?確認します|承知"
    r"|(?:이미지를 )?살펴보겠|알겠|давайте|посмотрим|подив)"
)
"""What follows a yes that only begins a speech about what the model is going to do."""
_DOUBT = re.compile(r"\b(?:i (?:think|believe|guess)|maybe|probably|perhaps|not|if)\b[^.!?\n]*$")
_POLITENESS = re.compile(
    r"^(?:(?:sure|of course|certainly|okay|ok|indeed)\s*[!,.]|no doubt\s*[,:-]"
    r"|(?:that|it)(?:'s| is) an? (?:clear |definite |firm )?(?=yes|no)"
    r"|(?:looking at|judging by|judging from|based on|from) (?:the|this) \w+,)\s*",
    re.IGNORECASE,
)
_BOX = re.compile(
    r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}|<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|$)", re.DOTALL
)
_TEX = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|textrm)\s*\{([^{}]*)\}|\$|\\[()\[\]]")
_ANSWER_TAG = re.compile(r"[<\[]\s*(/?)\s*(?:final_?)?(?:answer|verdict|conclusion|final)\s*[>\]]", re.IGNORECASE)
_INLINE_TAG = re.compile(r"</?(?:b|strong|i|em|u|code|span|mark)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][\w-]*[^<>]*>|```\w*", re.IGNORECASE)
_CHECKBOX = re.compile(r"(\[[ xX✓✔]?\]|☐|☑)\s*(\w+)")
_DEEPEST = 5
_LONGEST_WHOLE = 200
_LINE = re.compile(r"[\n|]|(?<=[?？؟])\s|(?<=[.!。])\s+(?=\w+\W*$)")
_KEY = re.compile(any_word(words.LABELS, words.FINAL_LABELS))


def _fold(text: str) -> str:
    """Return text in lower case, character by character, so that positions stay."""
    return "".join(lower if len(lower := character.lower()) == 1 else "i" for character in text).replace("_", " ")


def read_answer(text: str) -> tuple[AnswerValue, str]:
    """Return the verdict of a text, and what else it says as evidence.

    What is marked as the answer decides: the value of an answer's key in JSON, a box, a tag, or what follows a word
    such as "Answer:", of which "Final answer:" beats the others. Otherwise the beginning decides, then a line.
    """
    value, evidence = _read_answer(text)
    # What is quoted of a plain answer stays as it is.
    lead, end = _read_lead(_fold(stripped := text.strip()))
    return value, _evidence(stripped, end) if lead == value != "unknown" else evidence


def _read_answer(text: str) -> tuple[AnswerValue, str]:
    plain = normalize(text).strip()
    if values := list(_json_verdicts(plain)):
        return _agree(values), plain
    if re.match(r"\{|\[\s*[\"{]", plain):
        return "unknown", plain
    plain = _undress(_keep_checked(plain))
    low = _fold(plain)
    marked, is_final, evidence_at = _read_labels(low)
    lead, end = _read_lead(low)
    if marked is not None and (is_final or lead in (None, marked)):
        return marked, _evidence(plain, evidence_at)
    if marked is not None:
        return "unknown", plain
    whole = {found for line in _LINE.split(low) if (found := _whole(line))}
    if lead is not None:
        return (lead, _evidence(plain, end)) if whole <= {lead} else ("unknown", plain)
    lines = [(found, end) for line in _LINE.split(low) for found, end in [_read_lead(line)] if found is not None]
    return (_agree([found for found, _ in lines]) if lines else "unknown"), plain


def read_verdict(value: Any) -> AnswerValue:
    """Return the verdict of a JSON value that should be nothing else; unknown for anything but a text or a boolean."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return read_answer(value)[0] if isinstance(value, str) else "unknown"


def _read_lead(low: str) -> tuple[AnswerValue | None, int]:
    """Return the verdict with which a text begins, None if it begins with none, and where the rest of it begins."""
    dress = _LEAD.match(low)
    found = _VERDICT.match(low, dress.end() if dress else 0)
    if found is None:
        return None, 0
    if found["unknown"]:
        return "unknown", found.end()
    value: AnswerValue = "yes" if found["yes"] else "no"
    rest = low[found.end() :]
    if _QUOTED_SUBJECT.match(rest) and low[: found.start()].endswith(_QUOTES):
        return None, 0
    if _QUESTION.match(rest) or _SPEECH.match(rest):
        return None, 0
    if _HEDGE.match(rest) or _UNSURE.search(rest) or _is_contradicted(value, rest):
        return "unknown", found.end()
    correction = _CORRECTION.search(rest)
    if correction and any(later[value] is None for later in _ANYWHERE.finditer(rest, correction.end())):
        return "unknown", found.end()
    return value, found.end()


def _is_contradicted(value: AnswerValue, rest: str) -> bool:
    """Return whether another verdict follows at once, as in "yes and no" or "yes, no or unknown"."""
    other = _OTHER.match(rest)
    if other is None:
        return False
    again, behind = _ANYWHERE.match(rest, other.end()), rest[other.end() + len(other["again"]) :]
    if again is None:
        return behind.startswith(_CHINESE_AND)
    is_verdict = _VERDICT.match(rest, other.end()) or _AND_AGAIN.match(rest, again.end())
    return bool(is_verdict) and again[value] is None


def _read_labels(low: str) -> tuple[AnswerValue | None, bool, int]:
    """Return the verdict behind the labels, whether they are final ones, and where the rest begins."""
    finals: list[AnswerValue] = []
    plains: list[AnswerValue] = []
    end = 0
    for label in _LABEL.finditer(low):
        value, length = _read_lead(low[label.end() :])
        if not low[: label.start()].strip(" *_#>`\"'"):
            end = label.end() + length
        if value is None and _LABEL.match(low, label.end()):
            continue
        if value is not None and _DOUBT.search(low, max(0, label.start() - 40), label.start()):
            value = "unknown"
        if label["final"]:
            finals.append(value or "unknown")
        elif value is not None:
            plains.append(value)
    if finals:
        return _agree(finals), True, end
    return (_agree(plains) if plains else None), False, end


def _agree(values: list[AnswerValue]) -> AnswerValue:
    return values[0] if len(set(values)) == 1 else "unknown"


def _whole(line: str) -> AnswerValue | None:
    """Return the verdict of a line that holds nothing else."""
    if len(line) > _LONGEST_WHOLE:
        return None
    first, end = _read_lead(line)
    value = first
    while value is not None and (line := line[end:].strip(" .!*_`\"'。)")):
        value, end = _read_lead(line)
        value = value if value == first else None
    return value


def _evidence(plain: str, start: int) -> str:
    return plain[start:].lstrip(" \t\r\n.,:;!*_-–—`\"')").rstrip(" \t\r\n*_`")


def _undress(plain: str) -> str:
    """Turn boxes and tags around an answer into labels, and drop other marks."""
    plain = _TEX.sub(lambda found: found[1] or "", plain)
    plain = _BOX.sub(lambda found: f"\nfinal answer: {found[1] or found[2] or ''}\n", plain)
    plain = _ANSWER_TAG.sub(lambda found: "\n" if found[1] else "\nfinal answer: ", plain)
    return _POLITENESS.sub("", _TAG.sub("\n", _INLINE_TAG.sub("", plain)).strip())


def _keep_checked(plain: str) -> str:
    """Return what is checked where boxes stand before words."""
    boxes = _CHECKBOX.findall(plain)
    if not boxes:
        return plain
    return "\n".join(word for box, word in boxes if box not in ("☐", "[ ]", "[]"))


def _json_verdicts(plain: str) -> Iterator[AnswerValue]:
    try:
        for found in find_values(plain):
            yield from _verdicts_in(found.value)
    except ValueError:
        # What is cut off may take back what stands in front of it.
        yield "unknown"


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, str) for item in value)


def _verdicts_in(value: Any, depth: int = 0) -> Iterator[AnswerValue]:
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        named = [item for key, item in value.items() if _KEY.fullmatch(_fold(str(key)).strip())]
        # A list of texts under another name is about something else.
        unnamed = [item for item in value.values() if isinstance(item, dict) or _is_list_of_objects(item)]
        for item in named or unnamed:
            yield from _verdicts_in(item, depth + 1) if isinstance(item, dict | list) else [read_verdict(item)]
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield from (read_verdict(item) for item in value)
    elif isinstance(value, list) and len(value) == 1:
        yield from _verdicts_in(value[0], depth + 1)
