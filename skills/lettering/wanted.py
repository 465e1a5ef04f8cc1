"""Which text a prompt wants to be seen in the picture."""

from __future__ import annotations

import re

from gems.skills.lettering.quotes import is_to_be_written, quoted
from gems.skills.lettering.wanted_text import BLANK, Found, named

_SAYS_SOMETHING = re.compile(r"[^\s.,…\-–—_*]")


def wanted_texts(prompt: str) -> list[str]:
    r"""The texts that a picture shall contain, in the prompt's order, none twice.

    Quoted texts go first: all of them are taken but those that are clearly not to be written, which
    `quotes.is_to_be_written` tells (a dog called "Rex", "vaporwave" style, without the word "SALE"). When in
    doubt a quoted text is taken. Several lines within one pair of marks stay one text, joined by `\n`.

    Texts without quotation marks are taken where the prompt says that they are written: the word GO, a sign
    that says Open Late, labelled Fresh Bread. Such a text ends at punctuation or where the sentence goes on.
    In a prompt that quotes as well, only those in capital letters are taken: there the words behind "reads"
    mostly describe the quoted text.

    Args:
        prompt: In any language for quoted texts, in English or Chinese for others.
    """
    marked = quoted(prompt)
    texts = [
        Found(one.start, one.text) for one in marked if is_to_be_written(prompt, one) and _says(one.text)
    ]
    rest = prompt
    for one in marked:
        rest = rest[: one.start] + BLANK * (one.end - one.start) + rest[one.end :]
    texts += [found for found in named(rest, capitals_only=bool(marked)) if _says(found.text)]
    kept: dict[str, str] = {}
    for found in sorted(texts, key=lambda found: found.start):
        kept.setdefault(" ".join(found.text.casefold().split()), found.text)
    return list(kept.values())


def _says(text: str) -> bool:
    return _SAYS_SOMETHING.search(text) is not None
