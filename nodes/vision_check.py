"""Find out before the first image whether the judge sees."""

from __future__ import annotations

import asyncio
import logging

from gems.errors import BlindModelError, ProviderError, RejectedRequestError, StorageError
from gems.memory.vision_record import VisionRecord
from gems.models.chat.client import ChatClient
from gems.models.chat.vision import read_sight, vision_question
from gems.nodes.context import NodeContext

logger = logging.getLogger(__name__)

_ATTEMPTS = (0, 3)
"""The second one is asked at another temperature."""
_HINT = "Use a model with vision as GEMS_JUDGE__MODEL (--judge); `gems doctor` tests it."


async def check_vision(work: NodeContext) -> None:
    """Show the judge an obvious picture, unless it is known what it makes of it; a wrong answer is warned about.

    Asked are models at an endpoint, never in profile `paper`. What cannot be found out is left to the first image.

    Raises:
        BlindModelError: The model or its server accepts no pictures, or the model says that it sees none.
        ConfigurationError: The endpoint rejects the key or lacks the model.
    """
    client, record = work.context.chats["judge"], work.context.vision
    if record is None or not client.is_remote or work.profile == "paper":
        return
    try:
        async with asyncio.timeout(client.limits.timeout_s):
            reply = await work.within_limits(_find_out(client, record, work))
    except (ProviderError, TimeoutError) as error:
        # The next request tells what is wrong with the endpoint.
        cause = error.message if isinstance(error, ProviderError) else f"{client.name} did not answer in time."
        logger.warning("Whether the judge sees is not known: %s", cause)
        return
    if read_sight(reply) != "sees":
        work.warn(
            f"The judge, {client.name}, was shown a red square and asked for its colour. It answered {_quote(reply)}, "
            f"so what it says about images may be wrong. {_HINT}"
        )


async def _find_out(client: ChatClient, record: VisionRecord, work: NodeContext) -> str:
    """Return what the model replied to the picture, now or lately."""
    async with record.locks[client.name]:
        reply = await record.reply(client.name)
        if reply is None:
            reply = await _ask(client, work)
            try:
                await record.enter(client.name, reply)
            except StorageError as error:
                work.warn(f"That the judge was asked whether it sees could not be recorded: {error}")
    return reply


async def _ask(client: ChatClient, work: NodeContext) -> str:
    """Return the reply about a picture, the second one where the first is wrong; BlindModelError for a blind model."""
    reply = ""
    for attempt in _ATTEMPTS:
        question = await asyncio.to_thread(vision_question, attempt=attempt)
        try:
            reply = (await work.ask_once(question)).text
        except (BlindModelError, RejectedRequestError) as error:
            # A server that takes nothing but strings takes no pictures.
            if isinstance(error, RejectedRequestError) and error.refused != "text_only":
                raise
            raise BlindModelError(f"The judge cannot see images: {error.message}", hint=_HINT) from error
        sight = read_sight(reply)
        if sight == "blind":
            said = f"{client.name} was shown a red square and answered {_quote(reply)}."
            raise BlindModelError(f"The judge cannot see images: {said}", hint=_HINT)
        if sight == "sees":
            break
    return reply


def _quote(reply: str) -> str:
    return repr(" ".join(reply.split())[:160])
