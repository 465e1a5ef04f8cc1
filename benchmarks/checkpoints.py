"""How much checkpoint data a round leaves behind, in the SQLite checkpointer.

Ten requirements, judge's thoughts of 4,000 characters that no two rounds share, and experiences of a hundred
words. Images of noise and tiny ones must cost the same, since none is ever part of a checkpoint.

    python -m benchmarks.checkpoints [--rounds 5 20 50] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image

from benchmarks._results import write
from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.models.chat.schemas import find_task
from gems.service import Gems
from gems.settings import Settings

REQUIREMENTS = 10
THOUGHT = 4_000
SIDES = {"noise of 1024x1024": 1024, "noise of 16x16": 16}
# Words of two signs to ten that hold four bits in each: they shrink to half, hardly more than English does.
WORDS = [hashlib.sha256(str(n).encode()).hexdigest()[: 2 + n % 9] for n in range(2_000)]


class Wordy(BaseChatModel):
    """Answers every task at once and at length, and finds nothing met."""

    @property
    def _llm_type(self) -> str:
        return "wordy"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        text = "".join(str(message.content) for message in messages)
        task = find_task(message.content for message in messages)
        dice = random.Random(hashlib.sha256(text.encode()).digest())
        answer = json.dumps(_answer(task, dice))
        if task == "checklist":
            thought = " ".join(dice.choices(WORDS, k=THOUGHT))[:THOUGHT]
            answer = f"<think>{thought}</think>{answer}"
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(messages, *args, **kwargs)


def _answer(task: str, dice: random.Random) -> dict[str, Any]:
    numbers = range(1, REQUIREMENTS + 1)
    if task == "decompose":
        return {"requirements": [{"question": f"Is there {_text(dice, 12)}?"} for _ in numbers]}
    if task == "complete":
        return {"requirements": []}
    if task == "checklist":
        return {"answers": [{"number": n, "answer": "no", "evidence": _text(dice, 12)} for n in numbers]}
    if task == "reflect":
        return {"experience": _text(dice, 100), "prompt": _text(dice, 60)}
    if task == "mend":
        return {"experience": _text(dice, 100), "prompt": _text(dice, 60), "instruction": _text(dice, 12)}
    return {}


def _text(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(WORDS, k=words))


class Noise:
    """Draws noise, which no compression makes small."""

    def __init__(self, side: int) -> None:
        self.capabilities = GeneratorCapabilities(model="noise", default_size=(side, side), min_side=16, price_usd=0.0)

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Draw at once."""
        shape = (request.height, request.width, 3)
        pixels = np.random.default_rng(request.seed).integers(0, 256, shape, dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG", compress_level=1)
        return GeneratedImage(
            data=out.getvalue(),
            width=request.width,
            height=request.height,
            seed=request.seed,
            model="noise",
            parameters={},
            seconds=0.0,
        )

    async def aclose(self) -> None:
        """Nothing is open."""


async def bytes_per_round(rounds: int, side: int) -> int:
    """Bytes of the checkpoint database per round, after a run of so many rounds."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), checkpoint=None)
        async with Gems(settings, chat=Wordy(), generator=Noise(side)) as gems:
            result = await gems.run("ten things", max_rounds=rounds, plateau=0, seed=7, skills="none")
            if len(result.rounds) != rounds:
                raise RuntimeError(f"The run ended after {len(result.rounds)} rounds: {result.failure}")
        # Closed, so that the write-ahead log is part of the file.
        return settings.checkpoints_path.stat().st_size // rounds


async def main(counts: list[int], out: Path | None) -> None:
    """Print bytes per round."""
    found = {name: {rounds: await bytes_per_round(rounds, side) for rounds in counts} for name, side in SIDES.items()}
    print("| images | " + " | ".join(f"{rounds} rounds" for rounds in counts) + " |")
    print("|---|" + "--:|" * len(counts))
    for name, sizes in found.items():
        print(f"| {name} | " + " | ".join(f"{size:,}" for size in sizes.values()) + " |")
    print("\nBytes of checkpoints per round.")
    if out:
        write(out, "checkpoints", {"bytes_per_round": found})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    given = parser.parse_args()
    asyncio.run(main(given.rounds, given.out))
