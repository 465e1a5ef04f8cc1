"""Quality against cost as one picture: what each harness reaches, and how many images it takes for that."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from gems.errors import MissingExtraError
from gems.evals.tables.comparing import Section
from gems.evals.tables.measuring import Measured
from gems.evals.tables.statistics import Mean

# Told apart by people who see colours differently too (Okabe and Ito), and by the marks.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


def quality_against_cost(section: Section) -> bytes | None:
    """The picture as SVG: images per sample to the right, the main metric upwards. Blocking.

    None where fewer than two entries have both.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    points = [(each, each.images, each.quality) for each in section.measured]
    known = [(each, images, quality) for each, images, quality in points if images and quality]
    return _drawn(section, known) if len(known) > 1 else None


def _drawn(section: Section, points: Sequence[tuple[Measured, Mean, Mean]]) -> bytes:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("The plot", "bench") from error
    times = 100 if section.scale.percent else 1
    # The same numbers give the same file; letters stay letters.
    settings: Any = {
        # Names of models are no formulas.
        "text.parse_math": False,
        "svg.hashsalt": "compare",
        "svg.fonttype": "none",
        "font.size": 10,
        "font.family": "sans-serif",
    }
    with mpl.rc_context(settings):
        chart = Figure(figsize=(7.6, 4.6), layout="constrained")
        axes = chart.add_subplot()
        for index, (each, images, quality) in enumerate(points):
            axes.errorbar(
                images.value,
                times * quality.value,
                xerr=_arms(images, 1),
                yerr=_arms(quality, times),
                fmt=_MARKS[index % len(_MARKS)],
                color=_COLOURS[index % len(_COLOURS)],
                ms=7,
                lw=1,
                capsize=2,
                label=f"{each.entry.label}  {section.scale.number(quality.value)}",
            )
        unit = ", %" if section.scale.percent else ""
        axes.set(xlabel="images per sample", ylabel=f"{section.metric}{unit}", title=_title(section))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
        out = io.BytesIO()
        FigureCanvasSVG(chart).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue()


def _arms(mean: Mean, times: float) -> list[list[float]] | None:
    """How far an interval reaches to both sides."""
    if mean.low is None or mean.high is None:
        return None
    return [[times * (mean.value - mean.low)], [times * (mean.high - mean.value)]]


def _title(section: Section) -> str:
    return f"{section.title} ({section.language}), scored by {section.judge}"
