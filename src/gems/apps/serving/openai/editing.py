"""The image that a request wants edited."""

from __future__ import annotations

import asyncio

from gems.apps.server.openai.errors import AnswerError
from gems.apps.serving.openai.bodies import EditBody
from gems.errors import RequestError
from gems.options import check_editing
from gems.runs.source_images import SourceImage, read_source_image
from gems.types import GeneratorCapabilities


async def source_of(body: EditBody, generator: GeneratorCapabilities) -> SourceImage:
    """The only image of a request.

    Args:
        body: What was sent.
        generator: What is to edit it.

    Raises:
        AnswerError: there is none, there are several, there is a mask, or what was sent cannot be opened.
        EditingUnsupportedError: the generator edits none.
    """
    uploads = body.uploads
    if not uploads:
        raise AnswerError("image is missing.", param="image", code="missing_required_parameter")
    check_editing(generator)
    if body.mask is not None:
        raise AnswerError(
            "Masks are not supported; leave mask out, and let the prompt say what is to change and where.",
            param="mask",
            code="mask_unsupported",
        )
    if len(uploads) > 1:
        raise AnswerError(
            f"{len(uploads)} images were sent, and one can be edited; send that one alone.",
            param="image",
            code="too_many_images",
        )
    try:
        return await asyncio.to_thread(read_source_image, await uploads[0].read())
    except RequestError as error:
        raise AnswerError(f"image cannot be used. {error}", param="image", code="invalid_image") from None
