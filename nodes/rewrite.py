"""Improve a prompt with a skill's guidance without losing what the user asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gems.errors import ProviderError, UnreachableError
from gems.memory.retrieval import estimate_tokens
from gems.models.chat.messages import Question
from gems.models.chat.schemas import KeptReply, PromptReply
from gems.nodes.context import NodeContext
from gems.nodes.prompts import ask_for_own_words, numbered, question
from gems.options import MAX_PROMPT
from gems.skills.models import Skill
from gems.types import Requirement

QUESTIONS_PREFIX = "The answer to each of these must be yes:"
"""Starts the line that appends requirements to a prompt as questions if no model words them."""
# A single quotation mark within a word is an apostrophe.
_QUOTED = re.compile(
    r'"([^"]{1,500})"|“([^”]{1,500})”|„([^“”]{1,500})[“”]|«([^»]{1,500})»|「([^」]{1,500})」|『([^』]{1,500})』'
    r"|(?<!\w)['‘](\w(?:[^'’\n]|['’](?=\w)){0,199})['’](?!\w)"  # noqa: RUF001 - people type them
)
_CHECKS = (0, 1)


@dataclass(frozen=True, slots=True)
class RestoredPrompt:
    """A prompt that contains everything the user asked for, and the questions that had been lost."""

    prompt: str
    restored: tuple[str, ...] = ()


def keeps_words(user_prompt: str, work: NodeContext) -> bool:
    """Return whether every drawn prompt holds the user's own words, so that no rewriting can lose any.

    The paper's do not; and where the words fill more than half of what the generator's text encoder reads, what a
    rewritten prompt lost is looked for instead.
    """
    if work.profile == "paper":
        return False
    return work.prompt_tokens is None or 2 * estimate_tokens(user_prompt) <= work.prompt_tokens


def keeps_own_words(skill: Skill, user_prompt: str, work: NodeContext) -> bool:
    """Return whether nobody need be asked what a prompt of a skill lost: it holds the user's own words.

    Guidance of others may contradict them all the same, so a prompt by it is always checked.
    """
    return skill.is_built_in and keeps_words(user_prompt, work)


def holds_words(prompt: str, user_prompt: str) -> bool:
    """Return whether a prompt holds the user's own words; line breaks do not matter."""
    return " ".join(user_prompt.split()) in " ".join(prompt.split())


def put_words_first(prompt: str, user_prompt: str) -> str:
    """Return the prompt with the user's own words before it, unless it holds them; them alone if it gets too long."""
    if holds_words(prompt, user_prompt):
        return prompt
    both = f"{user_prompt.strip()}\n{prompt.strip()}".strip()
    return both if len(both) <= MAX_PROMPT else user_prompt


async def enhance(prompt: str, guidance: str, work: NodeContext) -> str:
    """Rewrite the prompt by a skill's guidance; unchanged if the reply is unusable."""
    slots = {"user_prompt": prompt, "skill": guidance}
    asked = question("enhance", slots, editing=work.is_editing, prompt_tokens=work.prompt_tokens)
    return await rewrite_prompt(ask_for_own_words(asked) if keeps_words(prompt, work) else asked, prompt, work)


async def rewrite_prompt(asked: Question, prompt: str, work: NodeContext) -> str:
    """Ask the chat model to rewrite a prompt; unchanged if the reply is unusable."""
    try:
        reply = await work.ask(asked)
    except UnreachableError:
        raise
    except ProviderError as error:
        work.warn(f"The prompt could not be rewritten: {error}")
        return prompt
    new = reply.form(PromptReply).prompt.strip()
    if len(new) > MAX_PROMPT:
        work.warn(f"The rewritten prompt is ignored: it has {len(new):,} characters.")
        return prompt
    return new or prompt


async def restore_lost(
    prompt: str, user_prompt: str, requirements: Sequence[Requirement], work: NodeContext
) -> RestoredPrompt:
    """Restore what the user asked for and a new prompt drops or contradicts, but not for profile `paper`.

    The checking model does not see the skill, so that the skill cannot influence it. If a contradiction
    cannot be corrected, the user's prompt is used instead.
    """
    if work.profile == "paper" or prompt.strip() == user_prompt.strip():
        return RestoredPrompt(prompt)
    own = [requirement["question"] for requirement in requirements if "skill" not in requirement]
    restored: dict[str, None] = {}
    for check in _CHECKS:
        found = await _find_lost(prompt, user_prompt, own, work, check)
        lost = {own[loss.number - 1]: loss.how for loss in found.lost if 0 < loss.number <= len(own)}
        if not lost:
            break
        restored |= dict.fromkeys(lost)
        corrected = found.prompt.strip()
        if check == _CHECKS[0] and corrected and corrected != prompt and len(corrected) <= MAX_PROMPT:
            # The correction is checked once more.
            prompt = corrected
        elif "contradicted" in lost.values():
            prompt = user_prompt
            break
        else:
            prompt = f"{prompt}\n{QUESTIONS_PREFIX} {' '.join(lost)}"
            break
    return RestoredPrompt(_restore_texts(prompt, user_prompt), tuple(restored))


async def _find_lost(prompt: str, user_prompt: str, own: list[str], work: NodeContext, check: int) -> KeptReply:
    slots = {"user_prompt": user_prompt, "new_prompt": prompt, "questions": numbered(own)}
    try:
        reply = await work.ask(question("keep", slots, attempt=check, prompt_tokens=work.prompt_tokens))
    except UnreachableError:
        raise
    except ProviderError as error:
        work.warn(f"The new prompt could not be checked against the user's: {error}")
        return KeptReply(lost=[])
    return reply.form(KeptReply)


def _restore_texts(prompt: str, user_prompt: str) -> str:
    """Add every quoted text of the user's prompt that is missing, letter by letter."""
    # A text may be split into lines that are quoted separately.
    written = _letters_of("".join(_quoted_texts(prompt)))
    gone = [
        text
        for text in dict.fromkeys(_quoted_texts(user_prompt))
        if text not in prompt and _letters_of(text) not in written
    ]
    if not gone:
        return prompt
    named = ", ".join(f'"{text}"' for text in gone)
    return f"{prompt}\nThe picture shows the text {named}."


def _quoted_texts(text: str) -> list[str]:
    return [next(filter(None, found)) for found in _QUOTED.findall(text)]


def _letters_of(text: str) -> str:
    return "".join(filter(str.isalnum, text))
