"""A skill's `examples.jsonl`: prompts that call for it or do not, and what must not be lost of them.

{"prompt": "a shop sign with OPEN in blue letters", "trigger": true, "keeps": ["OPEN", "blue letters"]}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from gems.errors import SkillError
from gems.skills.files import read_text

FILE = "examples.jsonl"
_MAX_PROMPT = 20_000
_MAX_STATEMENT = 500
_MAX_FAULTS = 20
_HINT = 'A line is {"prompt": "…", "trigger": true or false, "keeps": ["…"]}.'


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt, whether it calls for the skill, and what the skill's prompt must still say."""

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
    """Return a skill's examples in order, or raise `SkillError` with all invalid lines. Blocking."""
    text = read_text(folder, FILE)
    examples: list[Example] = []
    faults: dict[int, str] = {}
    # Not splitlines(): JSON strings may contain Unicode line separators.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            examples.append(_parse_line(number, line))
        except ValueError as error:
            faults[number] = f"line {number}: {error}"
    if faults:
        listed = "; ".join(list(faults.values())[:_MAX_FAULTS])
        if len(faults) > _MAX_FAULTS:
            listed += f"; and lines {', '.join(map(str, list(faults)[_MAX_FAULTS:]))}"
        raise SkillError(f"{FILE} in {folder} has invalid lines: {listed}.", hint=_HINT)
    if not examples:
        raise SkillError(f"{FILE} in {folder} has no examples.", hint=_HINT)
    return examples


def _parse_line(number: int, line: str) -> Example:
    try:
        stated = _Statement.model_validate_json(line)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)[:5]
        raise ValueError(", ".join(map(_format_fault, faults))) from None
    for statement in stated.keeps:
        if not statement.strip():
            raise ValueError("keeps: a statement is empty")
        if len(statement) > _MAX_STATEMENT:
            size = f"{len(statement):,} characters; at most {_MAX_STATEMENT} are allowed"
            raise ValueError(f"keeps: a statement has {size}")
    return Example(line=number, prompt=stated.prompt, trigger=stated.trigger, keeps=tuple(stated.keeps))


def _format_fault(fault: ErrorDetails) -> str:
    where = ".".join(map(str, fault["loc"])) or "it"
    return f"{where}: {fault['msg'].rstrip('.').lower()}"
