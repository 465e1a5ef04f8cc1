"""Load a Diffusers pipeline and make sure that all of it is there.

Blocking, for the worker thread. Only safetensors are read and no code that comes with a model is run. Some
damage goes unnoticed in the libraries (layers without weights, or with fresh random ones): it is looked
for here, since it shows only as a bad picture.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gems.errors import ConfigurationError, GemsError, ModelFilesError, OutOfMemoryError
from gems.models.generators.diffusers.presets import (
    FAMILIES,
    PRESETS,
    Recipe,
    component_folders,
    recipe_of_folder,
)
from gems.models.generators.diffusers_compiling import compile_pipeline
from gems.models.generators.diffusers_device import (
    Offload,
    find_device,
    is_out_of_memory,
    number_format,
    place_pipeline,
)
from gems.models.generators.diffusers_prompts import PromptEncoder
from gems.observability.redaction import redact, shorten

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPipeline:
    """A pipeline that can draw, and how it was set up.

    Attributes:
        pipe: The Diffusers pipeline.
        recipe: How to call it, with what only the loaded class could tell.
        accepts: Names of the arguments that its call takes.
        dtype: Name of the number format of its weights.
        device: Where it computes.
        offload: Where its weights wait: `none`, `model` or `sequential`.
        compiled: Whether its steps run through `torch.compile`.
        prompts: Encodes prompts; None where the pipeline is to do it itself.
    """

    pipe: Any
    recipe: Recipe
    accepts: frozenset[str]
    dtype: str
    device: str
    offload: str
    compiled: bool
    prompts: PromptEncoder | None


def load_pipeline(
    recipe: Recipe, *, dtype: str, device: str, offload: Offload, compiled: bool, prompt_bytes: int
) -> LoadedPipeline:
    """Load the pipeline of `recipe`, from its directory, the cache, or the hub.

    Args:
        recipe: What to load.
        dtype: Name of a number format, or `auto`.
        device: Name of a device, or `auto`.
        offload: Where weights wait, or `auto`.
        compiled: Put `torch.compile` to work with the first image.
        prompt_bytes: Most bytes of encoded prompts to keep.

    Raises:
        ConfigurationError: the device is not there, a package is missing, or compiling is not possible.
        ModelFilesError: files are missing, damaged, pickled, or not to be had.
        OutOfMemoryError: the model does not fit into memory.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    place = find_device(device)
    began = time.monotonic()
    try:
        folder = _folder(recipe.source)
        number = number_format(dtype, place.type)
        pipe = _assemble(folder, number)
        _check_weights(pipe, folder)
        mode = place_pipeline(pipe, place, offload)
        if compiled:
            compile_pipeline(pipe, mode)
    except GemsError:
        raise
    except Exception as error:
        raise _loading_error(recipe.source, error) from error
    _log.info("loaded %s in %.1f s on %s", recipe.source, time.monotonic() - began, place)
    known = _completed(recipe, folder, pipe)
    return LoadedPipeline(
        pipe=pipe,
        recipe=known,
        accepts=frozenset(_call_parameters(pipe)),
        dtype=str(number).removeprefix("torch."),
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        offload=mode,
        compiled=compiled,
        prompts=PromptEncoder(pipe, known.embeddings, max_bytes=prompt_bytes) if known.embeddings else None,
    )


def _folder(source: str) -> Path:
    """The directory of the pipeline, downloaded first where it is a name on the hub."""
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    return Path(DiffusionPipeline.download(source, use_safetensors=True, trust_remote_code=False))


def _assemble(folder: Path, number: Any) -> Any:
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    recipe_of_folder(folder)  # Refuses pipelines with code of their own, in a clearer way than the library.
    missing = [name for name in component_folders(folder) if not (folder / name).is_dir()]
    if missing:
        raise ModelFilesError(
            f"The model in {folder} is incomplete: {', '.join(missing)} is missing.",
            hint="Download the model again.",
        )
    maker: Any = DiffusionPipeline
    pipe = maker.from_pretrained(
        str(folder),
        dtype=number,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        **_text_encoders(folder, number),
    )
    pipe.set_progress_bar_config(disable=True)
    call, name = _call_parameters(pipe), type(pipe).__name__
    needs_image = "image" in call and ("Img2Img" in name or "Inpaint" in name)
    if needs_image or not {"prompt", "width", "height"} <= set(call):
        raise ModelFilesError(
            f"{name} in {folder} does not draw images from text.", hint="Use another model."
        )
    if hasattr(getattr(pipe, "vae", None), "enable_slicing"):
        pipe.vae.enable_slicing()  # Decodes a batch image by image: the same pixels with less memory.
    return pipe


def _text_encoders(folder: Path, number: Any) -> dict[str, Any]:
    """The pipeline's transformers models, loaded one by one to learn which weights were not found.

    transformers fills such weights with random numbers and only logs it.
    """
    import transformers  # noqa: PLC0415

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    models = {}
    for name in component_folders(folder):
        library, kind = index[name]
        maker = getattr(transformers, kind, None) if library == "transformers" else None
        if not (isinstance(maker, type) and issubclass(maker, transformers.PreTrainedModel)):
            continue
        load: Any = maker.from_pretrained
        model, report = load(
            str(folder / name),
            dtype=number,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        invented = sorted(set(report["missing_keys"]) & {key for key, _ in model.named_parameters()})
        if invented:
            raise _missing_weights(folder, name, invented)
        models[name] = model
    return models


def _check_weights(pipe: Any, folder: Path) -> None:
    """Find layers that exist as names only: `meta` tensors, which some models draw with regardless."""
    import torch  # noqa: PLC0415

    for name, model in pipe.components.items():
        if not isinstance(model, torch.nn.Module):
            continue
        empty = sorted(key for key, weights in model.named_parameters() if weights.is_meta)
        if empty:
            raise _missing_weights(folder, name, empty)


def _missing_weights(folder: Path, component: str, keys: Sequence[str]) -> ModelFilesError:
    return ModelFilesError(
        f"The files in {folder / component} lack {len(keys)} weights of the model, such as {keys[0]}.",
        hint="Download the model again.",
    )


def _call_parameters(pipe: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(type(pipe).__call__).parameters)


def _completed(recipe: Recipe, folder: Path, pipe: Any) -> Recipe:
    """`recipe` with what was not known before the pipeline's class was."""
    found = type(pipe).__name__
    if not recipe.pipeline:
        known = recipe_of_folder(folder)
        recipe = replace(
            known,
            source=recipe.source,
            steps=recipe.steps or known.steps,
            guidance=known.guidance if recipe.guidance is None else recipe.guidance,
        )
    call = _call_parameters(pipe)
    if found not in FAMILIES and ("negative_prompt" not in call or "true_cfg_scale" in call):
        recipe = replace(recipe, cfg_above=None)
    return replace(
        recipe,
        pipeline=found,
        steps=recipe.steps or _default(call, "num_inference_steps", int),
        guidance=_default(call, recipe.guidance_argument, float)
        if recipe.guidance is None
        else recipe.guidance,
    )


def _default(call: dict[str, inspect.Parameter], name: str, kind: type) -> Any:
    value = call[name].default if name in call else None
    return kind(value) if isinstance(value, int | float) else None


def _loading_error(source: str, error: Exception) -> GemsError:
    told = shorten(redact(f"{type(error).__name__}: {error}"))
    if is_out_of_memory(error):
        return OutOfMemoryError(f"The model {source} does not fit into memory: {told}")
    if isinstance(error, ImportError):
        return ConfigurationError(f"The model {source} needs a package that is not installed: {told}")
    if Path(source).expanduser().is_dir():
        hint = "Download the model again; weights must be safetensors files in the layout of Diffusers."
    else:
        hint = (
            "Connect to the internet for the first use, log in with `hf auth login` where that is asked,"
            f" or name a directory or one of {', '.join(PRESETS)}."
        )
    return ModelFilesError(f"The model {source} cannot be loaded: {told}", hint=hint)
