"""Settings of generation: the user's come first, then those of skills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gems.errors import GemsError, SkillError
from gems.options import is_unicode, parse_size
from gems.state import Context, State
from gems.types import DrawingSettings, GeneratorCapabilities, Options, Round

_MAX_STEPS = 1_000
_MAX_GUIDANCE = 100.0
_MAX_NEGATIVE = 2_000


def image_size(state: State) -> tuple[int, int]:
    """Return width and height in pixels: the user's, else a skill's, else the generator's default."""
    options, drawing = state["options"], state.get("drawing") or {}
    if options["sized"] or "size" not in drawing:
        return options["width"], options["height"]
    return parse_size(drawing["size"])


def image_url_update(image: str, context: Context) -> dict[str, str]:
    """Return the update with the image's URL; empty if no server shows images."""
    link = context.link(image)
    return {} if link is None else {"image_url": link}


def count_images(rounds: Sequence[Round]) -> int:
    """Count the images of the rounds."""
    return sum(len(turn["candidates"]) for turn in rounds)


def merge_overrides(first: DrawingSettings, second: DrawingSettings) -> DrawingSettings:
    """Merge the settings of two skills; the first one wins."""
    both = DrawingSettings(**{**second, **first})
    texts = (first.get("negative_prompt", ""), second.get("negative_prompt", ""))
    if any(texts):
        both["negative_prompt"] = ", ".join(text for text in texts if text)
    return both


def check_overrides(
    given: Any, options: Options, generator: GeneratorCapabilities
) -> tuple[DrawingSettings, list[str]]:
    """Return the usable settings of a skill, and why others are ignored.

    Raises `SkillError` if `given` does not have the form of `gems.types.DrawingSettings`.
    """
    if not isinstance(given or {}, dict):
        raise SkillError(f"Its drawing is {type(given).__name__}; it must be a dictionary.")
    kept, faults = DrawingSettings(), []
    for name, value in (given or {}).items():
        if value is None:
            continue
        fault = _check_setting(name, value, options, generator)
        if fault:
            faults.append(fault)
        elif value != "":
            kept[name] = value  # type: ignore[literal-required]
    return kept, faults


def _check_setting(name: str, value: Any, options: Options, generator: GeneratorCapabilities) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "negative_prompt" if isinstance(value, str) and _is_negative_prompt(value):
            unheeded = bool(value) and not generator.negative_prompts
            return f"{generator.model} takes no negative prompt" if unheeded else ""
        case "guidance" if number and 0 <= value <= _MAX_GUIDANCE:
            return ""
        case "steps" if isinstance(value, int) and number and 1 <= value <= _MAX_STEPS:
            return ""
        case "size" if isinstance(value, str):
            return _check_size(value, options, generator)
        case "negative_prompt" | "guidance" | "steps" | "size":
            raise SkillError(f"In its drawing, {name} cannot be {_short_repr(value)}.")
    return f"there is no setting {_short_repr(name)}"


def _is_negative_prompt(text: str) -> bool:
    return len(text) <= _MAX_NEGATIVE and is_unicode(text)


def _short_repr(value: Any) -> str:
    return f"{value!r:.80}"


def _check_size(value: str, options: Options, generator: GeneratorCapabilities) -> str:
    if options["sized"]:
        return ""
    try:
        generator.check_size(*parse_size(value))
    except GemsError as error:
        return str(error)
    return ""
