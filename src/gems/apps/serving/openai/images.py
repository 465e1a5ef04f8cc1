"""`POST /v1/images/generations` and `POST /v1/images/edits`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request, Response
from fastapi.responses import StreamingResponse

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service, caller_of, service_of
from gems.apps.server.openai import images
from gems.apps.server.openai.errors import RUN_HEADER, AnswerError, new_router
from gems.apps.server.openai.runs import (
    StartedRuns,
    check_model,
    load_png,
    start_runs,
    supported_size,
    wait_for_results,
)
from gems.apps.server.openai.schemas import (
    EditBody,
    ImageBody,
    ImageData,
    ImageFields,
    ImagesAnswer,
    image_usage,
    quality_of,
)
from gems.apps.serving.openai.editing import load_source
from gems.apps.serving.openai.pictures import encode_image
from gems.apps.serving.openai.sse import STREAM
from gems.runs.source_images import SourceImage

images_router = new_router()


@images_router.post("/v1/images/generations", response_model=ImagesAnswer, responses={200: STREAM})
async def generate(
    body: ImageBody, request: Request, response: Response, caller: Annotated[Caller, Depends(caller_of)]
) -> ImagesAnswer | StreamingResponse:
    """Generate one or more images; each comes from its own run, which checks and refines it."""
    return await _run_images(service_of(request), caller, body, response)


@images_router.post("/v1/images/edits", response_model=ImagesAnswer, responses={200: STREAM})
async def edit(
    body: Annotated[EditBody, Form(media_type="multipart/form-data")],
    request: Request,
    response: Response,
    caller: Annotated[Caller, Depends(caller_of)],
) -> ImagesAnswer | StreamingResponse:
    """Edit an image; each result comes from its own run, which checks the change and retries."""
    service = service_of(request)
    generator = service.gems.resources.generator.capabilities
    check_model(service, body.model)
    supported_size(body.size, generator)
    source = await load_source(body, generator)
    return await _run_images(service, caller, body, response, source)


async def _run_images(
    service: Service,
    caller: Caller,
    body: ImageFields,
    response: Response,
    source: SourceImage | None = None,
) -> ImagesAnswer | StreamingResponse:
    if body.stream and body.count > 1:
        raise AnswerError("A streamed response contains one image; omit n.", param="n")
    begun = await start_runs(service, caller, body.prompt, body, body.count, source)
    if body.stream:
        return images.stream_image(service, begun, body)
    response.headers[RUN_HEADER] = ",".join(begun.run_ids)
    return await _images_response(service, begun, body)


async def _images_response(service: Service, begun: StartedRuns, body: ImageFields) -> ImagesAnswer:
    results = await wait_for_results(service, begun)
    kind = body.output_format or "png"
    data = [
        ImageData(
            b64_json=await encode_image(await load_png(service, result), kind, body.output_compression),
            revised_prompt=result.final_prompt,
        )
        for result in results
    ]
    return ImagesAnswer(
        data=data,
        output_format=kind,
        quality=quality_of(body.rounds),
        size=images.size_of(results[0]),
        usage=image_usage(results),
    )
