"""What a form of the page says, in the words of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from gems.arguments import RunArguments
from gems.errors import OptionError
from gems.options import MAX_CANDIDATES, MAX_ROUNDS
from gems.types import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The fields of the page as a browser sends them: any may be missing, and a number may be a float."""

    rounds: float | None = 5
    candidates: float | None = 1
    size: str | None = ""
    seed: str | None = ""
    profile: str | None = "balanced"
    skills: str | None = "auto"
    negative_prompt: str | None = ""
    memory: bool | None = True

    def arguments(self) -> RunArguments:
        """Options of a run; what is left empty is the service's to choose.

        Raises:
            OptionError: a field holds something else than it should.
        """
        return {
            "max_rounds": whole("Rounds", self.rounds, MAX_ROUNDS),
            "candidates": whole("Images per round", self.candidates, MAX_CANDIDATES),
            "size": _text(self.size) or None,
            "seed": _seed(_text(self.seed)),
            "profile": cast("Profile", self.profile or "balanced"),
            "skills": _text(self.skills) or None,
            "negative_prompt": _text(self.negative_prompt) or None,
            "memory": bool(self.memory),
        }


def whole(name: str, value: float | None, most: int) -> int:
    """A whole number from 1 on, as a field holds it.

    Raises:
        OptionError: it holds something else.
    """
    if value is None or not 1 <= value <= most or value != int(value):
        raise OptionError(f"{name} must be a whole number.", hint=f"Choose 1 to {most}.")
    return int(value)


def _text(value: str | None) -> str:
    return (value or "").strip()


def _seed(text: str) -> int | None:
    # A text rather than a number: browsers round large numbers.
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise OptionError(f"{text[:40]!r} is no seed.", hint="Write a whole number, or leave it empty.")
    return int(text)
