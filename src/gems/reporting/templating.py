"""Templates of pages, and figures as people read them."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """Where the templates of a package are found; everything that is put into them is data.

    Args:
        package: Holds the templates.
    """
    made = Environment(
        # Everything is data: prompts, answers, names of models.
        autoescape=True,
        loader=PackageLoader(package, ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "usd": usd, "duration": duration}
    return made


def policy_hash(text: str) -> str:
    """What a content security policy allows a style or a script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def percent(share: float) -> str:
    """A share in [0, 1]."""
    # Rounded down: only what is complete may look complete.
    return f"{int(share * 100 + 1e-9)} %"


def usd(amount: float | None) -> str:
    """US dollars."""
    if amount is None:
        return "not known"
    return f"${amount:,.4f}" if 0 < amount < 0.01 else f"${amount:,.2f}"


def duration(seconds: float) -> str:
    """A time from seconds to hours."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
