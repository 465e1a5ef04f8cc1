"""Write a comparison as Markdown, CSV, plots, and one HTML page with images."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gems.errors import MissingExtraError
from gems.evals.comparison.sections import Section
from gems.evals.comparison.table import Table
from gems.evals.tables.page import SectionView, render_page
from gems.evals.tables.pictures import collect_images
from gems.evals.tables.plotting import plot_quality_against_cost
from gems.memory.sqlite import storage_error

PROMPTS_WITH_IMAGES = 12
"""Default number of prompts with images on the page."""


async def write_comparison(
    sections: Sequence[Section], folder: Path, pictures: int = PROMPTS_WITH_IMAGES
) -> tuple[list[Path], list[str]]:
    """Write all files; returns their paths and warnings about what was left out.

    `pictures` is the number of prompts per section with images on the page.
    """
    warnings: list[str] = []
    shown = [
        SectionView(section=each, plot=None, sides=await collect_images(each, pictures)) for each in sections
    ]
    try:
        plots = [await asyncio.to_thread(plot_quality_against_cost, each) for each in sections]
    except MissingExtraError as error:
        plots = [None] * len(sections)
        warnings.append(f"The plot is omitted: {error}")
    shown = [
        SectionView(section=each.section, plot=plot, sides=each.sides)
        for each, plot in zip(shown, plots, strict=True)
    ]
    texts = await asyncio.to_thread(_render_files, shown)
    return await asyncio.to_thread(_write_files, folder, texts), warnings


def _render_files(shown: Sequence[SectionView]) -> dict[str, bytes]:
    sections = [each.section for each in shown]
    found = {
        "compare.md": render_markdown(shown).encode(),
        "compare.csv": render_numbers_csv(sections).encode(),
        "pairs.csv": render_pairs_csv(sections).encode(),
        "compare.html": render_page(shown).encode(),
    }
    return found | {plot_file_name(each.section): each.plot for each in shown if each.plot is not None}


def write_tables(file: Path, tables: Sequence[Table]) -> None:
    """Write tables as Markdown. Blocking."""
    text = "\n\n".join(table.markdown() for table in tables)
    _write_files(file.parent, {file.name: f"{text}\n".encode()})


def _write_files(folder: Path, texts: dict[str, bytes]) -> list[Path]:
    paths = []
    for name, data in texts.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise storage_error(error, path) from error
        paths.append(path)
    return paths


def plot_file_name(section: Section) -> str:
    """Return the file name of a section's plot."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", f"{section.benchmark}-{section.language}-{section.judge}")
    return f"{plain.strip('-.')}.svg"


def render_markdown(shown: Sequence[SectionView]) -> str:
    """Render everything except the images."""
    parts = ["# Comparison of harnesses"]
    for each in shown:
        section = each.section
        parts.append(f"## {section.title} ({section.language}), scored by {section.judge}")
        parts.append("\n".join(f"- {' '.join(note.split())}" for note in section.notes))
        if each.plot is not None:
            parts.append(f"![Quality against images and tokens per sample]({plot_file_name(section)})")
        parts += [table.markdown() for table in section.tables]
    return "\n\n".join(parts) + "\n"


def render_numbers_csv(sections: Sequence[Section]) -> str:
    """Render one line per number: means with their intervals."""
    lines = (
        [
            record.benchmark,
            record.language,
            record.judge,
            record.entry,
            record.part,
            record.metric,
            record.mean.value,
            record.mean.low,
            record.mean.high,
            record.mean.prompts,
        ]
        for section in sections
        for record in section.records
    )
    names = ["benchmark", "language", "judge", "entry", "part", "metric", "mean", "low", "high", "prompts"]
    return _format_csv(names, lines)


def render_pairs_csv(sections: Sequence[Section]) -> str:
    """Render one line per pair of entries, for the whole benchmark and for each part."""
    lines = (
        [
            section.benchmark,
            section.language,
            section.judge,
            section.metric,
            pair.part,
            pair.first,
            pair.second,
            pair.comparison.difference.value,
            pair.comparison.difference.low,
            pair.comparison.difference.high,
            pair.comparison.difference.prompts,
            pair.comparison.better,
            pair.comparison.worse,
            pair.comparison.test,
            pair.comparison.p,
            pair.comparison.wilcoxon,
        ]
        for section in sections
        for pair in section.pairs
    )
    names = ["benchmark", "language", "judge", "metric", "part", "first", "second", "difference"]
    return _format_csv(
        [*names, "low", "high", "prompts", "better", "worse", "test", "p", "p_wilcoxon"], lines
    )


def _format_csv(names: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if cell is None else cell for cell in line] for line in lines)
    return out.getvalue()
