"""What the newest message of a conversation asks for: which picture it means, and what it follows up on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gems.errors import RequestError, UnreadableReplyError
from gems.models.chat.schemas import FollowUpReply
from gems.nodes.context import NodeContext
from gems.nodes.prompts import question

_MOST_TURNS = 40
"""Turns of a conversation that the model reads, the newest ones."""
LONGEST = 2000
"""Characters of an earlier message."""
PICTURE_TYPES = ("image_url", "input_image", "image")
"""Types of the parts of a message that are pictures, in the APIs of OpenAI, LangChain and Anthropic."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of a person, perhaps with pictures, or an answer that shows some.

    `pictures` are names by which the caller finds them again.
    """

    is_person: bool
    text: str
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """What to draw, or what to change in `picture`; `warning` says what could not be told."""

    prompt: str
    picture: str | None = None
    warning: str = ""


async def read_intent(turns: Sequence[Turn], work: NodeContext) -> Intent:
    """Return what the last turn, which is a person's, asks for; the planner's model is asked if others came before.

    Raises:
        RequestError: the message has several pictures, and it cannot be told which one to change.
        GemsError: the model failed.
    """
    newest, pictures = turns[-1], [picture for turn in turns for picture in turn.pictures]
    if len(newest.pictures) == 1:
        return Intent(newest.text, newest.pictures[0])
    earlier = [turn.text for turn in turns[:-1] if turn.is_person and turn.text]
    if not pictures and not earlier:
        return Intent(newest.text)
    slots = {"conversation": "\n".join(_list_turns(turns)), "user_prompt": newest.text}
    try:
        reply = (await work.ask(question("follow", slots))).form(FollowUpReply)
    except UnreadableReplyError as error:
        if newest.pictures:
            raise _which_picture(len(newest.pictures)) from None
        told = (
            "Whether the message follows up on an earlier one could not be told, so it is taken as a request of its own"
        )
        return Intent(newest.text, warning=f"{told}: {error}")
    if newest.pictures and not 1 <= reply.picture <= len(pictures):
        raise _which_picture(len(newest.pictures))
    if reply.kind == "new" and not newest.pictures:
        return Intent(newest.text)
    # Nothing that was asked for is lost where the model wrote no whole prompt.
    whole = reply.prompt.strip() or "\n".join([*earlier[-1:], newest.text])
    if reply.kind == "again" or not pictures or not work.context.generator.capabilities.editing:
        return Intent(whole)
    meant = pictures[reply.picture - 1] if 1 <= reply.picture <= len(pictures) else pictures[-1]
    return Intent(reply.instruction.strip() or newest.text, meant)


def _which_picture(number: int) -> RequestError:
    return RequestError(f"{number} pictures are attached, but only one can be changed.", hint="Attach one picture.")


def _list_turns(turns: Sequence[Turn]) -> Iterator[str]:
    """Yield a line per turn, with the numbers of its pictures."""
    number, left_out = 0, max(0, len(turns) - _MOST_TURNS)
    for place, turn in enumerate(turns):
        shown = [str(number + index) for index in range(1, len(turn.pictures) + 1)]
        number += len(shown)
        if place < left_out:
            continue
        named = f" ({'picture' if len(shown) == 1 else 'pictures'} {', '.join(shown)})" if shown else ""
        text = " ".join(turn.text.split())[:LONGEST] if turn.is_person else ""
        yield f"{'Person' if turn.is_person else 'Program'}{named}: {text}".rstrip()
