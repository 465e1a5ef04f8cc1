"""Benchmarks' invented data, frozen samples of them, and a judge over a real server."""

from __future__ import annotations

import io
import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from PIL import Image

from gems.evals.judge_client import ChatJudge, open_judge
from gems.evals.rows import SampleRow, Score
from gems.evals.samples import BenchmarkPrompt, SampleKey
from gems.evals.task import Frozen, Task
from gems.evals.tasks.registry import task
from gems.settings import ChatSettings
from tests.stub import StubServer

DATA = Path(__file__).parent / "data"
_PLACES = {
    "geneval": {"invented.jsonl": "prompts/evaluation_metadata.jsonl"},
}


def placed(folder: Path, name: str) -> Path:
    """The invented data of a benchmark as its official files would lie below `folder`."""
    for source, target in _PLACES[name].items():
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / name / source, path)
    return folder


def prompts_of(folder: Path, name: str, language: str = "en") -> tuple[Task, list[BenchmarkPrompt]]:
    """A task and the prompts of its invented data."""
    found = task(name)
    return found, found.prompts(placed(folder, name), language)


def png(color: str | tuple[int, int, int] = "red", side: int = 16) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), color).save(out, "PNG")
    return out.getvalue()


def row(key: SampleKey, prompt: str = "", **more: object) -> SampleRow:
    """A row of a sample that was drawn."""
    given = {
        "prompt": prompt,
        "seed": 1,
        "harness": "single",
        "generator": "blocks",
        "chat": "",
        "file": f"images/{key.language}/{key.prompt_id}_{key.sample}.png",
        "sha256": "0" * 64,
    }
    return SampleRow.model_validate(key._asdict() | given | more)


def frozen(
    prompts: Sequence[BenchmarkPrompt],
    samples: int,
    *,
    missing: Iterable[SampleKey] = (),
    paint: Callable[[SampleKey], bytes] = lambda key: png((key.sample * 40 + 10, 20, 30)),
) -> Frozen:
    """All samples of the prompts, but those that are missing; they have a row that says why."""
    keys = [prompt.key(sample) for prompt in prompts for sample in range(samples)]
    absent = set(missing)
    rows = {
        key: row(key, **({"file": "", "sha256": "", "error": "Nothing came."} if key in absent else {}))
        for key in keys
    }

    async def image(found: SampleRow) -> bytes:
        return paint(found.key)

    return Frozen(prompts=prompts, rows=rows, image=image, samples=samples)


async def judged(
    stub: StubServer, asking: Callable[[ChatJudge], Awaitable[list[Score]]], samples: int = 5
) -> list[Score]:
    """What a judge behind the stub makes of something."""
    settings = ChatSettings(model=f"openai:eyes@{stub.base_url}", attempts=1, first_wait_s=0)
    async with open_judge(settings, samples) as judge:
        return await asking(judge)


def said(messages: list[dict[str, object]]) -> str:
    """All text of a request, for brains of the stub that answer by it."""
    parts = [part for message in messages for part in _parts(message["content"])]
    return "\n".join(parts)


def _parts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    assert isinstance(content, list)
    return [part["text"] for part in content if part["type"] == "text"]
