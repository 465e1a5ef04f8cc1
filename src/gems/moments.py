"""Parse dates and durations."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from gems.errors import OptionError

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
