"""Where a Diffusers pipeline computes, in which numbers, and how it fits into memory."""

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
    """The `torch.device` of that name; `auto` is the first there is of CUDA, MPS and CPU.

    Raises:
        ConfigurationError: it is no device, or not here.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        place = torch.device(asked)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{asked!r} is no device.", hint="Use auto, cpu, cuda, cuda:1 or mps."
        ) from error
    there = {"cuda": cuda and (place.index or 0) < torch.cuda.device_count(), "mps": mps, "cpu": True}
    if not there.get(place.type, False):
        raise ConfigurationError(f"There is no device {asked} here.", hint="Use auto or cpu.")
    return place


def number_format(asked: str, device: str) -> Any:
    """The `torch.dtype` of that name; `auto` is bfloat16 on CUDA and else float32."""
    import torch  # noqa: PLC0415

    if asked == "auto":
        asked = "bfloat16" if device == "cuda" else "float32"
    return getattr(torch, asked)


def choose_offload(asked: Offload, device: str, parts: Sequence[int], free: int) -> str:
    """Where the weights wait while they are not computed with.

    Args:
        asked: What the user wants; `auto` decides by memory.
        device: Type of the device; a CPU has nothing to offload from.
        parts: Bytes of each of the pipeline's models.
        free: Free bytes of the accelerator.

    Returns:
        `none`, `model` (one model at a time on the accelerator) or `sequential` (one layer at a time).
    """
    if device == "cpu" or asked == "none":
        return "none"
    if asked != "auto":
        return asked
    if device != "cuda" or sum(parts) + _WORKING_BYTES <= free:
        return "none"
    return "model" if max(parts, default=0) + _WORKING_BYTES <= free else "sequential"


def place_pipeline(pipe: Any, device: Any, offload: Offload) -> str:
    """Move a loaded pipeline to `device`, whole or piece by piece; returns the offload mode in use."""
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
    """Whether a library's error says that memory ran out; not all of them have a class for it."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text))
    )


def free_accelerator_memory() -> None:
    """Give unused memory back, once nothing refers to it any more."""
    import torch  # noqa: PLC0415

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
