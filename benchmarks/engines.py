"""How many samples a second each engine draws, and what it costs per sample beside the models.

The image server is a stub that answers after a second: what the wall clock shows beyond that is the engines',
the service's and the stores'. Samples are drawn by the harness `single`, with one image each and no chat
model. With a stub that answers at once nothing but overhead is left, which processors bound.

    python -m benchmarks.engines [--samples 12] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ray
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks._results import ROOT, write
from gems.evals.engines import Engine, EngineConfig, EngineName, settings_for_jobs
from gems.evals.harnesses import load_harness
from gems.evals.output_folder import EvalFolder, EvalSettings
from gems.evals.records import BenchmarkPrompt
from gems.evals.runner import BenchmarkRun, open_engine
from gems.settings import GeneratorSettings, Settings

WORKERS = (1, 2, 4)
LATENCY_S = 1.0
SIDE = 64
SINGLE = load_harness("single")


class ImageServer:
    """Answers every request with the same picture, after `latency_s`."""

    def __init__(self) -> None:
        self.latency_s = LATENCY_S
        out = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE)).save(out, "PNG")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(out.getvalue())}\r\n\r\n"
        self._answer = head.encode() + out.getvalue()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serves at the address that it yields."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/generate"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(self.latency_s)
                writer.write(self._answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            # Whoever asked has gone.
            pass
        finally:
            writer.close()


async def main(samples: int, out: Path) -> None:
    """Measure, print and write."""
    server = ImageServer()
    table: list[dict[str, Any]] = []
    async with server.serving() as url:
        for name in ("local", "ray"):
            for workers in WORKERS:
                table.append(await measured(name, workers, samples, server, url))
    write(out, "engines", {"latency_s": LATENCY_S, "samples_per_worker": samples, "engines": table})
    show(table)


async def measured(name: EngineName, workers: int, samples: int, server: ImageServer, url: str) -> dict[str, Any]:
    """Figures of an engine with so many runs at a time; with Ray, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="gems-engines-", ignore_cleanup_errors=True) as folder:
        generator = GeneratorSettings(model=f"http:{url}", concurrency=64)
        settings = settings_for_jobs(
            Settings(home=Path(folder) / "home", generator=generator, checkpoint=None), asks=False
        )
        place = EngineConfig(
            settings=settings, url=f"{folder}/out", concurrency=workers, workers=workers, graph=SINGLE.graph
        )
        began = time.perf_counter()
        async with open_engine(name, place) as engine:
            await all_ready(engine, workers)
            opening = time.perf_counter() - began
            server.latency_s = 0.0
            await seconds(engine, f"{folder}/warm", 2 * workers)
            bare = await seconds(engine, f"{folder}/bare", samples * workers)
            server.latency_s = LATENCY_S
            wall = await seconds(engine, f"{folder}/slow", samples * workers)
    count = samples * workers
    return {
        "engine": name,
        "workers": workers,
        "samples_per_s": round(count / wall, 3),
        "share_of_linear": round(count * LATENCY_S / workers / wall, 3),
        "overhead_ms_per_sample": round(1000 * (wall * workers / count - LATENCY_S), 1),
        "samples_per_s_without_latency": round(count / bare, 1),
        "ms_per_sample_without_latency": round(1000 * bare / count, 1),
        "opening_s": round(opening, 2),
    }


async def all_ready(engine: Engine, workers: int) -> None:
    """Until all processes are there; those of the local engine always are."""
    while getattr(engine, "ready", workers) < workers:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)


async def seconds(engine: Engine, url: str, count: int) -> float:
    """How long `count` new samples take."""
    settings = EvalSettings(
        task="nothing",
        languages=("en",),
        harness="single",
        generator="http",
        size=f"{SIDE}x{SIDE}",
        images=1,
        samples=1,
        seed=0,
    )
    prompts = [
        BenchmarkPrompt(benchmark="nothing", language="en", id=f"{Path(url).name}-{n}", text=f"a prompt {n}")
        for n in range(count)
    ]
    folder = await EvalFolder.create(url, settings)
    began = time.perf_counter()
    progress = await BenchmarkRun(folder, SINGLE, prompts).run(engine)
    if not progress.is_complete:
        raise SystemExit(f"{len(progress.failed)} samples failed: {next(iter(progress.failed.values())).error}")
    return time.perf_counter() - began


def show(rows: list[dict[str, Any]]) -> None:
    """Print the figures."""
    table = Table(box=box.SIMPLE, title=f"An image takes {LATENCY_S:g} s")
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), justify="left" if heading == "engine" else "right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=12, help="for each worker")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "engines.json")
    arguments = parser.parse_args()
    # As many processes as are measured, however few processors there are: they wait for images.
    ray.init(num_cpus=max(WORKERS), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        asyncio.run(main(arguments.samples, arguments.out))
    finally:
        ray.shutdown()
