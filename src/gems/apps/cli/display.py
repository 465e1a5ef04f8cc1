"""Progress displays without a terminal, and their protocol."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

import typer

from gems.apps.cli.story import Story
from gems.apps.cli.text import one_line, pluralize
from gems.events import (
    Event,
    ImageDrawn,
    Judged,
    LessonsRecalled,
    Planned,
    Reflected,
    RequirementsListed,
    SkillUsed,
    Started,
    StepDone,
    Stopped,
    Warned,
)
from gems.memory.retrieval import format_lesson
from gems.types import Recall, SkillUse

_STEPS_EVERY_S = 10.0


class Display(AbstractContextManager["Display"], Protocol):
    """Shows a run on standard error."""

    def tell(self, event: Event, story: Story) -> None:
        """Show an event; `story` includes it already."""
        ...

    def note(self, message: str) -> None:
        """Show a line without an event."""
        ...


class Silent:
    """Display without output."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def tell(self, event: Event, story: Story) -> None:
        """Do nothing."""

    def note(self, message: str) -> None:
        """Do nothing."""


class Plain(Silent):
    """Display of one line per event, for logs and pipes."""

    def __init__(self) -> None:
        self._steps_shown = time.monotonic()

    def tell(self, event: Event, story: Story) -> None:
        """Print the lines of an event."""
        for line in self._lines(event, story):
            self.note(f"{event.seconds:8.1f} s  {line}")

    def note(self, message: str) -> None:
        """Print a line."""
        typer.echo(one_line(message) if "\n" in message else message, err=True)

    def _lines(self, event: Event, story: Story) -> list[str]:  # noqa: C901 - one case per event
        lines: list[str] = []
        match event:
            case Started():
                lines = [f"run {event.run_id}: {one_line(story.prompt, 200)}"]
            case Planned():
                skills = ", ".join(event.plan["skills"]) or "no skill"
                lines = [f"plan: {skills}. {one_line(event.plan['why'])}"]
            case RequirementsListed():
                lines = [f"{item['id']}: {one_line(item['question'])}" for item in event.requirements]
            case SkillUsed():
                lines = [format_skill_use(event.use)]
            case StepDone():
                lines = self._step(event)
            case ImageDrawn():
                lines = [f"round {event.round}: generated {event.path} with seed {event.candidate['seed']}"]
            case Judged():
                lines = _judged_lines(event, story)
            case LessonsRecalled():
                lines = [f"round {event.recall['round']}: {format_recall(event.recall)}"]
            case Reflected():
                experience = event.experience
                lines = [f"round {experience['round']}: {one_line(experience['text'])}"]
            case Warned():
                lines = [f"warning: {one_line(event.message)}"]
            case Stopped():
                lines = [f"stopped: {event.stop_reason}, best score {event.score:.2f}"]
        return lines

    def _step(self, event: StepDone) -> list[str]:
        """Format a step every few seconds only, to keep logs short."""
        if time.monotonic() - self._steps_shown < _STEPS_EVERY_S:
            return []
        self._steps_shown = time.monotonic()
        return [f"round {event.round}: step {event.done} of {event.total}"]


def format_skill_use(use: SkillUse) -> str:
    """Format the use of a skill."""
    if use["fault"]:
        return f"skill {use['name']}: skipped"
    notes = [pluralize(len(use["requirements"]), "requirement") + " added"] if use["requirements"] else []
    notes += [f"{len(use['restored'])} restored"] if use["restored"] else []
    notes += [f"{name} {value}" for name, value in use["drawing"].items()]
    more = f" ({', '.join(notes)})" if notes else ""
    return f"skill {use['name']}{more}: {one_line(use['prompt'], 200)}"


def format_recall(recall: Recall) -> str:
    """Format the number of lessons from earlier runs, and the first one."""
    lessons = recall["lessons"]
    return (
        f"{pluralize(len(lessons), 'lesson')} from earlier runs: {one_line(format_lesson(lessons[0]), 160)}"
    )


def _judged_lines(event: Judged, story: Story) -> list[str]:
    answers = event.verdicts[event.best]["answers"]
    listed = ", ".join(f"{answer['requirement']} {answer['answer']}" for answer in answers)
    best = f", best so far: round {story.best.number}" if story.best is not None else ""
    lines = [f"round {event.round}: score {event.score:.2f}: {listed}{best}"]
    for answer in answers:
        if answer["answer"] != "yes":
            evidence = one_line(answer["evidence"])
            lines.append(f"round {event.round}: {answer['requirement']} {answer['answer']}: {evidence}")
    return lines
