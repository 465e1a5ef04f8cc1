"""Draw with Diffusers in this process."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import math
from collections.abc import Sequence
from dataclasses import replace

from gems.errors import (
    ConfigurationError,
    EditingUnsupportedError,
    GemsError,
    MissingExtraError,
    OptionError,
    OutOfMemoryError,
    PromptError,
)
from gems.models.generators.diffusers.batching import BatchWorker, Job
from gems.models.generators.diffusers.inference import DrawingStopped, draw
from gems.models.generators.diffusers.loading import LoadedPipeline, load_pipeline
from gems.models.generators.diffusers.presets import find_recipe
from gems.models.generators.diffusers_device import DTYPES, Offload, free_accelerator_memory
from gems.types import GeneratedImage, GeneratorCapabilities, ImageRequest

_log = logging.getLogger(__name__)

_PACKAGES = ("accelerate", "diffusers", "safetensors", "torch", "transformers")
_MAX_STEPS = 1000
"""Schedulers know this many training steps and cannot take more between them."""
_MAX_BATCH = 4
_CLOSE_S = 60.0
"""How long closing waits for the step at hand to end."""
_CLOSE_LOADING_S = 1.0
"""The same while a model is loaded, which cannot be interrupted and may be a download."""


class DiffusersGenerator:
    """Draws with a Diffusers pipeline; requests that wait together and agree are drawn in one batch.

    Making one costs little: torch is imported and the model loaded with the first request, on a thread of
    its own.

    Args:
        model: A preset (`z-image-turbo`, `qwen-image`, `qwen-image-paper`), a directory in the layout of
            Diffusers, or a name on the Hugging Face hub. Only safetensors are loaded, and no code that
            comes with a model is run.
        dtype: `bfloat16`, `float16`, `float32`; `auto` is bfloat16 on CUDA and else float32.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes the first there is of CUDA, MPS and CPU.
        offload: Keep weights in CPU memory, one `model` or one layer (`sequential`) at a time on the
            accelerator; `auto` where it is short of memory. On a CPU there is nothing to offload from.
        steps: Inference steps where a request names none, 1 to 1000; None for the model's own.
        guidance: Guidance scale where a request names none, 0 or above; None for the model's own.
        max_batch: Most images drawn in one batch, 1 or above; None for 4, on a CPU 1, where a batch takes
            about as long as its images one by one. Fewer of a size for which memory ran out, and one at a
            time with a pipeline of which it is not known that images of a batch are independent.
        compiled: Run the steps through `torch.compile`; the first images of each size then take minutes.
        prompt_cache_mb: Most megabytes of encoded prompts to keep in CPU memory, 0 or above.
        price_usd: US dollars per image; None where not known.

    Raises:
        MissingExtraError: torch, Diffusers or what they need is not installed.
        ModelFilesError: the directory is missing or holds no pipeline.
        ModelSpecError: `model` is no possible name.
        ConfigurationError: `dtype` or `offload` is not known.
        OptionError: `steps`, `guidance`, `max_batch` or `prompt_cache_mb` is out of range.
    """

    def __init__(  # noqa: PLR0913 - independent settings, all but the first by name
        self,
        model: str,
        *,
        dtype: str = "auto",
        device: str = "auto",
        offload: Offload = "auto",
        steps: int | None = None,
        guidance: float | None = None,
        max_batch: int | None = None,
        compiled: bool = False,
        prompt_cache_mb: int = 256,
        price_usd: float | None = None,
    ) -> None:
        if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
            raise MissingExtraError("Drawing with Diffusers", "diffusers")
        if dtype not in DTYPES:
            raise ConfigurationError(
                f"{dtype!r} is no number format.", hint=f"Use one of {', '.join(DTYPES)}."
            )
        if offload not in ("none", "model", "sequential", "auto"):
            raise ConfigurationError(
                f"{offload!r} is no way to offload.", hint="Use none, model, sequential or auto."
            )
        recipe = find_recipe(model)
        _check_options(steps, guidance, recipe.min_steps)
        if max_batch is not None and max_batch < 1:
            raise OptionError(f"A batch of {max_batch} images is not possible.", hint="Use 1 or more.")
        if prompt_cache_mb < 0:
            raise OptionError(f"A cache of {prompt_cache_mb} MB is not possible.", hint="Use 0 or more.")
        self._recipe = replace(
            recipe,
            steps=recipe.steps if steps is None else steps,
            guidance=recipe.guidance if guidance is None else guidance,
        )
        self._name = f"diffusers:{model}"
        self._dtype, self._device, self._offload = dtype, device, offload
        self._compiled, self._prompt_bytes = compiled, prompt_cache_mb * 1_000_000
        self._max_batch = _MAX_BATCH if max_batch is None else max_batch
        self._decides_batch, self._price_usd = max_batch is None, price_usd
        self._loaded: LoadedPipeline | None = None
        self._worker = BatchWorker(self._name, self._carry_out, self._release, self._max_batch)

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """What the model can do; a guess until it is loaded, where the model or the batch is open."""
        return self._recipe.capabilities(self._name, self._max_batch, self._price_usd)

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Draw one image. A cancelled call stops drawing after the step at hand, unless others need it.

        Raises:
            PromptError: the prompt is blank.
            OptionError: seed, steps or guidance is out of range.
            SizeError: the model cannot draw this size.
            EditingUnsupportedError: the request carries a source.
            ConfigurationError: the model or the device cannot be used; `ModelFilesError` for its files.
            InvalidImageError: the image is black or not a number.
            RefusedError: the model's safety checker refuses the image.
            OutOfMemoryError: not even a single image fits into memory.
            ProviderError: the pipeline failed, or the generator is closed.
        """
        self._check(request)
        key = (request.width, request.height, request.steps, request.guidance)
        job = Job(request, key=object() if request.alone else key)
        self._worker.submit(job)
        # Cancelling the wrapper cancels the job's future, which the worker looks at after each step.
        return await asyncio.wrap_future(job.future)

    async def aclose(self) -> None:
        """Stop drawing, fail what waits, end the thread and free the model. Harmless to repeat."""
        patience = _CLOSE_LOADING_S if self._loaded is None else _CLOSE_S
        await asyncio.to_thread(self._worker.close, patience)

    def _check(self, request: ImageRequest) -> None:
        """Refuse what cannot be drawn before it joins a batch, where it would fail its neighbours."""
        if request.source is not None:
            raise EditingUnsupportedError(
                f"{self._name} draws from nothing and cannot edit an image.",
                hint="Use a generator that edits, or leave the source image out.",
            )
        if not request.prompt.strip():
            raise PromptError("The prompt is empty.", hint="Say what to draw.")
        if not 0 <= request.seed < 2**31:
            raise OptionError(f"The seed {request.seed} is out of range.", hint="Use 0 to 2147483647.")
        _check_options(request.steps, request.guidance, self._recipe.min_steps)
        self.capabilities.check_size(request.width, request.height)

    def _carry_out(self, jobs: list[Job]) -> None:
        """Draw a batch of jobs that agree, on the worker thread."""
        if self._loaded is None:
            self._loaded = load_pipeline(
                self._recipe,
                dtype=self._dtype,
                device=self._device,
                offload=self._offload,
                compiled=self._compiled,
                prompt_bytes=self._prompt_bytes,
            )
            self._recipe = self._loaded.recipe
            if self._decides_batch and self._loaded.device == "cpu":
                self._max_batch = 1
            self._worker.limit(self.capabilities.max_batch)
        able = []
        for job in jobs:
            try:
                # Once more: only the loaded pipeline may have told which sizes it draws.
                self._check(job.request)
                able.append(job)
            except GemsError as error:
                job.fail(error)
        # The first batch was put together before the pipeline could tell how many it draws.
        most = self.capabilities.max_batch
        for start in range(0, len(able), most):
            self._draw(self._loaded, able[start : start + most])

    def _draw(self, loaded: LoadedPipeline, jobs: Sequence[Job]) -> None:
        """Draw `jobs` together, and in halves where that fails: what failed may be one job's fault."""
        jobs = [job for job in jobs if not job.done]
        if not jobs:
            return
        requests = [job.request for job in jobs]
        try:
            results = draw(loaded, requests, model=self._name, on_step=lambda *at: self._step(jobs, *at))
        except DrawingStopped:
            return
        except GemsError as error:
            if len(jobs) == 1 or isinstance(error, ConfigurationError):
                for job in jobs:
                    job.fail(error)
                return
            half = len(jobs) // 2
            _log.warning(
                "%s failed with %d images in a batch, draws halves: %s", self._name, len(jobs), error
            )
            if isinstance(error, OutOfMemoryError):
                self._worker.limit(half, jobs[0].key)
        else:
            for job, result in zip(jobs, results, strict=True):
                job.fail(result) if isinstance(result, GemsError) else job.finish(result)
            return
        # Outside the handler, where the failed batch's tensors are no longer held by its error.
        self._draw(loaded, jobs[:half])
        self._draw(loaded, jobs[half:])

    def _step(self, jobs: Sequence[Job], done: int, total: int) -> None:
        for job in jobs:
            job.tell(done, total)
        if all(job.done for job in jobs):
            raise DrawingStopped

    def _release(self) -> None:
        """Free the model, as the worker thread's last act."""
        if self._loaded is not None:
            self._loaded = None
            free_accelerator_memory()


def _check_options(steps: int | None, guidance: float | None, min_steps: int) -> None:
    if steps is not None and not min_steps <= steps <= _MAX_STEPS:
        raise OptionError(
            f"{steps} inference steps are not possible.", hint=f"Use {min_steps} to {_MAX_STEPS}."
        )
    if guidance is not None and not (math.isfinite(guidance) and guidance >= 0):
        raise OptionError(f"A guidance scale of {guidance} is not possible.", hint="Use 0 or above.")
