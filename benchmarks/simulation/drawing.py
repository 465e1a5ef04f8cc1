"""The curves of docs/policy.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

_LINES = {
    "single": ("single shot", "#999999", "x"),
    "best_of": ("best of N", "#c58b00", "^"),
    "paper": ("the paper's loop", "#c2413b", "s"),
    "ours": ("balanced", "#1f6fb2", "o"),
}


def draw(figures: dict[str, Any], folder: Path) -> None:
    """Write `policy-curves.svg`: shares by number of images, a column for each rate of errors."""
    # The same figures give the same file.
    settings = {"svg.hashsalt": "policy", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    rates = sorted({found["false_yes"] for found in figures["compared"]})
    with plt.rc_context(settings):
        chart, axes = plt.subplots(2, len(rates), figsize=(10, 6), sharex=True, sharey="row", squeeze=False)
        for column, rate in enumerate(rates):
            axes[0][column].set_title(f"The judge errs {rate:.0%} of the time")
            axes[1][column].set_xlabel("images at most")
            for found in figures["compared"]:
                if found["false_yes"] == rate:
                    _curves(axes[0][column], found, "met")
                    _curves(axes[1][column], found, "false_passed")
        axes[0][0].set_ylabel("prompts fully met, %")
        axes[1][0].set_ylabel("false 'passed', % of prompts")
        axes[1][0].set_ylim(bottom=0)
        handles, labels = axes[0][-1].get_legend_handles_labels()
        chart.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
        chart.tight_layout(rect=(0, 0.09, 1, 1))
        folder.mkdir(parents=True, exist_ok=True)
        chart.savefig(folder / "policy-curves.svg", metadata={"Date": None}, facecolor="white")
        plt.close(chart)


def _curves(axes: Axes, found: dict[str, Any], name: str) -> None:
    again = found["correlation"]
    budgets = [cell["budget"] for cell in found["cells"]]
    for policy, (label, colour, marker) in _LINES.items():
        if again and policy not in ("paper", "ours"):
            continue
        each = [cell[policy] for cell in found["cells"]]
        shares = [100 * figures[name] for figures in each]
        told = f"{label}, mistakes repeated" if again else label
        axes.plot(budgets, shares, "--" if again else "-", color=colour, marker=marker, ms=4, lw=1.4, label=told)
        if not again:
            low, high = zip(*(figures[f"{name}_interval"] for figures in each), strict=True)
            axes.fill_between(budgets, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.15)
    axes.grid(alpha=0.25)
