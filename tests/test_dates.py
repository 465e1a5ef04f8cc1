"""Parse dates and durations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gems.errors import OptionError
from gems.options import parse_datetime, parse_duration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        (" 12H ", NOW - timedelta(hours=12)),
        ("3d", NOW - timedelta(days=3)),
        ("2 w", NOW - timedelta(weeks=2)),
        ("2026-01-31T10:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T10:00Z", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31).astimezone()),
    ],
)
def test_moments(said: str, meant: datetime) -> None:
    assert parse_datetime(said, now=NOW) == meant


def test_a_whole_day_ends_with_it() -> None:
    day, next_day = (parse_datetime(f"2026-01-{day}", now=NOW) for day in (30, 31))
    assert parse_datetime("2026-01-30", now=NOW, end=True) == next_day
    assert parse_datetime("20260130", now=NOW, end=True) == next_day
    assert parse_datetime("2026-01-30T00:00", now=NOW, end=True) == day
    assert parse_datetime("3d", now=NOW, end=True) == NOW - timedelta(days=3)


@pytest.mark.parametrize("said", ["", "yesterday", "3", "3y", "-3d", "2026-13-01", "9" * 7 + "d", "999999w"])
def test_what_is_no_moment(said: str) -> None:
    with pytest.raises(OptionError, match="Invalid date or age"):
        parse_datetime(said, now=NOW)


def test_ages() -> None:
    assert parse_duration("2w") == timedelta(days=14)
    for said in ("2026-01-31", "soon", ""):
        with pytest.raises(OptionError, match="Invalid duration"):
            parse_duration(said)
