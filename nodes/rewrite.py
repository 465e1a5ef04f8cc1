"""A prompt made better by a skill's guidance, without losing what the user asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gems.errors import ProviderError, UnreachableError
from gems.models.chat.messages import Question
from gems.models.schemas import KeptReply, PromptReply
from gems.nodes.context import NodeContext
from gems.nodes.prompts import numbered, question
from gems.options import MAX_PROMPT
from gems.types import Requirement

QUESTIONS_PREFIX = "The answer to each of these must be yes:"
"""Begins the line that puts requirements into a prompt as questions, where no model words them."""
# A single sign within a word is an apostrophe.
_QUOTED = re.compile(
    r'"([^"]{1,500})"|“([^”]{1,500})”|„([^“”]{1,500})[“”]|«([^»]{1,500})»|「([^」]{1,500})」|『([^』]{1,500})』'
    r"|(?<!\w)['‘](\w(?:[^'’\n]|['’](?=\w)){0,199})['’](?!\w)"  # noqa: RUF001 - people type them
)
_CHECKS = (0, 1)


@dataclass(frozen=True, slots=True)
class RestoredPrompt:
    """A prompt that has all the user asked for.

    Attributes:
        prompt: The prompt.
        restored: Questions of the requirements that had been lost and were put back.
    """

    prompt: str
    restored: tuple[str, ...] = ()


async def enhance(prompt: str, guidance: str, work: NodeContext) -> str:
    """The prompt rewritten by a skill's guidance; as it was where the model does not answer usably.

    Raises:
        UnreachableError: nothing answers at the chat model's address.
        ConfigurationError: the chat model cannot be used as configured.
    """
    slots = {"user_prompt": prompt, "skill": guidance}
    return await rewrite_prompt(question("enhance", slots, editing=work.is_editing), prompt, work)


async def rewrite_prompt(asked: Question, prompt: str, work: NodeContext) -> str:
    """What the chat model makes of a prompt; the prompt as it was where it does not answer usably.

    Raises:
        UnreachableError: nothing answers at the chat model's address.
        ConfigurationError: the chat model cannot be used as configured.
    """
    try:
        reply = await work.ask(asked)
    except UnreachableError:
        raise
    except ProviderError as error:
        work.warn(f"The prompt could not be enhanced: {error}")
        return prompt
    new = reply.form(PromptReply).prompt.strip()
    if len(new) > MAX_PROMPT:
        work.warn(f"The prompt stays as it was: the model made {len(new):,} characters of it.")
        return prompt
    return new or prompt


async def restore_lost(
    prompt: str, user_prompt: str, requirements: Sequence[Requirement], work: NodeContext
) -> RestoredPrompt:
    """Put back what the user asked for and a new prompt drops or contradicts.

    The model that checks is not shown the skill, so that nothing in there can talk it out of it. What cannot
    be mended is undone: the user's prompt takes the place of one that contradicts it. Profile `paper` checks
    nothing, as the paper's script does.

    Args:
        prompt: The new prompt.
        user_prompt: What the user asked for.
        requirements: What the user's prompt says; those that skills added are not looked at.
        work: This turn.

    Raises:
        UnreachableError: nothing answers at the chat model's address.
        ConfigurationError: the chat model cannot be used as configured.
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
            # Looked at once more before it is believed.
            prompt = corrected
        elif "contradicted" in lost.values():
            prompt = user_prompt
            break
        else:
            prompt = f"{prompt}\n{QUESTIONS_PREFIX} {' '.join(lost)}"
            break
    return RestoredPrompt(_restore_texts(prompt, user_prompt), tuple(restored))


async def _find_lost(
    prompt: str, user_prompt: str, own: list[str], work: NodeContext, check: int
) -> KeptReply:
    slots = {"user_prompt": user_prompt, "new_prompt": prompt, "questions": numbered(own)}
    try:
        reply = await work.ask(question("keep", slots, attempt=check))
    except UnreachableError:
        raise
    except ProviderError as error:
        work.warn(f"Whether the new prompt keeps all that was asked for could not be checked: {error}")
        return KeptReply()
    return reply.form(KeptReply)


def _restore_texts(prompt: str, user_prompt: str) -> str:
    """The prompt with every quoted text of the user's in it, letter by letter."""
    # A text may be broken into lines that are quoted one by one.
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
    """The letters and digits of a text, in order."""
    return "".join(filter(str.isalnum, text))
