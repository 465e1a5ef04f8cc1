"""Markdown, CSV, HTML, plots."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gems._version import __version__
from gems.errors import ImageMissingError, MissingExtraError
from gems.evals.comparison.entries import FolderData, cost_by_prompt
from gems.evals.comparison.sections import Measured, Section
from gems.evals.comparison.statistics import Mean, mean_over_prompts
from gems.evals.comparison.table import Table
from gems.evals.records import SampleKey, SampleRow
from gems.memory.sqlite import storage_error
from gems.reporting.templates import Thumbnail, environment, make_thumbnail, policy_hash

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THUMBNAIL_SIDE = 220
"""Longest side in pixels."""
# Okabe and Ito's palette for colour blindness; the markers differ too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#000000")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_PLOTTED_COSTS: Mapping[str, Callable[[SampleRow], float]] = {
    "images per sample": lambda row: row.images,
    "tokens per sample": lambda row: row.input_tokens + row.output_tokens,
}
PROMPTS_WITH_IMAGES = 12
"""Default number of prompts with images on the page."""


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
    rows = [each.entry.folders[0].rows.get(key) for each in section.measured]
    return PromptImages(
        prompt=next((row.prompt for row in rows if row is not None), ""),
        prompt_id=prompt_id,
        cells=[await _image_cell(section, each, key) for each in section.measured],
    )


async def _image_cell(section: Section, each: Measured, key: SampleKey) -> ImageCell:
    drawn = each.entry.folders[0]
    row = drawn.rows.get(key)
    score = next((s for s in drawn.scores.get(section.judge, ()) if (s.key, s.metric) == (key, section.metric)), None)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionView:
    """A section with its plot (SVG or None) and its prompts with images."""

    section: Section
    plot: bytes | None
    sides: Sequence[PromptImages]

    @property
    def plot_url(self) -> str:
        """The plot as a data URL: as an image it can neither load nor run anything."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.plot).decode()}" if self.plot else ""


def render_page(shown: Sequence[SectionView]) -> str:
    """Render the page; texts of prompts and judges are escaped. Blocking."""
    style = files("gems.evals.comparison").joinpath("compare.css").read_text(encoding="utf-8")
    page = environment("gems.evals.comparison").get_template("compare.html.jinja")
    # The style is from this package; everything else on the page is data.
    safe = Markup(style)  # noqa: S704
    return page.render(version=__version__, style=safe, style_hash=policy_hash(style), shown=shown)


def plot_quality_against_cost(section: Section) -> bytes | None:
    """Plot the main metric against images and tokens per sample as SVG. Blocking.

    Returns None for fewer than two scored entries. Raises `MissingExtraError` if matplotlib is missing.
    """
    entries = [each for each in section.measured if each.quality is not None and each.images is not None]
    if len(entries) < 2:
        return None
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("The plot", "bench") from error
    settings: Any = {
        # Model names are not formulas.
        "text.parse_math": False,
        # Reproducible files with real text.
        "svg.hashsalt": "compare",
        "svg.fonttype": "none",
        "font.size": 10,
        "font.family": "sans-serif",
    }
    with mpl.rc_context(settings):
        chart = Figure(figsize=(9.6, 4.8), layout="constrained")
        panels = chart.subplots(1, len(_PLOTTED_COSTS), sharey=True)
        for axes, (name, of) in zip(panels, _PLOTTED_COSTS.items(), strict=True):
            _plot_panel(axes, section, entries, of)
            axes.set_xlabel(name)
        panels[0].set_ylabel(f"{section.metric}{', %' if section.scale.percent else ''}")
        chart.suptitle(section.heading)
        handles, labels = panels[0].get_legend_handles_labels()
        chart.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        out = io.BytesIO()
        FigureCanvasSVG(chart).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue()


def _plot_panel(axes: Axes, section: Section, entries: Sequence[Measured], of: Callable[[SampleRow], float]) -> None:
    times = 100 if section.scale.percent else 1
    for index, each in enumerate(entries):
        cost = mean_over_prompts(cost_by_prompt(each.entry.rows(section.language), of))
        if each.quality is None or cost is None:
            continue
        axes.errorbar(
            cost.value,
            times * each.quality.value,
            xerr=_error_bars(cost, 1),
            yerr=_error_bars(each.quality, times),
            fmt=_MARKS[index % len(_MARKS)],
            color=_COLOURS[index % len(_COLOURS)],
            ms=7,
            lw=1,
            capsize=2,
            label=f"{each.entry.label}  {section.scale.number(each.quality.value)}",
        )
    # Leave room for a marker at 0.
    right = axes.get_xlim()[1]
    axes.set_xlim(-0.03 * right, right)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _error_bars(mean: Mean, times: float) -> list[list[float]] | None:
    """Return the distances from the mean to both ends of the interval."""
    if mean.low is None or mean.high is None:
        return None
    return [[times * (mean.value - mean.low)], [times * (mean.high - mean.value)]]


async def write_comparison(
    sections: Sequence[Section], folder: Path, pictures: int = PROMPTS_WITH_IMAGES
) -> tuple[list[Path], list[str]]:
    """Write all files; returns their paths and warnings about what was left out.

    `pictures` is the number of prompts per section with images on the page.
    """
    warnings: list[str] = []
    plots: list[bytes | None] = [None] * len(sections)
    try:
        plots = [await asyncio.to_thread(plot_quality_against_cost, each) for each in sections]
    except MissingExtraError as error:
        warnings.append(f"The plot is omitted: {error}")
    shown = [
        SectionView(section=each, plot=plot, sides=await collect_images(each, pictures))
        for each, plot in zip(sections, plots, strict=True)
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
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(section.key))
    return f"{plain.strip('-.')}.svg"


def render_markdown(shown: Sequence[SectionView]) -> str:
    """Render everything except the images."""
    parts = ["# Comparison of harnesses"]
    for each in shown:
        section = each.section
        parts.append(f"## {section.heading}")
        parts.append("\n".join(f"- {' '.join(note.split())}" for note in section.notes))
        if each.plot is not None:
            parts.append(f"![Quality against images and tokens per sample]({plot_file_name(section)})")
        parts += [table.markdown() for table in section.tables]
    return "\n\n".join(parts) + "\n"


def render_numbers_csv(sections: Sequence[Section]) -> str:
    """Render one line per number: means with their intervals."""
    lines = (
        [*section.key, record.entry, record.part, record.metric, *astuple(record.mean)]
        for section in sections
        for record in section.records
    )
    names = ["benchmark", "language", "judge", "entry", "part", "metric", "mean", "low", "high", "prompts"]
    return _format_csv(names, lines)


def render_pairs_csv(sections: Sequence[Section]) -> str:
    """Render one line per pair of entries, for the whole benchmark and for each part."""
    lines = (
        [
            *(*section.key, section.metric, pair.part, pair.first, pair.second),
            *(*astuple(pair.comparison.difference), *astuple(pair.comparison)[1:]),
        ]
        for section in sections
        for pair in section.pairs
    )
    names = ["benchmark", "language", "judge", "metric", "part", "first", "second", "difference"]
    return _format_csv([*names, "low", "high", "prompts", "better", "worse", "test", "p", "p_wilcoxon"], lines)


def _format_csv(names: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if cell is None else cell for cell in line] for line in lines)
    return out.getvalue()
