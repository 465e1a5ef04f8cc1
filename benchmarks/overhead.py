"""What the loop itself costs per round, with the SQLite checkpointer and the ledger.

Models answer at once: the chat model says no to everything, the generator hands out one of two pictures. What
is left is orchestration: graph, checkpoints, ledger, image store, events. The figure without stores shows how
much of it is the disk.

    python benchmarks/overhead.py [--rounds 20] [--runs 5] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image

from gems.events import Judged
from gems.graphs.loop import build_graph
from gems.service import Gems
from gems.settings import Settings
from gems.types import GeneratedImage, GeneratorCapabilities, ImageRequest

REQUIREMENTS = 10
SIDE = 1024


class SaysNo(BaseChatModel):
    """Answers every task at once, and finds nothing met."""

    @property
    def _llm_type(self) -> str:
        return "says-no"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        task = str(messages[0].content).split("\n", 1)[0].removeprefix("Task: ")
        text = ANSWERS.get(task, "")
        if task == "reflect":
            # Another prompt each time, as a real reflector writes.
            text = json.dumps({"experience": "word " * 90, "prompt": f"prompt {time.perf_counter_ns()}"})
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(messages, *args, **kwargs)


ANSWERS = {
    "decompose": json.dumps(
        {"requirements": [{"question": f"Is there thing number {n}?"} for n in range(REQUIREMENTS)]}
    ),
    "checklist": json.dumps(
        {
            "answers": [
                {"number": n + 1, "answer": "no", "evidence": "nothing of that kind to be seen"}
                for n in range(REQUIREMENTS)
            ]
        }
    ),
}


class Instant:
    """Hands out a picture that differs by seed in one pixel, so that each is stored."""

    side = SIDE
    capabilities = GeneratorCapabilities(model="instant", default_size=(SIDE, SIDE), price_usd=0.0)

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Draw at once."""
        picture = Image.new("RGB", (self.side, self.side))
        picture.putpixel((0, 0), (request.seed % 256, request.seed // 256 % 256, request.seed // 65536 % 256))
        out = io.BytesIO()
        picture.save(out, "PNG", compress_level=1)
        return GeneratedImage(
            data=out.getvalue(),
            width=self.side,
            height=self.side,
            seed=request.seed,
            model="instant",
            parameters={},
            seconds=0.0,
        )

    async def aclose(self) -> None:
        """Nothing is open."""


async def main(rounds: int, runs: int, as_json: bool) -> None:
    """Print milliseconds per round."""
    with tempfile.TemporaryDirectory() as folder:
        async with Gems(
            Settings(home=Path(folder), skills="none"), chat=SaysNo(), generator=Instant()
        ) as gems:
            stored = await measured(lambda: one_run(gems, rounds), rounds, runs)
            bare = await measured(lambda: one_bare_run(gems, rounds), rounds, runs)
            models = await measured(lambda: only_models(rounds), rounds, runs)
        size = sum(path.stat().st_size for path in Path(folder).glob("checkpoints.sqlite3*"))
    figures = {
        "rounds": rounds,
        "runs": runs,
        "ms_per_round": stored,
        "ms_per_round_without_checkpointer": bare,
        "ms_per_round_of_the_models_themselves": models,
        "overhead_ms_per_round": {name: stored[name] - models[name] for name in stored},
        "checkpoint_bytes_per_round": size // ((runs + 1) * rounds),
    }
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{runs} runs of {rounds} rounds, {REQUIREMENTS} requirements, {SIDE}x{SIDE} images; ms per round")
    print(f"{'':34}{'wall':>8}{'CPU':>8}")
    for name, label in (
        ("ms_per_round", "whole, SQLite checkpointer"),
        ("ms_per_round_without_checkpointer", "whole, no checkpointer"),
        ("ms_per_round_of_the_models_themselves", "models and encoding alone"),
        ("overhead_ms_per_round", "overhead with SQLite"),
    ):
        row: dict[str, float] = figures[name]  # type: ignore[assignment]
        print(f"{label:34}{row['wall']:8.2f}{row['cpu']:8.2f}")
    print(f"checkpoint data per round: {figures['checkpoint_bytes_per_round']:,} bytes")


async def measured(run: Callable[[], Awaitable[int]], rounds: int, runs: int) -> dict[str, float]:
    """Median milliseconds per round over `runs` runs, after one to warm up."""
    walls, cpus = [], []
    await run()
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        done = await run()
        if done != rounds:
            raise SystemExit(f"A run had {done} rounds, not {rounds}.")
        walls.append((time.perf_counter() - wall) * 1000 / rounds)
        cpus.append((time.process_time() - cpu) * 1000 / rounds)
    return {"wall": statistics.median(walls), "cpu": statistics.median(cpus)}


async def one_run(gems: Gems, rounds: int) -> int:
    """A whole run through the service; how many rounds it had."""
    count = 0
    async for event in gems.stream(
        "a prompt", max_rounds=rounds, plateau=0, seed=time.perf_counter_ns() % 2**31
    ):
        count += isinstance(event, Judged)
    return count


async def one_bare_run(gems: Gems, rounds: int) -> int:
    """The graph without a checkpointer; images and ledger stay."""
    graph = build_graph().compile()
    given: Any = {
        "prompt": "a prompt",
        "max_rounds": rounds,
        "plateau": 0,
        "seed": time.perf_counter_ns() % 2**31,
    }
    result = await graph.ainvoke(given, {"recursion_limit": 1000}, context=gems.resources.context())
    return len(result["rounds"])


async def only_models(rounds: int) -> int:
    """What the stand-in models and the encoding of their pictures cost by themselves."""
    from gems.models.encoding import encoded_picture  # noqa: PLC0415

    generator = Instant()
    for number in range(rounds):
        drawn = await generator.generate(ImageRequest(prompt="", seed=number, width=SIDE, height=SIDE))
        await asyncio.to_thread(encoded_picture, drawn.data, SIDE)
        await asyncio.to_thread(encoded_picture, drawn.data, SIDE)
    return rounds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.rounds, arguments.runs, arguments.json))
