"""Benchmarks' invented data, frozen samples of them, and a judge over a real server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from gems.evals.judge import ChatJudge, open_judge
from gems.evals.output_folder import EvalFolder, image_name
from gems.evals.records import BenchmarkPrompt, Figure, SampleKey, SampleRow, SampleSet, Score
from gems.evals.registry import load_task
from gems.evals.task import Task
from gems.settings import ChatSettings
from tests.support.stub import StubServer

DATA = Path(__file__).parents[1] / "evals" / "benchmarks" / "data"
_PLACES = {
    "geneval": {"invented.jsonl": "prompts/evaluation_metadata.jsonl"},
    "geneval2": {"invented.jsonl": "geneval2_data.jsonl"},
    "dpg": {
        "invented_dpg_bench.csv": "dpg_bench/dpg_bench.csv",
        "invented_teapot.txt": "dpg_bench/prompts/invented_teapot.txt",
    },
    "longtext": {
        "invented.jsonl": "textbench/text_prompts.jsonl",
        "invented_zh.jsonl": "textbench/text_prompts_zh.jsonl",
    },
    "spatial": {"invented.jsonl": "eval/SpatialGenEval_T2I_Prompts.jsonl"},
    "crea": {"invented.jsonl": "eval/CREA/data.jsonl"},
    "artimuse": {"invented.jsonl": "eval/ArtiMuse/evaluation_metadata.jsonl"},
}


def placed(folder: Path, name: str) -> Path:
    """The invented data of a benchmark as its official files would lie below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "wise":
        _place_wise(folder)
        return folder
    if name == "oneig":
        _place_oneig(folder)
        return folder
    for source, target in _PLACES[name].items():
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / name / source, path)
    return folder


def _place_wise(folder: Path) -> None:
    """Its invented prompts are in one file; the third has one more of our own."""
    culture, time = json.loads((DATA / "wise" / "invented.json").read_text())
    space = time | {"prompt_id": 568, "Prompt": "A cellar below a lighthouse"}
    science = [culture | {"prompt_id": number, "Prompt": f"Rust {number}"} for number in (701, 801, 901)]
    files = {"cultural_common_sense": [culture], "spatio-temporal_reasoning": [time, space], "natural_science": science}
    for name, records in files.items():
        path = folder / "WISE_legacy" / "data" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(records))


def _place_oneig(folder: Path) -> None:
    """Its invented files; where questions are lacking, those of another kind stand in."""
    data = DATA / "oneig"
    questions = json.loads((data / "invented_Q_D_object.json").read_text())
    (folder / "Q_D").mkdir()
    for kind in ("object", "anime", "object_zh", "multilingualism_zh"):
        (folder / "Q_D" / f"{kind}.json").write_text(json.dumps(questions))
    for name in ("OneIG-Bench.csv", "OneIG-Bench-ZH.csv", "gt_answer.json", "style.csv", "text_content.csv"):
        shutil.copy(data / f"invented_{name}", folder / name)


def prompts_of(folder: Path, name: str, language: str = "en") -> tuple[Task, list[BenchmarkPrompt]]:
    """A task and the prompts of its invented data."""
    found = load_task(name)
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


async def write_image(folder: EvalFolder, key: SampleKey, data: bytes) -> tuple[str, str]:
    """Writes a sample's image; returns its name and its digest, as in rows."""
    name = image_name(key)
    await asyncio.to_thread(folder.store.write, name, data)
    return name, hashlib.sha256(data).hexdigest()


def frozen(
    prompts: Sequence[BenchmarkPrompt],
    samples: int,
    *,
    missing: Iterable[SampleKey] = (),
    paint: Callable[[SampleKey], bytes] = lambda key: png((key.sample * 40 + 10, 20, 30)),
) -> SampleSet:
    """All samples of the prompts, but those that are missing; they have a row that says why."""
    keys = [prompt.key(sample) for prompt in prompts for sample in range(samples)]
    absent = set(missing)
    rows = {
        key: row(key, **({"file": "", "sha256": "", "error": "Nothing came."} if key in absent else {})) for key in keys
    }

    async def image(found: SampleRow) -> bytes:
        return paint(found.key)

    return SampleSet(prompts=prompts, rows=rows, image=image, samples=samples)


async def judged(
    stub: StubServer, asking: Callable[[ChatJudge], Awaitable[list[Score]]], samples: int = 5
) -> list[Score]:
    """What a judge behind the stub makes of something."""
    settings = ChatSettings(model=f"openai:eyes@{stub.base_url}", attempts=1, first_wait_s=0)
    async with open_judge(settings, samples) as judge:
        return await asking(judge)


async def scored_all(
    stub: StubServer, benchmark: Task, prompts: Sequence[BenchmarkPrompt], images: Mapping[int, bytes]
) -> list[Score]:
    """The scores of the same images for every prompt."""

    async def asking(judge: ChatJudge) -> list[Score]:
        return [score for prompt in prompts for score in await benchmark.score(prompt, images, judge)]

    return await judged(stub, asking)


def by_name(figures: Iterable[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def files_in(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def said(messages: list[dict[str, object]]) -> str:
    """All text of a request, for brains of the stub that answer by it."""
    parts = [part for message in messages for part in _parts(message["content"])]
    return "\n".join(parts)


def _parts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    assert isinstance(content, list)
    return [part["text"] for part in content if part["type"] == "text"]
