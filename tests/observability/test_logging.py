"""Lines of the log: which form they have, which run they are about, and that they hold no key."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gems.observability.logging import configure_logging, within_run
from gems.settings import Settings
from tests.support.log_state import logging_as_before
from tests.support.scripted_models import checks
from tests.support.scripted_service import House

KEY = "sk-proj-0123456789abcdef"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is the whole process's."""
    with logging_as_before():
        yield


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(form: Any) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(Settings(log=form), stream)
    return stream


def test_json_lines() -> None:
    stream = configured("json")
    with within_run("20260101-000000-abcdef", 2):
        logging.getLogger("gems.models").info("said\nso: %s, key %s", "ünï", KEY)
    logging.getLogger("other").warning("elsewhere")
    logging.getLogger("other").info("not of interest")
    ours, other = lines(stream)
    assert ours.pop("time").endswith("+00:00")
    assert ours == {
        "level": "info",
        "logger": "gems.models",
        "message": "said\nso: ünï, key [secret]",
        "run_id": "20260101-000000-abcdef",
        "round": 2,
    }
    assert (other["logger"], other["run_id"], other["round"]) == ("other", None, None)


@pytest.mark.parametrize("form", ["json", "text"])
def test_tracebacks_hold_no_key(form: str) -> None:
    stream = configured(form)
    try:
        {}[KEY]
    except LookupError:
        logging.getLogger("gems").exception("It failed with %s.", KEY)
    assert KEY not in stream.getvalue()
    assert "KeyError: '[secret]'" in stream.getvalue()


def test_text_lines_are_lines() -> None:
    stream = configured("text")
    with within_run("20260101-000000-abcdef", 2):
        logging.getLogger("gems").warning("one\n2026-01-01 ERROR root: forged")
    with within_run("20260101-000000-abcdef"):
        logging.getLogger("gems").warning("two")
    first, second = stream.getvalue().splitlines()
    assert "WARNING gems [20260101-000000-abcdef round 2]: one 2026-01-01 ERROR" in first
    assert second.endswith("gems [20260101-000000-abcdef]: two")


def test_configuring_again_changes_the_form_and_doubles_nothing() -> None:
    first, second = configured("text"), configured("json")
    logging.getLogger("gems").info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


async def test_lines_know_their_run_and_round(tmp_path: Path) -> None:
    stream = configured("json")
    house = House(tmp_path / "home")
    # What the reflector does counts for the round that it prepares.
    house.chat.script["checklist"] = [checks("yes", "no")] * 4
    house.chat.script["reflect"] = "no answer of the form that is asked for"
    async with house.gems() as gems:
        results = await asyncio.gather(*(gems.run(f"cat {n}", seed=n, max_rounds=2) for n in range(2)))
        logging.getLogger("gems").info("afterwards")
    told = lines(stream)
    warned = [line for line in told if line["logger"] == "gems.nodes.context"]
    assert {(line["run_id"], line["round"]) for line in warned} == {(each.run_id, 2) for each in results}
    assert all(f"Run {line['run_id']}, round 2" in line["message"] for line in warned)
    assert told[-1]["message"] == "afterwards"
    assert told[-1]["run_id"] is None


async def test_a_listener_that_leaves_takes_no_run_along(tmp_path: Path) -> None:
    stream = configured("json")
    async with House(tmp_path / "home").gems() as gems:
        events = gems.stream("a cat", seed=7)
        await events.__anext__()
        await events.aclose()
        logging.getLogger("gems").info("afterwards")
    assert lines(stream)[-1]["run_id"] is None
