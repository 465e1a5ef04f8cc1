"""Generate one batch with a loaded Diffusers pipeline. Blocking, for the worker thread."""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gems.errors import GemsError, InvalidImageError, OutOfMemoryError, ProviderError, RefusedError
from gems.models.generators.diffusers.loading import (
    LoadedPipeline,
    compilation_error,
    find_tokenizers,
    free_accelerator_memory,
    is_out_of_memory,
)
from gems.models.generators.diffusers.prompt_encoder import Embeddings, join_embeddings
from gems.observability.redaction import redact, shorten
from gems.types import GeneratedImage, ImageRequest


class GenerationStopped(Exception):  # noqa: N818 - not a fault
    """Raised by a step callback to stop the generation."""


def generate_batch(
    loaded: LoadedPipeline, requests: Sequence[ImageRequest], *, model: str, on_step: Callable[[int, int], None]
) -> list[GeneratedImage | GemsError]:
    """Generate requests of equal size, steps and guidance in one batch; return each one's image or error.

    `on_step` receives (steps done, total steps) and may raise `GenerationStopped`, after which the pipeline
    can be used again. Raises `ConfigurationError` if the model cannot be compiled, and `ProviderError`.
    """
    started = time.monotonic()
    encoded = [_encode_prompts(loaded, request, model) for request in requests]
    valid = {n: each for n, each in enumerate(encoded) if not isinstance(each, GemsError)}
    valid_requests = [requests[n] for n in valid]
    images = iter(_run_pipeline(loaded, valid_requests, list(valid.values()), model, on_step, started))
    return [each if isinstance(each, GemsError) else next(images) for each in encoded]


def _encode_prompts(loaded: LoadedPipeline, request: ImageRequest, model: str) -> Embeddings | GemsError:
    """Return a request's embeddings or its error; empty if the pipeline encodes prompts itself."""
    if loaded.prompts is None:
        return {}
    try:
        return loaded.prompts.encode(request.prompt, _choose_negative_prompt(loaded, request))
    except Exception as error:  # noqa: BLE001 - handed to whoever awaits the request
        _clean_up(loaded, error)
        fault = _translate_failure(model, error)
        fault.__cause__ = error
        return fault


def _run_pipeline(
    loaded: LoadedPipeline,
    requests: Sequence[ImageRequest],
    encoded: Sequence[Embeddings],
    model: str,
    on_step: Callable[[int, int], None],
    started: float,
) -> list[GeneratedImage | GemsError]:
    if not requests:
        return []
    try:
        output = loaded.pipe(**_build_arguments(loaded, requests, encoded, on_step))
    except Exception as error:
        _clean_up(loaded, error)
        if isinstance(error, GenerationStopped):
            raise
        raise _translate_failure(model, error) from error
    blocked = getattr(output, "nsfw_content_detected", None) or [False] * len(requests)
    results: list[GeneratedImage | GemsError] = []
    for request, pixels, refused in zip(requests, output.images, blocked, strict=True):
        fault = _check_pixels(pixels, request, model, refused=refused)
        results.append(fault or _make_image(loaded, request, pixels, model, len(requests), started))
    return results


def _clean_up(loaded: LoadedPipeline, error: Exception) -> None:
    # The traceback's frames hold the batch's tensors, which would live as long as the error.
    traceback.clear_frames(error.__traceback__)
    # Moves offloaded models back to CPU memory, as at the end of a complete call.
    loaded.pipe.maybe_free_model_hooks()
    free_accelerator_memory()


def _build_arguments(
    loaded: LoadedPipeline,
    requests: Sequence[ImageRequest],
    encoded: Sequence[Embeddings],
    on_step: Callable[[int, int], None],
) -> dict[str, Any]:
    """Return the arguments of the pipeline's call. Lists are new, since Z-Image modifies them."""
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    recipe, first = loaded.recipe, requests[0]
    steps, guidance = _resolve_options(loaded, first)

    def after_step(pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        # Higher-order schedulers take more steps than requested.
        on_step(index + 1, getattr(pipe, "num_timesteps", None) or steps or index + 1)
        return tensors

    arguments: dict[str, Any] = {
        "width": first.width,
        "height": first.height,
        "num_inference_steps": steps,
        # Always on the CPU, so that a seed gives the same image on every device.
        "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        "output_type": "np",
        "callback_on_step_end": after_step,
    }
    if guidance is not None:
        arguments[recipe.guidance_argument] = guidance
    if recipe.guidance_argument != "true_cfg_scale":
        # Off: some pipelines warn if it is on without a negative prompt.
        arguments["true_cfg_scale"] = 1.0
    if loaded.prompts is not None:
        arguments |= join_embeddings(encoded, loaded.pipe._execution_device)  # noqa: SLF001 - Diffusers has no other name
    else:
        arguments["prompt"] = [request.prompt for request in requests]
        if recipe.heeds_negative(guidance):
            arguments["negative_prompt"] = [_choose_negative_prompt(loaded, request) for request in requests]
    return {name: value for name, value in arguments.items() if name in loaded.accepts and value is not None}


def _choose_negative_prompt(loaded: LoadedPipeline, request: ImageRequest) -> str | None:
    """Return the negative prompt; None if it has no effect."""
    heeded = loaded.recipe.heeds_negative(_resolve_options(loaded, request)[1])
    return (request.negative_prompt or loaded.recipe.empty_negative) if heeded else None


def _resolve_options(loaded: LoadedPipeline, request: ImageRequest) -> tuple[int | None, float | None]:
    """Return steps and guidance of a request; None if even the pipeline has no default."""
    recipe = loaded.recipe
    return (
        recipe.steps if request.steps is None else request.steps,
        recipe.guidance if request.guidance is None else request.guidance,
    )


def _check_pixels(pixels: Any, request: ImageRequest, model: str, *, refused: bool) -> GemsError | None:
    """Check an image of floats in [0, 1], shape (height, width, 3); return the error, if any."""
    if refused:
        return RefusedError(f"The safety checker of {model} rejected the image.")
    height, width = pixels.shape[:2]
    if (width, height) != (request.width, request.height):
        wanted = f"{request.width}x{request.height}"
        return InvalidImageError(f"{model} generated {width}x{height} pixels instead of {wanted}.")
    fault = "an image with invalid numbers (NaN)" if not np.isfinite(pixels).all() else ""
    if not fault and pixels.any():
        return None
    hint = "Its weights are damaged, or they overflow: set GEMS_GENERATOR__DTYPE=float32."
    return InvalidImageError(f"{model} generated {fault or 'an entirely black image'}.", hint=hint)


def _make_image(
    loaded: LoadedPipeline, request: ImageRequest, pixels: Any, model: str, batch: int, started: float
) -> GeneratedImage:
    data = io.BytesIO()
    Image.fromarray((pixels * 255).round().astype("uint8")).save(data, "PNG")
    return GeneratedImage(
        data=data.getvalue(),
        width=request.width,
        height=request.height,
        seed=request.seed,
        model=model,
        parameters=_record_parameters(loaded, request, batch),
        seconds=time.monotonic() - started,
        warnings=_warn_about_length(loaded, request.prompt, model),
    )


def _warn_about_length(loaded: LoadedPipeline, prompt: str, model: str) -> tuple[str, ...]:
    """Return a warning if the text encoder cut the prompt; pipelines themselves only log it."""
    tokenizers, most = find_tokenizers(loaded.pipe), loaded.recipe.prompt_tokens
    # A token has at least one character.
    if not tokenizers or most is None or len(prompt) <= most:
        return ()
    tokens = len(tokenizers[-1](prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids)
    if tokens <= most:
        return ()
    return (f"The prompt has {tokens} tokens, but {model} reads only the first {most} and ignored the rest.",)


def _record_parameters(loaded: LoadedPipeline, request: ImageRequest, batch: int) -> dict[str, Any]:
    """Return everything that affects the pixels besides prompt, seed and size."""
    import diffusers  # noqa: PLC0415
    import torch  # noqa: PLC0415

    steps, guidance = _resolve_options(loaded, request)
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
        "classifier_free_guidance": loaded.recipe.heeds_negative(guidance),
    }
    if request.negative_prompt:
        parameters["negative_prompt_ignored"] = not parameters["classifier_free_guidance"]
    return parameters


def _translate_failure(model: str, error: Exception) -> GemsError:
    message = shorten(redact(f"{type(error).__name__}: {error}"))
    if is_out_of_memory(error):
        return OutOfMemoryError(f"{model} ran out of memory while generating: {message}")
    if (fault := compilation_error(error)) is not None:
        return fault
    return ProviderError(f"{model} failed to generate: {message}")
