"""Images per second of the Diffusers generator at several batch sizes, with random weights and no download.

By default a toy model on the CPU, which shows what a call costs besides arithmetic; `--scale small` has
arithmetic enough to keep a CPU busy. `--full` is Z-Image-Turbo's true size (6.2B parameters and a text
encoder of 4B) in bfloat16 on a CUDA device with 32 GB or more, at 1024x1024 pixels and 8 steps.

The share of the limit is the arithmetic that the images need (counted by torch's FLOP counter; prompts are
encoded before, as in any round but the first) over what the same device does in that time when it multiplies
large matrices. Peak memory on a CPU is the whole process's so far, with libraries and weights. CPU seconds
per image tell more than the clock where others are busy on the machine.

    python -m benchmarks.diffusers_batching [--full] [--batches 1,2,4,8] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks import zimage_random
from benchmarks._results import write
from gems.errors import GemsError, InvalidImageError
from gems.generation import ImageRequest
from gems.models.generators.diffusers.inference import generate_batch
from gems.models.generators.diffusers.loading import LoadedPipeline, compile_pipeline
from gems.models.generators.diffusers.presets import find_recipe
from gems.models.generators.diffusers.prompt_encoder import PromptEncoder

GIB = 2**30
SIDES = {"tiny": 64, "small": 256, "full": 1024}
MATRIX_SIDES = {"cpu": 2048, "cuda": 8192}


def main(options: argparse.Namespace) -> None:
    """Measure, print a table, and write the figures where that is asked for."""
    device = torch.device("cuda" if options.full else options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device here.")
    torch.set_num_threads(options.threads)
    figures = measured(
        "full" if options.full else options.scale,
        device,
        batches=[int(each) for each in options.batches.split(",")],
        steps=options.steps,
        runs=options.runs,
        compiled=options.compile,
    )
    print(table(figures))
    if options.out:
        write(options.out, "diffusers_batching", figures)


def measured(
    scale: str, device: torch.device, *, batches: list[int], steps: int, runs: int, compiled: bool
) -> dict[str, Any]:
    """All figures of a model at several batch sizes; JSON-native."""
    loaded = random_model(scale, device)
    side = SIDES[scale]
    arithmetic = flops(lambda: images(loaded, 1, side, steps))
    if compiled:  # Not before, since the counter does not see into what is compiled.
        compile_pipeline(loaded.pipe, loaded.offload)
        loaded = replace(loaded, compiled=True)
    limit = 0.0
    seconds: dict[int, list[float]] = {batch: [] for batch in batches}
    busy: dict[int, list[float]] = {batch: [] for batch in batches}
    peaks = {batch: peak_memory(loaded, batch, side, steps) for batch in sorted(batches)}
    for _ in range(runs):
        # In turns, and the limit every time: others may be busy on the machine for a while.
        limit = max(limit, matmul_rate(device, getattr(torch, loaded.dtype)))
        for batch in batches:
            began, busy_before = time.perf_counter(), time.process_time()
            # The pixels come back to the CPU, so that nothing is under way on the device afterwards.
            images(loaded, batch, side, steps)
            seconds[batch].append(time.perf_counter() - began)
            busy[batch].append(time.process_time() - busy_before)
    return {
        "model": f"Z-Image, {scale} size, random weights",
        "parameters": sum(
            weights.numel()
            for part in (loaded.pipe.transformer, loaded.pipe.text_encoder, loaded.pipe.vae)
            for weights in part.parameters()
        ),
        "side_px": side,
        "steps": steps,
        "runs": runs,
        "dtype": loaded.dtype,
        "compiled": compiled,
        "hardware": hardware(device),
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "python": platform.python_version(),
        },
        "matmul_tflops": limit / 1e12,
        "tflop_per_image": arithmetic / 1e12,
        "batches": [
            figures_of(batch, seconds[batch], peaks[batch], arithmetic / limit)
            | {"cpu_s_per_image": statistics.median(busy[batch]) / batch}
            for batch in batches
        ],
    }


def random_model(scale: str, device: torch.device) -> LoadedPipeline:
    """Z-Image of that scale, as the generator holds it once it is loaded."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    pipe = zimage_random.pipeline(scale, device=device, dtype=dtype)
    recipe = replace(find_recipe("z-image-turbo"), source="random")
    return LoadedPipeline(
        pipe=pipe,
        recipe=recipe,
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        offload="none",
        compiled=False,
        prompts=PromptEncoder(pipe, recipe.embeddings, max_bytes=256_000_000),
    )


def peak_memory(loaded: LoadedPipeline, batch: int, side: int, steps: int) -> float:
    """Peak memory in GiB while a batch is drawn, which also warms up for the timed runs."""
    on_gpu = torch.device(loaded.device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    images(loaded, batch, side, steps)
    return (torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()) / GIB


def figures_of(batch: int, seconds: Sequence[float], peak: float, image_at_limit: float) -> dict[str, Any]:
    """A line of the table.

    Args:
        batch: Images drawn together.
        seconds: Of each run; the median counts.
        peak: GiB.
        image_at_limit: Seconds that the arithmetic of an image would take at the limit.
    """
    latency = statistics.median(seconds)
    return {
        "batch": batch,
        "latency_s": latency,
        "latency_spread_s": max(seconds) - min(seconds),
        "images_per_s": batch / latency,
        "peak_gib": peak,
        "share_of_matmul_limit": batch * image_at_limit / latency,
    }


def images(loaded: LoadedPipeline, batch: int, side: int, steps: int) -> None:
    """Draw a batch, as the generator does.

    Raises:
        GemsError: drawing failed. An image that is black or not a number is no failure: weights are random.
    """
    requests = [
        ImageRequest(prompt=f"a red fox, number {n}", seed=n, width=side, height=side, steps=steps)
        for n in range(batch)
    ]
    for result in generate_batch(loaded, requests, model="random", on_step=lambda *_: None):
        if isinstance(result, GemsError) and not isinstance(result, InvalidImageError):
            raise result


def flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of `work`, after it was done once to fill the cache of prompts.

    A multiplication with an addition counts as two.
    """
    work()
    with counting() as counter:
        work()
    return int(counter.get_total_flops())


def counting() -> FlopCounterMode:
    """A counter that knows a CPU's attention too."""
    of_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - torch's name
    return FlopCounterMode(display=False, custom_mapping={of_cpu: _attention_flops})


def transformer_flops(transformer: Any, side: int, tokens: int) -> int:
    """Floating-point operations of one step of one image, counted without computing if it is on `meta`.

    Args:
        transformer: A `ZImageTransformer2DModel`.
        side: Width and height in pixels.
        tokens: Length of the prompt.
    """
    weights = next(transformer.parameters())
    options = {"device": weights.device, "dtype": weights.dtype}
    latents = torch.empty(transformer.config.in_channels, 1, side // 8, side // 8, **options)
    prompt = torch.empty(tokens, transformer.config.cap_feat_dim, **options)
    with torch.no_grad(), counting() as counter:
        transformer([latents], torch.zeros(1, **options), [prompt])
    return int(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int | None = None, runs: int = 10) -> float:
    """Floating-point operations per second of multiplying square matrices: the best of `runs`."""
    side = side or MATRIX_SIDES[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(runs + 2):  # The first ones warm up.
        _wait(device)
        began = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)


def hardware(device: torch.device) -> dict[str, Any]:
    """What was measured on, without the machine's name; `load` is how many processes wanted to run."""
    told: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        told |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / GIB, 1)}
    else:
        told["threads"] = torch.get_num_threads()
    return told


def peak_bytes() -> int:
    """Most memory that this process has taken so far."""
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    told = figures["hardware"]
    where = told.get("gpu") or f"{told['cpu']}, {told['threads']} threads, {told['cores']} cores, load {told['load']}"
    lines = [
        f"{figures['model']} ({figures['parameters'] / 1e9:.3g}B), {figures['dtype']}, "
        f"{figures['side_px']}x{figures['side_px']}, {figures['steps']} steps"
        f"{', compiled' if figures['compiled'] else ''}; {where}",
        f"{figures['tflop_per_image']:.4g} TFLOP per image; matrices: {figures['matmul_tflops']:.4g} TFLOP/s",
        f"{'batch':>5}{'latency s':>12}{'images/s':>12}{'peak GiB':>12}{'of limit':>12}{'CPU s/image':>14}",
    ]
    lines += [
        f"{each['batch']:5}{each['latency_s']:12.3f}{each['images_per_s']:12.3f}{each['peak_gib']:12.2f}"
        f"{each['share_of_matmul_limit']:12.1%}{each['cpu_s_per_image']:14.3f}"
        for each in figures["batches"]
    ]
    return "\n".join(lines)


def _attention_flops(query: Any, key: Any, value: Any, *_others: Any, **_named: Any) -> int:
    """Of shapes (batch, heads, tokens, width)."""
    return int(sdpa_flop_count(query, key, value))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="Z-Image-Turbo's true size, on CUDA")
    parser.add_argument("--scale", choices=["tiny", "small"], default="tiny")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; more need a machine that is idle")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path)
    main(parser.parse_args())
