"""Generate one batch with a loaded Diffusers pipeline. Blocking, for the worker thread."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gems.errors import GemsError, InvalidImageError, OptionError, OutOfMemoryError, ProviderError, RefusedError
from gems.generation import GeneratedImage, ImageRequest
from gems.models.generators.diffusers.classes import PipelineClass, Task
from gems.models.generators.diffusers.loading import (
    LoadedPipeline,
    compilation_error,
    find_tokenizers,
    free_accelerator_memory,
    is_out_of_memory,
)
from gems.models.generators.diffusers.presets import Recipe
from gems.models.generators.diffusers.prompt_encoder import Embeddings, PromptEncoder, join_embeddings
from gems.models.images import encode_png, open_flat
from gems.models.masks import keep_outside, read_mask
from gems.observability.redaction import redact, shorten


class GenerationStopped(Exception):  # noqa: N818 - not a fault
    """Raised by a step callback to stop the generation."""


def choose_task(recipe: Recipe, request: ImageRequest) -> Task:
    """Return what a request is for this model; draw, if the model is not known yet.

    Raises `OptionError` if the model only edits, or edits only what a mask selects.
    """
    tasks, name = recipe.tasks, recipe.pipeline
    images = (request.source, *request.references) if request.source is not None else request.references
    if not images:
        if tasks and "draw" not in tasks:
            hint = "Pass an image to edit, or use a model that draws."
            raise OptionError(f"{name} edits images, and draws none from a prompt alone.", hint=hint)
        return "draw"
    fits = "inpaint" in tasks and len(request.references) <= ("image_reference" in tasks["inpaint"].parameters)
    if request.mask is not None and fits:
        return "inpaint"
    if tasks and "edit" not in tasks:
        hint = "Pass a mask, white where the image is to be changed."
        raise OptionError(f"{name} changes only what a mask selects.", hint=hint)
    return "edit"


def generate_batch(
    loaded: LoadedPipeline, requests: Sequence[ImageRequest], *, model: str, on_step: Callable[[int, int], None]
) -> list[GeneratedImage | GemsError]:
    """Generate requests of equal size, steps and guidance in one batch; return each one's image or error.

    A request with images must be alone. `on_step` receives (steps done, total steps) and may raise
    `GenerationStopped`, after which the pipeline can be used again. Raises `ConfigurationError` if the model cannot
    be compiled, and `ProviderError`.
    """
    started = time.monotonic()
    pipe, known = loaded.pipeline_for(choose_task(loaded.recipe, requests[0]))
    encoder = loaded.prompts if loaded.prompts is not None and not known.encodes_images else None
    encoded = [_encode_prompts(loaded, encoder, request, model) for request in requests]
    valid = {n: each for n, each in enumerate(encoded) if not isinstance(each, GemsError)}
    valid_requests = [requests[n] for n in valid]
    images = iter(_run_pipeline(loaded, pipe, known, valid_requests, list(valid.values()), model, on_step, started))
    return [each if isinstance(each, GemsError) else next(images) for each in encoded]


def _encode_prompts(
    loaded: LoadedPipeline, encoder: PromptEncoder | None, request: ImageRequest, model: str
) -> Embeddings | GemsError:
    """Return a request's embeddings or its error; empty if the pipeline encodes prompts itself."""
    if encoder is None:
        return {}
    try:
        return encoder.encode(request.prompt, _choose_negative_prompt(loaded.recipe, request))
    except Exception as error:  # noqa: BLE001 - handed to whoever awaits the request
        _clean_up(loaded.pipe, error)
        fault = _translate_failure(model, error)
        fault.__cause__ = error
        return fault


def _run_pipeline(
    loaded: LoadedPipeline,
    pipe: Any,
    known: PipelineClass,
    requests: Sequence[ImageRequest],
    encoded: Sequence[Embeddings],
    model: str,
    on_step: Callable[[int, int], None],
    started: float,
) -> list[GeneratedImage | GemsError]:
    if not requests:
        return []
    arguments = _build_arguments(loaded, pipe, known, requests, encoded, on_step)
    try:
        _set_guiders(pipe, arguments.get("guider"))
        output = pipe(**{name: value for name, value in arguments.items() if name != "guider"})
    except Exception as error:
        _clean_up(pipe, error)
        if isinstance(error, GenerationStopped):
            raise
        raise _translate_failure(model, error) from error
    blocked = getattr(output, "nsfw_content_detected", None) or [False] * len(requests)
    results: list[GeneratedImage | GemsError] = []
    # The first field of an output is its images, whatever the class calls it.
    for request, pixels, refused in zip(requests, output[0], blocked, strict=True):
        fault = _check_pixels(pixels, model, refused=refused)
        if fault is None:
            told = _record_parameters(loaded, pipe, request, arguments, len(requests))
            results.append(_make_image(loaded, request, pixels, model, told, started))
        else:
            results.append(fault)
    return results


def _clean_up(pipe: Any, error: Exception) -> None:
    # The traceback's frames hold the batch's tensors, which would live as long as the error.
    traceback.clear_frames(error.__traceback__)
    # Moves offloaded models back to CPU memory, as at the end of a complete call.
    pipe.maybe_free_model_hooks()
    free_accelerator_memory()


def _build_arguments(
    loaded: LoadedPipeline,
    pipe: Any,
    known: PipelineClass,
    requests: Sequence[ImageRequest],
    encoded: Sequence[Embeddings],
    on_step: Callable[[int, int], None],
) -> dict[str, Any]:
    """Return the arguments of the pipeline's call, only those it takes. Lists are new, since Z-Image modifies them."""
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    recipe, first = loaded.recipe, requests[0]
    steps, guidance = _resolve_options(recipe, first)

    def after_step(pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        # Higher-order schedulers take more steps than requested.
        on_step(index + 1, getattr(pipe, "num_timesteps", None) or steps or index + 1)
        return tensors

    arguments: dict[str, Any] = {
        "width": first.width,
        "height": first.height,
        # Kontext enlarges its images to this area in pixels.
        "max_area": first.width * first.height,
        "num_inference_steps": None if _has_own_schedule(pipe) else steps,
        # Always on the CPU, so that a seed gives the same image on every device.
        "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        "output_type": "np",
        "callback_on_step_end": after_step,
        **_image_arguments(recipe, known, first),
    }
    if recipe.guidance_argument != "true_cfg_scale":
        # Off: some pipelines warn if it is on without a negative prompt.
        arguments["true_cfg_scale"] = 1.0
    if recipe.guidance_argument:
        arguments[recipe.guidance_argument] = guidance
    if encoded[0]:
        arguments |= join_embeddings(encoded, pipe._execution_device)  # noqa: SLF001 - Diffusers has no other name
    else:
        arguments["prompt"] = [request.prompt for request in requests]
        if recipe.heeds_negative(guidance):
            arguments["negative_prompt"] = [_choose_negative_prompt(recipe, request) for request in requests]
    accepted = {*known.parameters, "guider"}
    given = {name: value for name, value in arguments.items() if name in accepted and value is not None}
    return given | {name: value for name, value in recipe.fixed.items() if name in accepted}


def _image_arguments(recipe: Recipe, known: PipelineClass, request: ImageRequest) -> dict[str, Any]:
    """Return the arguments for the images of a request."""
    given = (request.source, *request.references) if request.source is not None else request.references
    images = [open_flat(each, "The image to edit") for each in given]
    if not images:
        return {}
    size = (request.width, request.height)
    # These start from the pixels of the image; the others see it as a reference of any size.
    if known.mask_parameter or "strength" in known.parameters or "width" not in known.parameters:
        images[0] = images[0] if images[0].size == size else images[0].resize(size)
    arguments: dict[str, Any] = {"strength": request.strength}
    steps, usual = _resolve_options(recipe, request)[0], known.default("strength", float)
    if request.strength is None and known.may_lose_steps and steps and usual and int(steps * usual) < 1:
        # The class's own strength would leave no step to a model that takes few.
        arguments["strength"] = 1 / steps
    several = recipe.references > 0 or known.image_parameter == "images"
    if not known.mask_parameter:
        return arguments | {known.image_parameter: images if several else images[0]}
    mask = read_mask(request.mask or b"", size)
    reference = images[1] if len(images) > 1 else None
    return arguments | {known.image_parameter: images[0], known.mask_parameter: mask, "image_reference": reference}


def _has_own_schedule(pipe: Any) -> bool:
    """Whether the model comes with a schedule of steps, as distilled Qwen-Image-2.1 does, and ignores the number."""
    return bool(pipe.config.get("sample_sigmas"))


def _set_guiders(pipe: Any, guidance: float | None) -> None:
    """Set the guidance scale of pipelines that keep it in a component."""
    for name in ("guider", "ocr_guider") if guidance is not None else ():
        if (guider := getattr(pipe, name, None)) is not None:
            setattr(pipe, name, guider.new(guidance_scale=guidance))


def _choose_negative_prompt(recipe: Recipe, request: ImageRequest) -> str | None:
    """Return the negative prompt; None if it has no effect."""
    heeded = recipe.heeds_negative(_resolve_options(recipe, request)[1])
    return (request.negative_prompt or recipe.empty_negative) if heeded else None


def _resolve_options(recipe: Recipe, request: ImageRequest) -> tuple[int | None, float | None]:
    """Return steps and guidance of a request; None if even the pipeline has no default."""
    return (
        recipe.steps if request.steps is None else request.steps,
        recipe.guidance if request.guidance is None else request.guidance,
    )


def _check_pixels(pixels: Any, model: str, *, refused: bool) -> GemsError | None:
    """Check an image of floats in [0, 1], shape (height, width, 3); return the error, if any."""
    if refused:
        return RefusedError(f"The safety checker of {model} rejected the image.")
    fault = "an image with invalid numbers (NaN)" if not np.isfinite(pixels).all() else ""
    if not fault and pixels.any():
        return None
    hint = "Its weights are damaged, or they overflow: set GEMS_GENERATOR__DTYPE=float32."
    return InvalidImageError(f"{model} generated {fault or 'an entirely black image'}.", hint=hint)


def _make_image(
    loaded: LoadedPipeline, request: ImageRequest, pixels: Any, model: str, parameters: dict[str, Any], started: float
) -> GeneratedImage:
    picture, size = Image.fromarray((pixels * 255).round().astype("uint8")), (request.width, request.height)
    warnings = [*_warn_about_length(loaded, request.prompt, model), *_warn_about_options(loaded, request, model)]
    if picture.size != size:
        drawn = f"{picture.width}x{picture.height}"
        warnings.append(f"{model} generated {drawn} pixels instead of {size[0]}x{size[1]}; the image was scaled.")
        parameters["drawn_size"] = drawn
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    image = GeneratedImage(
        data=encode_png(picture),
        width=request.width,
        height=request.height,
        seed=request.seed,
        model=model,
        parameters=parameters,
        seconds=0.0,
        warnings=tuple(warnings),
        pixels=picture,
    )
    return replace(keep_outside(image, request), seconds=time.monotonic() - started)


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


def _warn_about_options(loaded: LoadedPipeline, request: ImageRequest, model: str) -> tuple[str, ...]:
    """Return warnings about options that the pipeline does not take."""
    warnings = []
    guidance = _resolve_options(loaded.recipe, request)[1]
    if guidance is not None and not loaded.recipe.guidance_argument:
        warnings.append(f"{model} takes no guidance scale: {guidance:g} was not used.")
    if request.steps is not None and _has_own_schedule(loaded.pipe):
        most = len(loaded.pipe.config["sample_sigmas"])
        warnings.append(f"{model} has a schedule of {most} steps: {request.steps} was not used.")
    return tuple(warnings)


def _record_parameters(
    loaded: LoadedPipeline, pipe: Any, request: ImageRequest, arguments: Mapping[str, Any], batch: int
) -> dict[str, Any]:
    """Return everything that affects the pixels besides prompt, seed and size, as the call was given it."""
    import diffusers  # noqa: PLC0415
    import torch  # noqa: PLC0415

    recipe = loaded.recipe
    parameters: dict[str, Any] = {
        "source": recipe.source,
        "pipeline": type(pipe).__name__,
        "scheduler": type(getattr(pipe, "scheduler", None)).__name__,
        "dtype": loaded.dtype,
        "device": loaded.device,
        "offload": loaded.offload,
        "compiled": loaded.compiled,
        "batch": batch,
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "classifier_free_guidance": recipe.heeds_negative(_resolve_options(recipe, request)[1]),
        **loaded.adapted,
        **{name: value for name, value in recipe.fixed.items() if name in arguments},
    }
    passed = {"num_inference_steps": "steps", recipe.guidance_argument: "guidance", "strength": "strength"}
    parameters |= {name: arguments[argument] for argument, name in passed.items() if argument in arguments}
    if request.negative_prompt:
        heeded = parameters["classifier_free_guidance"]
        parameters["negative_prompt_ignored"] = not heeded
        parameters |= {"negative_prompt": request.negative_prompt} if heeded else {}
    return parameters


def _translate_failure(model: str, error: Exception) -> GemsError:
    message = shorten(redact(f"{type(error).__name__}: {error}"))
    if is_out_of_memory(error):
        return OutOfMemoryError(f"{model} ran out of memory while generating: {message}")
    if (fault := compilation_error(error)) is not None:
        return fault
    return ProviderError(f"{model} failed to generate: {message}")
