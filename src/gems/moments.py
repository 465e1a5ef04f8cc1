"""Moments as people say them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from gems.errors import OptionError

_AGO = re.compile(r"(\d{1,6})\s*(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = re.compile(r"\d{4}-?\d{2}-?\d{2}")


def parsed_moment(said: str, *, now: datetime, end: bool = False) -> datetime:
    """The moment that `said` means; a date without a zone is local.

    Args:
        said: `2026-01-31` or `2026-01-31T12:00`, with or without a zone; or how long ago: `30m`, `12h`, `3d`,
            `2w`.
        now: With a zone.
        end: Whether a whole day means its end rather than its beginning.

    Raises:
        OptionError: it is none of these.
    """
    text = said.strip()
    try:
        if ago := _AGO.fullmatch(text.lower()):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text).astimezone()
        return moment + timedelta(days=1) if end and _DAY.fullmatch(text) else moment
    except (ValueError, OverflowError, OSError):
        raise OptionError(
            f"{said[:40]!r} is no moment.",
            hint="Say a date such as 2026-01-31 or 2026-01-31T12:00, or how long ago: 30m, 12h, 3d, 2w.",
        ) from None


def parsed_age(said: str) -> timedelta:
    """The span that `said` means: `30m`, `12h`, `3d`, `2w`.

    Raises:
        OptionError: it is none of these.
    """
    found = _AGO.fullmatch(said.strip().lower())
    if found is None:
        raise OptionError(f"{said[:40]!r} is no span of time.", hint="Say for example 30m, 12h, 3d or 2w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
