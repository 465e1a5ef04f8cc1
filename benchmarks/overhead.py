"""What the loop itself costs per round, with the SQLite checkpointer and the ledger.

Models answer at once: the chat model says no to everything, the generator hands out one of many pictures.
What is left is orchestration: graph, checkpoints, ledger, image store, events. The figure without stores
tells how much of it is the disk, the last one what finding and writing experiences adds.

    python -m benchmarks.overhead [--rounds 20] [--runs 5] [--out FILE]
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

from benchmarks._results import write
from gems.events import Judged
from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.graphs.loop import build_graph
from gems.models.chat.schemas import find_task
from gems.service import Gems
from gems.settings import Settings

REQUIREMENTS = 10
SIDE = 1024
MOST_CPU_MS = 10
MODELS = "models and encoding alone"
SQLITE = "whole, SQLite"
EXPERIENCES = "whole, SQLite and experiences"


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
        task = find_task(message.content for message in messages)
        text = ANSWERS.get(task, "")
        if task in ("enhance", "prepare"):
            text = json.dumps({"prompt": "a prompt with a little more to it"})
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
    "complete": json.dumps({"requirements": []}),
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


async def main(rounds: int, runs: int, out: Path | None) -> None:
    """Print milliseconds per round."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), skills="none")
        async with Gems(settings, chat=SaysNo(), generator=Instant()) as gems:
            found = await measured(
                {
                    MODELS: lambda: only_models(rounds),
                    "graph without stores": lambda: one_bare_run(gems, rounds),
                    SQLITE: lambda: one_run(gems, rounds, memory=False),
                    EXPERIENCES: lambda: one_run(gems, rounds, memory=True),
                },
                rounds,
                runs,
            )
        size = sum(path.stat().st_size for path in Path(folder).glob("checkpoints.sqlite3*"))
    figures = {
        "rounds": rounds,
        "runs": runs,
        "ms_per_round": found,
        "overhead_ms_per_round": {
            name: {kind: row[kind] - found[MODELS][kind] for kind in row} for name, row in found.items()
        },
        "checkpoint_bytes_per_round": size // (2 * (runs + 1) * rounds),
    }
    show(figures)
    if out:
        write(out, "overhead", figures)


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    print(
        f"{figures['runs']} runs of {figures['rounds']} rounds, {REQUIREMENTS} requirements, "
        f"{SIDE}x{SIDE} images; ms per round"
    )
    print(f"{'':34}{'wall':>8}{'CPU':>8}{'overhead, wall':>18}{'CPU':>8}")
    for name, row in figures["ms_per_round"].items():
        more = figures["overhead_ms_per_round"][name]
        print(f"{name:34}{row['wall']:8.2f}{row['cpu']:8.2f}{more['wall']:18.2f}{more['cpu']:8.2f}")
    print(f"checkpoint data per round: {figures['checkpoint_bytes_per_round']:,} bytes")
    is_met = figures["overhead_ms_per_round"][SQLITE]["cpu"] <= MOST_CPU_MS
    print(f"{'met' if is_met else 'MISSED'}: at most {MOST_CPU_MS} ms of CPU per round with SQLite")


async def measured(
    ways: dict[str, Callable[[], Awaitable[int]]], rounds: int, runs: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds per round over `runs` runs, after one to warm up.

    The ways take turns, so that what else the machine does befalls all.
    """
    samples: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in ways}
    for turn in range(runs + 1):
        for name, run in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            done = await run()
            if done != rounds:
                raise SystemExit(f"A run had {done} rounds, not {rounds}.")
            if turn:
                samples[name]["wall"].append((time.perf_counter() - wall) * 1000 / rounds)
                samples[name]["cpu"].append((time.process_time() - cpu) * 1000 / rounds)
    return {name: {kind: statistics.median(each) for kind, each in found.items()} for name, found in samples.items()}


async def one_run(gems: Gems, rounds: int, *, memory: bool = True) -> int:
    """A whole run through the service; how many rounds it had."""
    count = 0
    async for event in gems.stream(
        "a prompt", max_rounds=rounds, plateau=0, seed=time.perf_counter_ns() % 2**31, memory=memory
    ):
        count += isinstance(event, Judged)
    return count


async def one_bare_run(gems: Gems, rounds: int) -> int:
    """The graph without a checkpointer; images and ledger stay."""
    graph = build_graph().compile()
    given: Any = {"prompt": "a prompt", "max_rounds": rounds, "plateau": 0, "seed": time.perf_counter_ns() % 2**31}
    result = await graph.ainvoke(given, {"recursion_limit": 1000}, context=gems.resources.context())
    return len(result["rounds"])


async def only_models(rounds: int) -> int:
    """What the stand-in models and the encoding of their pictures cost by themselves."""
    from gems.models.images import encode_image  # noqa: PLC0415

    generator = Instant()
    for number in range(rounds):
        drawn = await generator.generate(ImageRequest(prompt="", seed=number, width=SIDE, height=SIDE))
        # For the judge and for the reflector.
        await asyncio.to_thread(encode_image, drawn.data, SIDE)
        await asyncio.to_thread(encode_image, drawn.data, SIDE // 2)
    return rounds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.rounds, arguments.runs, arguments.out))
