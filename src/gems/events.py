"""Events of a run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gems.errors import InternalError
from gems.results import RunResult
from gems.types import Candidate, Experience, Failure, Origin, Plan, Recall, Requirement, SkillUse, StopReason, Verdict


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str = ""
    seconds: float = Field(0.0, description="Since this process began to work on the run.")


class Started(_Event):
    """The run started, or was resumed."""

    type: Literal["started"] = "started"
    resumed: bool = False


class Planned(_Event):
    """The planner chose skills and wrote the first prompt."""

    type: Literal["planned"] = "planned"
    plan: Plan


class RequirementsListed(_Event):
    """The decomposer listed the requirements."""

    type: Literal["requirements"] = "requirements"
    requirements: list[Requirement]


class SkillUsed(_Event):
    """A chosen skill ran."""

    type: Literal["skill"] = "skill"
    use: SkillUse


class StepDone(_Event):
    """An inference step of an image is done."""

    type: Literal["step"] = "step"
    round: int
    candidate: int
    done: int
    total: int


class ImageDrawn(_Event):
    """A candidate was generated and stored."""

    type: Literal["image"] = "image"
    round: int
    prompt: str
    candidate: Candidate
    origin: Origin = Field(default_factory=Origin, description="How it came to be.")
    path: str = Field(description="The stored PNG; a link to it where a server shows images.")


class Judged(_Event):
    """The candidates of a round were judged."""

    type: Literal["verdicts"] = "verdicts"
    round: int
    verdicts: list[Verdict]
    best: int = Field(description="Index of the best candidate.")
    score: float
    origin: Origin = Field(default_factory=Origin, description="How the images came to be.")


class LessonsRecalled(_Event):
    """Lessons of earlier runs were added to a round's prompt."""

    type: Literal["lessons"] = "lessons"
    recall: Recall


class Reflected(_Event):
    """The reflector summarized the round and wrote the next prompt."""

    type: Literal["experience"] = "experience"
    experience: Experience


class Warned(_Event):
    """A problem that did not end the run."""

    type: Literal["warning"] = "warning"
    message: str


class Stopped(_Event):
    """The loop ended; `Finished` follows with the result."""

    type: Literal["stopped"] = "stopped"
    stop_reason: StopReason
    image: str | None
    score: float
    failure: Failure | None = None


class Finished(_Event):
    """The result is saved; the last event of a stream."""

    type: Literal["finished"] = "finished"
    result: RunResult


Event = Annotated[
    Started
    | Planned
    | RequirementsListed
    | SkillUsed
    | StepDone
    | ImageDrawn
    | Judged
    | LessonsRecalled
    | Reflected
    | Warned
    | Stopped
    | Finished,
    Field(discriminator="type"),
]

_EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def read_event(value: dict[str, Any]) -> Event:
    """Parse an event from the graph's custom stream."""
    return _EVENT_ADAPTER.validate_python(value)


async def wait_for_result(
    events: AsyncGenerator[Event], on_event: Callable[[Event], Awaitable[None]] | None = None
) -> RunResult:
    """Return the result at the end of a run's events, after `on_event` had each of them."""
    async with aclosing(events):
        async for event in events:
            if on_event is not None:
                await on_event(event)
            if isinstance(event, Finished):
                return event.result
    raise InternalError("A run ended without a result.")
