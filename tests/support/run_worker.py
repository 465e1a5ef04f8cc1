"""A process that begins a run, or goes on with one, and prints its result."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from PIL import Image

from gems.models.images import encode_png
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings

PROMPT = "a red cat asleep"


def photo() -> bytes:
    """What is mended: a picture of the first version."""
    return encode_png(Image.new("RGB", (128, 128), (60, 60, 60)))


async def main(home: str, base_url: str, run_id: str, candidates: str, task: str = "run") -> None:
    settings = Settings(
        home=Path(home),
        skills="none",
        chat=ChatSettings(model=f"openai:stub@{base_url}"),
        generator=GeneratorSettings(model=f"openai:stub@{base_url}"),
    )
    async with Gems(settings) as gems:
        if run_id:
            result = await gems.resume(run_id)
        elif task == "repair":
            result = await gems.repair(photo(), PROMPT, seed=7, repair="always")
        else:
            result = await gems.run(PROMPT, seed=7, size="128x128", candidates=int(candidates), repair="never")
    sys.stdout.write(json.dumps(result.model_dump()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
