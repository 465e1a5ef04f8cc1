"""What a caller asks for, checked and completed before anything is paid for."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any, get_args

from gems.errors import EditingUnsupportedError, OptionError, PromptError, SizeError
from gems.state import Context, Input
from gems.types import GeneratorCapabilities, Options, Profile

MAX_PROMPT = 20_000
MAX_ROUNDS = 50
DEFAULT_ROUNDS = 5
MAX_CANDIDATES = 16
SEEDS = 2**31
_PLATEAU: dict[Profile, int] = {"balanced": 7, "paper": 0}
_SIZE = re.compile(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*")  # noqa: RUF001 - people type the sign too


def checked_prompt(prompt: Any) -> str:
    """The prompt as it was given.

    Raises:
        PromptError: it is empty, no text, or longer than 20,000 characters.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise PromptError("The prompt is empty.", hint="Say what to draw.")
    if len(prompt) > MAX_PROMPT:
        raise PromptError(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are taken.",
            hint="Shorten it.",
        )
    if not is_unicode(prompt):
        raise PromptError("The prompt is no Unicode text.", hint="It holds half a surrogate pair; remove it.")
    return prompt


def resolved(given: Input, context: Context) -> Options:
    """All options of a run: those given, checked, and defaults for the rest.

    Raises:
        OptionError: an option is out of range, or a budget is set where prices are not known.
        SizeError: the generator cannot draw the size.
        EditingUnsupportedError: there is a picture to edit, and the generator edits none.
    """
    options = _complete(given, context)
    if options["budget_usd"] is not None:
        _check_prices(context)
    return options


def _complete(given: Input, context: Context) -> Options:
    generator = context.generator.capabilities
    profile: Profile = given.get("profile") or "balanced"
    if profile not in get_args(Profile):
        raise OptionError(f"There is no profile {profile!r}.", hint="Choose balanced or paper.")
    width, height = parsed_size(given["size"]) if given.get("size") else generator.default_size
    generator.check_size(width, height)
    seed = given.get("seed")
    options: Options = {
        "max_rounds": _whole("max_rounds", given.get("max_rounds"), DEFAULT_ROUNDS, MAX_ROUNDS),
        "candidates": _whole("candidates", given.get("candidates"), 1, MAX_CANDIDATES),
        "width": width,
        "height": height,
        "sized": bool(given.get("size")),
        "seed": secrets.randbelow(SEEDS) if seed is None else _whole("seed", seed, 0, SEEDS - 1, least=0),
        "profile": profile,
        "negative_prompt": _text("negative_prompt", given.get("negative_prompt")),
        "skills": given.get("skills") or context.default_skills,
        "max_images": _limit("max_images", given.get("max_images")),
        "budget_usd": _amount("budget_usd", given.get("budget_usd")),
        "deadline_s": _amount("deadline_s", given.get("deadline_s")),
        "plateau": _whole("plateau", given.get("plateau"), _PLATEAU[profile], MAX_ROUNDS, least=0) or None,
        "memory": _yes_or_no("memory", given.get("memory"), default=True),
    }
    if source := given.get("source"):
        check_editing(generator)
        options["source"] = source
    return options


def check_editing(generator: GeneratorCapabilities) -> None:
    """Rule out a picture to edit before it is looked at.

    Raises:
        EditingUnsupportedError: the generator edits none.
    """
    if not generator.editing:
        raise EditingUnsupportedError(
            f"{generator.model} cannot edit images.",
            hint="Leave the source out, or use a generator that edits, such as openai:MODEL@BASE_URL.",
        )


def editing_size(width: int, height: int, generator: GeneratorCapabilities) -> str | None:
    """The size of an edited picture where none is asked for: its own, or None where that cannot be drawn."""
    try:
        generator.check_size(width, height)
    except SizeError:
        return None
    return f"{width}x{height}"


def _check_prices(context: Context) -> None:
    """A budget means nothing where a price is unknown: say so rather than overspend."""
    unknown = [role for role, chat in context.chats.items() if chat.price(0, 0) is None]
    hints = [
        f"GEMS_{role.upper()}__INPUT_USD_PER_MILLION and ..._OUTPUT_USD_PER_MILLION" for role in unknown[:1]
    ]
    if context.generator.capabilities.price_usd is None:
        hints.append("GEMS_GENERATOR__USD_PER_IMAGE")
    if hints:
        raise OptionError(
            "budget_usd is set, but not all prices are known.",
            hint=f"Set {', '.join(hints)}, or use max_images.",
        )


def parsed_size(text: str) -> tuple[int, int]:
    """Width and height in pixels of `WIDTHxHEIGHT`.

    Raises:
        OptionError: `text` is not of that form.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise OptionError(f"{text!r} is no size.", hint="Write it as WIDTHxHEIGHT, for example 1024x1024.")
    return int(found.group(1)), int(found.group(2))


def candidate_seed(seed: int, number: int, candidate: int) -> int:
    """The seed of a candidate: the run's own for the very first image, then unrelated ones.

    They are hashed rather than counted, so that runs with neighbouring seeds share none.
    """
    if number == 1 and candidate == 0:
        return seed
    return derived_seed(seed, number, candidate)


def derived_seed(*identity: object) -> int:
    """A seed in [0, SEEDS) that the identity alone decides, unrelated to those of others."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return int.from_bytes(digest[:4]) % SEEDS


def _whole(name: str, value: Any, default: int, most: int, *, least: int = 1) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OptionError(f"{name} is {value!r}; it must be a whole number from {least} to {most}.")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value or "", str) or not is_unicode(value or ""):
        raise OptionError(f"{name} is no Unicode text.")
    return value or ""


def is_unicode(text: str) -> bool:
    """Whether `text` can be stored and sent: half a surrogate pair, as JSON can hold it, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _yes_or_no(name: str, value: Any, *, default: bool) -> bool:
    if value is not None and not isinstance(value, bool):
        raise OptionError(f"{name} is {value!r}; it must be true or false.")
    return default if value is None else value


def _limit(name: str, value: Any) -> int | None:
    return None if value is None else _whole(name, value, 1, 1_000_000)


def _amount(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise OptionError(f"{name} is {value!r}; it must be a number above 0.")
    return float(value)
