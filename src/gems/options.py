"""RunOptions: the one schema of a run's options; ranges, defaults, validation, seeds."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from typing_extensions import TypedDict

from gems.errors import EditingUnsupportedError, OptionError, PromptError
from gems.generation import COMMON_SEEDS, SEEDS, GeneratorCapabilities
from gems.types import MAX_INSTRUCTION, Options, Profile, RepairMode

if TYPE_CHECKING:
    from pydantic import BaseModel

    from gems.memory.source_images import SourceImage
    from gems.state import Context

MAX_PROMPT = 20_000
MAX_ROUNDS = 50
MAX_CANDIDATES = 16
MAX_IMAGES = 1_000_000
RANDOM_SEED = -1
"""Asks for a seed chosen at random, as in other programs."""
DEFAULT_ROUNDS: dict[Profile, int] = {"balanced": 8, "paper": 5}
"""Most rounds by profile; `balanced` stops earlier where little hope is left."""
_PLATEAU: dict[Profile, int] = {"balanced": 7, "paper": 0}
_SIZE = re.compile(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*")  # noqa: RUF001 - users type this character too

Interface = Literal[
    "run", "repair", "fork", "http", "openai", "generate_image", "edit_image", "repair_image", "web", "batch"
]
"""Interfaces with options of runs: commands, request bodies, MCP tools, the page's form, rows of a batch.

Studio shows all options. `repair` and `fork` are the commands and the request bodies."""
_FEWEST: tuple[Interface, ...] = ("openai", "generate_image", "edit_image", "repair_image")
_FEW: tuple[Interface, ...] = (*_FEWEST, "web")
"""Interfaces with few options."""
_SIDES = ("width", "height")
"""What other programs have in place of `size`."""
_AGO = re.compile(r"(\d{1,6})\s*(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = re.compile(r"\d{4}-?\d{2}-?\d{2}")


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """Declaration of an option of a run, from which all interfaces derive theirs.

    `default` is None if the default depends on the run; `default_text` says it in words. `ge`, `gt`, `le` and
    `lt` limit numbers. A text that is `listed` may also be given as a list of texts. `flag` and `label` are for
    the command line and the web page; a flag that starts with `--no-` sets false. `without` names interfaces
    without the option. RunOptions gives `name` and `type`.
    """

    help: str
    _: KW_ONLY
    default: Any = None
    default_text: str = ""
    ge: int | None = None
    gt: int | None = None
    le: int | None = None
    lt: int | None = None
    max_length: int = MAX_PROMPT
    listed: bool = False
    flag: str = ""
    metavar: str | None = None
    label: str = ""
    without: tuple[Interface, ...] = ()
    name: str = ""
    type: Any = None

    @property
    def description(self) -> str:
        """The help with the default."""
        default = self.default_text or str(self.default or "").lower()
        return f"{self.help} Default: {default}." if default else self.help

    @property
    def choices(self) -> tuple[str, ...]:
        """The possible values, if there are only a few."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def maximum(self) -> int | None:
        """The largest possible integer."""
        return self.le if self.lt is None else self.lt - 1

    @property
    def expected(self) -> str:
        """Description of valid values."""
        if self.choices:
            return " or ".join(self.choices)
        if self.type is int:
            return f"a whole number from {self.ge} to {self.maximum}"
        if self.type is str:
            return f"valid Unicode text of at most {self.max_length} characters"
        return "a number above 0" if self.type is float else "true or false"

    def annotate(self, metadata: Any) -> Any:
        """Return the type, or None, annotated for a library."""
        annotated: Any = Annotated
        return annotated[self.type | None, metadata]

    def check(self, value: Any, name: str = "") -> Any:
        """Return the value, or the default for None; OptionError, which says `name`, if it is invalid."""
        value = self._join(value)
        if value is None or (value == "" and (self.choices or self.type is str)):
            return self.default
        if not self._is_valid(value):
            raise OptionError(f"{name or self.name} is {repr(value)[:80]}; it must be {self.expected}.")
        return float(value) if self.type is float else value

    def _join(self, value: Any) -> Any:
        """Join a list of texts, which programs send where people write commas; an empty list is `none`."""
        if not self.listed or not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
            return value
        return ", ".join(value) or "none"

    def _is_valid(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.type is str:
            return isinstance(value, str) and is_unicode(value) and len(value) <= self.max_length
        if self.type is bool or isinstance(value, bool):
            return isinstance(value, bool) and self.type is bool
        if self.type is int:
            return isinstance(value, int) and (self.ge or 0) <= value <= (self.maximum or 0)
        return isinstance(value, int | float) and 0 < value < float("inf")

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Validate with `check`; the limits are only shown in the schema."""
        from pydantic import Field, TypeAdapter, ValidationError, WithJsonSchema, WrapValidator  # noqa: PLC0415 - heavy
        from pydantic_core import PydanticCustomError  # noqa: PLC0415

        def validate(value: Any, convert: Callable[[Any], Any]) -> Any:
            value = self._join(value)
            # What cannot be converted is told in the words of `check`.
            with suppress(ValidationError):
                value = convert(value)
            try:
                self.check(value)
            except OptionError as error:
                raise PydanticCustomError("option", "{text}", {"text": error.message}) from None
            return value

        annotated: Any = Annotated
        limits: dict[str, Any] = {"ge": self.ge, "gt": self.gt, "le": self.le, "lt": self.lt}
        # In the TypedDict itself, which Studio shows, only the annotation tells the type.
        kind = self.type or next(part for part in get_args(source) if part is not type(None))
        if kind is str:
            limits["max_length"] = self.max_length
        shown = TypeAdapter[Any](annotated[kind, Field(**limits)])
        checked = annotated[kind, WrapValidator(validate), WithJsonSchema(shown.json_schema())]
        return handler.generate_schema(checked | None)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Add the description."""
        return {**handler(schema), "description": self.description}


class RunOptions(TypedDict, total=False):
    """Options of a run. This is their only declaration."""

    max_rounds: Annotated[
        int | None,
        Option(
            "Maximum number of rounds, 1 to 50.",
            default=DEFAULT_ROUNDS["balanced"],
            default_text=f"{DEFAULT_ROUNDS['balanced']}, or {DEFAULT_ROUNDS['paper']} with paper",
            ge=1,
            le=MAX_ROUNDS,
            flag="--rounds",
            label="Rounds",
        ),
    ]
    candidates: Annotated[
        int | None, Option("Images per round, 1 to 16.", default=1, ge=1, le=16, label="Images per round")
    ]
    size: Annotated[
        str | None,
        Option(
            "WIDTHxHEIGHT in pixels.",
            default_text="that of the source or the generator",
            max_length=20,
            metavar="WxH",
            without=("fork", "repair", "repair_image"),
        ),
    ]
    seed: Annotated[
        int | None,
        Option(
            "Random seed; -1 chooses one at random.",
            default_text="chosen at random and recorded",
            ge=RANDOM_SEED,
            lt=SEEDS,
        ),
    ]
    profile: Annotated[
        Profile | None,
        Option(
            "Strategy of the loop: balanced, or paper for the same calls as the paper.",
            default="balanced",
            without=("fork", "edit_image", "repair", "repair_image"),
        ),
    ]
    skills: Annotated[
        str | None,
        Option(
            "auto, none, or names separated by commas.",
            default_text="from settings, normally auto",
            max_length=2000,
            listed=True,
            metavar="NAMES",
            without=("fork",),
        ),
    ]
    negative_prompt: Annotated[str | None, Option("What to avoid.", default="", metavar="TEXT")]
    max_images: Annotated[int | None, Option("Maximum number of images.", ge=1, le=MAX_IMAGES, without=_FEW)]
    budget_usd: Annotated[
        float | None,
        Option("Stop starting new work after spending this many US dollars.", gt=0, metavar="USD", without=("web",)),
    ]
    deadline_s: Annotated[
        float | None,
        Option(
            "Stop after this many seconds and keep the best image.",
            gt=0,
            flag="--deadline",
            metavar="SECONDS",
            without=("web",),
        ),
    ]
    plateau: Annotated[
        int | None,
        Option(
            "Stop after this many rounds without progress; 0 means never.",
            default_text="as many as there is hope for, 7 at most; 0 with paper",
            ge=0,
            le=MAX_ROUNDS,
            without=_FEW,
        ),
    ]
    repair: Annotated[
        RepairMode | None,
        Option(
            "Mend the best image instead of drawing anew: auto by what has worked, never, or always.",
            default="auto",
            without=_FEWEST,
        ),
    ]
    ask: Annotated[
        bool | None,
        Option(
            "Ask a person after each round what follows: go on, change an image, take one, or take it back.",
            default=False,
            label="Ask me",
            without=("batch", *_FEWEST),
        ),
    ]
    memory: Annotated[
        bool | None,
        Option(
            "Share lessons and experiences with other runs.",
            default=True,
            flag="--no-memory",
            without=("fork", "batch", *_FEWEST),
        ),
    ]
    generator: Annotated[
        str | None,
        Option(
            "Image generator: a name on offer.",
            default="",
            default_text="that of the settings",
            max_length=200,
            metavar="SPEC",
            without=("batch", "openai"),
        ),
    ]
    judge: Annotated[
        str | None,
        Option(
            "Chat model that judges: a name on offer.",
            default="",
            default_text="that of the settings",
            max_length=200,
            metavar="SPEC",
            without=("batch",),
        ),
    ]


NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
CHOICES = ("generator", "judge")
"""Options that choose among the models on offer. Commands have flags of their own for them, which take specs too."""


def _declared_options() -> dict[str, Option]:
    hints = get_type_hints(RunOptions, include_extras=True)
    return {
        name: replace(
            option,
            name=name,
            type=get_args(kind)[0],
            flag=option.flag or f"--{name.replace('_', '-')}",
            label=option.label or name.replace("_", " ").capitalize(),
        )
        for name, (kind, option) in ((name, get_args(hint)) for name, hint in hints.items())
    }


OPTIONS = _declared_options()


def options_of(interface: Interface) -> dict[str, Option]:
    """Return the options that an interface has; a fork's defaults are those of the other run."""
    found = {name: option for name, option in OPTIONS.items() if interface not in option.without}
    if interface == "fork":
        return {name: replace(option, default_text="as before") for name, option in found.items()}
    return found


_Model = TypeVar("_Model", bound="BaseModel")


def with_options(interface: Interface) -> Callable[[type[_Model]], type[_Model]]:
    """Return a decorator that adds the options of an interface to a Pydantic model, unless it has them."""

    def derive(model: type[_Model]) -> type[_Model]:
        from pydantic import create_model  # noqa: PLC0415 - heavy

        fields: dict[str, Any] = {
            name: (option.annotate(option), None)
            for name, option in options_of(interface).items()
            if name not in model.model_fields
        }
        about: dict[str, Any] = {"__module__": model.__module__, "__doc__": model.__doc__}
        return create_model(model.__name__, __base__=model, **about, **fields)

    return derive


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise OptionError for the first name that is not known, with the likeliest one that is."""
    known = sorted(known)
    for name in given:
        if name in known:
            continue
        close = get_close_matches(name, (*known, *_SIDES), n=1)
        likely = "size='WIDTHxHEIGHT'" if close and close[0] in _SIDES else close[0] if close else ""
        hint = f"Did you mean {likely}?" if likely else f"There are {', '.join(known)}."
        raise OptionError(f"{name!r} is not an option here.", hint=hint)


def given_options(model: BaseModel) -> RunOptions:
    """Return the options that are set in a model."""
    values = ((name, getattr(model, name, None)) for name in OPTIONS)
    return cast("RunOptions", {name: value for name, value in values if value is not None})


def check_prompt(prompt: Any) -> str:
    """Return the prompt unchanged; PromptError if it is empty, not text, or longer than 20,000 characters."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise PromptError("The prompt is empty.", hint="Describe the image to generate.")
    if len(prompt) > MAX_PROMPT:
        raise PromptError(
            f"The prompt has {len(prompt):,} characters; the maximum is {MAX_PROMPT:,}.", hint="Shorten it."
        )
    if not is_unicode(prompt):
        raise PromptError("The prompt is not valid Unicode.", hint="Remove the lone surrogate.")
    return prompt


def resolve_options(given: Mapping[str, Any], context: Context) -> Options:
    """Return all options of a run: the given ones, checked, and defaults for the rest.

    Raises:
        OptionError: an option is out of range, or a budget is set and not all prices are known.
        NotOfferedError: no generator or judge of this name is on offer.
        SizeError: the generator does not support the size.
        EditingUnsupportedError: there is a source image, and the generator cannot edit.
    """
    context = context.choose(given)
    generator = context.generator.capabilities
    patched = _resolve_patches(given, context)
    given = {**patched.pop("rules", {}), **{name: value for name, value in given.items() if value is not None}}
    checked: dict[str, Any] = {name: option.check(given.get(name)) for name, option in OPTIONS.items()}
    size = checked.pop("size")
    width, height = parse_size(size) if size else generator.default_size
    generator.check_size(width, height)
    if checked["seed"] in (None, RANDOM_SEED):
        checked["seed"] = secrets.randbelow(COMMON_SEEDS)
    profile = cast("Profile", checked["profile"])
    if given.get("max_rounds") is None:
        checked["max_rounds"] = DEFAULT_ROUNDS[profile]
    # Whoever names a number of rounds without progress gets that number.
    early_stop = given.get("early_stop", checked["plateau"] is None and profile != "paper")
    if checked["plateau"] is None:
        checked["plateau"] = _PLATEAU[profile]
    if checked["budget_usd"] is not None:
        unknown = [role for role, chat in context.chats.items() if chat.price(0, 0) is None]
        check_prices(unknown, generator.price_usd, given)
    resolved = (
        checked
        | {
            "width": width,
            "height": height,
            "sized": bool(size),
            "skills": checked["skills"] or context.default_skills,
            "plateau": checked["plateau"] or None,
            "early_stop": early_stop,
        }
        | patched
    )
    resolved = {name: value for name, value in resolved.items() if value or name not in ("ask", *CHOICES)}
    if given.get("source"):
        # What is mended may be drawn anew, unless something of it has to be kept.
        if not given.get("mending") or "mask" in given or checked["repair"] == "always":
            check_editing(generator)
        resolved |= {name: given[name] for name in ("source", "mending", "mask", "instruction") if given.get(name)}
    return cast("Options", resolved)


RULES = ("max_rounds", "plateau", "repair", "candidates")
"""Options whose defaults a patch may change."""


def _resolve_patches(given: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the names of the patches of a run, the recipe that they make, and the defaults that they change.

    Runs of profile `paper` have none.
    """
    known, wanted = context.patches, given.get("patches")
    if OPTIONS["profile"].check(given.get("profile")) == "paper":
        if wanted:
            raise OptionError("Runs of profile paper take no patches.", hint="Use profile balanced.")
        return {}
    names = (known.in_force if known else ()) if wanted is None else tuple(wanted)
    if not names:
        return {}
    if known is None:
        raise OptionError("There are no patches here.", hint="Leave the patches out.")
    rules: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    for patch in known.select(names):
        if patch.kind == "rule":
            rules[patch.target] = patch.values["value"]
        elif patch.kind == "recipe" and patch.target == context.generator.capabilities.model:
            recipe |= patch.values
    found: dict[str, Any] = {"patches": list(names), "rules": rules}
    return found | ({"recipe": recipe} if recipe else {})


def check_editing(generator: GeneratorCapabilities) -> None:
    """Raise EditingUnsupportedError if the generator cannot edit images."""
    if not generator.editing:
        raise EditingUnsupportedError(
            f"{generator.model} cannot edit images.",
            hint="Leave the source out, or use a generator that edits, such as openai:MODEL@BASE_URL.",
        )


def check_instruction(instruction: Any) -> str:
    """Return what is to be changed in an image; OptionError if it is no text or longer than 2,000 characters."""
    if not isinstance(instruction, str) or not is_unicode(instruction):
        raise OptionError("The instruction is no valid text.", hint="Say in words what to change.")
    if len(instruction) > MAX_INSTRUCTION:
        raise OptionError(f"The instruction has more than {MAX_INSTRUCTION:,} characters.", hint="Shorten it.")
    return instruction.strip()


def price_settings(part: str, chosen: Mapping[str, Any]) -> list[str]:
    """Return the settings of the prices of a role, `chat` or `generator`, for a run with the options `chosen`."""
    fields = ("usd_per_image",) if part == "generator" else ("input_usd_per_million", "output_usd_per_million")
    if name := chosen.get(part):
        return [f"{field} of {name} in GEMS_OFFERED_{part.upper()}S" for field in fields]
    return [f"GEMS_{part.upper()}__{field.upper()}" for field in fields]


def check_prices(unknown: Sequence[str], usd_per_image: float | None, chosen: Mapping[str, Any] = NO_OPTIONS) -> None:
    """Reject a budget if a price is unknown, rather than overspend.

    `unknown` are chat roles without prices, `chosen` the options of the run, which may name models on offer.
    """
    parts = [*unknown[:1], *(["generator"] if usd_per_image is None else [])]
    if hints := [name for part in parts for name in price_settings(part, chosen)]:
        raise OptionError(
            "budget_usd is set, but not all prices are known.", hint=f"Set {', '.join(hints)}, or use max_images."
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
    """Return a seed in [0, COMMON_SEEDS) that depends only on the identity."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return int.from_bytes(digest[:4]) % COMMON_SEEDS


def is_unicode(text: str) -> bool:
    """Return whether the text can be stored and sent; lone surrogates, which JSON can contain, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


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
    """An image to edit: a PNG, JPEG, WebP, GIF, AVIF or HEIC file or its bytes."""
    mask: bytes | Path | None
    """Where the source may be changed: an image of its size that is white or transparent there; by default everywhere.
    Outside of it, no pixel changes."""
    mending: bool
    """Whether the source is the first round, which is judged and mended, instead of being edited in each round."""
    instruction: str | None
    """What to change first in an image that is mended, in the user's own words, at most 2,000 characters."""
    patches: Sequence[str] | None
    """Ids of the patches of this home to use, adopted or not; by default those that are in force. An empty list is for
    a run without any."""
    new_id: str | None
    """The new run's id, for callers that must know it in advance. At most 100 letters, digits, `.`, `_` and
    `-`, and unused; by default built from the time and a random part."""


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
