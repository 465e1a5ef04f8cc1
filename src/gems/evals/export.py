"""Write files for official scorers."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from gems.errors import RequestError
from gems.evals.records import BenchmarkPrompt, SampleKey, SampleSet
from gems.memory.sqlite import storage_error
from gems.models.images import open_flat, open_image


class ExportWriter:
    """Writes `samples` images per prompt to a folder; `missing` collects the samples without an image."""

    def __init__(self, sample_set: SampleSet, folder: Path, samples: int) -> None:
        # The commands run in another working directory.
        self.folder = folder.absolute()
        self.samples = samples
        self.missing: list[SampleKey] = []
        self.languages = list(dict.fromkeys(prompt.language for prompt in sample_set.prompts))
        row = next(iter(sample_set.rows.values()), None)
        name = f"gems-{row.harness}" if row is not None else "gems"
        self.model = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
        """A model name that is usable as a folder name."""
        self._sample_set = sample_set

    async def check_empty(self) -> None:
        """Raise `RequestError` unless the folder is empty or new."""

        def occupied() -> bool:
            return self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))

        if await asyncio.to_thread(occupied):
            raise RequestError(
                f"{self.folder} is not an empty folder.",
                hint="Official scorers read every file in it; use a new folder.",
            )

    async def each(self) -> AsyncIterator[tuple[BenchmarkPrompt, list[bytes | None]]]:
        """Yield all prompts with the PNGs of all samples, in order; None for missing ones."""
        for prompt in self._sample_set.prompts:
            yield prompt, [await self._image(prompt, sample) for sample in range(self.samples)]

    async def each_image(self) -> AsyncIterator[tuple[BenchmarkPrompt, int, bytes]]:
        """Yield all existing PNGs with their prompt and sample."""
        async for prompt, images in self.each():
            for sample, image in enumerate(images):
                if image is not None:
                    yield prompt, sample, image

    async def write_first_images(self, folder: str = "") -> dict[str, tuple[BenchmarkPrompt, Path]]:
        """Write the first image of each prompt as ID.png; returns prompt and path by prompt id."""
        found = {}
        async for prompt, sample, image in self.each_image():
            if sample == 0:
                found[prompt.id] = prompt, await self.write(f"{folder}{prompt.id}.png", image)
        return found

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

    async def _image(self, prompt: BenchmarkPrompt, sample: int) -> bytes | None:
        key = prompt.key(sample)
        row = self._sample_set.rows.get(key)
        if row is None or not row.file:
            self.missing.append(key)
            return None
        return await self._sample_set.image(row)


def make_grid(images: Sequence[bytes | None], form: Literal["PNG", "WEBP"]) -> bytes:
    """Combine one or four PNGs to one sheet. Blocking.

    Four tiles form two rows; None gives a black tile. All are resized to the first one. WebP is lossless.
    """
    tiles = [None if image is None else open_flat(image) for image in images]
    size = width, height = next(tile.size for tile in tiles if tile is not None)
    columns = 2 if len(tiles) > 1 else 1
    sheet = Image.new("RGB", (width * columns, height * -(-len(tiles) // columns)))
    for index, tile in enumerate(tiles):
        if tile is not None:
            fitted = tile if tile.size == size else tile.resize(size, Image.Resampling.LANCZOS)
            sheet.paste(fitted, (index % columns * width, index // columns * height))
    out = io.BytesIO()
    sheet.save(out, form, **({"lossless": True} if form == "WEBP" else {}))
    return out.getvalue()


async def check_square(images: Sequence[bytes], name: str) -> int:
    """Return the side in pixels of square images of one size; raises `RequestError` otherwise."""
    found = await asyncio.to_thread(lambda: {open_image(image).size for image in images})
    width, height = next(iter(found))
    if len(found) > 1 or width != height:
        sizes_text = ", ".join(f"{w}x{h}" for w, h in sorted(found))
        raise RequestError(
            f"The images of {name} have {sizes_text} pixels; the official scorer needs squares of one size.",
            hint="Generate them with --size, e.g. 1024x1024.",
        )
    return width
