"""Choose skills for a prompt by the words of their names and descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gems.models.blocks import vocabulary as words
from gems.models.blocks.prompt_spec import PromptSpec, parse_prompt
from gems.models.schemas import SkillChoice

MOST_SKILLS = 3
_MUCH = 3
"""Number of words of a description, counted groups or relations that select a skill."""
_EVERYWHERE = """
    with from that this into when where image images picture pictures drawing draw drawings design make
    makes creating create creation generate generation rendering render prompt prompts shape shapes used
    using scene skill skills style visual about asks user
"""
_COMMON = frozenset(_EVERYWHERE.split())
# Every prompt of this world names shapes and colours, so these words do not distinguish skills.
_WORLD = frozenset({*words.SHAPE_WORDS, *words.ADJECTIVES, *words.COUNT_WORDS, words.BACKGROUND})
_QUOTED = re.compile(r'"[^"\n]+"|“[^”\n]+”')


@dataclass(frozen=True, slots=True)
class _Needs:
    """Words of a prompt, and amounts by word of a skill's name."""

    spoken: frozenset[str]
    much: Mapping[str, int]


def choose_skills(prompt: str, catalogue: str) -> SkillChoice:
    """Choose the matching skills of a catalogue of `name: description` lines, best first."""
    needs, fits = _find_needs(prompt), dict[str, int]()
    for line in catalogue.splitlines():
        name, colon, description = line.strip().lstrip("- ").partition(":")
        fit = _score_skill(name, description, needs) if colon and name.strip() else 0
        if fit:
            fits[name.strip()] = max(fit, fits.get(name.strip(), 0))
    skills = sorted(fits, key=lambda name: -fits[name])[:MOST_SKILLS]
    return SkillChoice(skills=skills, why=_explain(skills))


def _explain(skills: list[str]) -> str:
    if not skills:
        return "No skill's words are in the prompt."
    listed = " and ".join(filter(None, [", ".join(skills[:-1]), skills[-1]]))
    return f"The prompt speaks of what {listed} {'is' if len(skills) == 1 else 'are'} for."


def _find_needs(prompt: str) -> _Needs:
    spoken, spec = _content_words(prompt), parse_prompt(prompt)
    if _QUOTED.search(prompt):
        spoken |= {"text", "lettering"}
    return _Needs(frozenset(spoken), {"counting": _count_explicit(spec), "spatial": len(spec.relations)})


def _count_explicit(spec: PromptSpec) -> int:
    return sum(group.explicit for group in spec.groups)


def _score_skill(name: str, description: str, needs: _Needs) -> int:
    """Score a skill, 0 for no clear match; a word of its name counts as much as a description."""
    named = {word for word in re.findall(r"[a-z]+", name.lower()) if word not in _COMMON}
    by_name = len(_content_words(" ".join(named)) & needs.spoken)
    by_much = sum(amount for word, amount in needs.much.items() if word in named and amount >= _MUCH)
    described = len(_content_words(description) & needs.spoken)
    return _MUCH * by_name + by_much + (described if described >= _MUCH else 0)


def _content_words(text: str) -> set[str]:
    found = re.findall(r"[a-z]{4,}", text.lower())
    return {word for word in found if word not in _COMMON and word not in _WORLD}
