"""Write the guidance of a skill draft: by a chat model, or as a list of the best lessons."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gems.errors import ProviderError, UnreachableError
from gems.memory.piling import LessonGroup
from gems.models.chat.client import ChatClient
from gems.models.schemas import DraftReply
from gems.nodes.prompts import numbered, question
from gems.skills.files import MAX_CHARACTERS
from gems.skills.models import normalise_name
from gems.skills.parser import MAX_DESCRIPTION, MAX_NAME, is_skill_name

SECTION = "## What earlier runs learnt"
_MAX_LISTED = 20
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The usable parts of what a chat model wrote.

    Attributes:
        name: Empty if it is not valid.
        description: Empty if the default one is to be used.
        body: Empty if the list of lessons is to be used.
        warnings: Problems that were found.
    """

    name: str = ""
    description: str = ""
    body: str = ""
    warnings: list[str] = field(default_factory=list)


class Author:
    """Lets a chat model write skills."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    async def write(self, group: LessonGroup, body: str) -> Guidance:
        """Write a new skill, or amend the guidance `body` of an existing one.

        A reply that is not usable leads to warnings; UnreachableError and ConfigurationError are raised.
        """
        slots = {"skill": body, "lessons": numbered(item.line for item in group.shown())}
        try:
            reply = await self._client.ask(question("author", slots))
        except UnreachableError:
            raise
        except ProviderError as error:
            return Guidance(warnings=[f"{_FALLBACK} gave no usable answer: {error}"])
        return _check_reply(reply.form(DraftReply), body)


_FALLBACK = "The list of lessons is used, because the chat model"


def _check_reply(reply: DraftReply, old_body: str) -> Guidance:
    body = remove_control_characters(reply.body).strip()
    if not body:
        return Guidance(warnings=[f"{_FALLBACK} wrote no guidance."])
    if len(body) > max(MAX_CHARACTERS, len(old_body)):
        return Guidance(warnings=[f"{_FALLBACK} wrote {len(body):,} characters of guidance."])
    warnings = []
    if old_body:
        if 2 * len(body) < len(old_body):
            warnings.append("The amended guidance is much shorter than the skill's: check what is missing.")
        return Guidance(body=body, warnings=warnings)
    name, description = valid_name(reply.name), " ".join(remove_control_characters(reply.description).split())
    if not name:
        warnings.append(f"The chat model's name {reply.name[:80]!r} is not valid; another one is used.")
    if not description:
        warnings.append("The chat model wrote no description; the default one is used.")
    if len(description) > MAX_DESCRIPTION:
        warnings.append(f"The description had {len(description):,} characters; it was cut.")
        description = _cut_description(description)
    return Guidance(name=name, description=description, body=body, warnings=warnings)


def valid_name(text: str) -> str:
    """Convert text to a valid skill name of ASCII letters; "" if that is impossible."""
    name = normalise_name(text)[:MAX_NAME].strip("-")
    return name if _NAME.fullmatch(name) and is_skill_name(name) else ""


def remove_control_characters(text: str) -> str:
    """Remove control characters and lone surrogates from the text of a model or a lesson."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return _CONTROL.sub("", plain)


def list_lessons(name: str, group: LessonGroup) -> str:
    """Return the guidance of a new skill as a list of its lessons."""
    title = name.replace("-", " ").capitalize()
    return f"# {title}\n\n{_format_lessons(group)}"


def append_lessons(body: str, group: LessonGroup) -> str:
    """Append the best lessons to a skill's guidance, replacing those of an earlier amendment."""
    kept, skipping = [], False
    for line in body.split("\n"):
        if line.startswith(("# ", "## ")):
            skipping = line.rstrip() == SECTION
        if not skipping:
            kept.append(line)
    rest = "\n".join(kept).strip()
    return f"{rest}\n\n{SECTION}\n\n{_format_lessons(group)}".strip()


def _format_lessons(group: LessonGroup) -> str:
    about = " ".join(remove_control_characters(group.generator).split())
    heading = (
        f"What earlier runs with {about} learnt about requirements of the kind {', '.join(group.kinds)}, "
        "with what came of it. Use what fits the prompt; keep everything that the user asked for."
    )
    lines = [
        f"- {' '.join(remove_control_characters(item.line).split())}" for item in group.shown()[:_MAX_LISTED]
    ]
    return "\n".join([heading, "", *lines])


def _cut_description(text: str) -> str:
    """Cut to as many whole sentences as a description may have, or words if the first one is longer."""
    part = text[:MAX_DESCRIPTION]
    end = max(part.rfind(mark) for mark in (". ", "! ", "? ", "。"))
    return part[: end + 1] if end > 0 else f"{part[: MAX_DESCRIPTION - 1].rsplit(' ', 1)[0]}…"
