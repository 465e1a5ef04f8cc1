"""Write files for official scorers."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from gems.errors import RequestError
from gems.evals.records import BenchmarkPrompt, SampleKey
from gems.evals.task import Export, SampleSet, Task
from gems.memory.sqlite import storage_error
from gems.models.images import open_image


class ExportWriter:
    """Writes an export to a folder that must be empty or new, since some scorers read every file there.

    `missing` collects the samples without an image.
    """

    def __init__(self, task: Task, sample_set: SampleSet, folder: Path) -> None:
        # The commands run in another working directory.
        self.folder = folder.absolute()
        self.missing: list[SampleKey] = []
        self._task, self._sample_set = task, sample_set
        self.samples = sample_set.samples or task.samples_per_prompt

    async def begin(self) -> Path:
        """Check the folder and return its absolute path; raises `RequestError` if it is not empty."""

        def occupied() -> bool:
            return self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))

        if await asyncio.to_thread(occupied):
            raise RequestError(
                f"{self.folder} is not an empty folder.",
                hint="Official scorers read every file in it; use a new folder.",
            )
        return self.folder

    async def image(self, prompt: BenchmarkPrompt, sample: int) -> bytes | None:
        """Return the PNG of a sample; None if there is none, which is recorded as missing."""
        key = prompt.key(sample)
        row = self._sample_set.rows.get(key)
        if row is None or not row.file:
            self.missing.append(key)
            return None
        return await self._sample_set.image(row)

    async def images(self, prompt: BenchmarkPrompt) -> list[bytes | None]:
        """Return the PNGs of all samples of a prompt, in order."""
        return [await self.image(prompt, sample) for sample in range(self.samples)]

    async def each(self) -> AsyncIterator[tuple[BenchmarkPrompt, list[bytes | None]]]:
        """Yield all prompts with their images."""
        for prompt in self._sample_set.prompts:
            yield prompt, await self.images(prompt)

    async def write(self, name: str, data: bytes | str) -> Path:
        """Write a file, named relative to the folder; raises `DiskFullError` or `StorageError`."""
        path = self.folder / name
        content = data.encode() if isinstance(data, str) else data

        def writing() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        try:
            await asyncio.to_thread(writing)
        except OSError as error:
            raise storage_error(error, path) from error
        return path

    async def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file."""
        return await self.write(name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def done(self, *commands: Sequence[object] | str) -> Export:
        """Return the export with its commands; words in capitals are placeholders."""
        languages = dict.fromkeys(prompt.language for prompt in self._sample_set.prompts)
        return Export(
            folder=self.folder,
            commands=[_command_line(command) for command in commands],
            missing=self.missing,
            expected=sum(count_expected_samples(self._task, language) for language in languages),
        )


def _command_line(command: Sequence[object] | str) -> str:
    return command if isinstance(command, str) else shlex.join(str(word) for word in command)


def count_expected_samples(task: Task, language: str) -> int:
    """Return the samples of the complete benchmark in a language."""
    return task.size[language] * task.samples_per_prompt


async def make_grid(images: Sequence[bytes | None], form: Literal["PNG", "WEBP"]) -> tuple[bytes, int]:
    """Combine one or four PNGs to one sheet; returns it and the tile width in pixels.

    Four tiles form two rows; None gives a black tile. All are resized to the first one. WebP is lossless.
    """
    return await asyncio.to_thread(_make_grid, images, form)


def _make_grid(images: Sequence[bytes | None], form: Literal["PNG", "WEBP"]) -> tuple[bytes, int]:
    tiles = [None if image is None else open_image(image).convert("RGB") for image in images]
    width, height = next(tile.size for tile in tiles if tile is not None)
    columns = 2 if len(tiles) > 1 else 1
    sheet = Image.new("RGB", (width * columns, height * -(-len(tiles) // columns)))
    for index, tile in enumerate(tiles):
        if tile is not None:
            fitted = (
                tile
                if tile.size == (width, height)
                else tile.resize((width, height), Image.Resampling.LANCZOS)
            )
            sheet.paste(fitted, (index % columns * width, index // columns * height))
    out = io.BytesIO()
    sheet.save(out, form, **({"lossless": True} if form == "WEBP" else {}))
    return out.getvalue(), width


def model_folder_name(sample_set: SampleSet) -> str:
    """Return a model name for the samples that is usable as a folder name."""
    row = next(iter(sample_set.rows.values()), None)
    name = f"gems-{row.harness}" if row is not None else "gems"
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def all_or_none(images: Iterable[bytes | None]) -> list[bytes] | None:
    """Return all images; None if one is missing."""
    found = list(images)
    existing = [image for image in found if image is not None]
    return existing if len(existing) == len(found) else None


async def check_square(images: Sequence[bytes], name: str) -> int:
    """Return the side in pixels of square images of one size; raises `RequestError` otherwise."""

    def sizes() -> set[tuple[int, int]]:
        return {open_image(image).size for image in images}

    found = await asyncio.to_thread(sizes)
    width, height = next(iter(found))
    if len(found) > 1 or width != height:
        sizes_text = ", ".join(f"{w}x{h}" for w, h in sorted(found))
        raise RequestError(
            f"The images of {name} have {sizes_text} pixels; the official scorer needs squares of one size.",
            hint="Generate them with --size, e.g. 1024x1024.",
        )
    return width
