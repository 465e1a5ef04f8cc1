"""The paper's tables with own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gems.evals.comparison.entries import Entry, FolderData, group_entries
from gems.evals.comparison.sections import PARTIAL_NOTE, SeedMean, figures_by_name, judge_note
from gems.evals.comparison.table import Table
from gems.evals.judge import OFFICIAL

MAINSTREAM = ("geneval/en", "geneval2/en", "dpg/en", "oneig/en", "oneig/zh", "wise/en")
"""Benchmarks and languages of the mainstream average."""
DOWNSTREAM = ("longtext/en", "longtext/zh", "spatial/en", "crea/en", "artimuse/en")
"""Benchmarks and languages of the downstream average."""
_CREA_MAX = 30
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
ABLATION: Mapping[str, float] = {
    "original": 31.0,
    "loop": 52.4,
    "loop and memory": 61.4,
    "loop, memory and skills": 63.5,
}
"""GenEval2 with Z-Image-Turbo, in [0, 100]."""
PAPER_METHODS: Mapping[str, str] = {
    "single": "original",
    "rewrite": "rewrite",
    "best-of-n": "search (5)",
    "paper": "GEMS",
}
"""Harness -> method in the paper."""
_ABLATION_METHODS: Mapping[str, str] = {
    "single": "original",
    "paper-loop": "loop",
    "paper-no-skill": "loop and memory",
    "paper": "loop, memory and skills",
}
_PAPER_MODELS: Mapping[str, str] = {"z-image": "Z-Image-Turbo", "qwen-image": "Qwen-Image-2512"}
"""Substring of a generator spec -> model in the paper."""
_AVERAGE = "average"


def mainstream_average(values: Mapping[str, float]) -> float | None:
    """Return the mainstream average in [0, 100] of values on published scales; None if one is missing.

    Source: GEMS (arXiv:2603.28088), Table 1; its rows give this formula.
    """
    if not all(name in values for name in MAINSTREAM):
        return None
    oneig = 50 * (values["oneig/en"] + values["oneig/zh"])
    geneval, wise = 100 * values["geneval/en"], 100 * values["wise/en"]
    return (geneval + values["geneval2/en"] + values["dpg/en"] + oneig + wise) / 5


def downstream_average(values: Mapping[str, float]) -> float | None:
    """Return the downstream average in [0, 100] of values on published scales; None if one is missing.

    Source: GEMS (arXiv:2603.28088), Table 2; its rows give this formula.
    """
    if not all(name in values for name in DOWNSTREAM):
        return None
    longtext = 50 * (values["longtext/en"] + values["longtext/zh"])
    crea = 100 * values["crea/en"] / _CREA_MAX
    return (longtext + values["spatial/en"] + crea + values["artimuse/en"]) / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One row of both tables; values are by task and language, as in `COLUMN_TITLES`."""

    model: str
    method: str
    values: Mapping[str, float]
    mainstream: float
    """The printed average of Table 1."""
    downstream: float
    """The printed average of Table 2."""


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
    _paper_row(_QWEN, "Maestro (3)", ".76 48.0 84.07 .494 .489 .84 68.24", ".833 .792 61.0 17.78 61.62 65.78"),
    _paper_row(_QWEN, "CRAFT (5)", ".79 66.3 85.87 .533 .518 .79 72.54", ".897 .787 61.6 15.61 59.78 64.40"),
    _paper_row(_QWEN, "GEMS", ".79 70.4 85.59 .542 .532 .80 73.74", ".913 .931 62.1 24.01 62.89 74.31"),
)
"""Both tables; the number after a method is its maximum number of images per prompt."""


@dataclass(frozen=True, slots=True)
class _PaperTable:
    title: str
    columns: Sequence[str]
    average: Callable[[Mapping[str, float]], float | None]
    printed: Callable[[PaperRow], float]


_PAPER_TABLES = (
    _PaperTable("Table 1: mainstream", MAINSTREAM, mainstream_average, lambda row: row.mainstream),
    _PaperTable("Table 2: downstream", DOWNSTREAM, downstream_average, lambda row: row.downstream),
)


@dataclass(frozen=True, slots=True)
class OwnRow:
    """Results of one harness with its generator on all benchmarks, by one judge."""

    model: str
    harness: str
    label: str
    values: Mapping[str, SeedMean]


def paper_tables(folders: Sequence[FolderData]) -> list[Table]:
    """Build both tables and the ablation with official scores, then both tables per in-house judge.

    Without folders they hold the paper's numbers alone.
    """
    found = own_rows_by_judge(folders)
    official = found.pop(OFFICIAL, [])
    tables = [_official_table(half, official) for half in _PAPER_TABLES]
    tables.append(_ablation_table(official))
    entries = [entry for group in group_entries(folders).values() for entry in group]
    for judge, rows in found.items():
        judged = [entry for entry in entries if judge in _list_judges(entry)]
        note = f"{judge_note(judged, judge)} Not comparable with the paper's numbers."
        tables += [table for half in _PAPER_TABLES if (table := _inhouse_table(half, rows, judge, note))]
    return tables


def own_rows_by_judge(folders: Sequence[FolderData]) -> dict[str, list[OwnRow]]:
    """Return the main results by judge, of benchmarks that are in the paper."""
    groups: dict[str, dict[tuple[str, str], dict[str, SeedMean]]] = {}
    for benchmark, entries in group_entries(folders).items():
        for entry in entries:
            columns = (f"{benchmark}/{language}" for language in entry.settings.languages)
            for column in (name for name in columns if name in COLUMN_TITLES):
                for judge, value in _headlines(entry, column).items():
                    rows = groups.setdefault(judge, {})
                    rows.setdefault((_model_name(entry), entry.label), {})[column] = value
    return {
        judge: [OwnRow(model, label.partition(",")[0], label, values) for (model, label), values in rows.items()]
        for judge, rows in groups.items()
    }


def _headlines(entry: Entry, column: str) -> dict[str, SeedMean]:
    """Return the main result of a benchmark in one language, by judge."""
    benchmark, _, language = column.partition("/")
    found = {each: figures_by_name(entry, language, each).get(benchmark) for each in _list_judges(entry)}
    return {judge: value for judge, value in found.items() if value is not None}


def _list_judges(entry: Entry) -> list[str]:
    return list(dict.fromkeys(figure.judge for each in entry.folders for figure in each.figures))


def _model_name(entry: Entry) -> str:
    """Return the paper's name of a generator, or its spec if it is not in the paper."""
    spec = entry.settings.generator
    plain = spec.partition("@http")[0].lower().replace("_", "-")
    return next((name for part, name in _PAPER_MODELS.items() if part in plain), spec)


def _official_table(half: _PaperTable, official: Sequence[OwnRow]) -> Table:
    """Build the paper's rows, own results next to the same model and method, then all other own results."""
    columns = ["model", "method"]
    for name in half.columns:
        columns += [COLUMN_TITLES[name], "ours"]
    rows: list[list[str]] = []
    for model in dict.fromkeys([*(row.model for row in PAPER_ROWS), *(each.model for each in official)]):
        left = [each for each in official if each.model == model]
        for row in (row for row in PAPER_ROWS if row.model == model):
            own = [each for each in left if PAPER_METHODS.get(each.harness) == row.method]
            left = [each for each in left if each not in own]
            rows += [_merged_row(half, row, each) for each in own] or [_merged_row(half, row, None)]
        rows += [_merged_row(half, None, each) for each in left]
    partial = any(value.is_partial for each in official for value in each.values.values())
    return Table(
        title=f"{half.title}, by the official scorers",
        columns=[*columns, _AVERAGE, "ours"],
        rows=rows,
        notes=[PARTIAL_NOTE] if partial else [],
        names=2,
    )


def _merged_row(half: _PaperTable, printed: PaperRow | None, own: OwnRow | None) -> list[str]:
    methods = [printed.method if printed is not None else "", own.label if own is not None else ""]
    model = next(row.model for row in (printed, own) if row is not None)
    cells = [model, " / ".join(filter(None, methods))]
    for column in half.columns:
        cells += [_format_value(printed.values[column]) if printed else "", _own_cell(own, column)]
    return [*cells, _format_value(half.printed(printed)) if printed else "", _own_average(half, own)]


def _own_cell(own: OwnRow | None, column: str) -> str:
    value = own.values.get(column) if own is not None else None
    return "" if value is None else f"{_format_value(value.value)}{'*' if value.is_partial else ''}"


def _own_average(half: _PaperTable, own: OwnRow | None) -> str:
    """Return the average; empty until every benchmark of the table has a value."""
    values = {name: value.value for name, value in own.values.items()} if own is not None else {}
    average = half.average(values)
    if own is None or average is None:
        return ""
    partial = any(own.values[name].is_partial for name in half.columns)
    return f"{_format_value(average)}{'*' if partial else ''}"


def _inhouse_table(half: _PaperTable, rows: Sequence[OwnRow], judge: str, note: str) -> Table | None:
    shown_rows = [each for each in rows if any(name in each.values for name in half.columns)]
    if not shown_rows:
        return None
    shown = [each.values[name] for each in shown_rows for name in half.columns if name in each.values]
    return Table(
        title=f"{half.title}, in house by {judge}",
        columns=["model", "harness", *(COLUMN_TITLES[name] for name in half.columns), _AVERAGE],
        rows=[
            [*(each.model, each.label), *(_own_cell(each, name) for name in half.columns), _own_average(half, each)]
            for each in shown_rows
        ],
        notes=[note, *([PARTIAL_NOTE] if any(value.is_partial for value in shown) else [])],
        names=2,
    )


def _ablation_table(official: Sequence[OwnRow]) -> Table:
    column, model = "geneval2/en", next(iter(_PAPER_MODELS.values()))
    rows = []
    for method, value in ABLATION.items():
        own = [each for each in official if each.model == model and _ABLATION_METHODS.get(each.harness) == method]
        rows.append([method, _format_value(value), ", ".join(_own_cell(each, column) for each in own) or ""])
    return Table(
        title=f"Ablation of memory and skills: {COLUMN_TITLES[column]} with {model}, by the official scorer",
        columns=["method", "paper", "ours"],
        rows=rows,
    )


def _format_value(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
