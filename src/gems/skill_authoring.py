"""The words of a draft: the chat model's, mended, or a plain list of the best lessons."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gems.errors import ProviderError, UnreachableError
from gems.memory.piling import LessonGroup
from gems.models.chat.client import ChatClient
from gems.models.schemas import DraftReply
from gems.nodes.prompts import numbered, question
from gems.skills.parser import MAX_DESCRIPTION, MAX_NAME, is_skill_name, skill_name
from gems.skills.reading import MAX_CHARACTERS

SECTION = "## What earlier runs learnt"
_LISTED = 20
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """What a chat model wrote, as far as it can be used.

    Attributes:
        name: Empty where there is no sound one.
        description: Empty where the plain one is to stand.
        body: Empty where the plain list is to stand.
        warnings: What was not as it should be.
    """

    name: str = ""
    description: str = ""
    body: str = ""
    warnings: list[str] = field(default_factory=list)


class Author:
    """Has a chat model write skills.

    Args:
        client: The model.
    """

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    async def write(self, pile: LessonGroup, body: str) -> Guidance:
        """A new skill, or the amended guidance of one.

        Args:
            pile: What it is to rest on.
            body: The guidance of the skill that is amended; empty for a new one.

        Raises:
            UnreachableError: nothing answers at the model's address.
            ConfigurationError: the model cannot be used as configured.
        """
        slots = {"skill": body, "lessons": numbered(item.line for item in pile.shown())}
        try:
            reply = await self._client.ask(question("author", slots))
        except UnreachableError:
            raise
        except ProviderError as error:
            return Guidance(warnings=[f"{_LIST} wrote nothing usable: {error}"])
        return _mended(reply.form(DraftReply), body)


_LIST = "The plain list stands for what the chat model was to write: it"


def _mended(reply: DraftReply, before: str) -> Guidance:
    body = cleaned(reply.body).strip()
    if not body:
        return Guidance(warnings=[f"{_LIST} wrote no guidance."])
    if len(body) > max(MAX_CHARACTERS, len(before)):
        return Guidance(warnings=[f"{_LIST} wrote {len(body):,} characters of guidance."])
    warnings = []
    if before:
        if 2 * len(body) < len(before):
            warnings.append("The amended guidance is much shorter than the skill's: see what it lacks.")
        return Guidance(body=body, warnings=warnings)
    name, description = sound_name(reply.name), " ".join(cleaned(reply.description).split())
    if not name:
        warnings.append(f"The chat model's name {reply.name[:80]!r} is no skill's name; another one stands.")
    if not description:
        warnings.append("The chat model wrote no description; a plain one stands.")
    if len(description) > MAX_DESCRIPTION:
        warnings.append(f"The description had {len(description):,} characters; its beginning stands.")
        description = _beginning(description)
    return Guidance(name=name, description=description, body=body, warnings=warnings)


def sound_name(text: str) -> str:
    """`text` as a skill's name of plain letters; empty where it cannot be made one."""
    name = skill_name(text)[:MAX_NAME].strip("-")
    return name if _NAME.fullmatch(name) and is_skill_name(name) else ""


def cleaned(text: str) -> str:
    """The text of a model or a lesson without what no file should hold: control signs, half characters."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return _CONTROL.sub("", plain)


def plain_list(name: str, pile: LessonGroup) -> str:
    """The guidance of a new skill in the words of its lessons."""
    title = name.replace("-", " ").capitalize()
    return f"# {title}\n\n{_lessons(pile)}"


def amended_list(body: str, pile: LessonGroup) -> str:
    """A skill's guidance with the best lessons behind it, in place of those of an earlier amendment."""
    kept, skipping = [], False
    for line in body.split("\n"):
        if line.startswith(("# ", "## ")):
            skipping = line.rstrip() == SECTION
        if not skipping:
            kept.append(line)
    rest = "\n".join(kept).strip()
    return f"{rest}\n\n{SECTION}\n\n{_lessons(pile)}".strip()


def _lessons(pile: LessonGroup) -> str:
    about = " ".join(cleaned(pile.generator).split())
    heading = (
        f"What earlier runs with {about} learnt about requirements of the kind {', '.join(pile.kinds)}, "
        "with what came of it. Use what fits the prompt; keep everything that the user asked for."
    )
    lines = [f"- {' '.join(cleaned(item.line).split())}" for item in pile.shown()[:_LISTED]]
    return "\n".join([heading, "", *lines])


def _beginning(text: str) -> str:
    """As many whole sentences as a description may have; as many words where the first one is longer."""
    part = text[:MAX_DESCRIPTION]
    end = max(part.rfind(mark) for mark in (". ", "! ", "? ", "。"))
    return part[: end + 1] if end > 0 else f"{part[: MAX_DESCRIPTION - 1].rsplit(' ', 1)[0]}…"
