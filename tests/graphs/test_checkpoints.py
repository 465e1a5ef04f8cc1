"""What ends up in the checkpointer: little, and no image."""

from __future__ import annotations

import base64
import io
import random
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.memory import InMemoryStore
from PIL import Image

from gems.generation import ImageRequest
from gems.memory.checkpointer import open_checkpointer
from gems.memory.experience import LESSONS, namespace
from gems.state import State
from tests.support.graph_runs import carried_out, compiled, config
from tests.support.scripted_models import Asked, FlatGenerator, checks, opened_desk, requirements

QUESTIONS = [f"Is there a thing of kind number {n} standing next to the other thing?" for n in range(10)]
OURS = get_type_hints(State)
PNG = b"\x89PNG\r\n\x1a\n"


def noise(request: ImageRequest) -> bytes:
    """A picture that no compression makes small."""
    pixels = np.random.default_rng(request.seed).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def slowly_better(asked: Asked) -> dict[str, Any]:
    """One requirement more is met every second round, so that neither plateau nor success ends the run."""
    met = min(9, (slowly_better.rounds // 2))  # type: ignore[attr-defined]
    slowly_better.rounds += 1  # type: ignore[attr-defined]
    found = checks(*("yes" if n < met else "no" for n in range(10)))
    slowly_better.desk.chat.thought = varied(slowly_better.rounds, 4_000)  # type: ignore[attr-defined]
    for answer in found["answers"]:
        answer["evidence"] = f"I see thing {answer['number']} at the left of it, near the lower edge."
    return found


def varied(seed: int, length: int) -> str:
    """Text that shrinks to half, hardly more than English does."""
    dice = random.Random(seed)
    return " ".join(f"{dice.getrandbits(4 * size):x}" for size in dice.choices(range(2, 10), k=length))[:length]


def full_store() -> InMemoryStore:
    """Lessons of a hundred words, as many as are shown at a time."""
    store = InMemoryStore()
    for number in range(5):
        text = " ".join(varied(1000 + number, 600).split()[:100])
        lesson = {
            "text": text,
            "kinds": ["other"],
            "sources": [["another run", number]],
            # So well proven that fifty failures take none of them out.
            "record": {"shown": 1000, "helped": 1000, "hurt": 0},
        }
        store.put(namespace(LESSONS, "flat"), str(number), lesson)
    return store


async def kept(home: Path, rounds: int) -> tuple[Path, dict[str, Any]]:
    """The checkpointer's file after so many rounds of ten requirements with images of 1 MB."""
    slowly_better.rounds = 0  # type: ignore[attr-defined]
    path = home / "checkpoints.sqlite3"
    async with open_checkpointer(path) as saver, opened_desk(home, generator=FlatGenerator(paint=noise)) as desk:
        slowly_better.desk = desk  # type: ignore[attr-defined]
        desk.chat.script |= {
            "decompose": requirements(*QUESTIONS),
            "checklist": slowly_better,
            "reflect": lambda asked: {
                "experience": varied(desk.chat.tasks().count("reflect"), 600),
                "prompt": f"Draw ten things, number {desk.chat.tasks().count('reflect')}. " * 8,
            },
        }
        graph = compiled(checkpointer=saver, store=full_store())
        output = await carried_out(desk, graph, max_rounds=rounds, plateau=0)
        assert len(output["recalls"]) == rounds
        # As many as the budget of tokens leaves room for.
        assert all(len(recall["lessons"]) == 4 for recall in output["recalls"])
        seen: set[str] = set()
        async for saved in saver.alist(config()):
            values = list(saved.checkpoint["channel_values"].items())
            values += [(channel, value) for _task, channel, value in saved.pending_writes or ()]
            for channel, value in values:
                if channel in OURS:
                    assert_plain(value)
                    seen.add(channel)
        assert {"rounds", "requirements", "current_prompt"} <= seen
    return path, output


def assert_plain(value: Any) -> None:
    """Only what JSON knows, and no long text."""
    if isinstance(value, _DeltaSnapshot):
        assert_plain(value.value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            assert isinstance(name, str)
            assert_plain(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            assert_plain(inner)
    elif isinstance(value, str):
        assert len(value) < 10_000
    else:
        assert value is None or isinstance(value, int | float | bool), type(value)


@pytest.fixture
def sizes(tmp_path: Path) -> Any:
    async def measure(rounds: int) -> int:
        path, output = await kept(tmp_path / str(rounds), rounds)
        assert len(output["rounds"]) == rounds
        data = path.read_bytes()
        assert PNG not in data
        assert base64.b64encode(PNG)[:10] not in data
        images = list((tmp_path / str(rounds) / "images").rglob("*.png"))
        assert len(images) == rounds
        assert all(image.stat().st_size > 1_000_000 for image in images)
        return len(data)

    return measure


async def test_checkpoints_are_small_and_grow_linearly(sizes: Any) -> None:
    ten, fifty = await sizes(10), await sizes(50)
    assert fifty < 50 * 20_000
    # Later rounds may not cost much more than the first.
    assert fifty - ten < 4 * 1.1 * ten
