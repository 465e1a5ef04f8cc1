"""What exports of many rows take: `python -m benchmarks.export_scale [--rows N ...] [--out FILE]`.

A run of the built-in world is copied under new ids, each copy with a word and images of its own, until there are as
many pairs as wanted. `gems export pairs` writes them as a process of its own, whose peak of memory the system tells.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL.PngImagePlugin import PngInfo

from benchmarks._results import write
from gems.runs.output import replace_metadata
from gems.runs.training_rows import ExportOptions, find_pairs
from gems.service import Gems
from gems.settings import Settings

ROWS = (1_000, 10_000, 100_000)
SEEDS = 6
_WORD = "AAAAAA"
_PROMPT = f'three red circles above a blue striped square, and the word "{_WORD}"'
_TABLES = {"checkpoints": "checkpoint", "writes": "value"}
"""Tables of LangGraph's checkpoints, with the column that holds a value."""


@dataclass(frozen=True)
class Template:
    """A run as its stores hold it."""

    pairs: int
    row: dict[str, Any]
    checkpoints: dict[str, list[dict[str, Any]]]
    """Rows by table."""
    images: dict[str, bytes]


async def make_template(settings: Settings) -> Template:
    """Return the run with the most pairs of a few, and leave no run in the home."""
    async with Gems(settings) as gems:
        made = [await gems.run(_PROMPT, seed=seed, size="256x256", candidates=2) for seed in range(SEEDS)]
        pairs = {result.run_id: len(find_pairs(result, ExportOptions(unconfirmed=True))) for result in made}
        best = max(made, key=lambda result: pairs[result.run_id])
        drawn = [candidate["image"] for turn in best.rounds for candidate in turn["candidates"]]
        images = {image: await gems.resources.images.load(image) for image in drawn}
    with closing(_open(settings.checkpoints_path)) as stored:
        found = {name: _rows(stored, f"{name} WHERE thread_id = ?", best.run_id) for name in _TABLES}
    with closing(_open(settings.ledger_path)) as ledger, ledger:
        (row,) = _rows(ledger, "runs WHERE run = ?", best.run_id)
        ledger.execute("DELETE FROM runs")
    return Template(pairs[best.run_id], row, found, images)


def copy_runs(template: Template, settings: Settings, numbers: range) -> None:
    """Enter copies of the run."""
    with (
        closing(_open(settings.ledger_path)) as ledger,
        closing(_open(settings.checkpoints_path)) as stored,
        ledger,
        stored,
    ):
        for number in numbers:
            run, word = f"copy-{number:06}", _letters(number)
            changes = {_WORD.encode(): word.encode()}
            for image, data in template.images.items():
                changes[image.encode()] = _copy_image(data, number, settings.home / "images").encode()
            _insert(ledger, "runs", template.row | {"run": run, "prompt": _PROMPT.replace(_WORD, word)})
            for name, column in _TABLES.items():
                for row in template.checkpoints[name]:
                    changed = _change(row[column], row["type"], changes)
                    _insert(stored, name, row | {"thread_id": run, column: changed})


def _copy_image(data: bytes, number: int, folder: Path) -> str:
    changed = PngInfo()
    # A chunk that is no metadata, so that the copies differ in the dataset, too.
    changed.add(b"gAMA", number.to_bytes(4))
    copied = replace_metadata(data, changed)
    image = hashlib.sha256(copied).hexdigest()
    path = folder / image[:2] / f"{image}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(copied)
    return image


def _change(value: bytes, kind: str, changes: dict[bytes, bytes]) -> bytes:
    """Replace parts of a stored value by others of their length."""
    is_packed = kind.startswith("zlib+")
    plain = zlib.decompress(value) if is_packed else value
    for old, new in changes.items():
        plain = plain.replace(old, new)
    return zlib.compress(plain, 1) if is_packed else plain


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return connection


def _rows(connection: sqlite3.Connection, where: str, run: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(f"SELECT * FROM {where}", (run,))]  # noqa: S608 - our own


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    slots = ",".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({','.join(row)}) VALUES ({slots})", [*row.values()])  # noqa: S608


def _letters(number: int) -> str:
    return "".join(chr(ord("A") + number // 26**place % 26) for place in range(len(_WORD)))


def export(home: Path, folder: Path) -> dict[str, Any]:
    """Export all pairs; return rows, seconds, and the peak of memory in MB."""
    command = [sys.executable, "-m", "gems", "export", "pairs", "--unconfirmed", "--out", str(folder)]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | {"GEMS_HOME": str(home)})  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("The export failed.")
    file = folder / "data" / "train.parquet"
    found = {"rows": pq.ParquetFile(file).metadata.num_rows, "file_mb": file.stat().st_size / 1e6}
    shutil.rmtree(folder)
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    cpu = usage.ru_utime + usage.ru_stime
    return found | {"seconds": seconds, "cpu_seconds": cpu, "rss_peak_mb": kilobytes / 1024}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", skills="none")
        template = asyncio.run(make_template(settings))
        print(f"a run has {template.pairs} pairs of {len(template.images)} images")
        measured, copies = [], 0
        for rows in sorted(given.rows):
            wanted = -(-rows // template.pairs)
            copy_runs(template, settings, range(copies, wanted))
            copies = wanted
            measured.append({"runs": copies} | export(settings.home, Path(folder) / "pairs"))
            print(measured[-1], flush=True)
    if given.out:
        write(given.out, "export_scale", {"exports": measured})


if __name__ == "__main__":
    main()
