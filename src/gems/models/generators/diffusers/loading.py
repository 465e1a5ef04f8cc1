"""Load, place and compile a pipeline."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from gems.errors import ConfigurationError, GemsError, ModelFilesError, OutOfMemoryError
from gems.models.generators.diffusers.adapters import Lora, add_loras, quantization_configs
from gems.models.generators.diffusers.classes import PipelineClass, Task
from gems.models.generators.diffusers.presets import (
    CLIP_TOKENS,
    DOWNLOAD_AGAIN,
    PRESETS,
    Recipe,
    component_folders,
    read_json,
    recipe_of_folder,
)
from gems.models.generators.diffusers.prompt_encoder import PromptEncoder
from gems.observability.redaction import redact, shorten

_log = logging.getLogger(__name__)

Offload = Literal["none", "model", "sequential", "auto"]
DTYPES = ("auto", "bfloat16", "float16", "float32")
_WORKING_BYTES = 4 * 2**30
"""Accelerator memory left for activations: about what four images of 1024x1024 pixels take."""
_RECOMPILE_LIMIT = 64
"""All blocks of a model share one code object, which is recompiled for each kind of block, size and prompt
length; beyond torch's default of 8, steps would silently run uncompiled."""
_LOCAL_FILES = {"use_safetensors": True, "local_files_only": True}
_COMPILE_OFF = "Set GEMS_GENERATOR__COMPILE=false."


def compile_pipeline(pipe: Any, offload: str) -> None:
    """Set up compilation of the denoising model at its first call, per block where supported.

    Must run on the worker thread, whose recompilation limit it raises, after the pipeline was moved.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    if offload == "sequential":
        hint = f"{_COMPILE_OFF} Or use GEMS_GENERATOR__OFFLOAD=model."
        raise ConfigurationError("Sequential offloading cannot be combined with compilation.", hint=hint)
    config = torch._dynamo.config  # noqa: SLF001 - where PyTorch documents it
    config.recompile_limit = max(config.recompile_limit, _RECOMPILE_LIMIT)
    model = getattr(pipe, "transformer", None) or pipe.unet
    try:
        if getattr(model, "_repeated_blocks", None):
            model.compile_repeated_blocks()
        else:
            model.compile()
    except RuntimeError as error:
        raise ConfigurationError(f"torch.compile cannot be used here: {error}", hint=_COMPILE_OFF) from error


def compilation_error(error: BaseException) -> ConfigurationError | None:
    """Return the error to report if `error` comes from compilation; else None."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
        return None
    message = shorten(redact(f"{type(error).__name__}: {' '.join(str(error).split())}"))
    return ConfigurationError(
        f"The model cannot be compiled: {message}",
        hint=f"{_COMPILE_OFF} Compilation needs a C++ compiler on CPU, Triton and a C compiler on CUDA.",
    )


def find_device(asked: str) -> Any:
    """Return the `torch.device` of that name; `auto` is the first available of CUDA, MPS and CPU."""
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        hint = "Use auto, cpu, cuda, cuda:1 or mps."
        raise ConfigurationError(f"Invalid device: {asked!r}.", hint=hint) from error
    available = {"cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps, "cpu": True}
    if not available.get(device.type, False):
        raise ConfigurationError(f"The device {asked} is not available.", hint="Use auto or cpu.")
    return device


def choose_offload(asked: Offload, device: str, parts: Sequence[int], free: int) -> str:
    """Resolve an offload mode: `none`, `model` (one model at a time on the device) or `sequential` (a layer).

    `auto` decides by memory: `parts` are the bytes of each of the pipeline's models, `free` the free bytes
    of the accelerator.
    """
    if device == "cpu" or asked == "none":
        return "none"
    if asked != "auto":
        return asked
    if device != "cuda" or sum(parts) + _WORKING_BYTES <= free:
        return "none"
    return "model" if max(parts, default=0) + _WORKING_BYTES <= free else "sequential"


def move_pipeline(pipe: Any, device: Any, offload: Offload) -> str:
    """Move a loaded pipeline to `device`, or set up offloading; return the offload mode in use."""
    import torch  # noqa: PLC0415

    models = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    parts = [sum(each.numel() * each.element_size() for each in model.parameters()) for model in models]
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    mode = choose_offload(offload, device.type, parts, free)
    if mode == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif mode == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    return mode


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error means out of memory; not all libraries have a class for it."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text))
    )


def free_accelerator_memory() -> None:
    """Release memory that is no longer referenced."""
    import torch  # noqa: PLC0415

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPipeline:
    """A loaded Diffusers pipeline and its configuration.

    `recipe` is completed from the loaded class; `offload` is `none`, `model` or `sequential`; `prompts` is None if
    the pipeline has to encode prompts itself; `adapted` records LoRAs and quantisation.
    """

    pipe: Any
    recipe: Recipe
    dtype: str
    device: str
    offload: str
    compiled: bool
    prompts: PromptEncoder | None
    adapted: Mapping[str, Any] = field(default_factory=dict)
    _siblings: dict[str, Any] = field(default_factory=dict)

    def pipeline_for(self, task: Task) -> tuple[Any, PipelineClass]:
        """Return the pipeline that does a task, and its class; one of another class shares all weights."""
        known = self.recipe.tasks[task]
        if known.name == type(self.pipe).__name__:
            pipe = self.pipe
        else:
            pipe = self._siblings.get(known.name) or _share_components(self.pipe, known)
            self._siblings[known.name] = pipe
        if self.offload == "model" and self._siblings:
            # The hooks of a component belong to the pipeline that set them last.
            pipe.enable_model_cpu_offload(device=getattr(self.pipe, "_offload_device", None))
        return pipe, known


def _share_components(pipe: Any, known: PipelineClass) -> Any:
    """Make a pipeline of another class from the components of `pipe`, with a scheduler of its own."""
    import diffusers  # noqa: PLC0415 - seconds long, and only with the extra

    # `from_pipe` would convert the shared weights to another dtype.
    parts = {**{name: value for name, value in pipe.config.items() if not name.startswith("_")}, **pipe.components}
    parts["scheduler"] = type(pipe.scheduler).from_config(pipe.scheduler.config)
    made = getattr(diffusers, known.name)(**{name: value for name, value in parts.items() if name in known.options})
    made.set_progress_bar_config(disable=True)
    return made


def load_pipeline(
    recipe: Recipe,
    *,
    dtype: str,
    device: str,
    offload: Offload,
    compiled: bool,
    prompt_bytes: int,
    loras: Sequence[Lora] = (),
    quantize: str = "",
) -> LoadedPipeline:
    """Load the pipeline of `recipe` from its directory, the cache, or the Hub.

    `prompt_bytes` limits the cache of encoded prompts. Raises `ConfigurationError` if the device or a package
    is missing or compilation is impossible, `ModelFilesError` for damaged files, and `OutOfMemoryError`.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    target = find_device(device)
    started = time.monotonic()
    try:
        folder = _fetch_folder(recipe.source)
        default = "bfloat16" if target.type == "cuda" else "float32"
        torch_dtype = getattr(torch, default if dtype == "auto" else dtype)
        pipe = _assemble_pipeline(folder, torch_dtype, quantize)
        _check_weights(pipe, folder)
        added = add_loras(pipe, loras)
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
        dtype=str(torch_dtype).removeprefix("torch."),
        device=torch.cuda.get_device_name(target) if target.type == "cuda" else target.type,
        offload=mode,
        compiled=compiled,
        prompts=PromptEncoder(pipe, known.embeddings, max_bytes=prompt_bytes) if known.embeddings else None,
        adapted={**({"loras": list(added)} if added else {}), **({"quantized": quantize} if quantize else {})},
    )


def _fetch_folder(source: str) -> Path:
    """Return the directory of the pipeline; download it if `source` is a name on the Hub."""
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    return Path(DiffusionPipeline.download(source, use_safetensors=True, trust_remote_code=False))


def _assemble_pipeline(folder: Path, number: Any, quantize: str) -> Any:
    from diffusers import DiffusionPipeline  # noqa: PLC0415
    from diffusers.quantizers.pipe_quant_config import PipelineQuantizationConfig  # noqa: PLC0415

    recipe_of_folder(folder)  # Rejects pipelines with custom code, with a clearer message than the library's.
    missing = [name for name in component_folders(folder) if not (folder / name).is_dir()]
    if missing:
        what = f"is incomplete: {', '.join(missing)} is missing"
        raise ModelFilesError(f"The model in {folder} {what}.", hint=DOWNLOAD_AGAIN)
    _check_shards(folder)
    pipeline_class: Any = DiffusionPipeline
    index = read_json(folder / "model_index.json")
    configs = quantization_configs(quantize, number, {name: index[name][0] for name in component_folders(folder)})
    others: dict[str, Any] = _text_encoders(folder, number, configs)
    if own := {name: config for name, config in configs.items() if name not in others}:
        others["quantization_config"] = PipelineQuantizationConfig(quant_mapping=own)
    pipe = pipeline_class.from_pretrained(str(folder), dtype=number, trust_remote_code=False, **_LOCAL_FILES, **others)
    pipe.set_progress_bar_config(disable=True)
    if hasattr(getattr(pipe, "vae", None), "enable_slicing"):
        pipe.vae.enable_slicing()  # Decodes image by image: the same pixels with less memory.
    return pipe


def _check_shards(folder: Path) -> None:
    """Reject a model of which a file is missing, as after an interrupted download."""
    for path in sorted(folder.glob("*/*.safetensors.index.json")):
        named = read_json(path).get("weight_map")
        shards = sorted(set(named.values())) if isinstance(named, dict) else []
        if missing := [shard for shard in shards if not (path.parent / shard).is_file()]:
            what = f"is incomplete: {path.parent.name}/{missing[0]} is missing"
            more = f", and {len(missing) - 1} more of {len(shards)} files" if len(missing) > 1 else ""
            raise ModelFilesError(f"The model in {folder} {what}{more}.", hint=DOWNLOAD_AGAIN)


def _text_encoders(folder: Path, number: Any, quantized: Mapping[str, Any]) -> dict[str, Any]:
    """Load the transformers models one by one: missing weights are initialised at random and only logged."""
    import transformers  # noqa: PLC0415

    index = read_json(folder / "model_index.json")
    models = {}
    for name in component_folders(folder):
        library, kind = index[name]
        model_class = getattr(transformers, kind, None) if library == "transformers" else None
        if not (isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)):
            continue
        load = cast("Any", model_class).from_pretrained
        config = {"quantization_config": quantized[name]} if name in quantized else {}
        model, report = load(str(folder / name), dtype=number, output_loading_info=True, **_LOCAL_FILES, **config)
        if missing := sorted({key for key, _ in model.named_parameters()}.intersection(report["missing_keys"])):
            raise _missing_weights(folder, name, missing)
        models[name] = model
    return models


def _check_weights(pipe: Any, folder: Path) -> None:
    """Reject layers without weights (`meta` tensors), which some models ignore silently."""
    import torch  # noqa: PLC0415

    for name, model in pipe.components.items():
        parameters = model.named_parameters() if isinstance(model, torch.nn.Module) else ()
        if empty := sorted(key for key, weights in parameters if weights.is_meta):
            raise _missing_weights(folder, name, empty)


def _missing_weights(folder: Path, component: str, keys: Sequence[str]) -> ModelFilesError:
    what = f"lack {len(keys)} weights of the model, e.g. {keys[0]}"
    return ModelFilesError(f"The files in {folder / component} {what}.", hint=DOWNLOAD_AGAIN)


def _complete_recipe(recipe: Recipe, folder: Path, pipe: Any) -> Recipe:
    """Complete `recipe` with what the loaded pipeline says: its class, size multiple and text encoder."""
    if recipe.pipeline != type(pipe).__name__:
        known = recipe_of_folder(folder, source=recipe.source)
        recipe = replace(
            known,
            steps=recipe.steps or known.steps,
            guidance=known.guidance if recipe.guidance is None else recipe.guidance,
        )
    multiple = math.lcm(*(known.find_multiple(pipe) for known in recipe.tasks.values()))
    tokens = CLIP_TOKENS if has_only_clip(pipe) else recipe.prompt_tokens
    return replace(recipe, multiple=multiple if multiple > 1 else recipe.multiple, prompt_tokens=tokens)


def find_tokenizers(pipe: Any) -> list[Any]:
    """Return the tokenizers of a pipeline's prompts; the last one's encoder reads the most."""
    found = (getattr(pipe, f"tokenizer{suffix}", None) for suffix in ("", "_2", "_3"))
    return [each for each in found if each is not None]


def has_only_clip(pipe: Any) -> bool:
    """Whether CLIP alone reads the prompts."""
    names = [type(each).__name__ for each in find_tokenizers(pipe)]
    return bool(names) and all(name.startswith("CLIPTokenizer") for name in names)


def _translate_loading_error(source: str, error: Exception) -> GemsError:
    message = shorten(redact(f"{type(error).__name__}: {error}"))
    if is_out_of_memory(error):
        return OutOfMemoryError(f"The model {source} does not fit into memory: {message}")
    if isinstance(error, ImportError):
        return ConfigurationError(f"The model {source} needs a package that is not installed: {message}")
    if (fault := _translate_hub_error(source, error)) is not None:
        return fault
    hint = "Download the model again; weights must be safetensors files in Diffusers layout."
    if not Path(source).expanduser().is_dir():
        hint = (
            "Connect to the internet for the first use, run `hf auth login` if the model requires it,"
            f" or use a directory or one of {', '.join(PRESETS)}."
        )
    return ModelFilesError(f"The model {source} cannot be loaded: {message}", hint=hint)


def _translate_hub_error(source: str, error: Exception) -> ModelFilesError | None:
    """Return the error to report if the Hub does not hand out a model; else None."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError  # noqa: PLC0415 - with the extra only

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(each, GatedRepoError) for each in causes):
        hint = f"Accept its licence at https://huggingface.co/{source}, then set HF_TOKEN or run `hf auth login`."
        return ModelFilesError(f"The model {source} is gated: its owner gives access to those who ask.", hint=hint)
    if any(isinstance(each, RepositoryNotFoundError) for each in causes):
        hint = "Check the name; for a private model, set HF_TOKEN or run `hf auth login`."
        return ModelFilesError(f"The Hub has no public model {source}.", hint=hint)
    return None
