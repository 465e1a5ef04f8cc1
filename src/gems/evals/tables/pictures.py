"""Images of the harnesses side by side, starting with the prompts that differ most."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gems.errors import ImageMissingError
from gems.evals.comparison.entries import FolderData
from gems.evals.comparison.sections import Measured, Section
from gems.evals.records import SampleKey, SampleRow
from gems.reporting.templates import Thumbnail, make_thumbnail

_THUMBNAIL_SIDE = 220
"""Longest side in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCell:
    """One image with its score."""

    label: str
    picture: Thumbnail
    value: str
    images: int
    why: str
    """The explanation of the judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptImages:
    """One prompt with the images of all entries."""

    prompt: str
    prompt_id: str
    cells: Sequence[ImageCell]


async def collect_images(section: Section, most: int) -> list[PromptImages]:
    """Return the first sample of each entry's first seed, for at most `most` prompts."""
    return [await _prompt_images(section, prompt) for prompt in _most_different(section)[:most]]


def _most_different(section: Section) -> list[str]:
    """Return the prompts with scores of several entries, the most different first."""
    values: dict[str, list[float]] = {}
    for each in section.measured:
        for prompt, value in each.values.items():
            values.setdefault(prompt, []).append(value)
    shared = [prompt for prompt, found in values.items() if len(found) > 1] or list(values)
    return sorted(shared, key=lambda prompt: (min(values[prompt]) - max(values[prompt]), prompt))


async def _prompt_images(section: Section, prompt_id: str) -> PromptImages:
    key = SampleKey(section.benchmark, section.language, prompt_id, 0)
    cells = [await _image_cell(section, each, key) for each in section.measured]
    rows = (each.entry.folders[0].rows.get(key) for each in section.measured)
    text = next((row.prompt for row in rows if row is not None), "")
    return PromptImages(prompt=text, prompt_id=prompt_id, cells=cells)


async def _image_cell(section: Section, each: Measured, key: SampleKey) -> ImageCell:
    drawn = each.entry.folders[0]
    row = drawn.rows.get(key)
    score = next(
        (s for s in drawn.scores.get(section.judge, ()) if (s.key, s.metric) == (key, section.metric)), None
    )
    return ImageCell(
        label=each.entry.label,
        picture=await _load_picture(drawn, row),
        value=f"{section.scale.number(score.value)}{' %' if section.scale.percent else ''}" if score else "",
        images=row.images if row else 0,
        why=score.explanation if score else "",
    )


async def _load_picture(drawn: FolderData, row: SampleRow | None) -> Thumbnail:
    if row is None:
        return Thumbnail(why="Not generated.")
    try:
        png = await drawn.folder.image(row)
    except ImageMissingError as error:
        return Thumbnail(why=error.message)
    return await asyncio.to_thread(make_thumbnail, png, _THUMBNAIL_SIDE)
