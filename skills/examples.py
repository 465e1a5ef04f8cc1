"""A skill's `examples.jsonl`: prompts that call for it or do not, and what must not be lost of them.

{"prompt": "a shop sign with OPEN in blue letters", "trigger": true, "keeps": ["OPEN", "blue letters"]}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.errors import SkillError
from gems.skills.files import read_text

FILE = "examples.jsonl"
_MAX_PROMPT = 20_000
_MAX_STATEMENT = 500
_MAX_FAULTS = 20
_HINT = 'A line is {"prompt": "…", "trigger": true or false, "keeps": ["…"]}.'


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt and the expected behaviour of the skill.

    Attributes:
        line: Line number, from 1.
        prompt: A user's prompt.
        trigger: Whether the skill should be chosen.
        keeps: What the skill's prompt must still say.
    """

    line: int
    prompt: str
    trigger: bool
    keeps: tuple[str, ...] = ()


class _Statement(BaseModel):
    """One line of the file. Unknown fields are errors: a misspelt `keeps` would check nothing and pass."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1, max_length=_MAX_PROMPT, pattern=r"\S")
    trigger: bool
    keeps: list[str] = []


def read_examples(folder: Path) -> list[Example]:
    """Return a skill's examples in order. Blocking.

    Raises `SkillError` if the file is missing or has no example, or listing all invalid lines.
    """
    text = read_text(folder, FILE)
    examples: list[Example] = []
    faults: list[str] = []
    # Not splitlines(): JSON strings may contain Unicode line separators.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            examples.append(_parse_line(number, line))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        raise SkillError(f"{FILE} in {folder} has invalid lines: {_list_faults(faults)}.", hint=_HINT)
    if not examples:
        raise SkillError(f"{FILE} in {folder} has no examples.", hint=_HINT)
    return examples


def _list_faults(faults: list[str]) -> str:
    more = len(faults) - _MAX_FAULTS
    shown = "; ".join(faults[:_MAX_FAULTS])
    numbers = ", ".join(fault.partition(":")[0].removeprefix("line ") for fault in faults[_MAX_FAULTS:])
    return f"{shown}; and lines {numbers}" if more > 0 else shown


def _parse_line(number: int, line: str) -> Example:
    try:
        stated = _Statement.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(_format_errors(error)) from None
    if fault := _check_keeps(stated.keeps):
        raise ValueError(fault)
    return Example(line=number, prompt=stated.prompt, trigger=stated.trigger, keeps=tuple(stated.keeps))


def _check_keeps(keeps: Iterable[str]) -> str:
    for statement in keeps:
        if not statement.strip():
            return "keeps: a statement is empty"
        if len(statement) > _MAX_STATEMENT:
            return (
                f"keeps: a statement has {len(statement):,} characters; at most {_MAX_STATEMENT} are allowed"
            )
    return ""


def _format_errors(error: ValidationError) -> str:
    return ", ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'it'}: {fault['msg'].rstrip('.').lower()}"
        for fault in error.errors(include_input=False, include_url=False)[:5]
    )
