"""Find the text that a prompt wants in the image."""

from __future__ import annotations

import re

from gems.skills.lettering.found import BLANK, NamedText
from gems.skills.lettering.quotes import find_quoted, is_wanted
from gems.skills.lettering.wanted_text import find_unquoted

_CONTENT = re.compile(r"[^\s.,…\-–—_*]")


def wanted_texts(prompt: str) -> list[str]:
    r"""Return the texts that an image should contain, in the prompt's order, without duplicates.

    Quoted texts are taken except those that are clearly not to be written, see `quotes.is_wanted` (a dog
    called "Rex", "vaporwave" style, without the word "SALE"). Several lines within one pair of quotation
    marks stay one text, joined by `\n`.

    Unquoted texts are taken if the prompt says that they are written: the word GO, a sign that says Open
    Late, labelled Fresh Bread. Such a text ends at punctuation or where the sentence continues. If the prompt
    also has quoted text, only unquoted text in capital letters is taken: there the words after "reads" mostly
    describe the quoted text.

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
