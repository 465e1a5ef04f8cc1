"""State of a run from its events, for terminal, web page, MCP and chat."""

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
from gems.types import (
    Answer,
    Candidate,
    DecisionRequest,
    Experience,
    Origin,
    Plan,
    Round,
    SkillUse,
    Usage,
    Verdict,
    origin_of,
)

_STOPPED = {
    "passed": "every requirement is met",
    "accepted": "a person took this image",
    "undecided": "nothing is known to be unmet, but not everything could be checked",
    "max_rounds": "all rounds are used up",
    "budget": "a limit is reached",
    "deadline": "the time is up",
    "plateau": "no more progress",
    "refused": "the provider refused the content",
    "cancelled": "cancelled",
    "failed": "failed",
}


@dataclass(slots=True)
class RoundView:
    """A round so far. What is unknown is empty; `best` and `score` are None until the round is judged."""

    number: int
    prompt: str = ""
    images: dict[int, str] = field(default_factory=dict)
    """Image ids by candidate."""
    size: tuple[int, int] | None = None
    """Width and height of the images in pixels."""
    model: str = ""
    """The generator of the images."""
    origin: Origin = field(default_factory=Origin)
    """How the images came to be, as far as it is known."""
    taken: bool | None = None
    """Whether a person took its image, or took it back; None if nobody did either."""
    best: int | None = None
    """Index of the best candidate."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """Answers for the best candidate, by requirement id."""
    score: float | None = None
    learned: str = ""
    next_prompt: str = ""
    lessons: list[str] = field(default_factory=list)
    """Lessons of earlier runs in the prompt of this round."""

    @property
    def image(self) -> str:
        """The best image, or the first one; empty without images."""
        return self.images.get(self.best or 0) or next(iter(self.images.values()), "")

    @property
    def met(self) -> int:
        """Number of requirements that the best candidate meets."""
        return sum(answer["answer"] == "yes" for answer in self.answers.values())

    def judge(self, verdicts: list[Verdict], best: int) -> None:
        """Add the verdicts on all candidates."""
        self.best, self.score = best, verdicts[best]["score"]
        self.answers = {answer["requirement"]: answer for answer in verdicts[best]["answers"]}
        self.images |= {index: verdict["image"] for index, verdict in enumerate(verdicts)}

    def draw(self, candidate: Candidate) -> None:
        """Add an image."""
        self.images[candidate["index"]] = candidate["image"]
        self.size, self.model = (candidate["width"], candidate["height"]), candidate["model"]

    def update(self, known: Round) -> None:
        """Add what a judged round has."""
        self.prompt, self.origin, self.taken = known["prompt"], origin_of(known), known.get("taken")
        for candidate in known["candidates"]:
            self.draw(candidate)
        self.judge(known["verdicts"], known["best"])


@dataclass(slots=True)
class RunView:
    """A run so far: start with `of` or empty, then `take` each event."""

    prompt: str = ""
    run_id: str = ""
    status: str = "running"
    doing: str = "waiting"
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Inference steps done and in all, by candidate of the current round."""
    questions: dict[str, str] = field(default_factory=dict)
    """Requirements by id."""
    rounds: dict[int, RoundView] = field(default_factory=dict)
    plan: Plan | None = None
    skills: dict[str, SkillUse] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    usage: dict[str, Usage] = field(default_factory=dict)
    result: RunResult | None = None
    """The latest known result, which may be partial."""
    question: DecisionRequest | None = None
    """What the run asks a person before it goes on."""

    @classmethod
    def of(cls, result: RunResult) -> RunView:
        """Create the view of a run from a result, which may be partial."""
        run = cls(result.prompt, result.run_id)
        run.update(result)
        return run

    @property
    def is_working(self) -> bool:
        """Whether more events may follow."""
        return self.status == "running"

    @property
    def best(self) -> RoundView | None:
        """The best judged round; of equal ones, the first. What a person took comes first, what they took back last."""
        judged = [view for view in self.rounds.values() if view.score is not None]
        order = {True: 2, None: 1, False: 0}
        return max(judged, key=lambda view: (order[view.taken], view.score or 0.0, -view.number), default=None)

    @property
    def step(self) -> tuple[int, int] | None:
        """Inference steps of the current round, done and in all; None if unknown."""
        if not self.steps:
            return None
        return sum(done for done, _ in self.steps.values()), sum(total for _, total in self.steps.values())

    @property
    def drawn(self) -> int:
        """Number of images."""
        return sum(len(view.images) for view in self.rounds.values())

    def parent_of(self, view: RoundView) -> RoundView | None:
        """Return the round whose image a round changed; None if it changed none of this run."""
        earlier = (self.rounds[number] for number in sorted(self.rounds) if number < view.number)
        return next((known for known in earlier if view.origin.get("parent") in known.images.values()), None)

    def round(self, number: int) -> RoundView:
        """Return the round of a number, adding it if it is new."""
        return self.rounds.setdefault(number, RoundView(number))

    def ask(self, question: DecisionRequest) -> None:
        """Add what the run asks a person."""
        self.question = question
        left = {choice["round"] for choice in question["choices"]}
        for view in self.rounds.values():
            # What a person took back is written down with the next decision only.
            view.taken = view.taken if view.number in left else False

    def update(self, result: RunResult) -> None:
        """Add a result, which may be partial: whatever it lacks is kept."""
        self.result, self.status = result, result.status
        self.usage = result.usage or self.usage
        self.plan = result.plan or self.plan
        self.questions |= {item.id: item.question for item in result.requirements}
        self.skills |= {use["name"]: use for use in result.skill_uses}
        for known in result.rounds:
            self.round(known["number"]).update(known)
        for recall in result.recalls:
            if view := self.rounds.get(recall["round"]):
                view.lessons = [format_lesson(lesson) for lesson in recall["lessons"]]
        for experience in result.experiences:
            self._reflect(experience)
        self._warn(*result.warnings)
        if not self.is_working:
            self.doing = _STOPPED.get(result.stop_reason or "", result.status)

    def take(self, event: Event) -> None:  # noqa: C901 - one case per event
        """Add an event."""
        match event:
            case Started():
                self.run_id, self.status = event.run_id, "running"
                self.doing = "resuming" if event.resumed else "planning"
            case Planned():
                self.plan, self.doing = event.plan, "drawing round 1"
            case RequirementsListed():
                self.questions |= {item["id"]: item["question"] for item in event.requirements}
            case SkillUsed():
                self.skills[event.use["name"]] = event.use
            case LessonsRecalled():
                lessons = [format_lesson(lesson) for lesson in event.recall["lessons"]]
                self.round(event.recall["round"]).lessons = lessons
            case StepDone():
                self.doing = f"drawing round {event.round}"
                self.steps[event.candidate] = (event.done, event.total)
            case ImageDrawn():
                view = self.round(event.round)
                view.prompt = event.prompt
                view.draw(event.candidate)
                view.origin = event.origin or view.origin
                self.doing = f"judging round {event.round}"
            case Judged():
                self.round(event.round).judge(event.verdicts, event.best)
                self.doing = f"learning from round {event.round}"
                self.steps.clear()
            case Reflected():
                self._reflect(event.experience)
                self.doing = f"drawing round {event.experience['round'] + 1}"
            case Warned():
                self._warn(event.message)
            case Stopped():
                self.doing = "saving"
            case Finished():
                self.update(event.result)

    def _reflect(self, experience: Experience) -> None:
        view = self.round(experience["round"])
        view.learned, view.next_prompt = experience["text"], experience["next_prompt"]

    def _warn(self, *messages: str) -> None:
        self.warnings = list(dict.fromkeys([*self.warnings, *messages]))
