"""Load a Diffusers pipeline and check that it is complete. Blocking, for the worker thread.

Only safetensors are read and no code of a model is run. The libraries do not report layers without weights
or with random ones, which only show as bad images: they are checked here.
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
    move_pipeline,
    resolve_dtype,
)
from gems.models.generators.diffusers_prompts import PromptEncoder
from gems.observability.redaction import redact, shorten

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPipeline:
    """A loaded Diffusers pipeline and its configuration.

    `recipe` is completed from the loaded class; `accepts` names the arguments of its call; `offload` is
    `none`, `model` or `sequential`; `prompts` is None if the pipeline has to encode prompts itself.
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
    """Load the pipeline of `recipe` from its directory, the cache, or the Hub.

    `prompt_bytes` limits the cache of encoded prompts. Raises `ConfigurationError` if the device or a package
    is missing or compilation is impossible, `ModelFilesError` if files are missing, damaged or pickled, and
    `OutOfMemoryError`.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    target = find_device(device)
    started = time.monotonic()
    try:
        folder = _fetch_folder(recipe.source)
        torch_dtype = resolve_dtype(dtype, target.type)
        pipe = _assemble_pipeline(folder, torch_dtype)
        _check_weights(pipe, folder)
        mode = move_pipeline(pipe, target, offload)
        if compiled:
            compile_pipeline(pipe, mode)
    except GemsError:
        raise
    except Exception as error:
        raise _translate_loading_error(recipe.source, error) from error
    _log.info("loaded %s in %.1f s on %s", recipe.source, time.monotonic() - started, target)
    known = _complete_recipe(recipe, folder, pipe)
    return LoadedPipeline(
        pipe=pipe,
        recipe=known,
        accepts=frozenset(_call_parameters(pipe)),
        dtype=str(torch_dtype).removeprefix("torch."),
        device=torch.cuda.get_device_name(target) if target.type == "cuda" else target.type,
        offload=mode,
        compiled=compiled,
        prompts=PromptEncoder(pipe, known.embeddings, max_bytes=prompt_bytes) if known.embeddings else None,
    )


def _fetch_folder(source: str) -> Path:
    """Return the directory of the pipeline; download it if `source` is a name on the Hub."""
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    return Path(DiffusionPipeline.download(source, use_safetensors=True, trust_remote_code=False))


def _assemble_pipeline(folder: Path, number: Any) -> Any:
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    recipe_of_folder(folder)  # Rejects pipelines with custom code, with a clearer message than the library's.
    missing = [name for name in component_folders(folder) if not (folder / name).is_dir()]
    if missing:
        raise ModelFilesError(
            f"The model in {folder} is incomplete: {', '.join(missing)} is missing.",
            hint="Download the model again.",
        )
    pipeline_class: Any = DiffusionPipeline
    pipe = pipeline_class.from_pretrained(
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
            f"{name} in {folder} is not a text-to-image pipeline.", hint="Use another model."
        )
    if hasattr(getattr(pipe, "vae", None), "enable_slicing"):
        pipe.vae.enable_slicing()  # Decodes image by image: the same pixels with less memory.
    return pipe


def _text_encoders(folder: Path, number: Any) -> dict[str, Any]:
    """Load the pipeline's transformers models one by one to find missing weights.

    transformers initialises missing weights at random and only logs it.
    """
    import transformers  # noqa: PLC0415

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    models = {}
    for name in component_folders(folder):
        library, kind = index[name]
        model_class = getattr(transformers, kind, None) if library == "transformers" else None
        if not (isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)):
            continue
        load: Any = model_class.from_pretrained
        model, report = load(
            str(folder / name),
            dtype=number,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        missing = sorted(set(report["missing_keys"]) & {key for key, _ in model.named_parameters()})
        if missing:
            raise _missing_weights(folder, name, missing)
        models[name] = model
    return models


def _check_weights(pipe: Any, folder: Path) -> None:
    """Reject layers without weights (`meta` tensors), which some models ignore silently."""
    import torch  # noqa: PLC0415

    for name, model in pipe.components.items():
        if not isinstance(model, torch.nn.Module):
            continue
        empty = sorted(key for key, weights in model.named_parameters() if weights.is_meta)
        if empty:
            raise _missing_weights(folder, name, empty)


def _missing_weights(folder: Path, component: str, keys: Sequence[str]) -> ModelFilesError:
    return ModelFilesError(
        f"The files in {folder / component} lack {len(keys)} weights of the model, e.g. {keys[0]}.",
        hint="Download the model again.",
    )


def _call_parameters(pipe: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(type(pipe).__call__).parameters)


def _complete_recipe(recipe: Recipe, folder: Path, pipe: Any) -> Recipe:
    """Complete `recipe` with defaults of the loaded pipeline's class."""
    class_name = type(pipe).__name__
    if not recipe.pipeline:
        known = recipe_of_folder(folder)
        recipe = replace(
            known,
            source=recipe.source,
            steps=recipe.steps or known.steps,
            guidance=known.guidance if recipe.guidance is None else recipe.guidance,
        )
    call = _call_parameters(pipe)
    if class_name not in FAMILIES and ("negative_prompt" not in call or "true_cfg_scale" in call):
        recipe = replace(recipe, cfg_above=None)
    return replace(
        recipe,
        pipeline=class_name,
        steps=recipe.steps or _find_default(call, "num_inference_steps", int),
        guidance=_find_default(call, recipe.guidance_argument, float)
        if recipe.guidance is None
        else recipe.guidance,
    )


def _find_default(call: dict[str, inspect.Parameter], name: str, kind: type) -> Any:
    value = call[name].default if name in call else None
    return kind(value) if isinstance(value, int | float) else None


def _translate_loading_error(source: str, error: Exception) -> GemsError:
    message = shorten(redact(f"{type(error).__name__}: {error}"))
    if is_out_of_memory(error):
        return OutOfMemoryError(f"The model {source} does not fit into memory: {message}")
    if isinstance(error, ImportError):
        return ConfigurationError(f"The model {source} needs a package that is not installed: {message}")
    if Path(source).expanduser().is_dir():
        hint = "Download the model again; weights must be safetensors files in Diffusers layout."
    else:
        hint = (
            "Connect to the internet for the first use, run `hf auth login` if the model requires it,"
            f" or use a directory or one of {', '.join(PRESETS)}."
        )
    return ModelFilesError(f"The model {source} cannot be loaded: {message}", hint=hint)
