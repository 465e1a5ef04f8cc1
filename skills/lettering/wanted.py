"""Which text a prompt wants to be seen in the picture."""

from __future__ import annotations

import re

from gems.skills.lettering.found import BLANK, NamedText
from gems.skills.lettering.quotes import find_quoted, is_wanted
from gems.skills.lettering.wanted_text import find_unquoted

_CONTENT = re.compile(r"[^\s.,…\-–—_*]")


def wanted_texts(prompt: str) -> list[str]:
    r"""The texts that a picture shall contain, in the prompt's order, none twice.

    Quoted texts go first: all of them are taken but those that are clearly not to be written, which
    `quotes.is_wanted` tells (a dog called "Rex", "vaporwave" style, without the word "SALE"). When in
    doubt a quoted text is taken. Several lines within one pair of marks stay one text, joined by `\n`.

    Texts without quotation marks are taken where the prompt says that they are written: the word GO, a sign
    that says Open Late, labelled Fresh Bread. Such a text ends at punctuation or where the sentence goes on.
    In a prompt that quotes as well, only those in capital letters are taken: there the words behind "reads"
    mostly describe the quoted text.

    Args:
        prompt: In any language for quoted texts, in English or Chinese for others.
    """
    marked = find_quoted(prompt)
    texts = [
        NamedText(one.start, one.text) for one in marked if is_wanted(prompt, one) and _has_content(one.text)
    ]
    rest = prompt
    for one in marked:
        rest = rest[: one.start] + BLANK * (one.end - one.start) + rest[one.end :]
    texts += [found for found in find_unquoted(rest, capitals_only=bool(marked)) if _has_content(found.text)]
    kept: dict[str, str] = {}
    for found in sorted(texts, key=lambda found: found.start):
        kept.setdefault(" ".join(found.text.casefold().split()), found.text)
    return list(kept.values())


def _has_content(text: str) -> bool:
    return _CONTENT.search(text) is not None
