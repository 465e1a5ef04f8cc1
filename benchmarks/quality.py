"""What each image is worth under a judge that errs: `python -m benchmarks.quality [--quick] [--out FILE]`.

A simulation without models, on prompts whose truth is known; `simulation/world.py` says how that world is
made. Single shot, best of N, the paper's loop and this product's loop draw the same number of images on the
same luck. What counts is the truth about the image that is handed back, never the judge's word. The product's
part is played by its own nodes, not by a copy of their rules.

With `--out FILE` the figures are written as JSON beside the table, with `--draw FOLDER` the curves of
docs/policy.md are drawn (this takes the extra `bench`). All of it takes about six minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._results import write
from benchmarks.simulation import choices
from benchmarks.simulation.measuring import POLICIES, compared, within_bounds
from benchmarks.simulation.world import Errors, Nature

RATES = (0.0, 0.05, 0.10)
CORRELATIONS = (0.0, 0.5)
KINDER = Nature(easiness=3.2, spread=2.6, gain=0.45)
"""Another world, in which refinement helps nearly every prompt: what is tuned to one may not fit another."""
NAMES = {"single": "single shot", "best_of": "best of N", "paper": "paper's loop", "ours": "ours"}


def measured(prompts: int, workers: int, *, quick: bool) -> dict[str, Any]:
    """All figures."""
    started = time.perf_counter()
    settings = [
        Errors(rate, rate, correlation) for correlation in CORRELATIONS for rate in RATES if rate or not correlation
    ]
    figures: dict[str, Any] = {
        "compared": [compared(errors, prompts, workers) for errors in settings],
        "kinder": compared(Errors(0.05, 0.05), prompts, workers, KINDER),
    }
    if not quick:
        fewer = max(1, prompts // 2)
        figures |= {
            "rules": choices.rules(max(1, prompts // 4), workers),
            "looks": choices.looks(prompts, workers),
            "candidates": choices.candidates(fewer, workers),
            "patience": choices.patience(fewer, workers),
            "uneven": choices.uneven(fewer, workers),
        }
    usual = next(found for found in figures["compared"] if found["false_yes"] == 0.05)
    return {
        "prompts": prompts,
        "within_bounds": within_bounds(usual["cells"]),
        **figures,
        "seconds": round(time.perf_counter() - started, 1),
    }


def rounded(value: Any) -> Any:
    """The figures with no more digits than mean something."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


def share(figures: dict[str, Any], name: str) -> str:
    """A share in percent with its interval."""
    low, high = figures[f"{name}_interval"]
    return f"{100 * figures[name]:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def main_table(found: dict[str, Any]) -> Table:
    """All policies under one judge."""
    title = f"The judge errs {found['false_yes']:.0%} of the time"
    if found["correlation"]:
        title += f", and again in the same way {found['correlation']:.0%} of the time"
    table = Table(title=title)
    for name in ("images at most", "policy", "fully met", "false 'passed'", "of all passed", "images", "calls"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for cell in found["cells"]:
        for policy in POLICIES:
            if (policy == "single" and cell["budget"] > 1) or (policy == "best_of" and cell["budget"] == 1):
                continue
            each = cell[policy]
            table.add_row(
                str(cell["budget"]),
                NAMES[policy],
                share(each, "met"),
                share(each, "false_passed"),
                share(each, "false_of_passed"),
                f"{each['images']:.2f}",
                f"{each['calls']:.1f}",
                end_section=policy == "ours",
            )
    return table


def choice_table(title: str, rows: list[dict[str, Any]], names: dict[str, str]) -> Table:
    """What one choice is worth."""
    table = Table(title=title)
    for label in (*names.values(), "fully met", "false 'passed'", "images", "calls"):
        table.add_column(label, justify="right")
    for row in rows:
        table.add_row(
            *(str(row[name]) for name in names),
            share(row, "met"),
            share(row, "false_passed"),
            f"{row['images']:.2f}",
            f"{row['calls']:.1f}",
        )
    return table


def gained(row: dict[str, Any], name: str) -> str:
    """A difference in percentage points with its interval; empty where nothing is compared."""
    if name not in row:
        return ""
    low, high = row[f"{name}_interval"]
    return f"{100 * row[name]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def rules_page(rows: list[dict[str, Any]], world: str, errs: str) -> str:
    """The table of docs/policy.md for one world and judge, in Markdown."""
    lines = [
        '| rules | fully met | more met | more than by redrawing | false "passed" | images | questions |',
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if (row["world"], row["errs"]) == (world, errs):
            more = "" if row["rules"] == "none" else gained(row, "more_met")
            cells = [row["rules"], f"{100 * row['met']:.1f} %", more, gained(row, "over_redrawing")]
            cells += [f"{100 * row['false_passed']:.1f} %", f"{row['images']:.2f}", f"{row['calls']:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rules_table(rows: list[dict[str, Any]]) -> Table:
    """What the rules are worth."""
    table = Table(title="Rules, against five rounds without them on the same prompts")
    for label in ("world", "judge errs", "rules"):
        table.add_column(label)
    for label in ("fully met", "more met", "than redrawing", "false 'passed'", "images", "calls"):
        table.add_column(label, justify="right")
    for row in rows:
        more = "" if row["rules"] == "none" else gained(row, "more_met")
        names = (row["world"], row["errs"], row["rules"])
        numbers = (f"{100 * row['met']:.1f} %", more, gained(row, "over_redrawing"), share(row, "false_passed"))
        table.add_row(*names, *numbers, f"{row['images']:.2f}", f"{row['calls']:.1f}")
    return table


CHOICES = {
    "looks": ("Noes asked about again, five rounds", {"doubted": "noes", "correlation": "correlation"}),
    "candidates": ("Candidates per round", {"budget": "images at most", "candidates": "candidates"}),
    "patience": ("Rounds without progress, twelve at most", {"plateau": "plateau"}),
    "uneven": (
        "A judge that errs unevenly, five rounds",
        {"policy": "policy", "false_yes": "false yes", "false_no": "false no"},
    ),
}


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=130)
    for found in figures["compared"]:
        console.print(main_table(found))
    console.print("The same in a kinder world:")
    console.print(main_table(figures["kinder"]))
    if "rules" in figures:
        console.print(rules_table(figures["rules"]))
    for name, (title, columns) in CHOICES.items():
        if name in figures:
            console.print(choice_table(title, figures[name], columns))
    console.print(
        f"{figures['prompts']:,} prompts, {figures['seconds']:.0f} s. At 5 %, a third of the paper's false "
        f"'passed' at most and its share fully met at least, at every budget: "
        f"{'yes' if figures['within_bounds'] else 'NO'}"
    )


def main() -> None:
    """Measure, print tables, and write or draw them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=None, help="write JSON to this file")
    parser.add_argument("--draw", type=Path, default=None, help="draw the curves into this folder")
    parser.add_argument("--prompts", type=int, default=None, help="how many prompts; 2,000 by default")
    parser.add_argument("--quick", action="store_true", help="100 prompts, and the comparison only")
    parser.add_argument("--only-rules", action="store_true", help="measure the rules again; --out keeps the rest")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    # Every run without a better prompt warns; here that is no news.
    logging.disable(logging.CRITICAL)
    prompts = options.prompts or (100 if options.quick else 2_000)
    if options.only_rules:
        figures = json.loads(options.out.read_text(encoding="utf-8"))["tables"] if options.out else {}
        figures["rules"] = choices.rules(max(1, prompts // 4), options.workers)
        Console(width=150).print(rules_table(figures["rules"]))
    else:
        figures = measured(prompts, options.workers, quick=options.quick)
        show(figures)
    if options.out is not None:
        write(options.out, "quality", rounded(figures))
    if options.draw is not None:
        from benchmarks.simulation.drawing import draw  # noqa: PLC0415 - matplotlib is needed for nothing else

        draw(figures, options.draw)


if __name__ == "__main__":
    main()
