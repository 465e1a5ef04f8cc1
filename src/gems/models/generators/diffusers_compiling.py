"""`torch.compile` for a Diffusers pipeline: faster steps, for minutes of compiling at first."""

from __future__ import annotations

from typing import Any

from gems.errors import ConfigurationError
from gems.observability.redaction import redact, shorten

_RECOMPILE_LIMIT = 64
"""All blocks of a model share one code object, compiled anew for each kind of block, size and prompt length;
beyond torch's own 8, steps would quietly run uncompiled."""
_OFF = "Set GEMS_GENERATOR__COMPILE=false."


def compile_pipeline(pipe: Any, offload: str) -> None:
    """Have the model that takes the steps compiled when it is first called, block by block where it can be.

    Called on the thread that is to draw, whose limit of recompilations it raises.

    Args:
        pipe: A Diffusers pipeline, already in its place.
        offload: How its weights are offloaded.

    Raises:
        ConfigurationError: it cannot be compiled with this offloading, or with this Python.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    if offload == "sequential":
        raise ConfigurationError(
            "A model that is offloaded layer by layer cannot be compiled.",
            hint=f"{_OFF} Or use GEMS_GENERATOR__OFFLOAD=model.",
        )
    config = torch._dynamo.config  # noqa: SLF001 - where PyTorch documents it
    config.recompile_limit = max(config.recompile_limit, _RECOMPILE_LIMIT)
    model = getattr(pipe, "transformer", None) or pipe.unet
    try:
        if getattr(model, "_repeated_blocks", None):
            model.compile_repeated_blocks()
        else:
            model.compile()
    except RuntimeError as error:
        raise ConfigurationError(f"torch.compile cannot be used here: {error}", hint=_OFF) from error


def compiling_failed(error: BaseException) -> ConfigurationError | None:
    """What to tell the user where `error` came from compiling; None where it did not."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
        return None
    told = shorten(redact(f"{type(error).__name__}: {' '.join(str(error).split())}"))
    return ConfigurationError(
        f"The model cannot be compiled: {told}",
        hint=f"{_OFF} On a CPU, compiling needs a C++ compiler; on CUDA, Triton and a C compiler.",
    )
