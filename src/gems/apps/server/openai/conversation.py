"""Conversations of chat clients: the request in them, and the picture that is meant."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service
from gems.apps.server.openai import schemas
from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.templates import answer_helper, unwrap_request
from gems.errors import GemsError, RequestError
from gems.memory.source_images import SourceImage, decode_source_image, read_source_image
from gems.nodes.follow_up import PICTURE_TYPES, Turn, read_intent
from gems.options import MAX_PROMPT, check_editing
from gems.runs.verification import open_work
from gems.types import Usage

_TEXTS = ("text", "input_text", "output_text")
_OWN = re.compile(r"(?:[^\s()]*/)?images/([0-9a-f]{64})(?:\.png)?")
"""The address of an image on this server."""
_SHOWN = re.compile(
    r"!\[[^\]\n]{0,400}\]\(\s*([^)\s]+)\s*\)"
    r"|\[[^\]\n]{0,400}\]\(\s*((?:[^()\s]{0,300}/)?images/[0-9a-f]{64}(?:\.png)?)\s*\)"
    r"|(data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+)"
)
"""Pictures in a text: in Markdown, links to images of this server, and data URLs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a conversation asks for: what to draw, or what to change in `source`.

    `warning` says what could not be told, `usage` what it cost to find out; `helper` is an answer for which nothing
    is drawn.
    """

    prompt: str = ""
    source: SourceImage | None = None
    warning: str = ""
    usage: Mapping[str, Usage] = field(default_factory=dict)
    helper: str | None = None


async def read_request(
    service: Service, caller: Caller, messages: Sequence[schemas.Message], chosen: Mapping[str, Any]
) -> ChatRequest:
    """Return what the newest user message asks for, of a run with the options `chosen`.

    Raises:
        AnswerError: there is none, it has no text, or one of its pictures cannot be read.
        EditingUnsupportedError: a picture is attached, and the generator cannot edit.
        GemsError: the chat model failed.
    """
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if not users:
        raise AnswerError("messages contains no user message.", param="messages")
    given = messages[: users[-1] + 1]
    helper = answer_helper([_split(message)[0] for message in given if message.role not in ("assistant", "tool")])
    if helper is not None:
        return ChatRequest(helper=helper)
    turns = [_read_turn(message) for message in given if message.role in ("user", "assistant")]
    _check_newest(messages[users[-1]], turns[-1])
    if turns[-1].pictures:
        check_editing(service.gems.resources.context(chosen).generator.capabilities)
    await service.access.check_quotas(caller, options=chosen)
    work = open_work(service.gems.resources, options=chosen)
    try:
        intent = await read_intent(turns, work)
        await service.gems.resources.ledger.enter_questions(caller.owner, work.usage)
    except RequestError as error:
        raise AnswerError(str(error), param="messages") from None
    source = None if intent.picture is None else await _load_picture(service, caller, intent.picture)
    return ChatRequest(prompt=intent.prompt, source=source, warning=intent.warning, usage=work.usage)


def _read_turn(message: schemas.Message) -> Turn:
    text, pictures = _split(message)
    if message.role == "user":
        return Turn(is_person=True, text=unwrap_request(text), pictures=pictures)
    # An answer shows one picture, perhaps in several sizes; the stored one is the best.
    own = [picture for picture in pictures if _OWN.fullmatch(picture)]
    return Turn(is_person=False, text=text, pictures=tuple(dict.fromkeys(own)) or pictures)


def _split(message: schemas.Message) -> tuple[str, tuple[str, ...]]:
    """Return the text of a message without the pictures in it, and all its pictures as addresses."""
    content = message.content or ""
    parts = [schemas.Part(type="text", text=content)] if isinstance(content, str) else content
    texts, pictures = list[str](), list[str]()
    for part in parts:
        if part.type in _TEXTS:
            text = part.text or ""
            pictures += [next(filter(None, found.groups())) for found in _SHOWN.finditer(text)]
            texts.append(_SHOWN.sub("", text))
        elif part.type in PICTURE_TYPES:
            pictures.append(_address_of(part.image_url))
    pictures += [
        _address_of(image.get("image_url", image)) for image in message.images or () if isinstance(image, dict)
    ]
    return "\n".join(texts).strip(), tuple(filter(None, pictures))


def _address_of(given: Any) -> str:
    address = given.get("url") if isinstance(given, dict) else given
    return address if isinstance(address, str) else ""


def _check_newest(message: schemas.Message, turn: Turn) -> None:
    """Raise AnswerError if the newest message asks for nothing, or has what cannot be used."""
    if not isinstance(message.content, str):
        for part in message.content or ():
            if part.type not in (*_TEXTS, *PICTURE_TYPES):
                raise AnswerError(
                    f"Unsupported content type: {part.type[:40]!r}. Send text and images.", param="messages"
                )
            if part.type in PICTURE_TYPES and not _address_of(part.image_url):
                raise AnswerError("An image of the last user message has no image_url.", param="messages")
    if not turn.text:
        found = "has an image, but no text that says what to change" if turn.pictures else "has no text"
        raise AnswerError(f"The last user message {found}.", param="messages")
    if len(turn.text) > MAX_PROMPT:
        raise AnswerError(f"The last user message has more than {MAX_PROMPT:,} characters.", param="messages")
    for address in turn.pictures:
        if not address.startswith("data:") and not _OWN.fullmatch(address):
            raise AnswerError(
                "Images are not fetched from addresses. Send the image as a data URL.",
                param="messages",
                code="invalid_image_url",
            )


async def _load_picture(service: Service, caller: Caller, address: str) -> SourceImage:
    """Return a picture of a conversation; raise AnswerError if it cannot be had."""
    images = service.gems.resources.images
    try:
        if own := _OWN.fullmatch(address):
            if not await service.access.may_see_image(caller, own[1]):
                raise AnswerError(f"Image not found: {own[1]}.", param="messages", code="invalid_image", status=404)
            return await asyncio.to_thread(read_source_image, await images.load(own[1]))
        if not address.startswith("data:"):
            message = "The picture that is meant was sent as an address, which is not fetched. Attach it again."
            raise AnswerError(message, param="messages", code="invalid_image_url")
        return await asyncio.to_thread(decode_source_image, address, "image_url", "Send a data URL.")
    except RequestError as error:
        raise AnswerError(f"Invalid image. {error}", param="messages", code="invalid_image") from None
    except GemsError as error:
        raise AnswerError(f"The earlier picture is gone: {error}", param="messages", code="invalid_image") from error
