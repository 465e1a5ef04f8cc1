"""What each way into a server costs, beside calling GEMS from Python.

Models answer at once, each run has one round and a small image, and 64 requests are under way at a time. What
differs is the way in: plain Python in this process; over real HTTP, a server in a process of its own. The
latency that a way adds is its 95th percentile less that of plain Python.

    python -m benchmarks.ways_in [--concurrent 64] [--repeats 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from benchmarks._results import ROOT, write
from benchmarks.overhead import Instant, SaysNo
from gems.generation import GeneratorCapabilities
from gems.service import Gems
from gems.settings import Settings

SIDE = 64
Ask = Callable[[int], Awaitable[None]]


class Small(Instant):
    """Instant, and small: encoding large pictures would hide what is measured."""

    capabilities = GeneratorCapabilities(model="small", default_size=(SIDE, SIDE), price_usd=0.0)
    side = SIDE


def opened(home: str) -> tuple[Settings, Gems]:
    """Settings and service, not opened yet."""
    settings = Settings(home=Path(home), skills="none", experience="off")
    return settings, Gems(settings, chat=SaysNo(), generator=Small())


async def main(concurrent: int, repeats: int, out: Path | None) -> None:
    """Print requests per second and latencies of each way."""
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        ways = {"plain Python": await plain(here, concurrent, repeats)}
        with serving(there) as url:
            limits = httpx.Limits(max_connections=concurrent, max_keepalive_connections=concurrent)
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
                for name, ask in ways_over_http(client).items():
                    try:
                        ways[name] = await measured(ask, concurrent, repeats)
                    except NotThereError:
                        print(f"{name}: not part of this server", file=sys.stderr)
    least = ways["plain Python"]["p95_ms"]
    for figures in ways.values():
        figures["added_p95_ms"] = figures["p95_ms"] - least
    if out:
        write(out, "ways_in", {"concurrent": concurrent, "repeats": repeats, "ways": ways})
    print(f"{concurrent} requests at a time, {repeats} times; runs of one round, {SIDE}x{SIDE} images")
    print(f"{'':20}{'requests/s':>12}{'median ms':>12}{'p95 ms':>12}{'added p95 ms':>14}")
    for name, figures in ways.items():
        cells = [figures[key] for key in ("requests_per_s", "median_ms", "p95_ms")]
        print(f"{name:20}{''.join(f'{cell:12.1f}' for cell in cells)}{figures['added_p95_ms']:14.1f}")


async def plain(home: str, concurrent: int, repeats: int) -> dict[str, float]:
    """`Gems.run` in this process."""
    _, unopened = opened(home)
    async with unopened as gems:

        async def ask(number: int) -> None:
            await gems.run(f"prompt {number}", max_rounds=1, seed=number)

        return await measured(ask, concurrent, repeats)


class NotThereError(Exception):
    """The server does not have this way in."""


def ways_over_http(client: httpx.AsyncClient) -> dict[str, Ask]:
    """What to do for one request, by the way's name."""

    async def runs(number: int) -> None:
        body = {"prompt": f"prompt {number}", "max_rounds": 1, "seed": number}
        begun = (await client.post("/runs", json=body)).raise_for_status()
        told = (await client.get(begun.json()["events_url"])).raise_for_status()
        if "event: finished" not in told.text:
            raise SystemExit(f"A run did not finish: {told.text[-300:]}")

    async def invoke(number: int) -> None:
        body = {"input": {"prompt": f"prompt {number}", "max_rounds": 1, "seed": number}}
        (await client.post("/gems/invoke", json=body)).raise_for_status()

    async def images(number: int) -> None:
        body = {"prompt": f"prompt {number}", "quality": "low"}
        answer = await client.post("/v1/images/generations", json=body)
        if answer.status_code in {404, 405}:
            raise NotThereError
        answer.raise_for_status()

    return {"runs API": runs, "LangServe invoke": invoke, "OpenAI images": images}


async def measured(ask: Ask, concurrent: int, repeats: int) -> dict[str, float]:
    """Requests per second and latencies in milliseconds, after a request to warm up."""
    await ask(0)
    latencies: list[float] = []

    async def timed(number: int) -> None:
        began = time.perf_counter()
        await ask(number)
        latencies.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    for turn in range(repeats):
        await asyncio.gather(*(timed(1 + turn * concurrent + number) for number in range(concurrent)))
    took = time.perf_counter() - began
    latencies.sort()
    return {
        "requests_per_s": len(latencies) / took,
        "median_ms": latencies[len(latencies) // 2],
        "p95_ms": latencies[int(len(latencies) * 0.95)],
    }


class serving:  # noqa: N801 - used as a context manager
    """A server on the same models in a process of its own; gives its address."""

    def __init__(self, home: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.ways_in", "--serve", home]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._process.stdout is not None  # noqa: S101
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


async def serve(home: str) -> None:
    """Serve until the process is told to stop."""
    from gems.apps.server.app import serve  # noqa: PLC0415 - only this process needs it

    settings, gems = opened(home)
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": 0})})
    await serve(settings, lambda url: print(url, flush=True), gems)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    parser.add_argument("--serve", metavar="HOME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve))
    else:
        asyncio.run(main(arguments.concurrent, arguments.repeats, arguments.out))
