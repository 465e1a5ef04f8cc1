"""What answers behind the stub: chat models, image generators, or plain functions in their place."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from PIL import Image

from gems.generation import ImageRequest
from gems.models.masks import read_mask
from tests.support.stub.responses import Answer

Messages = list[dict[str, Any]]
ChatBrain = Callable[[Messages], Awaitable[Answer]]
PictureBrain = Callable[[ImageRequest], Awaitable[bytes]]


def chat_brain(brain: Any = None) -> ChatBrain:
    """A chat brain from a LangChain chat model, from a function of the messages, or the built-in one.

    Args:
        brain: A `BaseChatModel`; a plain or async function from OpenAI messages to a text or an `Answer`;
            None for the built-in world.
    """
    if brain is None:
        from gems.models.blocks.chat_model import BlocksChat

        brain = BlocksChat()
    if hasattr(brain, "ainvoke"):
        return lambda messages: _ask_model(brain, messages)

    async def ask(messages: Messages) -> Answer:
        said = await _call(brain, messages)
        return said if isinstance(said, Answer) else Answer(content=str(said))

    return ask


def picture_brain(brain: Any = None) -> PictureBrain:
    """A picture brain from an `ImageGenerator`, from a function of the request, or the built-in one."""
    if brain is None:
        from gems.models.blocks.generator import BlocksGenerator

        brain = BlocksGenerator()
    if hasattr(brain, "generate"):

        async def draw(request: ImageRequest) -> bytes:
            # What cannot edit draws anew: what was sent can be looked at all the same.
            asked = request if brain.capabilities.editing else replace(request, source=None)
            return bytes((await brain.generate(asked)).data)

        return draw
    return lambda request: _call(brain, request)


async def _ask_model(model: Any, messages: Messages) -> Answer:
    from langchain_core.messages import convert_to_messages

    message = await model.ainvoke(convert_to_messages(messages))
    counted = message.usage_metadata
    return Answer(
        content=message.content if isinstance(message.content, str) else message.text,
        reasoning=message.additional_kwargs.get("reasoning_content"),
        usage=(counted["input_tokens"], counted["output_tokens"]) if counted else None,
    )


async def _call(function: Callable[[Any], Any], argument: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(argument)
    return await asyncio.to_thread(function, argument)


def flat_picture(request: ImageRequest) -> bytes:
    """A picture of one colour that prompt, seed and references decide: the cheapest drawing brain."""
    said = f"{request.prompt}\n{request.negative_prompt}\n{request.seed}".encode()
    mixed = hashlib.sha256(b"".join((said, *request.references))).digest()
    out = io.BytesIO()
    Image.new("RGB", (request.width, request.height), tuple(mixed[:3])).save(out, "PNG")
    return out.getvalue()


def inpainted_picture(request: ImageRequest) -> bytes:
    """The source with what `flat_picture` would draw where OpenAI's mask is transparent; without both, that alone."""
    if request.source is None or request.mask is None:
        return flat_picture(request)
    with Image.open(io.BytesIO(request.source)) as opened, Image.open(io.BytesIO(request.mask)) as mask:
        source, kept = opened.convert("RGB"), mask.getchannel("A")
    out = io.BytesIO()
    Image.composite(source, Image.open(io.BytesIO(flat_picture(request))), kept).save(out, "PNG")
    return out.getvalue()


def edited_picture(request: ImageRequest) -> bytes:
    """The source with its mask or upper half painted over as `flat_picture` would; without one, that alone."""
    paint = Image.open(io.BytesIO(flat_picture(request)))
    if request.source is not None:
        with Image.open(io.BytesIO(request.source)) as source:
            below = source.convert("RGB").resize(paint.size)
        half = (0, 0, paint.width, paint.height // 2)
        if request.mask is None:
            below.paste(paint.crop(half), half)
        else:
            # White, or transparent as OpenAI's are.
            below.paste(paint, mask=read_mask(request.mask, None).resize(paint.size))
        paint = below
    out = io.BytesIO()
    paint.save(out, "PNG")
    return out.getvalue()
