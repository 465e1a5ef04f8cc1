"""Progress: plain, live, bars."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gems import events
from gems.apps.cli.options import View
from gems.apps.run_view import RoundView, RunView
from gems.apps.text import clean_text, format_skill_use, format_usd, one_line, pluralize
from gems.evals.runner import JobProgress, OnProgress
from gems.events import Event
from gems.memory.retrieval import format_lesson
from gems.types import Recall

_STEPS_EVERY_S = 10.0
"""Time between steps in logs."""
_COLUMN = 4
_QUESTION = 40


class Display(AbstractContextManager["Display"]):
    """Shows a run on standard error; this base shows nothing."""

    def __exit__(self, *_: object) -> None:
        """Finish the output."""

    def tell(self, event: Event, run: RunView) -> None:
        """Show an event; `run` includes it already."""

    def note(self, message: str) -> None:
        """Show a line without an event."""


class Plain(Display):
    """Display of one line per event, for logs and pipes."""

    def __init__(self) -> None:
        self._steps_shown = time.monotonic()

    def tell(self, event: Event, run: RunView) -> None:
        for line in self._lines(event, run):
            self.note(f"{event.seconds:8.1f} s  {line}")

    def note(self, message: str) -> None:
        typer.echo(one_line(message) if "\n" in message else message, err=True)

    def _lines(self, event: Event, run: RunView) -> Iterator[str]:  # noqa: C901 - one case per event
        match event:
            case events.Started():
                yield f"run {event.run_id}: {one_line(run.prompt, 200)}"
            case events.Planned():
                skills = ", ".join(event.plan["skills"]) or "no skill"
                yield f"plan: {skills}. {one_line(event.plan['why'])}"
            case events.RequirementsListed():
                yield from (f"{item['id']}: {one_line(item['question'])}" for item in event.requirements)
            case events.SkillUsed():
                yield format_skill_use(event.use)
            case events.StepDone() if time.monotonic() - self._steps_shown >= _STEPS_EVERY_S:
                self._steps_shown = time.monotonic()
                yield f"round {event.round}: step {event.done} of {event.total}"
            case events.ImageDrawn():
                yield f"round {event.round}: generated {event.path} with seed {event.candidate['seed']}"
            case events.Judged():
                answers = event.verdicts[event.best]["answers"]
                listed = ", ".join(f"{answer['requirement']} {answer['answer']}" for answer in answers)
                best = f", best so far: round {run.best.number}" if run.best is not None else ""
                yield f"round {event.round}: score {event.score:.2f}: {listed}{best}"
                for answer in (answer for answer in answers if answer["answer"] != "yes"):
                    evidence = f"{answer['requirement']} {answer['answer']}: {one_line(answer['evidence'])}"
                    yield f"round {event.round}: {evidence}"
            case events.LessonsRecalled():
                yield f"round {event.recall['round']}: {format_recall(event.recall)}"
            case events.Reflected(experience=experience):
                yield f"round {experience['round']}: {one_line(experience['text'])}"
            case events.Warned():
                yield f"warning: {one_line(event.message)}"
            case events.Stopped():
                yield f"stopped: {event.stop_reason}, best score {event.score:.2f}"


def format_recall(recall: Recall) -> str:
    """Format the number of lessons from earlier runs, and the first one."""
    lessons = recall["lessons"]
    first = one_line(format_lesson(lessons[0]), 160)
    return f"{pluralize(len(lessons), 'lesson')} from earlier runs: {first}"


@contextmanager
def show_progress(noun: str, view: View) -> Iterator[OnProgress]:
    """Show a progress bar of units named `noun`, if standard error is a terminal."""
    console = Console(stderr=True, highlight=False)
    if view.quiet or view.json or view.debug or not sys.stderr.isatty() or not console.is_terminal:
        yield lambda _tally: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(TextColumn("{task.description}"), *columns, console=console) as bar:
        task = bar.add_task(noun, total=None, told="")

        def update(tally: JobProgress) -> None:
            bar.update(task, total=tally.total, completed=tally.done, told=format_progress(tally))

        yield update


def format_progress(tally: JobProgress) -> str:
    """Format rate, images per sample, cost and time left."""
    parts = [f"{tally.images_per_sample:.2f} images each"]
    if tally.usd:
        parts.append(format_usd(tally.usd))
    if tally.failed:
        parts.append(f"{len(tally.failed)} failed")
    if tally.done > tally.done_before:
        left = timedelta(seconds=round((tally.total - tally.done) / tally.rate))
        parts += [f"{tally.rate:.3g}/s", f"{left} left"]
    return ", ".join(parts)


class Marks:
    """Symbols for answers; ASCII if the terminal cannot encode ticks."""

    def __init__(self, encoding: str) -> None:
        try:
            "✓✗".encode(encoding)
            self._signs = {"yes": "✓", "no": "✗", "unknown": "?"}
        except (UnicodeEncodeError, LookupError):
            self._signs = {"yes": "+", "no": "-", "unknown": "?"}

    def __call__(self, answer: str | None) -> Text:
        """Return the symbol of an answer; blank for None."""
        style = {"yes": "bold green", "no": "bold red", "unknown": "bold yellow"}
        return Text(self._signs.get(answer or "", ""), style=style.get(answer or "", ""))


class LiveDisplay(Display):
    """A live table on standard error, to which `console` must write.

    `path_of` returns the file of an image id.
    """

    def __init__(self, console: Console, run: RunView, path_of: Callable[[str], Path]) -> None:
        self._console, self._run, self._path_of = console, run, path_of
        self._marks = Marks(console.encoding)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._run.questions:
            table = answers_table(self._run, self._marks, self._console.width)
            self._console.print(Padding(table, (1, 0)))

    def tell(self, event: Event, run: RunView) -> None:
        match event:
            case events.Started():
                self._print(Text.assemble(("run ", "dim"), (event.run_id, "bold")))
                self._print(Text(one_line(run.prompt)), indent=2)
            case events.Planned() if event.plan["skills"]:
                self._print(Text(f"skill {', '.join(event.plan['skills'])}: {one_line(event.plan['why'])}"))
            case events.SkillUsed():
                self._print(Text(format_skill_use(event.use), style="dim"), indent=2)
            case events.Judged():
                judged = run.round(event.round)
                self._print(round_line(judged, len(run.questions)))
                path = str(self._path_of(judged.image))
                self._print(Text(path, style="dim", overflow="fold"), indent=2)
            case events.LessonsRecalled():
                self._print(Text(format_recall(event.recall), style="dim"), indent=2)
            case events.Reflected():
                self._print(Text(clean_text(event.experience["text"]), style="italic"), indent=2)
            case events.Warned():
                self.note(f"warning: {event.message}")
            case events.Finished():
                return
        self._live.refresh()

    def note(self, message: str) -> None:
        self._print(Text(one_line(message), style="yellow"))

    def _print(self, text: Text, indent: int = 0) -> None:
        self._console.print(Padding(text, (0, 0, 0, indent)))

    def _view(self) -> RenderableType:
        # The table comes last, since a short terminal cuts off the end.
        parts: list[RenderableType] = ["", self._status()]
        if self._run.questions:
            parts += ["", answers_table(self._run, self._marks, self._console.width)]
        return Group(*parts)

    def _status(self) -> Table:
        """Format the current step, inference progress and the best round on one line."""
        line = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = [self._spinner, Text(self._run.doing)]
        if self._run.step is not None:
            done, total = self._run.step
            cells += [ProgressBar(total, done, width=20), Text(f"step {done} of {total}")]
        if (best := self._run.best) is not None:
            cells.append(Text(f"best so far: round {best.number}, {best.score or 0.0:.0%}", style="green"))
        line.add_row(*cells)
        return line


def round_line(view: RoundView, requirements: int) -> Text:
    """Format the heading of a judged round."""
    style = "green" if view.met == requirements else "yellow"
    return Text.assemble((f"round {view.number}", "bold"), "  ", (f"{view.met} of {requirements} met", style))


def answers_table(run: RunView, marks: Marks, width: int) -> Table:
    """Build a table with requirements as rows and the newest rounds that fit as columns."""
    fitting = max(3, (width - _QUESTION) // _COLUMN)
    rounds = [view for _, view in sorted(run.rounds.items()) if view.score is not None][-fitting:]
    best = run.best
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("requirement", overflow="fold", max_width=max(_QUESTION, width - _COLUMN * (len(rounds) + 1)))
    for view in rounds:
        heading = Text(str(view.number), style="bold cyan" if view is best else "dim")
        table.add_column(heading, justify="right", min_width=_COLUMN - 1, no_wrap=True)
    for name, question in run.questions.items():
        answers = (view.answers.get(name) for view in rounds)
        table.add_row(Text(one_line(question)), *(marks(a["answer"] if a else None) for a in answers))
    if rounds:
        scores = (Text(f"{view.score or 0.0:.0%}".rstrip("%"), style="dim") for view in rounds)
        table.add_row(Text("percent met", style="dim"), *scores)
    return table
