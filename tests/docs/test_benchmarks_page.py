"""The page about benchmarks says what the tasks say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gems.evals.generator_profiles import PROFILES
from gems.evals.registry import TASKS, load_task

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
# The one that comes with GEMS has a page of its own.
NINE = [name for name in TASKS if name != "blocks-bench"]
ROWS = {
    found[0]: [cell.strip() for cell in found[1].split("|")]
    for found in re.findall(r"^\| `([\w-]+)` \|(.*)\|$", PAGE, re.MULTILINE)[: len(NINE)]
}


def test_all_are_there() -> None:
    assert list(ROWS) == NINE


@pytest.mark.parametrize("name", NINE)
def test_row(name: str) -> None:
    title, prompts, images, data, licence = ROWS[name]
    known = load_task(name)
    assert title.startswith(known.title)
    assert [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", prompts)] == [
        known.size[language] for language in known.languages
    ]
    assert int(images) == known.samples_per_prompt
    assert f"({known.source.url})" in data
    assert known.source.licence.split(";")[0].split()[0] in licence


def test_the_sum() -> None:
    total = sum(load_task(name).samples_per_prompt * sum(load_task(name).size.values()) for name in NINE)
    assert f"{total:,} images" in PAGE


def test_profiles() -> None:
    for profiles in PROFILES.values():
        for profile in profiles.values():
            assert f"| {profile.size} | {profile.steps} |" in PAGE
