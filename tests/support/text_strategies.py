"""Texts that parsers stumble over."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Words and signs that mean something to one of the parsers, so that examples get past the first character.
_WORDS = (
    *("---", "---\n", "\n", "\r\n", " ", "\t", ":", ": ", "- ", "#", "# ", "## "),
    *("```", "```json\n", "<think>", "</think>", "{", "}", "[", "]", '"', "'", ",", "\\", "\\u", "\\ud800"),
    *("null", "true", "NaN", "-Infinity", "1e999", "9" * 400, "0", "-1", "1.", "x"),
    *("@", "@http://", "@https://", "http:", "https://", "openai:", "blocks", "diffusers:", "?", "&", "="),
    *("/", "//", "..", "%", "%00", "%2e", "[::1]", ":0", ":99999", "user:pass@"),
    *("name: ", "description: ", "metadata:\n", "  gems-conflicts: ", "&a ", "*a", "!!python/object:os.system "),
    *("<<: ", "|", ">-", "? ", "yes", "no", "unknown", "Answer: ", "the answer is "),
    *("question", "requirements", "answers", "number", "prompt", "experience"),
    *("\x00", "\x1b[31m", "\u202e", "\ufeff", "\u2028", "\u00d7", "\u00e9", "\u5b57", "\U0001f3a8"),
    *("Negative prompt: ", "Steps: ", "Seed: "),
)


texts = st.one_of(
    st.text(max_size=200), st.lists(st.one_of(st.sampled_from(_WORDS), st.text(max_size=8)), max_size=40).map("".join)
)
"""Unicode texts without halves of characters, some of them nearly right."""

odd_texts = st.one_of(texts, st.text(st.characters(codec=None, categories=("Cs", "Cc", "Lu", "Zs")), max_size=40))
"""The same, also with halves of characters, as JSON can spell them."""

bytes_ = st.one_of(st.binary(max_size=300), texts.map(lambda text: text.encode()))

values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd_texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(st.text(max_size=8), st.sampled_from(_WORDS)), inner, max_size=5),
    ),
    max_leaves=15,
)
"""Anything that JSON can hold."""


def shaped(*names: str) -> st.SearchStrategy[Any]:
    """Objects with some of these fields, each with anything in it."""
    fields = st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))
    return st.one_of(fields, st.lists(fields, max_size=4), values)


def as_json(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """The values as JSON, and what is left of it where it is cut or where words stand around it."""
    whole = strategy.map(json.dumps)
    cut = st.tuples(whole, st.integers(0, 400)).map(lambda pair: pair[0][: pair[1]])
    around = st.tuples(texts, whole, texts).map("".join)
    return st.one_of(whole, cut, around)
