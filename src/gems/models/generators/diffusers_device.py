"""Device, dtype and offloading of a Diffusers pipeline."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any, Literal

from gems.errors import ConfigurationError

Offload = Literal["none", "model", "sequential", "auto"]
DTYPES = ("auto", "bfloat16", "float16", "float32")

_WORKING_BYTES = 4 * 2**30
"""Accelerator memory left for activations: about what four images of 1024x1024 pixels take."""


def find_device(asked: str) -> Any:
    """Return the `torch.device` of that name; `auto` is the first available of CUDA, MPS and CPU.

    Raises `ConfigurationError` if the name is invalid or the device is not available.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise ConfigurationError(
            f"Invalid device: {asked!r}.", hint="Use auto, cpu, cuda, cuda:1 or mps."
        ) from error
    available = {"cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps, "cpu": True}
    if not available.get(device.type, False):
        raise ConfigurationError(f"The device {asked} is not available.", hint="Use auto or cpu.")
    return device


def resolve_dtype(asked: str, device: str) -> Any:
    """Return the `torch.dtype` of that name; `auto` is bfloat16 on CUDA, else float32."""
    import torch  # noqa: PLC0415

    if asked == "auto":
        asked = "bfloat16" if device == "cuda" else "float32"
    return getattr(torch, asked)


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
