"""RunView: state of a run from events, for CLI, web, MCP and chat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context

from gems.apps.run_manager import RunManager
from gems.apps.text import pluralize
from gems.errors import GemsError
from gems.events import (
    Event,
    Finished,
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
    wait_for_result,
)
from gems.memory.retrieval import format_lesson
from gems.results import RunResult
from gems.types import Answer, Options, Plan, Round, SkillUse, Usage, Verdict

_ENDED = {
    "passed": "Every requirement is met",
    "max_rounds": "All rounds are used up",
    "budget": "A limit is reached",
    "plateau": "No more progress",
    "refused": "The provider refused the content",
    "cancelled": "Cancelled",
    "failed": "Failed",
}


@dataclass(slots=True)
class WebRound:
    """A round as far as it came.

    Attributes:
        number: From 1.
        prompt: What was drawn; empty until an image is there.
        images: Their ids, by candidate.
        best: Index of the best candidate; None until the round is judged.
        answers: About the best candidate, by the requirement's id.
        score: Share of requirements met, in [0, 1]; None until the round is judged.
        learned: What the reflector learned.
        next_prompt: What the reflector wrote for the next round.
        lessons: What earlier runs taught this round.
    """

    number: int
    prompt: str = ""
    images: dict[int, str] = field(default_factory=dict)
    best: int | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    score: float | None = None
    learned: str = ""
    next_prompt: str = ""
    lessons: list[str] = field(default_factory=list)

    @property
    def image(self) -> str:
        """The best image, or the first one there is; empty while there is none."""
        known = self.images.get(self.best or 0)
        return known or next(iter(self.images.values()), "")

    def judge(self, verdicts: list[Verdict], best: int) -> None:
        """Take what was found out about the images."""
        self.best, self.score = best, verdicts[best]["score"]
        self.answers = {answer["requirement"]: answer for answer in verdicts[best]["answers"]}
        self.images |= {index: verdict["image"] for index, verdict in enumerate(verdicts)}


@dataclass(slots=True)
class WebRunView:
    """A run as the page tells it: begin with `of`, then `take` each event."""

    run_id: str
    prompt: str
    status: str = "running"
    doing: str = "Waiting"
    questions: dict[str, str] = field(default_factory=dict)
    turns: dict[int, WebRound] = field(default_factory=dict)
    plan: Plan | None = None
    skills: dict[str, SkillUse] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    usage: dict[str, Usage] = field(default_factory=dict)
    result: RunResult | None = None
    """What was known when this was last looked up."""

    @classmethod
    def of(cls, result: RunResult) -> WebRunView:
        """The story of a run as far as it came."""
        story = cls(result.run_id, result.prompt)
        story.look_up(result)
        return story

    @property
    def is_working(self) -> bool:
        """Whether more is to come."""
        return self.status == "running"

    @property
    def best(self) -> WebRound | None:
        """The best round; a tie keeps the earlier one."""
        judged = [turn for turn in self.turns.values() if turn.score is not None]
        return max(judged, key=lambda turn: (turn.score or 0.0, -turn.number), default=None)

    @property
    def drawn(self) -> int:
        """How many images there are."""
        return sum(len(turn.images) for turn in self.turns.values())

    def turn(self, number: int) -> WebRound:
        """The round with this number."""
        return self.turns.setdefault(number, WebRound(number))

    def look_up(self, result: RunResult) -> None:
        """Take a result, be it of a run that goes on: what it does not know yet is kept."""
        self.result, self.status = result, result.status
        self.usage = result.usage or self.usage
        self.plan = result.plan or self.plan
        self.questions |= {item.id: item.question for item in result.requirements}
        self.skills |= {use["name"]: use for use in result.skill_uses}
        for known in result.rounds:
            self._round(known)
        for experience in result.experiences:
            turn = self.turn(experience["round"])
            turn.learned, turn.next_prompt = experience["text"], experience["next_prompt"]
        self.warnings = list(dict.fromkeys([*self.warnings, *result.warnings]))
        if not self.is_working:
            self.doing = _ENDED.get(result.stop_reason or "", result.status.capitalize())

    def take(self, event: Event) -> None:
        """Add what an event tells."""
        match event:
            case Planned():
                self.plan, self.doing = event.plan, "Drawing round 1"
            case RequirementsListed():
                self.questions |= {item["id"]: item["question"] for item in event.requirements}
            case SkillUsed():
                self.skills[event.use["name"]] = event.use
            case ImageDrawn() | Judged() | Reflected() | LessonsRecalled() | StepDone():
                self._take_of_round(event)
            case Warned():
                self.warnings = list(dict.fromkeys([*self.warnings, event.message]))
            case Started():
                self.status, self.doing = "running", "Going on" if event.resumed else "Planning"
            case Stopped():
                self.doing = "Saving"
            case Finished():
                self.look_up(event.result)

    def _take_of_round(self, event: ImageDrawn | Judged | Reflected | LessonsRecalled | StepDone) -> None:
        match event:
            case ImageDrawn():
                turn = self.turn(event.round)
                turn.prompt = event.prompt
                turn.images[event.candidate["index"]] = event.candidate["image"]
                self.doing = f"Judging round {event.round}"
            case Judged():
                self.turn(event.round).judge(event.verdicts, event.best)
                self.doing = f"Learning from round {event.round}"
            case Reflected():
                turn = self.turn(event.experience["round"])
                turn.learned, turn.next_prompt = event.experience["text"], event.experience["next_prompt"]
                self.doing = f"Drawing round {turn.number + 1}"
            case LessonsRecalled():
                lessons = [format_lesson(lesson) for lesson in event.recall["lessons"]]
                self.turn(event.recall["round"]).lessons = lessons
            case StepDone():
                self.doing = f"Drawing round {event.round}: step {event.done} of {event.total}"

    def _round(self, known: Round) -> None:
        turn = self.turn(known["number"])
        turn.prompt = known["prompt"]
        turn.judge(known["verdicts"], known["best"])


@dataclass(slots=True)
class RoundView:
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
class RunView:
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
    turns: dict[int, RoundView] = field(default_factory=dict)
    doing: str = "starting"
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def so_far(cls, result: RunResult, path_of: Callable[[str], Path]) -> RunView:
        """The story of a run that goes on."""
        story = cls(prompt=result.prompt, path_of=path_of, run_id=result.run_id)
        story.questions = {item.id: item.question for item in result.requirements}
        for known in result.rounds:
            story.turns[known["number"]] = story._told(known)
        for experience in result.experiences:
            story.turn(experience["round"]).experience = experience["text"]
        return story

    @property
    def best(self) -> RoundView | None:
        """The best round; a tie keeps the earlier one."""
        judged = [turn for turn in self.turns.values() if turn.score is not None]
        return max(judged, key=lambda turn: (turn.score or 0.0, -turn.number), default=None)

    def turn(self, number: int) -> RoundView:
        """The round with this number."""
        return self.turns.setdefault(number, RoundView(number))

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

    def _told(self, known: Round) -> RoundView:
        verdict = known["verdicts"][known["best"]]
        answers = {answer["requirement"]: answer for answer in verdict["answers"]}
        return RoundView(known["number"], str(self.path_of(verdict["image"])), answers, known["score"])


async def followed(manager: RunManager, run_id: str, context: Context[Any, Any]) -> RunResult:
    """The result of a run, its progress told on the way.

    Whoever cancels the call cancels the run, which keeps its best image.

    Raises:
        GemsError: the run ended before there was an image.
    """
    row = await manager.gems.resources.ledger.run(run_id)
    progress = _Progress(context, row["options"] if row is not None else None)
    try:
        return await wait_for_result(manager.watch(run_id), progress.tell)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True), suppress(GemsError):
            await manager.cancel(run_id)
        raise


class _Progress:
    """Counts what is done: the list of requirements, each image, and the verdict on each round."""

    def __init__(self, context: Context[Any, Any], options: Options | None) -> None:
        self._context = context
        self._total = 1 + options["max_rounds"] * (options["candidates"] + 1) if options else None
        self._done = 0
        self._listed = False

    async def tell(self, event: Event) -> None:
        message = self._message(event)
        if message:
            await self._context.report_progress(self._done, self._total, message)
            self._done += 1

    def _message(self, event: Event) -> str:
        if isinstance(event, Started):
            return f"run {event.run_id}"
        if isinstance(event, RequirementsListed) and not self._listed:
            # Skills may add some later.
            self._listed = True
            return pluralize(len(event.requirements), "requirement")
        if isinstance(event, ImageDrawn):
            return f"round {event.round}: image {event.candidate['index'] + 1} is drawn"
        if isinstance(event, Judged):
            answers = event.verdicts[event.best]["answers"]
            met = sum(answer["answer"] == "yes" for answer in answers)
            of_all = f"{met} of {pluralize(len(answers), 'requirement')} met"
            return f"round {event.round}: {of_all}, score {event.score:.2f}"
        return ""


_ALT = 120


class Teller:
    """Tells of one run."""

    def __init__(self) -> None:
        self._questions: dict[str, str] = {}

    def line(self, event: Event) -> str:
        """What an event is worth telling, or nothing."""
        match event.type:
            case "planned" if event.plan["skills"]:
                return f"Skills: {', '.join(event.plan['skills'])}."
            case "requirements":
                self._questions = {need["id"]: need["question"] for need in event.requirements}
                return f"{len(self._questions)} requirements will be checked."
            case "verdicts":
                return self._judged(event.round, event.verdicts[event.best])
            case "lessons" if event.recall["lessons"]:
                return f"Lessons of earlier runs: {len(event.recall['lessons'])}."
            case "warning":
                return f"Warning: {event.message}"
            case _:
                return ""

    def end(self, result: RunResult) -> str:
        """How the run ended."""
        met = sum(item.answer == "yes" for item in result.requirements)
        reason = f" ({result.stop_reason})" if result.stop_reason else ""
        return f"Round {result.best_round} is best: {met} of {len(result.requirements)} met{reason}."

    def _judged(self, number: int, verdict: Verdict) -> str:
        open_ones = [answer for answer in verdict["answers"] if answer["answer"] != "yes"]
        met = f"Round {number}: {len(verdict['answers']) - len(open_ones)} of {len(verdict['answers'])} met."
        asked = [self._questions.get(answer["requirement"], "") for answer in open_ones]
        lacking = " ".join(question for question in asked[:3] if question)
        return f"{met} Not yet: {lacking}" if lacking else met


def markdown(result: RunResult, image: str) -> str:
    """The image, in base64, as Markdown."""
    words = "".join(" " if letter in "[]()!\\`<>\r\n" else letter for letter in result.prompt)
    return f"![{' '.join(words.split())[:_ALT]}](data:image/png;base64,{image})"
