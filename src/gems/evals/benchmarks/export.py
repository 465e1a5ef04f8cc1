"""Files for official scorers."""

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
from gems.evals.samples import BenchmarkPrompt, SampleKey
from gems.evals.task import Export, SampleSet, Task
from gems.memory.faults import storage_error
from gems.models.pictures import opened


class ExportWriter:
    """An export in the making.

    Args:
        task: The benchmark.
        frozen: What was drawn.
        folder: Where it goes; must be empty or not there yet, since some scorers read whatever lies there.

    Attributes:
        missing: Samples without an image, as far as it was looked at.
    """

    def __init__(self, task: Task, frozen: SampleSet, folder: Path) -> None:
        # Official commands are run elsewhere.
        self.folder = folder.absolute()
        self.missing: list[SampleKey] = []
        self._task, self._frozen = task, frozen
        self.samples = frozen.samples or task.samples_per_prompt

    async def begin(self) -> Path:
        """Check the folder; returns its absolute path.

        Raises:
            RequestError: something is in it.
        """

        def occupied() -> bool:
            return self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))

        if await asyncio.to_thread(occupied):
            raise RequestError(
                f"{self.folder} is not an empty folder.",
                hint="Official scorers read all that lies there: name a new one.",
            )
        return self.folder

    async def image(self, prompt: BenchmarkPrompt, sample: int) -> bytes | None:
        """The PNG of a sample; None where there is none, which is remembered as missing."""
        key = prompt.key(sample)
        row = self._frozen.rows.get(key)
        if row is None or not row.file:
            self.missing.append(key)
            return None
        return await self._frozen.image(row)

    async def images(self, prompt: BenchmarkPrompt) -> list[bytes | None]:
        """The PNGs of all samples of a prompt, in order."""
        return [await self.image(prompt, sample) for sample in range(self.samples)]

    async def each(self) -> AsyncIterator[tuple[BenchmarkPrompt, list[bytes | None]]]:
        """All prompts with their images."""
        for prompt in self._frozen.prompts:
            yield prompt, await self.images(prompt)

    async def write(self, name: str, data: bytes | str) -> Path:
        """Write one file.

        Args:
            name: Relative to the folder.
            data: What it holds.

        Raises:
            DiskFullError: there is no space.
            StorageError: it cannot be written for another reason.
        """
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
        """Write one JSON file."""
        return await self.write(name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def done(self, *commands: Sequence[object] | str) -> Export:
        """The export, with what to run in the official repository; words in capitals are to be replaced."""
        languages = dict.fromkeys(prompt.language for prompt in self._frozen.prompts)
        return Export(
            folder=self.folder,
            commands=[_command_line(command) for command in commands],
            missing=self.missing,
            expected=sum(count_expected_samples(self._task, language) for language in languages),
        )


def _command_line(command: Sequence[object] | str) -> str:
    return command if isinstance(command, str) else shlex.join(str(word) for word in command)


def count_expected_samples(task: Task, language: str) -> int:
    """Samples that the whole benchmark has in a language."""
    return task.size[language] * task.samples_per_prompt


async def make_grid(images: Sequence[bytes | None], form: Literal["PNG", "WEBP"]) -> tuple[bytes, int]:
    """Pictures of one prompt side by side, and the width of a tile in pixels.

    Four stand in two rows of two, the first two above; one stands alone. Where one is None its place is
    black. All are brought to the size of the first.

    Args:
        images: PNG bytes: one or four, at least one of them there.
        form: Of what comes out; WebP without loss.
    """
    return await asyncio.to_thread(_make_grid, images, form)


def _make_grid(images: Sequence[bytes | None], form: Literal["PNG", "WEBP"]) -> tuple[bytes, int]:
    tiles = [None if image is None else opened(image).convert("RGB") for image in images]
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


def model_folder_name(frozen: SampleSet) -> str:
    """A name for what drew the samples, usable as a folder's."""
    row = next(iter(frozen.rows.values()), None)
    name = f"gems-{row.harness}" if row is not None else "gems"
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def all_or_none(images: Iterable[bytes | None]) -> list[bytes] | None:
    """All images; None where one is not there."""
    found = list(images)
    there = [image for image in found if image is not None]
    return there if len(there) == len(found) else None


async def check_square(images: Sequence[bytes], name: str) -> int:
    """The side in pixels of square images of one size.

    Args:
        images: PNG bytes.
        name: Of the prompt, for the message.

    Raises:
        RequestError: they are not square, or differ.
    """

    def sizes() -> set[tuple[int, int]]:
        return {opened(image).size for image in images}

    found = await asyncio.to_thread(sizes)
    width, height = next(iter(found))
    if len(found) > 1 or width != height:
        shown = ", ".join(f"{w}x{h}" for w, h in sorted(found))
        raise RequestError(
            f"The images of {name} are of {shown} pixels; the official scorer takes square ones of one size.",
            hint="Draw them with --size, for instance 1024x1024.",
        )
    return width
