"""What is known about a run, from its result so far and from what it tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

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
)
from gems.memory.retrieval import format_lesson
from gems.results import RunResult
from gems.types import Answer, Plan, Round, SkillUse, Usage, Verdict

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
class Turn:
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
class Story:
    """A run as the page tells it: begin with `of`, then `take` each event."""

    run_id: str
    prompt: str
    status: str = "running"
    doing: str = "Waiting"
    questions: dict[str, str] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    plan: Plan | None = None
    skills: dict[str, SkillUse] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    usage: dict[str, Usage] = field(default_factory=dict)
    result: RunResult | None = None
    """What was known when this was last looked up."""

    @classmethod
    def of(cls, result: RunResult) -> Story:
        """The story of a run as far as it came."""
        story = cls(result.run_id, result.prompt)
        story.look_up(result)
        return story

    @property
    def is_working(self) -> bool:
        """Whether more is to come."""
        return self.status == "running"

    @property
    def best(self) -> Turn | None:
        """The best round; a tie keeps the earlier one."""
        judged = [turn for turn in self.turns.values() if turn.score is not None]
        return max(judged, key=lambda turn: (turn.score or 0.0, -turn.number), default=None)

    @property
    def drawn(self) -> int:
        """How many images there are."""
        return sum(len(turn.images) for turn in self.turns.values())

    def turn(self, number: int) -> Turn:
        """The round with this number."""
        return self.turns.setdefault(number, Turn(number))

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
