"""`torch.compile` for Diffusers pipelines: faster steps after minutes of compilation."""

from __future__ import annotations

from typing import Any

from gems.errors import ConfigurationError
from gems.observability.redaction import redact, shorten

_RECOMPILE_LIMIT = 64
"""All blocks of a model share one code object, which is recompiled for each kind of block, size and prompt
length; beyond torch's default of 8, steps would silently run uncompiled."""
_COMPILE_OFF = "Set GEMS_GENERATOR__COMPILE=false."


def compile_pipeline(pipe: Any, offload: str) -> None:
    """Set up compilation of the denoising model at its first call, per block where supported.

    Must run on the worker thread, whose recompilation limit it raises, after the pipeline was moved to its
    device. Raises `ConfigurationError` if this offload mode or this Python does not support compilation.
    """
    import torch  # noqa: PLC0415 - seconds long, and only with the extra

    if offload == "sequential":
        raise ConfigurationError(
            "Sequential offloading cannot be combined with compilation.",
            hint=f"{_COMPILE_OFF} Or use GEMS_GENERATOR__OFFLOAD=model.",
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
