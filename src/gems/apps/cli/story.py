"""What is known about a run while it goes on, for showing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gems.events import (
    Event,
    ImageDrawn,
    Judged,
    Planned,
    Reflected,
    RequirementsListed,
    Started,
    StepDone,
    Stopped,
    Warned,
)
from gems.results import RunResult
from gems.types import Answer, Round, Verdict


@dataclass(slots=True)
class Turn:
    """A round as far as it came.

    Attributes:
        number: From 1.
        path: The stored PNG of its best image.
        answers: By the requirement's id; empty until it is judged.
        score: None until it is judged.
        experience: Empty until it is written.
    """

    number: int
    path: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    score: float | None = None
    experience: str = ""


@dataclass(slots=True)
class Story:
    """A run as the events tell it.

    Attributes:
        prompt: The user's prompt.
        path_of: Where the image with an id is stored.
        run_id: Empty until the run is begun.
        questions: The requirements by their ids.
        turns: The rounds by their numbers.
        doing: What goes on now.
        steps: Inference steps done and to do, by candidate; empty while none are reported.
        warnings: What went wrong without ending the run.
    """

    prompt: str
    path_of: Callable[[str], Path]
    run_id: str = ""
    questions: dict[str, str] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    doing: str = "starting"
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def so_far(cls, result: RunResult, path_of: Callable[[str], Path]) -> Story:
        """The story of a run that goes on."""
        story = cls(prompt=result.prompt, path_of=path_of, run_id=result.run_id)
        story.questions = {item.id: item.question for item in result.requirements}
        for known in result.rounds:
            story.turns[known["number"]] = story._told(known)
        for experience in result.experiences:
            story.turn(experience["round"]).experience = experience["text"]
        return story

    @property
    def best(self) -> Turn | None:
        """The best round; a tie keeps the earlier one."""
        judged = [turn for turn in self.turns.values() if turn.score is not None]
        return max(judged, key=lambda turn: (turn.score or 0.0, -turn.number), default=None)

    def turn(self, number: int) -> Turn:
        """The round with this number."""
        return self.turns.setdefault(number, Turn(number))

    def take(self, event: Event) -> None:
        """Add what an event tells."""
        match event:
            case Started():
                self.run_id = event.run_id
                self.doing = "going on" if event.resumed else "planning"
            case RequirementsListed():
                self.questions = {item["id"]: item["question"] for item in event.requirements}
            case Planned():
                self.doing = f"drawing round {len(self.turns) + 1}"
            case StepDone():
                self.doing = f"drawing round {event.round}"
                self.steps[event.candidate] = (event.done, event.total)
            case ImageDrawn():
                self.turn(event.round).path = event.path
                self.doing = f"judging round {event.round}"
            case Judged():
                self._judged(event.round, event.verdicts[event.best])
            case Reflected():
                self.turn(event.experience["round"]).experience = event.experience["text"]
                self.doing = f"drawing round {event.experience['round'] + 1}"
            case Warned():
                self.warnings.append(event.message)
            case Stopped():
                self.doing = "saving"

    def _judged(self, number: int, verdict: Verdict) -> None:
        turn = self.turn(number)
        turn.path = str(self.path_of(verdict["image"]))
        turn.answers = {answer["requirement"]: answer for answer in verdict["answers"]}
        turn.score = verdict["score"]
        self.doing = f"learning from round {number}"
        self.steps.clear()

    def _told(self, known: Round) -> Turn:
        verdict = known["verdicts"][known["best"]]
        answers = {answer["requirement"]: answer for answer in verdict["answers"]}
        return Turn(known["number"], str(self.path_of(verdict["image"])), answers, known["score"])
