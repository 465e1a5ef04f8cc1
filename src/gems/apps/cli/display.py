"""How progress is shown: the choice of a display, and the ones that need no terminal."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

import typer

from gems.apps.cli.story import Story
from gems.apps.cli.text import counted, one_line
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
        """Show what happened; `story` has taken the event already."""
        ...

    def note(self, message: str) -> None:
        """Show a line that belongs to no event."""
        ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def tell(self, event: Event, story: Story) -> None:
        """Nothing is shown."""

    def note(self, message: str) -> None:
        """Nothing is shown."""


class Plain(Silent):
    """One line for everything that happens, for logs and pipes."""

    def __init__(self) -> None:
        self._steps_shown = time.monotonic()

    def tell(self, event: Event, story: Story) -> None:
        """Write the event's lines."""
        for line in self._lines(event, story):
            self.note(f"{event.seconds:8.1f} s  {line}")

    def note(self, message: str) -> None:
        """Write a line."""
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
                lines = [skill_line(event.use)]
            case StepDone():
                lines = self._step(event)
            case ImageDrawn():
                lines = [f"round {event.round}: drew {event.path} with seed {event.candidate['seed']}"]
            case Judged():
                lines = _judged(event, story)
            case LessonsRecalled():
                lines = [f"round {event.recall['round']}: {recalled_line(event.recall)}"]
            case Reflected():
                experience = event.experience
                lines = [f"round {experience['round']}: {one_line(experience['text'])}"]
            case Warned():
                lines = [f"warning: {one_line(event.message)}"]
            case Stopped():
                lines = [f"stopped: {event.stop_reason}, best score {event.score:.2f}"]
        return lines

    def _step(self, event: StepDone) -> list[str]:
        """Now and then a line; a line for every step would drown the log."""
        if time.monotonic() - self._steps_shown < _STEPS_EVERY_S:
            return []
        self._steps_shown = time.monotonic()
        return [f"round {event.round}: step {event.done} of {event.total}"]


def skill_line(use: SkillUse) -> str:
    """What came of a chosen skill."""
    if use["fault"]:
        return f"skill {use['name']}: left out"
    notes = [counted(len(use["requirements"]), "requirement") + " more"] if use["requirements"] else []
    notes += [f"{len(use['restored'])} put back"] if use["restored"] else []
    notes += [f"{name} {value}" for name, value in use["drawing"].items()]
    more = f" ({', '.join(notes)})" if notes else ""
    return f"skill {use['name']}{more}: {one_line(use['prompt'], 200)}"


def recalled_line(recall: Recall) -> str:
    """How many lessons of earlier runs a round is drawn with, and the first of them."""
    lessons = recall["lessons"]
    return f"{counted(len(lessons), 'lesson')} of earlier runs: {one_line(format_lesson(lessons[0]), 160)}"


def _judged(event: Judged, story: Story) -> list[str]:
    answers = event.verdicts[event.best]["answers"]
    listed = ", ".join(f"{answer['requirement']} {answer['answer']}" for answer in answers)
    best = f", best so far: round {story.best.number}" if story.best is not None else ""
    lines = [f"round {event.round}: score {event.score:.2f}: {listed}{best}"]
    for answer in answers:
        if answer["answer"] != "yes":
            evidence = one_line(answer["evidence"])
            lines.append(f"round {event.round}: {answer['requirement']} {answer['answer']}: {evidence}")
    return lines
