"""Generate images with Diffusers in this process."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

from gems.errors import ConfigurationError, GemsError, MissingExtraError, OptionError, OutOfMemoryError, PromptError
from gems.generation import SEEDS, GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.models.generators.diffusers.adapters import Lora, check_packages, name_loras
from gems.models.generators.diffusers.batching import BatchWorker, Job
from gems.models.generators.diffusers.inference import GenerationStopped, choose_task, generate_batch
from gems.models.generators.diffusers.loading import (
    DTYPES,
    LoadedPipeline,
    Offload,
    free_accelerator_memory,
    load_pipeline,
)
from gems.models.generators.diffusers.presets import find_recipe
from gems.models.masks import check_edit

_log = logging.getLogger(__name__)

_PACKAGES = ("accelerate", "diffusers", "safetensors", "torch", "transformers")
_MAX_STEPS = 1000
"""Schedulers have this many training steps, and cannot take more inference steps."""
_MAX_BATCH = 4
_CLOSE_S = 60.0
"""Wait for the current step when closing."""
_CLOSE_LOADING_S = 1.0
"""Wait while a model is being loaded, which cannot be interrupted and may be a download."""


class DiffusersGenerator:
    """Generates images with a Diffusers pipeline; equal requests that wait together share a batch.

    The constructor is cheap, but reads LoRAs: torch is imported and the model loaded with the first request, on a
    worker thread. Defaults of steps and guidance are the model's own.

    Args:
        model: A preset (`z-image-turbo`, `qwen-image`, `qwen-image-paper`), a directory in Diffusers layout,
            or a name on the Hugging Face Hub. Only safetensors are loaded, and no code of a model is run.
        dtype: `bfloat16`, `float16`, `float32`; `auto` is bfloat16 on CUDA, else float32.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is the first available of CUDA, MPS and CPU.
        offload: Keep weights in CPU memory, with one `model` or one layer (`sequential`) at a time on the
            accelerator; `auto` if memory is short. Ignored on a CPU.
        max_batch: Most images per batch; None for 4, and for 1 on a CPU, where batches save no time. Lowered
            for sizes that ran out of memory; 1 for pipelines not known to batch images independently.
        compiled: Use `torch.compile`; the first images of each size then take minutes.
        prompt_cache_mb: Most megabytes of encoded prompts to cache in CPU memory.
        loras: LoRAs in safetensors files or the Hub's cache (OWNER/NAME/FILE), each with its weight. They are part of
            the name by which runs record the model and learn about it.
        quantize: One of `QUANTIZERS`, to quantise weights while they are loaded; empty for none. Saved quantised
            models need no setting.
        price_usd: US dollars per image; None if unknown.
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
        loras: Sequence[tuple[str, float]] = (),
        quantize: str = "",
        price_usd: float | None = None,
    ) -> None:
        if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
            raise MissingExtraError("Generating images with Diffusers", "diffusers")
        if dtype not in DTYPES:
            raise ConfigurationError(f"Invalid dtype: {dtype!r}.", hint=f"Use one of {', '.join(DTYPES)}.")
        if offload not in ("none", "model", "sequential", "auto"):
            hint = "Use none, model, sequential or auto."
            raise ConfigurationError(f"Invalid offload mode: {offload!r}.", hint=hint)
        recipe = find_recipe(model)
        _check_options(steps, guidance, recipe.min_steps)
        if max_batch is not None and max_batch < 1:
            raise OptionError(f"Invalid batch size: {max_batch}.", hint="Use 1 or more.")
        added = [Lora(*each) for each in loras]
        check_packages(added, quantize)
        if prompt_cache_mb < 0:
            raise OptionError(f"Invalid prompt cache size: {prompt_cache_mb} MB.", hint="Use 0 or more.")
        self._recipe = replace(
            recipe,
            steps=recipe.steps if steps is None else steps,
            guidance=recipe.guidance if guidance is None else guidance,
        )
        self._name = f"diffusers:{model}{name_loras(added)}"
        self._load = partial(
            load_pipeline,
            dtype=dtype,
            device=device,
            offload=offload,
            compiled=compiled,
            prompt_bytes=prompt_cache_mb * 1_000_000,
            loras=added,
            quantize=quantize,
        )
        self._max_batch = _MAX_BATCH if max_batch is None else max_batch
        self._decides_batch, self._price_usd = max_batch is None, price_usd
        self._loaded: LoadedPipeline | None = None
        self._worker = BatchWorker(self._name, self._run_jobs, self._release, self._max_batch)

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """Capabilities; partly a guess until the model is loaded."""
        return self._recipe.capabilities(self._name, self._max_batch, self._price_usd)

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Generate one image. A cancelled call stops after the current step, unless others share its batch.

        Besides the errors of `ImageGenerator`, raises `PromptError` for a blank prompt and `OptionError`.
        """
        self._check(request)
        key = (request.width, request.height, request.steps, request.guidance)
        alone = request.alone or request.source is not None or bool(request.references)
        job = Job(request, key=object() if alone else key)
        self._worker.submit(job)
        # Cancelling the wrapper cancels the job's future, which the worker checks after each step.
        return await asyncio.wrap_future(job.future)

    async def aclose(self) -> None:
        """Stop, fail pending requests, end the thread and free the model. Idempotent."""
        patience = _CLOSE_LOADING_S if self._loaded is None else _CLOSE_S
        await asyncio.to_thread(self._worker.close, patience)

    def _check(self, request: ImageRequest) -> None:
        """Reject an invalid request before it can fail its batch."""
        check_edit(request, self.capabilities)
        if not request.prompt.strip():
            raise PromptError("The prompt is empty.", hint="Describe the image.")
        if not 0 <= request.seed < SEEDS:
            raise OptionError(f"Invalid seed: {request.seed}.", hint=f"Use 0 to {SEEDS - 1}.")
        _check_options(request.steps, request.guidance, self._recipe.min_steps)
        self.capabilities.check_size(request.width, request.height)
        known = self._recipe.tasks.get(choose_task(self._recipe, request))
        steps = self._recipe.steps if request.steps is None else request.steps
        loses = request.strength is not None and known is not None and known.may_lose_steps
        if loses and request.strength and steps and int(steps * request.strength) < 1:
            hint = f"Use a strength of at least {1 / steps:.2g}, or more steps."
            raise OptionError(f"A strength of {request.strength} leaves none of {steps} steps.", hint=hint)
        _check_images(request)

    def _run_jobs(self, jobs: list[Job]) -> None:
        """Run a batch of equal jobs, on the worker thread."""
        if self._loaded is None:
            self._loaded = self._load(self._recipe)
            self._recipe = self._loaded.recipe
            if self._decides_batch and self._loaded.device == "cpu":
                self._max_batch = 1
            self._worker.limit(self.capabilities.max_batch)
        valid = []
        for job in jobs:
            try:
                # Checked again: supported sizes may be known only after loading.
                self._check(job.request)
                valid.append(job)
            except GemsError as error:
                job.fail(error)
        # The first batch was formed before the pipeline's limit was known.
        most = self.capabilities.max_batch
        for start in range(0, len(valid), most):
            self._generate_jobs(self._loaded, valid[start : start + most])

    def _generate_jobs(self, loaded: LoadedPipeline, jobs: Sequence[Job]) -> None:
        """Generate `jobs` in one batch; after an error, in halves, since one job may be the cause."""
        jobs = [job for job in jobs if not job.done]
        if not jobs:
            return
        requests = [job.request for job in jobs]
        try:
            results = generate_batch(
                loaded, requests, model=self._name, on_step=lambda *at: self._report_step(jobs, *at)
            )
        except GenerationStopped:
            return
        except GemsError as error:
            if len(jobs) == 1 or isinstance(error, ConfigurationError):
                for job in jobs:
                    job.fail(error)
                return
            half = len(jobs) // 2
            message = "%s failed with a batch of %d images, retrying with half: %s"
            _log.warning(message, self._name, len(jobs), error)
            if isinstance(error, OutOfMemoryError):
                self._worker.limit(half, jobs[0].key)
        else:
            for job, result in zip(jobs, results, strict=True):
                job.fail(result) if isinstance(result, GemsError) else job.finish(result)
            return
        # Outside the handler, since the error holds the failed batch's tensors.
        self._generate_jobs(loaded, jobs[:half])
        self._generate_jobs(loaded, jobs[half:])

    def _report_step(self, jobs: Sequence[Job], done: int, total: int) -> None:
        for job in jobs:
            job.report_progress(done, total)
        if all(job.done for job in jobs):
            raise GenerationStopped

    def _release(self) -> None:
        """Free the model when the worker thread ends."""
        if self._loaded is not None:
            self._loaded = None
            free_accelerator_memory()


def _check_options(steps: int | None, guidance: float | None, min_steps: int) -> None:
    if steps is not None and not min_steps <= steps <= _MAX_STEPS:
        hint = f"Use {min_steps} to {_MAX_STEPS}."
        raise OptionError(f"Invalid number of inference steps: {steps}.", hint=hint)
    if guidance is not None and not (math.isfinite(guidance) and guidance >= 0):
        raise OptionError(f"Invalid guidance scale: {guidance}.", hint="Use 0 or above.")


def _check_images(request: ImageRequest) -> None:
    """Reject files that are no images, and a source of another size than its mask."""
    given = {"image to edit": request.source} | {f"reference {n}": each for n, each in enumerate(request.references, 1)}
    for name, data in given.items():
        if data is None:
            continue
        try:
            with Image.open(io.BytesIO(data)) as opened:
                size = opened.size
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise OptionError(f"The {name} cannot be read as an image.", hint="Use a PNG.") from error
        if data is request.source and request.mask is not None and size != (request.width, request.height):
            what = f"The image to edit has {size[0]}x{size[1]} pixels, not {request.width}x{request.height}."
            raise OptionError(what, hint="With a mask, use the size of the image to edit.")
