"""The image of an edit request."""

from __future__ import annotations

import asyncio

from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.schemas import EditBody
from gems.errors import RequestError
from gems.options import check_editing
from gems.runs.source_images import SourceImage, read_source_image
from gems.types import GeneratorCapabilities


async def load_source(body: EditBody, generator: GeneratorCapabilities) -> SourceImage:
    """Decode the image of a request.

    Raises:
        AnswerError: there is not exactly one valid image, or there is a mask.
        EditingUnsupportedError: the generator cannot edit images.
    """
    uploads = body.uploads
    if not uploads:
        raise AnswerError("image is missing.", param="image", code="missing_required_parameter")
    check_editing(generator)
    if body.mask is not None:
        raise AnswerError(
            "Masks are not supported. Omit mask, and describe in the prompt what to change and where.",
            param="mask",
            code="mask_unsupported",
        )
    if len(uploads) > 1:
        raise AnswerError(
            f"{len(uploads)} images were sent, but only one can be edited.",
            param="image",
            code="too_many_images",
        )
    try:
        return await asyncio.to_thread(read_source_image, await uploads[0].read())
    except RequestError as error:
        raise AnswerError(f"Invalid image. {error}", param="image", code="invalid_image") from None
