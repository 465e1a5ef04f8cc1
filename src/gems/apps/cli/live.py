"""Live progress on a terminal: finished rounds scroll, a table of all answers stays below."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gems.apps.cli.display import format_recall, format_skill_use
from gems.apps.cli.errors import clean
from gems.apps.cli.story import Story, Turn
from gems.apps.cli.text import one_line
from gems.events import (
    Event,
    Finished,
    Judged,
    LessonsRecalled,
    Planned,
    Reflected,
    SkillUsed,
    Started,
    Warned,
)

_COLUMN = 4
_QUESTION = 40


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


class LiveDisplay:
    """A live table on standard error, to which `console` must write."""

    def __init__(self, console: Console, story: Story) -> None:
        self._console = console
        self._story = story
        self._marks = Marks(console.encoding)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._story.questions:
            table = answers_table(self._story, self._marks, self._console.width)
            self._console.print(Padding(table, (1, 0)))

    def tell(self, event: Event, story: Story) -> None:
        """Show an event."""
        match event:
            case Started():
                self._print(Text.assemble(("run ", "dim"), (event.run_id, "bold")))
                self._print(Text(one_line(story.prompt)), indent=2)
            case Planned() if event.plan["skills"]:
                self._print(Text(f"skill {', '.join(event.plan['skills'])}: {one_line(event.plan['why'])}"))
            case SkillUsed():
                self._print(Text(format_skill_use(event.use), style="dim"), indent=2)
            case Judged():
                self._print(round_line(story.turn(event.round), len(story.questions)))
                self._print(Text(story.turn(event.round).path, style="dim", overflow="fold"), indent=2)
            case LessonsRecalled():
                self._print(Text(format_recall(event.recall), style="dim"), indent=2)
            case Reflected():
                self._print(Text(clean(event.experience["text"]), style="italic"), indent=2)
            case Warned():
                self.note(f"warning: {event.message}")
            case Finished():
                return
        self._live.refresh()

    def note(self, message: str) -> None:
        """Show a line above the table."""
        self._print(Text(one_line(message), style="yellow"))

    def _print(self, text: Text, indent: int = 0) -> None:
        self._console.print(Padding(text, (0, 0, 0, indent)))

    def _view(self) -> RenderableType:
        # The table comes last, since a short terminal cuts off the end.
        parts: list[RenderableType] = ["", self._status()]
        if self._story.questions:
            parts += ["", answers_table(self._story, self._marks, self._console.width)]
        return Group(*parts)

    def _status(self) -> Table:
        """Format the current step, inference progress and the best round on one line."""
        line = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = [self._spinner, Text(self._story.doing)]
        if steps := self._story.steps:
            done, total = sum(d for d, _ in steps.values()), sum(t for _, t in steps.values())
            cells += [ProgressBar(total, done, width=20), Text(f"step {done} of {total}")]
        if (best := self._story.best) is not None:
            cells.append(Text(f"best so far: round {best.number}, {best.score or 0.0:.0%}", style="green"))
        line.add_row(*cells)
        return line


def round_line(turn: Turn, requirements: int) -> Text:
    """Format the heading of a judged round."""
    met = sum(answer["answer"] == "yes" for answer in turn.answers.values())
    style = "green" if met == requirements else "yellow"
    return Text.assemble((f"round {turn.number}", "bold"), "  ", (f"{met} of {requirements} met", style))


def answers_table(story: Story, marks: Marks, width: int) -> Table:
    """Build a table with requirements as rows and the newest rounds that fit as columns."""
    fitting = max(3, (width - _QUESTION) // _COLUMN)
    turns = [turn for _, turn in sorted(story.turns.items()) if turn.score is not None][-fitting:]
    best = story.best
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(
        "requirement", overflow="fold", max_width=max(_QUESTION, width - _COLUMN * (len(turns) + 1))
    )
    for turn in turns:
        heading = Text(str(turn.number), style="bold cyan" if turn is best else "dim")
        table.add_column(heading, justify="right", min_width=_COLUMN - 1, no_wrap=True)
    for name, question in story.questions.items():
        answers = (turn.answers.get(name) for turn in turns)
        table.add_row(Text(one_line(question)), *(marks(a["answer"] if a else None) for a in answers))
    if turns:
        scores = (Text(f"{turn.score or 0.0:.0%}".rstrip("%"), style="dim") for turn in turns)
        table.add_row(Text("percent met", style="dim"), *scores)
    return table
