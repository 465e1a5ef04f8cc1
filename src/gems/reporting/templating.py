"""Jinja environment and filters of pages."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """Return the Jinja environment for the templates of a package; everything passed to them is escaped."""
    jinja = Environment(
        # Everything is data: prompts, answers, model names.
        autoescape=True,
        loader=PackageLoader(package, ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"percent": percent, "usd": usd, "duration": duration}
    return jinja


def policy_hash(text: str) -> str:
    """Return the hash by which a content security policy allows a style or a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def percent(share: float) -> str:
    """Format a share in [0, 1] as a percentage."""
    # Rounded down: only 1.0 may be shown as 100 %.
    return f"{int(share * 100 + 1e-9)} %"


def usd(amount: float | None) -> str:
    """Format US dollars."""
    if amount is None:
        return "not known"
    return f"${amount:,.4f}" if 0 < amount < 0.01 else f"${amount:,.2f}"


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
