"""A text that a prompt names, and its position."""

from __future__ import annotations

from dataclasses import dataclass

BLANK = "\ufffc"
"""Replaces every character of quoted text, so that positions stay the same."""


@dataclass(frozen=True, slots=True)
class NamedText:
    """A text that a prompt names.

    Attributes:
        start: Position in the prompt.
        text: The text to be written.
    """

    start: int
    text: str
