"""RunOptions: the one schema of a run's options; ranges, defaults, validation, seeds."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from typing_extensions import TypedDict

from gems.errors import EditingUnsupportedError, OptionError, PromptError, SizeError
from gems.runs.source_images import SourceImage
from gems.state import Context, Input
from gems.types import GeneratorCapabilities, Options, Profile

MAX_PROMPT = 20_000
MAX_ROUNDS = 50
DEFAULT_ROUNDS = 5
MAX_CANDIDATES = 16
SEEDS = 2**31
_PLATEAU: dict[Profile, int] = {"balanced": 7, "paper": 0}
_SIZE = re.compile(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*")  # noqa: RUF001 - users type this character too


def check_prompt(prompt: Any) -> str:
    """Return the prompt unchanged; PromptError if it is empty, not text, or longer than 20,000 characters."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise PromptError("The prompt is empty.", hint="Describe the image to generate.")
    if len(prompt) > MAX_PROMPT:
        raise PromptError(
            f"The prompt has {len(prompt):,} characters; the maximum is {MAX_PROMPT:,}.",
            hint="Shorten it.",
        )
    if not is_unicode(prompt):
        raise PromptError("The prompt is not valid Unicode.", hint="Remove the lone surrogate.")
    return prompt


def resolve_options(given: Input, context: Context) -> Options:
    """Return all options of a run: the given ones, checked, and defaults for the rest.

    Raises:
        OptionError: an option is out of range, or a budget is set and not all prices are known.
        SizeError: the generator does not support the size.
        EditingUnsupportedError: there is a source image, and the generator cannot edit.
    """
    options = _resolve_options(given, context)
    if options["budget_usd"] is not None:
        unknown = [role for role, chat in context.chats.items() if chat.price(0, 0) is None]
        check_prices(unknown, context.generator.capabilities.price_usd)
    return options


def _resolve_options(given: Input, context: Context) -> Options:
    generator = context.generator.capabilities
    profile: Profile = given.get("profile") or "balanced"
    if profile not in get_args(Profile):
        raise OptionError(f"Invalid profile: {profile!r}.", hint="Use balanced or paper.")
    width, height = parse_size(given["size"]) if given.get("size") else generator.default_size
    generator.check_size(width, height)
    seed = given.get("seed")
    options: Options = {
        "max_rounds": _check_int("max_rounds", given.get("max_rounds"), DEFAULT_ROUNDS, MAX_ROUNDS),
        "candidates": _check_int("candidates", given.get("candidates"), 1, MAX_CANDIDATES),
        "width": width,
        "height": height,
        "sized": bool(given.get("size")),
        "seed": secrets.randbelow(SEEDS) if seed is None else _check_int("seed", seed, 0, SEEDS - 1, least=0),
        "profile": profile,
        "negative_prompt": _check_text("negative_prompt", given.get("negative_prompt")),
        "skills": given.get("skills") or context.default_skills,
        "max_images": _check_limit("max_images", given.get("max_images")),
        "budget_usd": _check_positive("budget_usd", given.get("budget_usd")),
        "deadline_s": _check_positive("deadline_s", given.get("deadline_s")),
        "plateau": _check_int("plateau", given.get("plateau"), _PLATEAU[profile], MAX_ROUNDS, least=0)
        or None,
        "memory": _check_bool("memory", given.get("memory"), default=True),
    }
    if source := given.get("source"):
        check_editing(generator)
        options["source"] = source
    return options


def check_editing(generator: GeneratorCapabilities) -> None:
    """Raise EditingUnsupportedError if the generator cannot edit images."""
    if not generator.editing:
        raise EditingUnsupportedError(
            f"{generator.model} cannot edit images.",
            hint="Leave the source out, or use a generator that edits, such as openai:MODEL@BASE_URL.",
        )


def editing_size(width: int, height: int, generator: GeneratorCapabilities) -> str | None:
    """Return the default size for editing an image: its own, or None if the generator does not support it."""
    try:
        generator.check_size(width, height)
    except SizeError:
        return None
    return f"{width}x{height}"


def check_prices(unknown: Sequence[str], usd_per_image: float | None) -> None:
    """Reject a budget if a price is unknown, rather than overspend; `unknown`: chat roles without prices."""
    hints = [
        f"GEMS_{role.upper()}__INPUT_USD_PER_MILLION and ..._OUTPUT_USD_PER_MILLION" for role in unknown[:1]
    ]
    if usd_per_image is None:
        hints.append("GEMS_GENERATOR__USD_PER_IMAGE")
    if hints:
        raise OptionError(
            "budget_usd is set, but not all prices are known.",
            hint=f"Set {', '.join(hints)}, or use max_images.",
        )


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels from `WIDTHxHEIGHT`; OptionError for anything else."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise OptionError(f"Invalid size: {text!r}.", hint="Use WIDTHxHEIGHT, e.g. 1024x1024.")
    return int(found.group(1)), int(found.group(2))


def candidate_seed(seed: int, number: int, candidate: int) -> int:
    """Return the seed of a candidate: the run's own for the very first image, then unrelated ones.

    They are hashed rather than counted, so that runs with neighbouring seeds share none.
    """
    if number == 1 and candidate == 0:
        return seed
    return derived_seed(seed, number, candidate)


def derived_seed(*identity: object) -> int:
    """Return a seed in [0, SEEDS) that depends only on the identity."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return int.from_bytes(digest[:4]) % SEEDS


def _check_int(name: str, value: Any, default: int, most: int, *, least: int = 1) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OptionError(f"{name} is {value!r}; it must be a whole number from {least} to {most}.")
    return value


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value or "", str) or not is_unicode(value or ""):
        raise OptionError(f"{name} is not valid Unicode.")
    return value or ""


def is_unicode(text: str) -> bool:
    """Return whether the text can be stored and sent; lone surrogates, which JSON can contain, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _check_bool(name: str, value: Any, *, default: bool) -> bool:
    if value is not None and not isinstance(value, bool):
        raise OptionError(f"{name} is {value!r}; it must be true or false.")
    return default if value is None else value


def _check_limit(name: str, value: Any) -> int | None:
    return None if value is None else _check_int(name, value, 1, 1_000_000)


def _check_positive(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise OptionError(f"{name} is {value!r}; it must be a number above 0.")
    return float(value)


# Options that a fork may change; the others determined the shared rounds.
FORK_OPTIONS = (
    "max_rounds",
    "candidates",
    "seed",
    "negative_prompt",
    "max_images",
    "budget_usd",
    "deadline_s",
    "plateau",
)


class RunOptions(TypedDict, total=False):
    """Options of a run; see `gems.state.Input` for ranges and defaults."""

    max_rounds: int | None
    candidates: int | None
    size: str | None
    seed: int | None
    profile: Profile | None
    negative_prompt: str | None
    skills: str | None
    max_images: int | None
    budget_usd: float | None
    deadline_s: float | None
    plateau: int | None
    memory: bool | None


class Target(TypedDict, total=False):
    """Output of the result."""

    out: str | Path | None
    """A `.png` file or a folder; `outputs` in GEMS_HOME by default."""
    metadata: bool
    """Whether the PNG contains metadata of the run; true by default."""
    owner: str
    """The user whose run it is, on servers with users; kept when a run is resumed or forked."""


class RunArguments(RunOptions, Target, total=False):
    """All arguments of a run besides its prompt."""

    source: bytes | Path | SourceImage | None
    """An image to edit: a PNG, JPEG or WebP file or its bytes."""
    new_id: str | None
    """The new run's id, for callers that must know it in advance. At most 100 letters, digits, `.`, `_` and
    `-`, and unused; by default built from the time and a random part."""


_AGO = re.compile(r"(\d{1,6})\s*(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = re.compile(r"\d{4}-?\d{2}-?\d{2}")


def parse_datetime(value: str, *, now: datetime, end: bool = False) -> datetime:
    """Parse a date, or how long ago something was: `30m`, `12h`, `3d`, `2w`; OptionError if it is neither.

    Dates look like `2026-01-31` or `2026-01-31T12:00` and are local without a time zone. With `end`, a date
    without a time means the end of that day. `now` needs a time zone.
    """
    text = value.strip()
    try:
        if ago := _AGO.fullmatch(text.lower()):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text).astimezone()
        return moment + timedelta(days=1) if end and _DAY.fullmatch(text) else moment
    except (ValueError, OverflowError, OSError):
        raise OptionError(
            f"Invalid date or age: {value[:40]!r}.",
            hint="Use a date such as 2026-01-31 or 2026-01-31T12:00, or an age such as 30m, 12h, 3d or 2w.",
        ) from None


def parse_duration(value: str) -> timedelta:
    """Parse a duration such as `30m`, `12h`, `3d` or `2w`; OptionError if it is none."""
    found = _AGO.fullmatch(value.strip().lower())
    if found is None:
        raise OptionError(f"Invalid duration: {value[:40]!r}.", hint="Use for example 30m, 12h, 3d or 2w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
