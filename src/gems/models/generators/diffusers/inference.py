"""Draw one batch with a loaded Diffusers pipeline. Blocking, for the worker thread."""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gems.errors import GemsError, InvalidImageError, OutOfMemoryError, ProviderError, RefusedError
from gems.models.generators.diffusers.loading import LoadedPipeline
from gems.models.generators.diffusers_compiling import compiling_failed
from gems.models.generators.diffusers_device import free_accelerator_memory, is_out_of_memory
from gems.models.generators.diffusers_prompts import Embeddings, joined
from gems.observability.redaction import redact, shorten
from gems.types import GeneratedImage, ImageRequest


class DrawingStopped(Exception):  # noqa: N818 - not a fault
    """Raised by a step callback to stop drawing."""


def draw(
    loaded: LoadedPipeline,
    requests: Sequence[ImageRequest],
    *,
    model: str,
    on_step: Callable[[int, int], None],
) -> list[GeneratedImage | GemsError]:
    """Draw requests that agree in size, steps and guidance in one batch.

    Args:
        loaded: The pipeline.
        requests: What to draw, one image each.
        model: Name for records.
        on_step: Told (steps done, steps in all) after each step; may raise `DrawingStopped`.

    Returns:
        For each request its image, or what is wrong with its prompt or its image.

    Raises:
        DrawingStopped: `on_step` raised it. The pipeline can be used again.
        ConfigurationError: the model cannot be compiled.
        OutOfMemoryError: the batch does not fit into memory.
        ProviderError: the pipeline failed.
    """
    began = time.monotonic()
    encoded = [_encoded(loaded, request, model) for request in requests]
    sound = {n: each for n, each in enumerate(encoded) if not isinstance(each, GemsError)}
    drawn = iter(_drawn(loaded, [requests[n] for n in sound], list(sound.values()), model, on_step, began))
    return [each if isinstance(each, GemsError) else next(drawn) for each in encoded]


def _encoded(loaded: LoadedPipeline, request: ImageRequest, model: str) -> Embeddings | GemsError:
    """The encoded prompts of a request, or why they cannot be encoded; empty where the pipeline does it."""
    if loaded.prompts is None:
        return {}
    heeded = loaded.recipe.heeds_negative(_effective(loaded, request)[1])
    try:
        return loaded.prompts.encode(request.prompt, _negative(loaded, request) if heeded else None)
    except Exception as error:  # noqa: BLE001 - handed to whoever awaits the request
        _clean_up(loaded, error)
        fault = _drawing_error(model, error)
        fault.__cause__ = error
        return fault


def _drawn(
    loaded: LoadedPipeline,
    requests: Sequence[ImageRequest],
    encoded: Sequence[Embeddings],
    model: str,
    on_step: Callable[[int, int], None],
    began: float,
) -> list[GeneratedImage | GemsError]:
    if not requests:
        return []
    try:
        output = loaded.pipe(**_call_arguments(loaded, requests, encoded, on_step))
    except Exception as error:
        _clean_up(loaded, error)
        if isinstance(error, DrawingStopped):
            raise
        raise _drawing_error(model, error) from error
    blocked = getattr(output, "nsfw_content_detected", None) or [False] * len(requests)
    results: list[GeneratedImage | GemsError] = []
    for request, pixels, refused in zip(requests, output.images, blocked, strict=True):
        fault = _fault(pixels, request, model, refused=refused)
        results.append(fault or _finished(loaded, request, pixels, model, len(requests), began))
    return results


def _clean_up(loaded: LoadedPipeline, error: Exception) -> None:
    # The frames of the traceback hold the batch's tensors, which would live as long as the error.
    traceback.clear_frames(error.__traceback__)
    # Where a whole call would have left it: with its models back in CPU memory, if they are offloaded.
    loaded.pipe.maybe_free_model_hooks()
    free_accelerator_memory()


def _call_arguments(
    loaded: LoadedPipeline,
    requests: Sequence[ImageRequest],
    encoded: Sequence[Embeddings],
    on_step: Callable[[int, int], None],
) -> dict[str, Any]:
    """The arguments of the pipeline's call. Lists are new, since Z-Image rewrites those it is given."""
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    recipe, first = loaded.recipe, requests[0]
    steps, guidance = _effective(loaded, first)
    arguments: dict[str, Any] = {
        "width": first.width,
        "height": first.height,
        "num_inference_steps": steps,
        # On the CPU whatever the device, so that a seed means the same picture everywhere.
        "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        "output_type": "np",
        "callback_on_step_end": _step_callback(on_step, steps),
    }
    if guidance is not None:
        arguments[recipe.guidance_argument] = guidance
    if recipe.guidance_argument != "true_cfg_scale":
        arguments["true_cfg_scale"] = (
            1.0  # Off: some pipelines warn where it is on without a negative prompt.
        )
    if loaded.prompts is not None:
        arguments |= joined(encoded, loaded.pipe._execution_device)  # noqa: SLF001 - Diffusers has no other name
    else:
        arguments["prompt"] = [request.prompt for request in requests]
        if recipe.heeds_negative(guidance):
            arguments["negative_prompt"] = [_negative(loaded, request) for request in requests]
    return {name: value for name, value in arguments.items() if name in loaded.accepts and value is not None}


def _negative(loaded: LoadedPipeline, request: ImageRequest) -> str:
    return request.negative_prompt or loaded.recipe.empty_negative


def _effective(loaded: LoadedPipeline, request: ImageRequest) -> tuple[int | None, float | None]:
    """Steps and guidance of a request; None where even the pipeline does not say its own."""
    recipe = loaded.recipe
    return (
        recipe.steps if request.steps is None else request.steps,
        recipe.guidance if request.guidance is None else request.guidance,
    )


def _step_callback(
    on_step: Callable[[int, int], None], steps: int | None
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def after_step(pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        # Schedulers of higher order take more turns than the steps that were asked for.
        total = getattr(pipe, "num_timesteps", None) or steps or index + 1
        on_step(index + 1, total)
        return tensors

    return after_step


def _fault(pixels: Any, request: ImageRequest, model: str, *, refused: bool) -> GemsError | None:
    """What is wrong with an image of floating-point pixels, shape (height, width, 3), in [0, 1]."""
    if refused:
        return RefusedError(f"The safety checker of {model} refuses the image.")
    height, width = pixels.shape[:2]
    if (width, height) != (request.width, request.height):
        return InvalidImageError(
            f"{model} drew {width}x{height} pixels where {request.width}x{request.height} were asked for."
        )
    if not bool(np.isfinite(pixels).all()):
        return InvalidImageError(
            f"{model} drew an image that is not a number (NaN).",
            hint="Its weights are damaged, or they overflow: set GEMS_GENERATOR__DTYPE=float32.",
        )
    if not bool(pixels.any()):
        return InvalidImageError(
            f"{model} drew an entirely black image.",
            hint="Its weights are damaged, or they overflow: set GEMS_GENERATOR__DTYPE=float32.",
        )
    return None


def _finished(
    loaded: LoadedPipeline, request: ImageRequest, pixels: Any, model: str, batch: int, began: float
) -> GeneratedImage:
    data = io.BytesIO()
    picture = Image.fromarray((pixels * 255).round().astype("uint8"))
    picture.save(data, "PNG")
    return GeneratedImage(
        data=data.getvalue(),
        width=request.width,
        height=request.height,
        seed=request.seed,
        model=model,
        parameters=_parameters(loaded, request, batch),
        seconds=time.monotonic() - began,
    )


def _parameters(loaded: LoadedPipeline, request: ImageRequest, batch: int) -> dict[str, Any]:
    """What decided the pixels besides prompt, seed and size."""
    import diffusers  # noqa: PLC0415
    import torch  # noqa: PLC0415

    steps, guidance = _effective(loaded, request)
    parameters: dict[str, Any] = {
        "steps": steps,
        "guidance": guidance,
        "source": loaded.recipe.source,
        "pipeline": loaded.recipe.pipeline,
        "scheduler": type(getattr(loaded.pipe, "scheduler", None)).__name__,
        "dtype": loaded.dtype,
        "device": loaded.device,
        "offload": loaded.offload,
        "compiled": loaded.compiled,
        "batch": batch,
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
    }
    heeded = loaded.recipe.heeds_negative(guidance)
    parameters["classifier_free_guidance"] = heeded
    if request.negative_prompt:
        parameters["negative_prompt_ignored"] = not heeded
    return parameters


def _drawing_error(model: str, error: Exception) -> GemsError:
    told = shorten(redact(f"{type(error).__name__}: {error}"))
    if is_out_of_memory(error):
        return OutOfMemoryError(f"Memory ran out while {model} was drawing: {told}")
    if (fault := compiling_failed(error)) is not None:
        return fault
    return ProviderError(f"{model} failed to draw: {told}")
