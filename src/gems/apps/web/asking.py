"""The form of the web page, converted to run options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from gems.errors import OptionError
from gems.options import MAX_CANDIDATES, MAX_ROUNDS, RunArguments
from gems.types import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Fields as sent by a browser: any may be missing, and integers may be floats."""

    rounds: float | None = 5
    candidates: float | None = 1
    size: str | None = ""
    seed: str | None = ""
    profile: str | None = "balanced"
    skills: str | None = "auto"
    negative_prompt: str | None = ""
    memory: bool | None = True

    def arguments(self) -> RunArguments:
        """Return run options, or raise OptionError; empty fields are left to the service."""
        return {
            "max_rounds": parse_integer("Rounds", self.rounds, MAX_ROUNDS),
            "candidates": parse_integer("Images per round", self.candidates, MAX_CANDIDATES),
            "size": _strip(self.size) or None,
            "seed": _parse_seed(_strip(self.seed)),
            "profile": cast("Profile", self.profile or "balanced"),
            "skills": _strip(self.skills) or None,
            "negative_prompt": _strip(self.negative_prompt) or None,
            "memory": bool(self.memory),
        }


def parse_integer(name: str, value: float | None, most: int) -> int:
    """Parse an integer from 1 to `most`, or raise OptionError."""
    if value is None or not 1 <= value <= most or value != int(value):
        raise OptionError(f"{name} must be an integer.", hint=f"Use a value from 1 to {most}.")
    return int(value)


def _strip(value: str | None) -> str:
    return (value or "").strip()


def _parse_seed(text: str) -> int | None:
    # A text field, since browsers round large numbers.
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise OptionError(f"Invalid seed: {text[:40]!r}.", hint="Use an integer, or leave the field empty.")
    return int(text)
