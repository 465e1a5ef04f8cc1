"""Options of a run: checked and completed; dates and durations."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gems.apps.cli import main
from gems.apps.server.langserve import RunInput
from gems.apps.server.openai.schemas import ImageBody
from gems.apps.server.schemas import ForkRequest, RunRequest
from gems.apps.web.controller import parse_form
from gems.errors import NotOfferedError, OptionError, PromptError, SizeError
from gems.evals.batch import BatchRow
from gems.generation import COMMON_SEEDS, SEEDS
from gems.models.chat.capabilities import ChatLimits
from gems.options import (
    MAX_PROMPT,
    OPTIONS,
    candidate_seed,
    check_prompt,
    given_options,
    parse_datetime,
    parse_duration,
    parse_size,
    resolve_options,
)
from tests.support.option_interfaces import shown_names
from tests.support.scripted_models import FREE, Desk, FlatGenerator, opened_desk


def completed(desk: Desk, **given: Any) -> Any:
    return resolve_options(given, desk.context)  # type: ignore[arg-type]


async def test_defaults(desk: Desk) -> None:
    options = completed(desk)
    assert 0 <= options.pop("seed") < COMMON_SEEDS
    assert options == {
        "max_rounds": 8,
        "candidates": 1,
        "width": 64,
        "height": 64,
        "sized": False,
        "profile": "balanced",
        "negative_prompt": "",
        "skills": "auto",
        "max_images": None,
        "budget_usd": None,
        "deadline_s": None,
        "plateau": 7,
        "early_stop": True,
        "repair": "auto",
        "memory": True,
    }


async def test_models_are_chosen_by_name(desk: Desk) -> None:
    narrow = FlatGenerator(price_usd=None)
    narrow.capabilities = replace(narrow.capabilities, default_size=(128, 32))
    context = replace(desk.context, generators={"narrow": narrow}, judges={"strict": desk.context.chats["judge"]})
    chosen = resolve_options({"generator": "narrow", "judge": "strict"}, context)
    assert (chosen["generator"], chosen["judge"]) == ("narrow", "strict")
    assert (chosen["width"], chosen["height"]) == (128, 32)
    assert not {"generator", "judge"} & resolve_options({"generator": "", "judge": None}, context).keys()
    for kind in ("generator", "judge"):
        with pytest.raises(NotOfferedError, match=f"{kind} 'nobody' is not on offer"):
            resolve_options({kind: "nobody"}, context)
    with pytest.raises(OptionError, match="usd_per_image of narrow in GEMS_OFFERED_GENERATORS"):
        resolve_options({"generator": "narrow", "budget_usd": 1}, context)


async def test_the_papers_profile_knows_no_plateau(desk: Desk) -> None:
    assert completed(desk, profile="paper")["plateau"] is None
    assert completed(desk, profile="paper", plateau=2)["plateau"] == 2
    assert completed(desk, plateau=0)["plateau"] is None


async def test_the_papers_profile_draws_as_many_rounds_as_the_paper(desk: Desk) -> None:
    options = completed(desk, profile="paper")
    assert (options["max_rounds"], options["early_stop"]) == (5, False)
    assert completed(desk, profile="paper", max_rounds=3)["max_rounds"] == 3


@pytest.mark.parametrize("plateau", [0, 3, 7])
async def test_rounds_without_progress_that_were_asked_for_are_given(desk: Desk, plateau: int) -> None:
    assert not completed(desk, plateau=plateau)["early_stop"]


async def test_seed_is_drawn_by_chance(desk: Desk) -> None:
    assert len({completed(desk)["seed"] for _ in range(8)}) > 1


async def test_resolving_again_changes_nothing(desk: Desk) -> None:
    once = completed(desk, candidates=3, size="96x64", deadline_s=5, max_images=7, seed=0)
    given = {name: value for name, value in once.items() if value is not None}
    given |= {"size": f"{given.pop('width')}x{given.pop('height')}"}
    assert completed(desk, **given) == once


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_rounds", 1),
        ("max_rounds", 50),
        ("candidates", 16),
        ("seed", 0),
        ("seed", 3484050600),
        ("seed", SEEDS - 1),
        ("max_images", 1),
        ("deadline_s", 0.5),
    ],
)
async def test_limits_are_within_the_range(desk: Desk, name: str, value: Any) -> None:
    assert completed(desk, **{name: value})[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_rounds", 0),
        ("max_rounds", 51),
        ("max_rounds", 2.0),
        ("max_rounds", True),
        ("candidates", 0),
        ("candidates", 17),
        ("candidates", "3"),
        ("seed", -2),
        ("seed", SEEDS),
        ("max_images", 0),
        ("plateau", -1),
        ("plateau", 51),
        ("deadline_s", 0),
        ("deadline_s", -1),
        ("deadline_s", float("inf")),
        ("deadline_s", float("nan")),
        ("budget_usd", 0),
        ("budget_usd", "1"),
        ("profile", "fast"),
        ("size", "big"),
        ("size", "64"),
        ("size", "64x"),
        ("size", "-64x64"),
    ],
)
async def test_out_of_range_is_named(desk: Desk, name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{name}|profile|size"):
        completed(desk, **{name: value})


@pytest.mark.parametrize("size", ["15x64", "64x2049", "0x0"])
async def test_size_that_cannot_be_drawn(desk: Desk, size: str) -> None:
    with pytest.raises(SizeError):
        completed(desk, size=size)


@pytest.mark.parametrize("text", ["640x480", "640X480", " 640 x 480 ", "640×480"])  # noqa: RUF001
def test_sizes_as_people_type_them(text: str) -> None:
    assert parse_size(text) == (640, 480)


@pytest.mark.parametrize("prompt", ["", "  \n", None, 3, ["a cat"], "x" * (MAX_PROMPT + 1)])
def test_prompts_that_cannot_be_drawn(prompt: Any) -> None:
    with pytest.raises(PromptError):
        check_prompt(prompt)


def test_prompt_stays_as_it_was_given() -> None:
    assert check_prompt("  a cat\n") == "  a cat\n"
    assert check_prompt("x" * MAX_PROMPT)


@pytest.mark.parametrize(
    ("limits", "price", "missing"),
    [
        (ChatLimits(), 1.0, "INPUT_USD_PER_MILLION"),
        (FREE, None, "GENERATOR__USD_PER_IMAGE"),
        (replace(FREE, output_usd=None), 1.0, "OUTPUT_USD_PER_MILLION"),
    ],
)
async def test_budget_without_prices_is_refused(
    tmp_path: Path, limits: ChatLimits, price: float | None, missing: str
) -> None:
    generator = FlatGenerator(price_usd=price)
    async with opened_desk(tmp_path, generator=generator, limits=limits) as desk:
        with pytest.raises(OptionError, match=missing):
            completed(desk, budget_usd=1.0)
        assert completed(desk)["budget_usd"] is None


async def test_budget_with_prices(desk: Desk) -> None:
    assert completed(desk, budget_usd=1)["budget_usd"] == 1.0


async def test_a_seed_at_random(desk: Desk) -> None:
    seeds = {completed(desk, seed=-1)["seed"] for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed < COMMON_SEEDS for seed in seeds)


@pytest.mark.parametrize("seed", [-1, 3484050600, SEEDS - 1])
def test_every_interface_takes_the_seeds_of_other_programs(seed: int) -> None:
    for body in (
        RunRequest(prompt="a cat", seed=seed),
        RunInput(prompt="a cat", seed=seed),
        ForkRequest(round=1, seed=seed),
        ImageBody(prompt="a cat", seed=seed),
        BatchRow(prompt="a cat", seed=seed),
    ):
        assert given_options(body)["seed"] == seed
    for typed in (str(seed), float(seed), f" {seed} "):
        assert parse_form({"seed": typed})["seed"] == seed


def test_first_image_has_the_runs_own_seed() -> None:
    assert candidate_seed(7, 1, 0) == 7


def test_all_seeds_are_in_range_and_repeatable() -> None:
    seeds = [candidate_seed(SEEDS - 1, number, index) for number in (1, 2, 50) for index in (0, 15)]
    assert seeds[0] == SEEDS - 1
    assert all(0 <= seed < COMMON_SEEDS for seed in seeds[1:])
    assert seeds == [candidate_seed(SEEDS - 1, number, index) for number in (1, 2, 50) for index in (0, 15)]


def test_runs_with_neighbouring_seeds_share_no_seed() -> None:
    places = [(seed, number, index) for seed in range(8) for number in range(1, 6) for index in range(4)]
    assert len({candidate_seed(*place) for place in places}) == len(places)


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "meant"), [(["a", "b"], "a, b"), (("a",), "a"), ([], "none"), ("a,b", "a,b"), (None, None), ("", None)]
)
def test_skills_may_be_listed(given: Any, meant: Any) -> None:
    assert OPTIONS["skills"].check(given) == meant


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


_SHARED = {
    "size": "the shared images have it",
    "profile": "it decided how the shared rounds were made",
    "skills": "they shaped the shared rounds",
    "memory": "the shared rounds used lessons, or did not",
}
_ASK = {"ask": "nobody answers there between two rounds"}
_OPENAI = _ASK | {
    "repair": "`/v1/images/edits` is for images that are changed",
    "max_images": "`n`, `quality` and `candidates` limit it",
    "plateau": "`quality` decides how many rounds are worth it",
    "memory": "a client of OpenAI expects no memory to choose",
    "generator": "`model` names it",
}
_TOOL = _ASK | {
    "repair": "models choose better among few arguments",
    "max_images": "`max_rounds` and `candidates` limit it, and models choose better among few arguments",
    "plateau": "models choose better among few arguments",
    "memory": "the owner of the server decides, not a model",
}
_OF_IMAGE = {"size": "the image has it", "profile": "the paper's method does not mend"}
WITHOUT: dict[str, dict[str, str]] = {
    "gems fork": _SHARED,
    "POST /runs/ID/fork": _SHARED,
    "POST /v1/images/generations": _OPENAI,
    "POST /v1/images/edits": _OPENAI,
    "POST /v1/chat/completions": _OPENAI,
    "generate_image": _TOOL,
    "edit_image": {**_TOOL, "profile": "the paper's method does not edit"},
    "gems batch": _ASK
    | {
        "memory": "`--learn` decides for all rows",
        "generator": "`--generator` decides for all rows, and the folder records it",
        "judge": "`--judge` decides for all rows, and the folder records it",
    },
    "gems repair": _OF_IMAGE,
    "POST /repair": _OF_IMAGE,
    "repair_image": _TOOL | _OF_IMAGE,
    "web page": {
        "max_images": "whoever watches the page can cancel the run",
        "budget_usd": "whoever watches the page sees the cost and can cancel the run",
        "deadline_s": "whoever watches the page can cancel the run",
        "plateau": "whoever watches the page can cancel the run",
    },
}
"""Options that an interface leaves out, and why."""


async def test_every_interface_has_every_option(tmp_path: Path) -> None:
    shown = await shown_names(tmp_path)
    assert WITHOUT.keys() - shown.keys() <= {"web page"}
    for interface, names in shown.items():
        assert OPTIONS.keys() - names == WITHOUT.get(interface, {}).keys(), interface


def test_a_new_option_appears_in_every_interface(tmp_path: Path) -> None:
    """It is declared before anything else is imported, as if it stood in `RunOptions`."""
    script = """
import asyncio, json, sys
from pathlib import Path
from typing import Annotated
from gems import options

sparkle = options.Option("Sparkle.", ge=1, le=9)
options.RunOptions.__annotations__["sparkle"] = Annotated[int | None, sparkle]
options.OPTIONS.update(options._declared_options())
from gems.generation import COMMON_SEEDS, SEEDS
from tests.support.option_interfaces import shown_names

shown = asyncio.run(shown_names(Path(sys.argv[1])))
print(json.dumps({interface: "sparkle" in names for interface, names in shown.items()}))
"""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert {"gems run", "POST /runs", "generate_image", "Studio", "gems batch"} <= found.keys()
    assert all(found.values()), found


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_rounds", 0, "0; it must be a whole number from 1 to 50."),
        ("candidates", 17, "17; it must be a whole number from 1 to 16."),
        ("seed", SEEDS, "4294967296; it must be a whole number from -1 to 4294967295."),
        ("budget_usd", 0.0, "0.0; it must be a number above 0."),
        ("deadline_s", -1.0, "-1.0; it must be a number above 0."),
    ],
)
async def test_every_interface_reports_a_bad_value_alike(
    desk: Desk, name: str, value: float, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OptionError) as raised:
        completed(desk, **{name: value})
    assert raised.value.message == f"{name} is {expected}"
    bodies: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (RunRequest, {"prompt": "a cat"}),
        (ForkRequest, {"round": 1}),
        (ImageBody, {"prompt": "a cat"}),
        (BatchRow, {"prompt": "a cat"}),
    ]
    for model, rest in bodies:
        with pytest.raises(ValidationError) as refused:
            model.model_validate({**rest, name: value})
        assert [fault["msg"] for fault in refused.value.errors()] == [f"{name} is {expected}"]
    flag = OPTIONS[name].flag
    with pytest.raises(SystemExit) as ended:
        main(["run", "a cat", f"{flag}={value}"])
    assert ended.value.code == 2
    said = expected.partition("; ")[2]
    assert said in capsys.readouterr().err
    if "web" not in OPTIONS[name].without:
        with pytest.raises(OptionError, match=re.escape(said)):
            parse_form({name: value})
