"""What a run will cost, estimated before anything is asked or drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from gems.models import prices
from gems.models.specs import parse_chat_spec, parse_generator_spec
from gems.observability.redaction import redact
from gems.options import CHOICES, price_settings
from gems.resources import Resources
from gems.settings import Settings, with_models
from gems.state import Context
from gems.types import Options, Profile, Role, RunRow

MOST_RUNS = 20
"""Number of past runs that are looked at, the newest first."""
_REQUIREMENTS = (4, 16)
"""Requirements of a short and of a long prompt; up to 16 are one question to the judge."""
# Assumed per call. The loop's own texts have 300 to 700 tokens (counted in runs of the built-in world); lessons and
# skills add to them. An image of 1.5 megapixels has 1,100 tokens for Gemini and about 2,000 for GPT and Claude.
# Thinking multiplies what is written, so the upper bound allows four times as much.
_TEXT_TOKENS = 1_200
_IMAGE_TOKENS = 1_600
_OUTPUT_TOKENS = (250, 1_000)


class Estimate(BaseModel):
    """Expected calls, images and dollars of a run."""

    model_config = ConfigDict(frozen=True)

    basis: Literal["past_runs", "pattern"] = Field(
        description="Runs of the same models, profile and candidates in this home, or the pattern of calls of a run."
    )
    runs: int = Field(description="Number of past runs; 0 for the pattern.")
    images_low: int
    images_high: int = Field(description="With all rounds.")
    calls_low: int = Field(description="Calls of chat models.")
    calls_high: int
    usd_low: float | None = Field(description="US dollars; null if a price is not known.")
    usd_high: float | None
    unpriced: list[str] = Field(description="Settings of the prices that are not known.")
    models: dict[str, str] = Field(description="By role, and the generator.")
    prices: str = Field(description="Origin of prices that the settings do not give; empty if there are none.")


class _Past(NamedTuple):
    images: float
    calls: float
    usd: float | None


def estimate_run(options: Options, resources: Resources, rows: Sequence[RunRow], settings: Settings) -> Estimate:
    """Estimate a run with `options` from past runs, or from the calls that a run makes.

    Past runs are those with the same models, profile and number of candidates; of one with more rounds than are allowed
    now, a share counts. Without any, the range is from a short prompt that passes in its first round to a long one
    that needs all rounds.

    Args:
        options: Of the run.
        resources: The models.
        rows: Runs of this home, the newest first.
        settings: Those of the models, which say whose prices come from the table of known models.
    """
    models, context = resources.models(options), resources.context(options)
    unpriced = _find_unpriced(context, options)
    found = (_read_past(row, options, models) for row in rows)
    # A run from before the prices were known says nothing about them.
    past = [run for run in found if run is not None and (unpriced or run.usd is not None)][:MOST_RUNS]
    low, high = _range_of(past) if past else _follow_pattern(options, context)
    is_priced = not unpriced and None not in (low.usd, high.usd)
    chosen: dict[str, Any] = {name: options.get(name) or None for name in CHOICES}
    tabled = _find_tabled(with_models(settings, **chosen))
    origin = f"Prices of {prices.DATE} for {', '.join(tabled)}; settings override them." if tabled else ""
    return Estimate(
        basis="past_runs" if past else "pattern",
        runs=len(past),
        images_low=round(low.images),
        images_high=round(high.images),
        calls_low=round(low.calls),
        calls_high=round(high.calls),
        usd_low=low.usd if is_priced else None,
        usd_high=high.usd if is_priced else None,
        unpriced=unpriced,
        models=models,
        prices=origin,
    )


def _read_past(row: RunRow, options: Options, models: dict[str, str]) -> _Past | None:
    """Return what a past run used, cut to the rounds allowed now; None if it does not compare."""
    summary, then = row["summary"], row["options"]
    same = all(then.get(name) == options[name] for name in ("profile", "candidates"))
    rounds, calls = summary.get("rounds"), summary.get("calls")
    if row["models"] != models or not same or row["forked_from"] or not rounds or calls is None:
        return None
    share = min(1.0, options["max_rounds"] / rounds)
    usd = summary.get("usd")
    return _Past(summary["images"] * share, calls * share, None if usd is None else usd * share)


def _range_of(past: Sequence[_Past]) -> tuple[_Past, _Past]:
    def bound(choose: Callable[[Sequence[Any]], Any]) -> _Past:
        dollars = [run.usd for run in past]
        usd = None if None in dollars else choose(dollars)
        return _Past(choose([run.images for run in past]), choose([run.calls for run in past]), usd)

    return bound(min), bound(max)


def _follow_pattern(options: Options, context: Context) -> tuple[_Past, _Past]:
    """Return what a run uses that passes in its first round, and one that needs all rounds."""
    found = []
    for rounds, requirements, output in zip((1, options["max_rounds"]), _REQUIREMENTS, _OUTPUT_TOKENS, strict=True):
        images, most = rounds * options["candidates"], options["max_images"]
        images = images if most is None else min(images, most)
        calls = _count_calls(options["profile"], rounds, images, requirements)
        found.append(_Past(images, sum(calls.values()), _price(calls, images, output, context)))
    return found[0], found[1]


def _count_calls(profile: Profile, rounds: int, images: int, requirements: int) -> dict[Role, int]:
    """Return calls by role."""
    if profile == "paper":
        # Plan and requirements; a question per requirement; a summary and a prompt.
        return {"planner": 2, "judge": images * requirements, "reflector": 2 * (rounds - 1)}
    # Plan, requirements and what they miss; a checklist per image and a second look per round; both in one answer.
    return {"planner": 3, "judge": images + rounds, "reflector": rounds - 1}


def _price(calls: dict[Role, int], images: int, output: int, context: Context) -> float | None:
    """Return the dollars of calls and images; None if a price is not known."""
    each = context.generator.capabilities.price_usd
    if each is None:
        return None
    total = images * each
    for role, count in calls.items():
        read = _TEXT_TOKENS + (0 if role == "planner" else _IMAGE_TOKENS)
        price = context.chats[role].price(count * read, count * output)
        if price is None:
            return None
        total += price
    return total


def _find_unpriced(context: Context, options: Options) -> list[str]:
    """Return the settings of prices that are not known."""
    names = [role for role, chat in context.chats.items() if chat.price(0, 0) is None]
    # Roles without a model of their own share the common settings.
    shared = len(names) == len(context.chats)
    parts: list[str] = ["chat"] if shared and not options.get("judge") else [*names]
    parts += ["generator"] if context.generator.capabilities.price_usd is None else []
    return [name for part in parts for name in price_settings(part, options)]


def _find_tabled(settings: Settings) -> list[str]:
    """Return the models whose prices come from the table of known models."""
    chats = [settings.chat_for(role) for role in get_args(Role)]
    found = [
        each.model
        for each in chats
        if each.input_usd_per_million is None is each.output_usd_per_million
        and prices.find_chat_price(spec := parse_chat_spec(each.model)) is not None
        and spec.kind != "blocks"
    ]
    drawing = settings.generator
    spec = parse_generator_spec(drawing.model)
    if drawing.usd_per_image is None and spec.kind != "blocks" and prices.find_image_price(spec, drawing.quality):
        found.append(drawing.model)
    return [redact(model) for model in dict.fromkeys(found)]
