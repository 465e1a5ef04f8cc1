"""Tables of runs and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from rich.tree import Tree

from gems.apps.cli.display import Marks
from gems.apps.cli.eval_commands import ComparisonResult
from gems.apps.doctor import Check
from gems.apps.text import clean_text, format_skill_use, format_usage, one_line, pluralize, verdict_line
from gems.evals.comparison.table import NONE, Table, format_coverage
from gems.evals.official import EvalExport
from gems.evals.records import Figure
from gems.evals.scoring import ScoreReport, Unscored
from gems.memory.retrieval import format_lesson
from gems.nodes.checklist import is_verified
from gems.reporting.trajectory import Branch, build_tree, by_number, describe_round, has_branches
from gems.results import RunResult
from gems.types import Answer, RunRow

_NARROW = 24
_CHECKED = {"ok": "green", "failed": "bold red", "skipped": "yellow", "missing": "dim"}
_LISTED = 10
_WIDE = 400
"""Width for files and pipes, so that lines are not wrapped."""
_STYLES = {"done": "green", "running": "cyan", "interrupted": "yellow", "failed": "red"}


def print_runs(rows: list[RunRow]) -> None:
    """Print one line per run; on a narrow terminal the prompt gets its own line."""
    console = _console()
    heading = f"{'run':<22}  {'started':<11}  {'status':<11}  {'score':>5}  {'stop reason':<11}  {'rounds':>6}"
    room = console.width - len(heading) - 2 if console.is_terminal else 60
    is_narrow = room < _NARROW
    _print(console, Text(heading if is_narrow else f"{heading}  prompt", style="dim"))
    for row in rows:
        prompt = one_line(row["prompt"], console.width - 2 if is_narrow else room)
        style = "dim" if is_narrow else ""
        _print(console, _run_line(row).append("\n  " if is_narrow else "  ").append(prompt, style=style))


def print_details(result: RunResult, path_of: Callable[[str], Path]) -> None:
    """Print all details of a run."""
    console = _console()
    marks = Marks(console.encoding)
    experiences = {experience["round"]: experience["text"] for experience in result.experiences}
    lessons = {given["round"]: given["lessons"] for given in result.recalls}
    _print(console, *_run_heading(result, path_of))
    roots = build_tree(result.rounds)
    branches = by_number(roots)
    if has_branches(result.rounds):
        tree = Tree(Text("trajectory", style="dim"))
        _grow(tree, roots, result)
        console.print(tree)
    for turn in result.rounds:
        _print(console, Text(), *_round_lines(branches[turn["number"]], result, path_of, marks))
        known = [("lesson", format_lesson(lesson)) for lesson in lessons.get(turn["number"], ())]
        if turn["number"] in experiences:
            known.append(("experience", experiences[turn["number"]]))
        _print(console, *(_field(name, text, indent=2) for name, text in known))
    _print(console, Text(), *_run_footer(result))


def print_check(check: Check) -> None:
    """Print a check, and its hint on a second line."""
    line = Text.assemble((f"{check.status:<7}", _CHECKED[check.status]), f"  {check.name}")
    if check.detail:
        line.append(f": {one_line(check.detail)}")
    if check.hint:
        style = "dim" if check.status == "missing" else "yellow"
        line.append(f"\n         {one_line(check.hint)}", style=style)
    console = _console()
    console.print(line, soft_wrap=not console.is_terminal)


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def _print(console: Console, *lines: Text) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _run_line(row: RunRow) -> Text:
    summary = row["summary"]
    begun = datetime.fromisoformat(row["created"]).astimezone().strftime("%m-%d %H:%M")
    score = f"{summary['score']:.2f}" if "score" in summary else ""
    reason, rounds = summary.get("stop_reason") or "", str(summary.get("rounds", ""))
    return Text.assemble(
        (f"{row['run_id']:<22}", "bold"),
        f"  {begun:<11}  ",
        (f"{row['status']:<11}", _STYLES[row["status"]]),
        f"  {score:>5}  {reason:<11}  {rounds:>6}",
    )


def _run_heading(result: RunResult, path_of: Callable[[str], Path]) -> Iterator[Text]:
    yield Text.assemble((result.run_id, "bold"), "  ", (result.status, _STYLES.get(result.status, "")))
    yield Text(verdict_line(result))
    yield _field("prompt", result.prompt)
    options = result.options
    if "source" in options:
        yield _field("source", str(path_of(options["source"])))
    yield _field(
        "options",
        f"{options['width']}x{options['height']}, seed {options['seed']}, profile {options['profile']}, "
        f"at most {pluralize(options['max_rounds'], 'round')} of {pluralize(options['candidates'], 'image')}",
    )
    yield _field("models", ", ".join(f"{role} {name}" for role, name in result.models.items()))
    if result.forked_from is not None:
        source = result.forked_from
        yield _field("forked from", f"{source['run_id']} after round {source['round']}")
    if result.plan is not None:
        yield _field("plan", f"{', '.join(result.plan['skills']) or 'no skill'}. {result.plan['why']}")
    for use in result.skill_uses:
        yield Text(format_skill_use(use), style="dim")


def _round_lines(branch: Branch, result: RunResult, path_of: Callable[[str], Path], marks: Marks) -> Iterator[Text]:
    turn = branch.turn
    questions = {item.id: item.question for item in result.requirements}
    verdict, candidate = turn["verdicts"][turn["best"]], turn["candidates"][turn["best"]]
    star = " (best)" if turn["number"] == result.best_round else ""
    yield Text.assemble((f"round {turn['number']}{star}", "bold"), f"  score {turn['score']:.2f}")
    yield _field("prompt", turn["prompt"], indent=2)
    yield from _origin_lines(branch, result, path_of)
    several = f", best of {len(turn['candidates'])}" if len(turn["candidates"]) > 1 else ""
    seed = f"  seed {candidate['seed']}" if candidate["model"] else ""
    yield _field("image", f"{path_of(verdict['image'])}{seed}{several}", indent=2)
    for answer in verdict["answers"]:
        yield _answer_line(answer, questions.get(answer["requirement"], answer["requirement"]), marks)


def _grow(tree: Tree, branches: Sequence[Branch], result: RunResult) -> None:
    questions = {item.id: item.question for item in result.requirements}
    for branch in branches:
        turn = branch.turn
        star = " (best)" if turn["number"] == result.best_round else ""
        label = Text.assemble((f"round {turn['number']}{star}", "bold"), f"  {turn['score']:.2f}  ")
        label.append(one_line(describe_round(branch, questions)), style="dim")
        _grow(tree.add(label), branch.children, result)


def _origin_lines(branch: Branch, result: RunResult, path_of: Callable[[str], Path]) -> Iterator[Text]:
    turn = branch.turn
    if turn.get("action", "draw") in ("draw", "redraw") and not turn.keys() & {"by", "abandoned", "taken"}:
        return
    questions = {item.id: item.question for item in result.requirements}
    yield _field("made", one_line(describe_round(branch, questions)), indent=2)
    if turn.get("instruction"):
        yield _field("instruction", turn["instruction"], indent=2)
    if turn.get("mask"):
        yield _field("mask", str(path_of(turn["mask"])), indent=2)


def _answer_line(answer: Answer, question: str, marks: Marks) -> Text:
    likely = f" ({answer['probability']:.0%} yes)" if answer["probability"] is not None else ""
    evidence = f"  {one_line(answer['evidence'])}" if answer["evidence"] else ""
    source = f"  [{answer['source']}]" if is_verified(answer) else ""
    return Text.assemble(
        "  ", marks(answer["answer"]), f" {one_line(question)}{likely}", (f"{evidence}{source}", "dim")
    )


def _run_footer(result: RunResult) -> Iterator[Text]:
    for role, used in result.usage.items():
        yield _field(f"usage of {role}", format_usage(used))
    for warning in result.warnings:
        yield _field("warning", warning, style="yellow")
    if result.failure is not None:
        failure = result.failure
        yield _field("failed", f"{failure['error']} in {failure['node']}: {failure['message']}", style="red")
    yield _field("path", result.path or "no image yet")


def _field(name: str, value: str, *, indent: int = 0, style: str = "") -> Text:
    """Format a named value; further lines are indented."""
    margin = " " * indent
    text = clean_text(value.strip()).replace("\n", f"\n{margin}  ")
    return Text.assemble((f"{margin}{name}: ", "dim"), (text, style))


def show_figures(figures: Sequence[Figure]) -> None:
    """Print a row per figure: name, language, value, samples and judge."""
    rows = []
    for figure in figures:
        value = NONE if figure.value is None else f"{figure.value:.4g}"
        coverage = format_coverage(figure.scored, figure.expected)
        rows.append([figure.name, figure.language, value, coverage, figure.judge])
    show_table(Table(title="", columns=["figure", "language", "value", "samples", "judge"], rows=rows))


def show_scores(report: ScoreReport) -> None:
    """Print figures to standard output, and samples without a score to standard error."""
    show_figures(report.figures)
    scored, kept = pluralize(report.scored, "prompt"), pluralize(report.kept, "prompt")
    typer.echo(clean_text(f"{scored} scored by {report.judge}, {kept} scored earlier."))
    _print_unscored(report.missing, "without an image")
    _print_unscored(report.unscored, "without a score, not counted as 0")


def show_export(found: EvalExport) -> None:
    """Print the folder, the commands to run, and the missing samples."""
    typer.echo(clean_text("\n  ".join([found.path, *found.commands])))
    _print_unscored(found.missing, "without an image")
    if found.is_partial:
        typer.echo(
            f"partial: {format_coverage(found.samples, found.expected).removesuffix(', partial')} samples. "
            "The official scorer's result for them is not the benchmark's score.",
            err=True,
        )


def _print_unscored(samples: Sequence[Unscored], what: str) -> None:
    if not samples:
        return
    typer.echo(f"{pluralize(len(samples), 'sample')} {what}:", err=True)
    for each in samples[:_LISTED]:
        name = f"{each.language}/{each.prompt_id} sample {each.sample}"
        typer.echo(f"  {name}: {one_line(each.why, 160)}", err=True)
    if len(samples) > _LISTED:
        typer.echo(f"  and {len(samples) - _LISTED:,} more", err=True)


def show_comparison(found: ComparisonResult) -> None:
    """Print sections and the written files."""
    console = _console()
    for section in found.sections:
        title = f"{section.title} ({section.language}), scored by {section.judge}"
        console.print(Text(clean_text(title), style="bold"))
        for note in section.notes:
            console.print(Text(f"- {one_line(note)}"), soft_wrap=not console.is_terminal)
        show_tables(section.tables)
    for path in found.paths:
        typer.echo(path)


def show_tables(tables: Sequence[Table], path: Path | None = None) -> None:
    """Print tables and the written file."""
    for table in tables:
        show_table(table)
    if path is not None:
        typer.echo(path)


def show_table(table: Table) -> None:
    """Print a table and its notes."""
    console = _console()
    if table.title:
        console.print(Text(f"\n{one_line(table.title)}", style="bold"), soft_wrap=not console.is_terminal)
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(table.columns):
        justify: Literal["left", "right"] = "left" if index < table.names else "right"
        shown.add_column(Text(clean_text(name)), justify=justify, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(shown)
    for note in table.notes:
        console.print(Text(one_line(note), style="dim"), soft_wrap=not console.is_terminal)
