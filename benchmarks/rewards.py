"""What the reward server makes of its judge: `python -m benchmarks.rewards [--images N] [--repeats R] [--out FILE]`.

The judge's endpoint answers 8 questions at a time in 0.45 s each (see `endpoint.py`). Its own rate is measured by
sending it the judge's question over and over, 8 at a time; then `request_rewards` sends as many images of one prompt to
`gems serve`, at default settings. All three are processes of their own. What counts is the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks._results import write
from benchmarks.endpoint import photograph, serving, stamped
from gems.apps.reward_client import request_rewards
from gems.models.images import encode_image

SLOTS, SIDE = 8, 512
LEAST = 0.9
_PROMPT = "a scene that needs 1 images #rewards"


@contextmanager
def reward_server(chat: str, home: Path, port: int) -> Iterator[str]:
    """`gems serve` with its own process."""
    command = [sys.executable, "-m", "gems", "serve", "--port", str(port), "--chat", chat]
    environment = {"GEMS_HOME": str(home), "GEMS_SERVE__WEB": "false"}
    process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        base = f"http://127.0.0.1:{port}"
        while True:
            try:
                httpx.get(f"{base}/healthz").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.communicate(timeout=60)


async def rate_of_endpoint(base: str, images: list[bytes]) -> float:
    """Return the answers per second that the endpoint gives to as many questions as it takes at a time."""
    waiting = asyncio.Semaphore(SLOTS)
    asked = "\n".join(f"{n + 1}. Is thing number {n} as it should be? (needs 1 images #rewards)" for n in range(7))
    bodies = [
        {
            "model": "judge",
            "messages": [
                {"role": "system", "content": "Task: checklist"},
                {"role": "user", "content": [_shown(image), {"type": "text", "text": asked}]},
            ],
        }
        for image in images
    ]
    async with httpx.AsyncClient(base_url=base, timeout=60) as client:

        async def ask(body: dict[str, Any]) -> None:
            async with waiting:
                (await client.post("/v1/chat/completions", json=body)).raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*map(ask, bodies))
        return len(bodies) / (time.perf_counter() - began)


def _shown(image: bytes) -> dict[str, Any]:
    data, kind = encode_image(image, SIDE)
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def measure(images: int, repeats: int) -> dict[str, Any]:
    """Measure both rates in turn."""
    pool = [photograph(SIDE, seed) for seed in range(4)]
    rates: dict[str, list[float]] = {"endpoint": [], "rewards": []}
    with (
        tempfile.TemporaryDirectory() as home,
        serving(slots=SLOTS, side=64) as endpoint,
        reward_server(f"openai:judge@{endpoint}/v1", Path(home), 8036) as server,
    ):
        # The checklist of the prompt, and what the endpoint can do, are known afterwards.
        request_rewards([_PROMPT], [pool[0]], url=server)
        for repeat in range(repeats):
            pictures = [stamped(pool[number % 4], f"{repeat}-{number}") for number in range(images)]
            rates["endpoint"].append(asyncio.run(rate_of_endpoint(endpoint, pictures)))
            began = time.perf_counter()
            scores = request_rewards([_PROMPT] * images, pictures, url=server)
            rates["rewards"].append(images / (time.perf_counter() - began))
            if None in scores:
                raise SystemExit("An image has no score.")
    ratios = [ours / theirs for ours, theirs in zip(rates["rewards"], rates["endpoint"], strict=True)]
    return {"images": images, "slots": SLOTS, "per_second": rates, "ratio": statistics.median(ratios)}


def main() -> int:
    """Measure and print; exit code 1 if the server wastes more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = measure(given.images, given.repeats)
    print(found)
    if given.out:
        write(given.out, "rewards", found)
    return int(found["ratio"] < LEAST)


if __name__ == "__main__":
    raise SystemExit(main())
