"""Read the official results of OneIG: two tables per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from gems.errors import DataError
from gems.evals.benchmarks.metrics import Figures
from gems.evals.benchmarks.oneig_scoring import DIMENSIONS, oneig_score
from gems.evals.data import read_csv
from gems.evals.judge import OFFICIAL
from gems.evals.records import Figure

_SCORE_COLUMNS = {
    "alignment": "alignment",
    "text": "text score",
    "reasoning": "reasoning",
    "style": "style",
    "diversity": "total average",
}
_TILES_PER_PROMPT = 4
_ONE_MODEL_HINT = "Use a separate results folder for each model."


class _AnyRow(BaseModel):
    """A row of a table whose columns are named after models."""


def read_official_figures(folder: Path, language: str, expected: Mapping[str, int]) -> list[Figure]:
    """Read the figures of a `results` folder; `expected` holds the images of each dimension.

    Raises `DataError` if there is no result, a table is invalid, or it covers several models.
    """
    figure = Figures(benchmark="oneig", language=language, judge=OFFICIAL)
    values, parts, counts = {}, [], {}
    for dimension in DIMENSIONS:
        table = _find_newest(folder, f"{dimension}_score_{language.upper()}")
        if table is None:
            parts.append(figure(f"oneig/{dimension}", None, 0, expected[dimension]))
            continue
        values[dimension] = _read_value(table, _SCORE_COLUMNS[dimension])
        prompts = table.with_name(table.name.replace("_score_", "_prompt_score_", 1))
        counts[dimension] = _count_scored(prompts) * _TILES_PER_PROMPT
        parts.append(figure(f"oneig/{dimension}", values[dimension], counts[dimension], expected[dimension]))
    if not values:
        raise DataError(f"{folder} contains no results such as alignment_score_{language.upper()}_TIME.csv.")
    # Diversity covers every prompt.
    return [figure("oneig", oneig_score(values), counts.get("diversity", 0), expected["diversity"]), *parts]


def _find_newest(folder: Path, name: str) -> Path | None:
    """Return the newest table with this name; file names end in the time."""
    found = sorted([*folder.glob(f"{name}.csv"), *folder.glob(f"{name}_*.csv")])
    return found[-1] if found else None


def _read_value(path: Path, column: str) -> float:
    entries = read_csv(path, _AnyRow, [column])
    if len(entries) != 1:
        raise DataError(f"{path} has {len(entries)} models.", hint=_ONE_MODEL_HINT)
    return _parse_finite(path, entries[0].raw[column])


def _count_scored(path: Path) -> int:
    """Count the prompts with a score."""
    if not path.is_file():
        raise DataError(f"{path} is missing, so the number of scored prompts is unknown.")
    entries = read_csv(path, _AnyRow, ())
    values = [list(entry.raw.values())[1:] for entry in entries]
    if any(len(each) != 1 for each in values):
        raise DataError(f"{path} covers several models.", hint=_ONE_MODEL_HINT)
    return sum(each[0].strip() not in ("", "nan", "None") for each in values)


def _parse_finite(path: Path, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: {text!r} is not a number.")
    return value
