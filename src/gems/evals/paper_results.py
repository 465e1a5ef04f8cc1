"""The results that the paper reports.

Source: GEMS (arXiv:2603.28088), Tables 1 and 2 and its ablation on GenEval2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gems.evals.formulas.paper import DOWNSTREAM, MAINSTREAM

COLUMN_TITLES: Mapping[str, str] = {
    "geneval/en": "GenEval",
    "geneval2/en": "GenEval2",
    "dpg/en": "DPG-Bench",
    "oneig/en": "OneIG-EN",
    "oneig/zh": "OneIG-ZH",
    "wise/en": "WISE",
    "longtext/en": "LongText-EN",
    "longtext/zh": "LongText-ZH",
    "spatial/en": "SpatialGenEval",
    "crea/en": "CREA",
    "artimuse/en": "ArtiMuse",
}
"""Column headings by task and language; values are on the published scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One row of both tables.

    Attributes:
        model: The image generator.
        method: The method.
        values: By task and language, as in `COLUMN_TITLES`.
        mainstream: The printed average of Table 1.
        downstream: The printed average of Table 2.
    """

    model: str
    method: str
    values: Mapping[str, float]
    mainstream: float
    downstream: float


def _paper_row(model: str, method: str, first: str, second: str) -> PaperRow:
    *mainstream, average = (float(value) for value in first.split())
    *downstream, other = (float(value) for value in second.split())
    values = dict(zip((*MAINSTREAM, *DOWNSTREAM), (*mainstream, *downstream), strict=True))
    return PaperRow(model=model, method=method, values=values, mainstream=average, downstream=other)


_Z, _QWEN = "Z-Image-Turbo", "Qwen-Image-2512"
PAPER_ROWS = (
    _paper_row(_Z, "original", ".77 31.0 85.08 .526 .501 .57 60.29", ".912 .932 58.7 11.84 43.27 58.41"),
    _paper_row(_Z, "rewrite", ".77 39.7 84.48 .520 .469 .84 66.93", ".571 .495 59.6 16.75 57.86 56.65"),
    _paper_row(_Z, "Promptist", ".76 32.3 65.69 .333 .327 .54 52.20", ".034 .070 48.3 14.00 43.74 35.98"),
    _paper_row(_Z, "search (5)", ".81 43.5 85.47 .530 .506 .61 64.55", ".918 .937 59.3 12.98 44.21 59.88"),
    _paper_row(_Z, "Maestro (3)", ".82 44.6 85.29 .548 .519 .85 70.05", ".877 .807 60.3 15.81 56.86 63.52"),
    _paper_row(_Z, "CRAFT (5)", ".80 62.4 85.29 .582 .542 .78 72.38", ".951 .760 60.6 13.63 54.95 61.63"),
    _paper_row(_Z, "GEMS", ".86 63.5 86.01 .569 .552 .81 74.51", ".952 .940 61.4 22.55 58.58 72.44"),
    _paper_row(_QWEN, "original", ".66 29.0 84.69 .487 .489 .59 57.50", ".854 .892 60.0 17.45 59.94 66.35"),
    _paper_row(_QWEN, "rewrite", ".68 39.8 83.49 .465 .435 .81 63.46", ".563 .468 60.3 18.12 62.23 58.62"),
    _paper_row(_QWEN, "Promptist", ".66 27.4 64.02 .288 .307 .57 48.83", ".030 .058 48.7 18.35 60.65 43.73"),
    _paper_row(_QWEN, "search (5)", ".74 42.1 86.17 .502 .497 .67 63.84", ".883 .907 60.6 18.71 59.96 68.11"),
    _paper_row(
        _QWEN, "Maestro (3)", ".76 48.0 84.07 .494 .489 .84 68.24", ".833 .792 61.0 17.78 61.62 65.78"
    ),
    _paper_row(_QWEN, "CRAFT (5)", ".79 66.3 85.87 .533 .518 .79 72.54", ".897 .787 61.6 15.61 59.78 64.40"),
    _paper_row(_QWEN, "GEMS", ".79 70.4 85.59 .542 .532 .80 73.74", ".913 .931 62.1 24.01 62.89 74.31"),
)
"""Both tables; the number after a method is its maximum number of images per prompt."""

ABLATION: Mapping[str, float] = {
    "original": 31.0,
    "loop": 52.4,
    "loop and memory": 61.4,
    "loop, memory and skills": 63.5,
}
"""GenEval2 with Z-Image-Turbo, in [0, 100]."""
