"""Plot quality against cost."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gems.errors import MissingExtraError
from gems.evals.comparison.entries import cost_by_prompt
from gems.evals.comparison.sections import Measured, Section
from gems.evals.comparison.statistics import Mean, mean_with_interval
from gems.evals.records import SampleRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette for colour blindness; the markers differ too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#000000")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_PLOTTED_COSTS: Mapping[str, Callable[[SampleRow], float]] = {
    "images per sample": lambda row: row.images,
    "tokens per sample": lambda row: row.input_tokens + row.output_tokens,
}


def plot_quality_against_cost(section: Section) -> bytes | None:
    """Plot the main metric against images and tokens per sample as SVG. Blocking.

    Returns None for fewer than two scored entries. Raises `MissingExtraError` if matplotlib is missing.
    """
    known = [each for each in section.measured if each.quality is not None and each.images is not None]
    return _render_plot(section, known) if len(known) > 1 else None


def _render_plot(section: Section, entries: Sequence[Measured]) -> bytes:
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
        chart.suptitle(f"{section.title} ({section.language}), scored by {section.judge}")
        handles, labels = panels[0].get_legend_handles_labels()
        chart.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        out = io.BytesIO()
        FigureCanvasSVG(chart).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue()


def _plot_panel(
    axes: Axes, section: Section, entries: Sequence[Measured], of: Callable[[SampleRow], float]
) -> None:
    times = 100 if section.scale.percent else 1
    for index, each in enumerate(entries):
        costs = cost_by_prompt(each.entry.rows(section.language), of)
        if each.quality is None or not costs:
            continue
        cost = mean_with_interval(list(costs.values()))
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
