"""Find the JSON of a form in a chat model's reply.

The last complete object that satisfies the form counts: what stands before it may be an example or a draft. JSON that
is only nearly right is mended by json-repair, but never completed: where the text ends inside a value, nothing in
front of it counts either.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

import json_repair
from pydantic import BaseModel, ValidationError

from gems.errors import UnreadableReplyError

M = TypeVar("M", bound=BaseModel)

# What may begin the JSON of a form: braces of other kinds are prose.
_START = re.compile(r"""\{(?=\s*(?:[\\"'“”\w]|\}|//|/\*|$))|\[(?=\s*(?:[{"'“\\]|\]|$))""")
_IN_JSON = re.compile(r'["\\{}\[\]]')
_RESTART = re.compile(r"^[ \t]*\{", re.MULTILINE)
_MOST_RESTARTS = 20
_QUOTES = re.compile(r'(?<!\\)"')
_LETTER = re.compile(r"\w")
_COMMENT = re.compile(r"(?:(?<=[,{}\[\]\"'\w])|^)[ \t]*(?://|#)[^\n]*(?=\n)|/\*.*?\*/", re.DOTALL | re.MULTILINE)
_OUTSIDE_STRINGS = re.compile(r"[{}\[\]]")
_SCAN_BUDGET = 20
"""Limit of the characters scanned for JSON, in lengths of the text: every bracket may begin a value."""
_MOST_MENDED = 20_000
"""Characters; mending takes quadratic time in the worst case."""
_DEEPEST_MENDED = 12
_MOST_WRAPPERS = 5
_WRAPPERS = (
    "result",
    "data",
    "response",
    "output",
    "arguments",
    "parameters",
    "input",
    "json",
    "content",
    "final",
    "reply",
    "function",
)
"""Keys of objects that only hold what was asked for. Others are opened where they are the only one."""
_NO_WRAPPERS = (
    "example",
    "draft",
    "schema",
    "template",
    "format",
    "thought",
    "thinking",
    "reasoning",
    "error",
    "properties",
)


def replace_surrogates(value: Any) -> Any:
    """Replace lone surrogates in a JSON value, which models write and which cannot be encoded."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(name): replace_surrogates(item) for name, item in value.items()}
    return value


class CutOffError(ValueError):
    """A text ends inside of a value, which begins at `start`."""

    def __init__(self, start: int) -> None:
        super().__init__("it ends in the middle")
        self.start = start


class FoundValue(NamedTuple):
    """A JSON object or array and its place in the text; `is_mended` if it was only nearly JSON."""

    value: Any
    start: int
    end: int
    is_mended: bool = False


def find_values(text: str) -> Iterator[FoundValue]:
    """Yield the complete JSON objects and arrays of a text in order; raise `ValueError` if it ends inside of one."""
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_build_object)
    position, left = 0, _SCAN_BUDGET * len(text) + 1_000
    while (found := _START.search(text, position)) is not None:
        start, position = found.start(), found.start() + 1
        try:
            value, position = decoder.raw_decode(text, start)
            yield FoundValue(value, start, position)
            continue
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except ValueError as error:
            # Python counts the lines up to an error, which is fast but adds up. The error of a number with too many
            # digits has no position.
            failed = getattr(error, "pos", len(text))
            left -= max(failed - start, failed // 64)
        end, depth = _find_end(text, start)
        left -= 2 * ((end or len(text)) - start)
        if end is None:
            raise CutOffError(start)
        if left < 0:
            raise ValueError("it holds too many brackets")
        if end - start <= _MOST_MENDED and depth <= _DEEPEST_MENDED:
            piece = text[start:end]
            value = json_repair.loads(piece, skip_json_loads=True)
            if isinstance(value, list if piece[0] == "[" else dict) and _is_faithful(value, piece):
                yield FoundValue(value, start, end, is_mended=True)
                position = end


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; raise `ValueError` where the same key has two values."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise ValueError(f"the key {key!r} has two values")
    return found


def _find_end(text: str, start: int) -> tuple[int | None, int]:
    """Return where the bracket at `start` is closed, None if nowhere, and how deep others are nested in it."""
    end, deepest = _match_brackets(text, start, _IN_JSON)
    if end is not None or len(_QUOTES.findall(text, start)) % 2 == 0:
        return end, deepest
    # With a quotation mark too many all the rest seems to be inside of a string.
    end, deepest = _match_brackets(text, start, _OUTSIDE_STRINGS)
    return (None if end is None or text[end:].strip("` \t\r\n") else end), deepest


def _match_brackets(text: str, start: int, marks: re.Pattern[str]) -> tuple[int | None, int]:
    depth = deepest = skip = 0
    in_string = False
    for mark in marks.finditer(text, start):
        if mark.start() < skip:
            continue
        if mark[0] == "\\":
            skip = mark.end() + 1
        elif mark[0] == '"':
            in_string = not in_string
        elif not in_string:
            depth += 1 if mark[0] in "{[" else -1
            deepest = max(deepest, depth)
            if depth == 0:
                return mark.end(), deepest
    return None, deepest


def _is_faithful(value: Any, piece: str) -> bool:
    """Return whether a mended value has each key as often as the text has it, all that was said, and nothing else.

    A key that is missing was taken for a part of a text or overwritten by a later one: with it a verdict may be lost
    that contradicts another. Words are lost where a text ended at a quotation mark inside of it.
    """
    keys: Counter[str] = Counter()
    texts: list[str] = []
    others: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            keys.update(map(str, item))
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str):
            texts.append(item)
        else:
            others.append(f"{item} null 0")
    said = Counter(_LETTER.findall(_COMMENT.sub("", _unescape(piece)).casefold()))
    if said - Counter(_LETTER.findall(" ".join((*keys.elements(), *texts, *others)).casefold())):
        return False
    written = Counter(re.findall(r"([\w-]+)\s*\\?[\"'”]?\s*:", piece))
    squeezed = _squeeze(_unescape(piece))
    return all(written[key] == count for key, count in keys.items() if re.fullmatch(r"[\w-]+", key)) and all(
        _squeeze(text) in squeezed for text in texts
    )


def _unescape(piece: str) -> str:
    """Return JSON with the characters that its escapes mean, or blanks for those that are no letters."""
    return re.sub(r"\\+(?:u([0-9a-fA-F]{4})|[nrtbf])", lambda found: chr(int(found[1], 16)) if found[1] else " ", piece)


def _squeeze(text: str) -> str:
    """Return text without what mending and unescaping change."""
    return re.sub(r"[\s\\\"'“”]", "", text)


def read_json(text: str, form: type[M]) -> M:
    """Parse the last JSON value in `text` that satisfies `form`, or text that its `from_plain` accepts.

    Raises:
        UnreadableReplyError: There is none, or the text ends inside of a value.
    """
    return read_json_in_place(text, form)[0]


def read_json_in_place(text: str, form: type[M]) -> tuple[M, FoundValue | None]:
    """Parse as `read_json` does; return also the value that was read and its place in `text`.

    None where the text does not hold the value as it was read: it was mended, or stands in a JSON string, or is plain.
    """
    fault, read, place = "it contains no JSON", None, None
    bare = _unquote(text)
    try:
        for found in find_values(bare):
            try:
                read, place = _read_value(replace_surrogates(found.value), form), found
            except ValidationError as error:
                fault = error.errors(include_input=False, include_url=False)[0]["msg"]
    except ValueError as error:
        if isinstance(error, CutOffError) and (rest := _find_restart(bare, error.start)) is not None:
            read, place = read_json_in_place(rest, form)
            return read, _move(place, len(bare) - len(rest)) if bare == text else None
        raise UnreadableReplyError(f"The answer is not a {form.__name__} ({error}): {text[:120]!r}.") from None
    if read is not None:
        return read, place if bare == text and place is not None and not place.is_mended else None
    if (from_plain := getattr(form, "from_plain", None)) and (plain := from_plain(text)) is not None:
        return cast("M", plain), None
    raise UnreadableReplyError(f"The answer is not a {form.__name__} ({fault}): {text[:120]!r}.")


def _move(place: FoundValue | None, by: int) -> FoundValue | None:
    return place and place._replace(start=place.start + by, end=place.end + by)


def _find_restart(text: str, start: int) -> str | None:
    """Return the object with which a model began anew behind a fragment: on a line of its own, at the text's end.

    The fragment begins at `start`, and is no longer JSON before that line: what is only cut off holds no new beginning.
    """
    decoder, position = json.JSONDecoder(strict=False), len(text)
    with suppress(RecursionError):
        try:
            json.JSONDecoder().raw_decode(text, start)
        except json.JSONDecodeError as error:
            position = error.pos
    for line in islice(_RESTART.finditer(text, position), _MOST_RESTARTS):
        with suppress(ValueError, RecursionError):
            _, end = decoder.raw_decode(text, line.end() - 1)
            if not text[end:].strip("` \t\r\n"):
                return text[line.end() - 1 :]
    return None


def _unquote(text: str) -> str:
    """Return the text of a JSON string, which may be JSON itself; other text as it is."""
    if text.lstrip().startswith('"'):
        with suppress(ValueError):
            value = json.loads(text, strict=False)
            return value if isinstance(value, str) else text
    return text


def _read_value(value: Any, form: type[M], depth: int = 0) -> M:
    """Validate a value, or else what is wrapped in it; raise the error of the outermost one."""
    try:
        return form.model_validate(_wrap_list(value, form))
    except ValidationError:
        read = [found for inner in _unwrap(value) if (found := _try_value(inner, form, depth)) is not None]
        if not read or any(found != read[0] for found in read):
            raise
        return read[0]


def _try_value(value: Any, form: type[M], depth: int) -> M | None:
    try:
        return _read_value(value, form, depth + 1) if depth < _MOST_WRAPPERS else None
    except ValidationError:
        return None


def _unwrap(value: Any) -> list[Any]:
    """Return what a value may be a wrapper of: objects and arrays, also as JSON in a string."""
    if isinstance(value, list):
        inner = value if len(value) == 1 else []
    elif isinstance(value, dict):
        named = [item for key, item in value.items() if str(key).lower() in _WRAPPERS]
        single = [item for key, item in value.items() if len(value) == 1 and str(key).lower() not in _NO_WRAPPERS]
        inner = named or single
    else:
        inner = []
    found = []
    for item in inner:
        if isinstance(item, dict | list):
            found.append(item)
        elif isinstance(item, str):
            with suppress(ValueError):
                found.extend(value.value for value in find_values(item))
    return found


def _wrap_list(value: Any, form: type[BaseModel]) -> Any:
    """Wrap a bare list in the only field of a form with one field."""
    if isinstance(value, list) and value and len(form.model_fields) == 1:
        return {next(iter(form.model_fields)): value}
    return value
