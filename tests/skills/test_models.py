"""Skills by name."""

from __future__ import annotations

import pytest

from gems.skills.models import Skill, SkillRegistry


def skill(name: str, body: str = "") -> Skill:
    return Skill(name=name, description=f"For {name}.", body=body)


@pytest.fixture
def registry() -> SkillRegistry:
    return SkillRegistry([skill("text-rendering"), skill("spatial"), skill("text"), skill("fine-art")])


def test_skills_come_by_name(registry: SkillRegistry) -> None:
    assert [item.name for item in registry.all()] == ["fine-art", "spatial", "text", "text-rendering"]
    assert SkillRegistry().all() == []


def test_later_skill_stands_in_for_an_earlier_one() -> None:
    (only,) = SkillRegistry([skill("spatial", "old"), skill("spatial", "new")]).all()
    assert only.body == "new"


@pytest.mark.parametrize(
    ("answered", "found"),
    [
        ("spatial", "spatial"),
        ("Spatial.", "spatial"),
        ("`SPATIAL`", "spatial"),
        ("SKILL_ID: spatial", "spatial"),
        ("text_rendering", "text-rendering"),
        ("Text Rendering", "text-rendering"),
        ("text", "text"),
        ("fine", "fine-art"),
        ("fin", None),
        ("art", None),
        ("", None),
        ("...", None),
        ("cooking", None),
        ("../spatial/x", None),
    ],
)
def test_names_as_models_and_people_write_them(registry: SkillRegistry, answered: str, found: str | None) -> None:
    assert registry.match(answered) == found


def test_first_word_that_fits_two_skills_names_none() -> None:
    assert SkillRegistry([skill("text-a"), skill("text-b")]).match("text") is None
