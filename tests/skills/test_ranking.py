"""Which skills the planner is shown, and how much of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gems.errors import OptionError, ServerError
from gems.memory.embeddings import LexicalEmbedder, Vector
from gems.memory.retrieval import estimate_tokens
from gems.nodes.planner import choose_skills, format_catalogue, parse_skill_names
from gems.skills.files import read_body
from gems.skills.models import Skill, SkillRegistry
from gems.skills.ranking import MAX_SHOWN, SkillRanking
from tests.support.scripted_models import opened_desk
from tests.support.skill_folders import skill_in, write

SUBJECTS = ("harbour", "violin", "glacier", "bakery", "tractor", "orchid", "lantern", "cathedral")


def many(count: int) -> list[Skill]:
    filler = [
        Skill(name=f"filler-{n:03}", description=f"For the {SUBJECTS[n % 8]} of kind {n}.", body="B")
        for n in range(count - 1)
    ]
    return [*filler, Skill(name="zebra-stripes", description="For stripes of zebras and tigers.", body="B")]


class Counting(LexicalEmbedder):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.asked.append(len(texts))
        return await super().embed(texts)


class Broken(LexicalEmbedder):
    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        raise ServerError("down")


@pytest.mark.parametrize("count", [MAX_SHOWN, MAX_SHOWN + 1, 300])
async def test_the_fitting_skill_is_among_those_shown(count: int) -> None:
    shown = await SkillRanking().most_relevant(many(count), "a zebra with red stripes")
    assert len(shown) == MAX_SHOWN
    assert "zebra-stripes" in [skill.name for skill in shown]
    assert shown == sorted(shown, key=lambda skill: skill.name)


async def test_what_is_known_is_not_embedded_again() -> None:
    embedder = Counting()
    ranking = SkillRanking(embedder)
    skills = many(30)
    await ranking.most_relevant(skills[:5], "a zebra")
    await ranking.most_relevant(skills, "a zebra")
    await ranking.most_relevant(skills, "a tiger")
    await ranking.most_relevant([*skills, Skill(name="new", description="New.")], "a tiger")
    assert embedder.asked == [31, 1, 2]


@pytest.mark.parametrize("ranking", [None, SkillRanking(), SkillRanking(Broken())])
async def test_the_planner_is_shown_twenty(ranking: SkillRanking | None, tmp_path: Path) -> None:
    async with opened_desk(tmp_path, skills=many(60)) as desk:
        object.__setattr__(desk.context, "ranking", ranking)
        desk.chat.script["route"] = {"skills": ["zebra-stripes"], "why": "Stripes."}
        work = desk.work()
        plan = await choose_skills("a zebra with stripes", "auto", work)
        assert (plan["skills"], plan["why"]) == (["zebra-stripes"], "Stripes.")
        assert len(desk.chat.asked[0].lines("skills")) == MAX_SHOWN
        assert len(work.warnings) == (ranking is not None and isinstance(ranking._embedder, Broken))


@pytest.mark.parametrize("sign", ["word ", "字"])
@pytest.mark.parametrize("count", [3, 20])
def test_long_descriptions_are_cut_to_the_budget(sign: str, count: int) -> None:
    skills = [Skill(name=f"skill-{n}", description=(sign * 1024)[:1024]) for n in range(count - 1)] + [
        Skill(name="short", description="For short things.")
    ]
    lines = format_catalogue(skills).splitlines()
    assert len(lines) == count
    assert lines[-1] == "short: For short things."
    whole = sum(estimate_tokens(f"{skill.name}: {skill.description}") for skill in skills) <= 2_000
    assert all(line.endswith("…") != whole for line in lines[:-1])
    assert sum(map(estimate_tokens, lines)) <= 2_000
    assert all(line.startswith(f"skill-{n}: ") for n, line in enumerate(lines[:-1]))


async def test_no_body_is_read_before_the_choice(tmp_path: Path) -> None:
    """It is what the file says when the skill is chosen, not what it said when the skill was found."""
    folder = write(tmp_path / "mine", {"references/notes.md": "NOTES"}, body="BODY references/notes.md")
    skill = skill_in(folder)
    assert skill.body is None
    async with opened_desk(tmp_path / "home", skills=[skill]) as desk:
        await choose_skills("a cat", "auto", desk.work())
        (asked,) = desk.chat.asked
        assert asked.lines("skills") == ["mine: For mine."]
        assert "BODY" not in asked.text
        assert "NOTES" not in asked.text
    write(folder, body="LATER")
    assert await read_body(skill) == "LATER"


@pytest.mark.parametrize(
    ("answered", "kept", "warned"),
    [
        (["a", "b"], ["a"], "conflicts with a"),
        (["b", "a"], ["b"], "conflicts with b"),
        (["a", "c"], ["a", "c"], ""),
        (["c", "d", "e", "f"], ["c", "d", "e"], ""),
        (["nonsense", "c"], ["c"], "unknown skill: 'nonsense'"),
        ([], [], ""),
    ],
)
async def test_choice_of_the_planner(answered: list[str], kept: list[str], warned: str, tmp_path: Path) -> None:
    write(tmp_path / "a", metadata="\n  gems-conflicts: b")
    skills = [skill_in(tmp_path / "a"), *(skill_in(write(tmp_path / name)) for name in "bcdef")]
    async with opened_desk(tmp_path / "home", skills=skills) as desk:
        desk.chat.script["route"] = {"skills": answered, "why": "Because."}
        work = desk.work()
        plan = await choose_skills("a cat", "auto", work)
    assert (plan["skills"], plan["why"]) == (kept, "Because.")
    assert warned in " ".join(work.warnings)
    assert len(work.warnings) == bool(warned)


@pytest.mark.parametrize("wanted", ["a,b", "b, c, a"])
def test_skills_that_work_against_each_other_are_not_named_together(wanted: str, tmp_path: Path) -> None:
    write(tmp_path / "a", metadata="\n  gems-conflicts: b")
    skills = [skill_in(tmp_path / "a"), *(skill_in(write(tmp_path / name)) for name in "bc")]
    with pytest.raises(OptionError, match=r"The skills . and . conflict"):
        parse_skill_names(wanted, SkillRegistry(skills))
    assert parse_skill_names("a,c", SkillRegistry(skills)) == ["a", "c"]


def test_registry_hands_out_by_exact_name() -> None:
    registry = SkillRegistry(many(3))
    assert registry.get("zebra-stripes") is not None
    assert registry.get("zebra") is None
