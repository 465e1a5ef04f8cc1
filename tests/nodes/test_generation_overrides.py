"""How images are drawn: the user first, then skills."""

from __future__ import annotations

from typing import Any

import pytest

from gems.errors import SkillError
from gems.nodes.generator import check_overrides, image_size, merge_overrides
from gems.state import negative_prompt
from gems.types import DrawingSettings, GeneratorCapabilities
from tests.support.scripted_models import OPTIONS

ANY = GeneratorCapabilities(model="flat", default_size=(64, 64), min_side=16, max_side=512, size_multiple=16)
FREE: Any = OPTIONS | {"sized": False}


def state(drawing: DrawingSettings, **options: Any) -> Any:
    return {"options": FREE | options, "drawing": drawing}


@pytest.mark.parametrize(
    ("users", "skills", "drawn"),
    [("", "", ""), ("blur", "", "blur"), ("", "noise", "noise"), ("blur", "noise", "blur, noise")],
)
def test_negative_prompts_are_joined(users: str, skills: str, drawn: str) -> None:
    assert negative_prompt(state({"negative_prompt": skills}, negative_prompt=users)) == drawn


@pytest.mark.parametrize(
    ("drawing", "sized", "drawn"),
    [
        ({"size": "96x32"}, False, (96, 32)),
        ({"size": "96x32"}, True, (64, 64)),
        ({}, False, (64, 64)),
    ],
)
def test_size_is_the_users_first(drawing: Any, sized: bool, drawn: tuple[int, int]) -> None:
    assert image_size(state(drawing, sized=sized)) == drawn


def test_of_two_skills_the_first_counts() -> None:
    first: DrawingSettings = {"negative_prompt": "blur", "steps": 4}
    second: DrawingSettings = {"negative_prompt": "noise", "steps": 8, "guidance": 2.0}
    assert merge_overrides(first, second) == {"negative_prompt": "blur, noise", "steps": 4, "guidance": 2.0}
    assert merge_overrides({}, {"steps": 1}) == {"steps": 1}


@pytest.mark.parametrize(
    "given", [{}, {"steps": 1, "guidance": 0, "size": "512x16", "negative_prompt": "blur"}]
)
def test_what_can_be_drawn_is_kept(given: Any) -> None:
    assert check_overrides(given, FREE, ANY) == (given, [])


@pytest.mark.parametrize("given", [None, {"steps": None}, {"negative_prompt": ""}])
def test_what_says_nothing_is_nothing(given: Any) -> None:
    assert check_overrides(given, FREE, ANY) == ({}, [])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"size": "8x8"}, "flat does not support 8x8"),
        ({"size": "100x100"}, "multiples of 16"),
        ({"size": "huge"}, "Invalid size"),
        ({"sampler": "euler"}, "no setting 'sampler'"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_the_rest_kept(given: Any, told: str) -> None:
    kept, (fault,) = check_overrides(given | {"steps": 3}, FREE, ANY)
    assert kept == {"steps": 3}
    assert told in fault


def test_a_negative_prompt_that_is_not_heeded_is_told() -> None:
    deaf = GeneratorCapabilities(model="flat", default_size=(64, 64), negative_prompts=False)
    kept, faults = check_overrides({"negative_prompt": "blur"}, FREE, deaf)
    assert (kept, faults) == ({}, ["flat takes no negative prompt"])


@pytest.mark.parametrize(
    "given",
    [
        "nonsense",
        [1],
        {"steps": 0},
        {"steps": 2.5},
        {"steps": True},
        {"steps": "many"},
        {"guidance": -1},
        {"guidance": float("nan")},
        {"guidance": [1]},
        {"size": 64},
        {"negative_prompt": 5},
        {"negative_prompt": "\ud800"},
        {"negative_prompt": "x" * 2_001},
    ],
)
def test_what_has_not_the_form_is_a_fault(given: Any) -> None:
    with pytest.raises(SkillError, match="drawing"):
        check_overrides(given, FREE, ANY)
