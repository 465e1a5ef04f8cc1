"""A text and where a prompt names it."""

from __future__ import annotations

from dataclasses import dataclass

BLANK = "\ufffc"
"""Stands in for every character of what is quoted, so that places stay the same."""


@dataclass(frozen=True, slots=True)
class NamedText:
    """A text that a prompt names.

    Attributes:
        start: Where in the prompt.
        text: What is to be written.
    """

    start: int
    text: str
