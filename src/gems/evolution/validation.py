"""Check patches against what they change: passages must be there, and the slots of prompts must stay."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import cast

from gems.errors import GemsError, RequestError
from gems.memory.patches import Patch
from gems.models.chat.schemas import wrap_in_tag
from gems.nodes.generator import check_overrides
from gems.nodes.prompts import INSTRUCTIONS, PATCHED_TASKS, answer_form
from gems.options import OPTIONS, RULES, is_unicode
from gems.resources import Resources
from gems.runs.skill_learning import remove_control_characters
from gems.skills.files import MAX_CHARACTERS, find_references, read_body
from gems.types import Options

_RECIPE = ("guidance", "steps", "negative_prompt")
_LONGEST = 4
"""How many times as long a wording may become."""
_TASK_LINE = re.compile(r"^\s*Task:", re.MULTILINE)


async def check_patch(patch: Patch, resources: Resources, base: Sequence[Patch]) -> None:
    """Raise RequestError if a patch cannot be applied on top of those of `base`."""
    if not is_unicode(patch.after) or remove_control_characters(patch.after) != patch.after:
        raise _refuse(patch, "it holds control characters or no valid Unicode")
    try:
        match patch.kind:
            case "wording":
                _check_wording(patch, base)
            case "skill":
                await _check_skill(patch, resources, base)
            case "recipe":
                _check_recipe(patch, resources)
            case "rule":
                _check_rule(patch)
    except RequestError:
        raise
    except GemsError as error:
        raise _refuse(patch, error.message.rstrip("."), error.hint) from error


async def read_text(patch: Patch, resources: Resources) -> str:
    """Return the text that a patch is about, as it is without any; RequestError if there is none."""
    if patch.kind == "wording":
        if patch.target not in PATCHED_TASKS:
            raise _refuse(patch, f"there is no such task; there are {', '.join(PATCHED_TASKS)}")
        return INSTRUCTIONS[patch.target]
    skill = resources.skills.current.get(patch.target)
    if skill is None:
        raise _refuse(patch, "there is no such skill")
    return await read_body(skill)


def apply_patches(text: str, patches: Sequence[Patch], like: Patch) -> str:
    """Return a text with those patches that are about the same as `like`."""
    for patch in patches:
        if (patch.kind, patch.target) == (like.kind, like.target):
            text = patch.amend(text)
    return text


def _check_wording(patch: Patch, base: Sequence[Patch]) -> None:
    if patch.target not in PATCHED_TASKS:
        raise _refuse(patch, f"there is no such task; there are {', '.join(PATCHED_TASKS)}")
    task = patch.target
    before = apply_patches(INSTRUCTIONS[task], base, patch)
    after, form = patch.amend(before), answer_form(task)
    if after.count(form) != 1:
        raise _refuse(patch, f"it breaks the prompt's form of the answer, which must stay letter by letter: {form!r}")
    if after.count("{") != before.count("{") or after.count("}") != before.count("}"):
        raise _refuse(patch, "it adds or removes a slot in braces")
    if _TASK_LINE.search(patch.after) or wrap_in_tag("skill", patch.after) != f"<skill>\n{patch.after}\n</skill>":
        raise _refuse(patch, "it holds a line `Task:` or a tag that marks data")
    if len(after) > _LONGEST * len(INSTRUCTIONS[task]):
        raise _refuse(patch, f"the wording would have {len(after):,} characters")


async def _check_skill(patch: Patch, resources: Resources, base: Sequence[Patch]) -> None:
    before = apply_patches(await read_text(patch, resources), base, patch)
    after = patch.amend(before)
    if not after.strip() or len(after) > max(MAX_CHARACTERS, len(before)):
        raise _refuse(patch, f"the guidance would have {len(after.strip()):,} characters")
    skill = resources.skills.current.named(patch.target)
    named = [await asyncio.to_thread(find_references, text, skill.folder) for text in (before, after)]
    if added := set(named[1]) - set(named[0]):
        raise _refuse(patch, f"it names files that the skill does not: {', '.join(sorted(added))}")


def _check_recipe(patch: Patch, resources: Resources) -> None:
    generator = resources.generator.capabilities
    if patch.target != generator.model:
        raise _refuse(patch, f"the generator is {generator.model}")
    if unknown := patch.values.keys() - set(_RECIPE):
        raise _refuse(patch, f"a recipe has {', '.join(_RECIPE)}, not {', '.join(sorted(unknown))}")
    faults = check_overrides(patch.values, cast("Options", {"sized": True}), generator)[1]
    if faults:
        raise _refuse(patch, "; ".join(faults))


def _check_rule(patch: Patch) -> None:
    if patch.target not in RULES or patch.values.keys() != {"value"}:
        raise _refuse(patch, f"a rule is one of {', '.join(RULES)}, with one value")
    OPTIONS[patch.target].check(patch.values["value"])


def _refuse(patch: Patch, fault: str, hint: str = "") -> RequestError:
    return RequestError(f"The patch of the {patch.kind} {patch.target[:80]!r} is refused: {fault}.", hint=hint)
