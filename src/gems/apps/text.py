"""Format counts, amounts and facts of runs as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gems.types import total_usage

if TYPE_CHECKING:
    from gems.results import CheckedRequirement, RunResult
    from gems.types import SkillUse, Usage

# Control characters could move the cursor, change colours or hide text; so could bidirectional overrides.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean_text(text: str) -> str:
    """Replace characters that a terminal interprets, except line breaks and tabs."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str, most: int | None = None) -> str:
    """Join lines, and truncate to `most` characters with an ellipsis."""
    line = clean_text(" ".join(text.split()))
    return line if most is None or len(line) <= most else f"{line[: most - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def pluralize(number: int, noun: str) -> str:
    """Format a count: `1 round`, `2 rounds`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_usd(usd: float) -> str:
    """Format US dollars: to the cent, and amounts below one cent to 0.0001."""
    return f"${usd:,.4f}" if 0 < usd < 0.01 else f"${usd:,.2f}"


def format_requirement(item: CheckedRequirement) -> str:
    """Format the state of a requirement, its question and the evidence."""
    state = {"yes": "met", "no": "not met", "unknown": "unknown"}[item.answer]
    return f"{state}: {one_line(item.question)}  {one_line(item.evidence)}".rstrip()


def verdict_line(result: RunResult) -> str:
    """Format requirements met, rounds, stop reason and score."""
    met = sum(item.answer == "yes" for item in result.requirements)
    rounds = pluralize(len(result.rounds), "round")
    reason = result.stop_reason or result.status
    all_of_them = pluralize(len(result.requirements), "requirement")
    return f"{met} of {all_of_them} met after {rounds} ({reason}), score {result.score:.2f}"


def usage_line(result: RunResult) -> str:
    """Format images, chat calls, tokens, seconds and cost."""
    total, chat = total_usage(result.usage), total_usage(result.usage, chat_only=True)
    parts = [
        pluralize(total["calls"] - chat["calls"], "image"),
        pluralize(chat["calls"], "chat call"),
        pluralize(chat["input_tokens"] + chat["output_tokens"], "token"),
        *_format_waste(chat),
        f"{result.seconds:,.1f} s",
    ]
    if result.usage and total["usd"] is not None:
        parts.append(format_usd(total["usd"]))
    return ", ".join(parts)


def _format_waste(used: Usage) -> list[str]:
    """Format the calls whose replies were of no use, if there were any."""
    calls, tokens = used.get("wasted_calls", 0), used.get("wasted_tokens", 0)
    return [f"{pluralize(calls, 'call')} with {pluralize(tokens, 'token')} wasted"] if calls else []


def format_usage(used: Usage) -> str:
    """Format calls, seconds, tokens, images sent and cost."""
    parts = [pluralize(used["calls"], "call"), f"{used['seconds']:,.1f} s"]
    if used["input_tokens"] or used["output_tokens"]:
        parts.append(f"{used['input_tokens']:,} tokens in, {used['output_tokens']:,} out")
    parts += _format_waste(used)
    if used["images_sent"]:
        parts.append(f"{pluralize(used['images_sent'], 'image')} sent ({used['image_bytes_sent']:,} bytes)")
    if used["usd"] is not None:
        parts.append(format_usd(used["usd"]))
    return ", ".join(parts)


def format_skill_use(use: SkillUse) -> str:
    """Format the use of a skill."""
    if use["fault"]:
        return f"skill {use['name']}: skipped"
    notes = [pluralize(len(use["requirements"]), "requirement") + " added"] if use["requirements"] else []
    notes += [f"{len(use['restored'])} restored"] if use["restored"] else []
    notes += [f"{name} {value}" for name, value in use["drawing"].items()]
    more = f" ({', '.join(notes)})" if notes else ""
    return f"skill {use['name']}{more}: {one_line(use['prompt'], 200)}"
