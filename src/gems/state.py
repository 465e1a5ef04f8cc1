"""Graph input, state and output, and the context a run is given."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.messages import AnyMessage, BaseMessage, convert_to_messages
from langgraph.channels.delta import DeltaChannel
from langgraph.graph.message import add_messages
from langgraph.runtime import RunControl
from pydantic import Field
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypedDict

from gems.models.images import Encodings
from gems.models.usage import merged
from gems.types import (
    Candidate,
    DrawingSettings,
    Experience,
    Failure,
    Options,
    Plan,
    Profile,
    Recall,
    Requirement,
    Role,
    Round,
    SkillUse,
    StopReason,
    Usage,
)

if TYPE_CHECKING:
    from gems.memory.images import ImageStore
    from gems.memory.ledger import Ledger
    from gems.memory.writer import ExperienceWriter
    from gems.models.base import ImageGenerator
    from gems.models.chat.client import ChatClient
    from gems.observability.tracing import Tracing
    from gems.skills.ranking import SkillRanking
    from gems.skills.registry import SkillRegistry


def _appended(kept: Sequence[Any] | None, writes: Sequence[Sequence[Any]]) -> list[Any]:
    """All writes behind one another; a delta channel calls it with several writes at once."""
    return [*(kept or ()), *(item for write in writes for item in write)]


def _newest(kept: str | None, writes: Sequence[str]) -> str:
    """The last write."""
    return writes[-1] if writes else kept or ""


def _conversation(kept: Sequence[Any] | None, writes: Sequence[Any]) -> list[Any]:
    """The messages and those that came, each with an id.

    A delta channel calls it again whenever it is read, so ids are made from places and not by chance.
    """
    messages: Any = list(kept or ())
    for write in writes:
        came = convert_to_messages(write if isinstance(write, list | tuple) else [write])
        named: Any = [_named(message, len(messages) + number) for number, message in enumerate(came)]
        messages = add_messages(messages, named)
    return list(messages)


def _named(message: BaseMessage, place: int) -> BaseMessage:
    """The message with an id."""
    if message.id:
        return message
    identity = f"{place}/{message.type}/{message.text}".encode(errors="replace")
    return message.model_copy(update={"id": hashlib.sha256(identity).hexdigest()[:32]})


class Form(TypedDict, total=False):
    """A picture to draw: say what, or send a message that says it. Everything else has a default."""

    # Descriptions and ranges reach the forms that servers make of this; `gems.options` checks them.
    prompt: Annotated[str, Field(description="What to draw, 1 to 20,000 characters.")]
    max_rounds: Annotated[int, Field(description="At most so many rounds; 5 by default.", ge=1, le=50)]
    size: Annotated[str, Field(description="WIDTHxHEIGHT in pixels; the generator's own by default.")]
    seed: Annotated[
        int, Field(description="Repeats a run; drawn by chance and recorded by default.", ge=0, lt=2**31)
    ]
    profile: Annotated[Profile, Field(description="balanced by default; paper repeats the paper's method.")]
    skills: Annotated[
        str, Field(description="auto, none, or names separated by commas; the server's setting by default.")
    ]
    candidates: Annotated[int, Field(description="Images per round; 1 by default.", ge=1, le=16)]
    negative_prompt: Annotated[str, Field(description="What the image must not show; nothing by default.")]
    plateau: Annotated[
        int,
        Field(
            description="Rounds without a better score after which the run stops, 0 for never; 7 by default, "
            "0 for paper.",
            ge=0,
            le=50,
        ),
    ]
    max_images: Annotated[int, Field(description="At most so many images; no limit by default.", ge=1)]
    budget_usd: Annotated[float, Field(description="At most so many US dollars; no limit by default.", gt=0)]
    deadline_s: Annotated[float, Field(description="At most so many seconds; no limit by default.", gt=0)]
    memory: Annotated[
        bool, Field(description="Whether the run learns from others, and others from it; true by default.")
    ]
    messages: Annotated[
        list[AnyMessage],
        DeltaChannel(_conversation),
        Field(description="A conversation: its newest message is the prompt where none is given."),
    ]


class Input(Form, total=False):
    """What a run is given: a form, and what only the service says."""

    owner: str
    """Whose run it is, where a server tells its users apart: what it learns is for their other runs only."""
    run_id: str
    """Set by the service; the thread's id otherwise."""
    source: str
    """Id of the stored picture to edit, put there by the service: a caller who could name any id would get to
    see pictures of others."""


class State(Input, total=False):
    """Everything a run knows. JSON-native but for messages, small, without images."""

    heard: str
    """Digest of the newest run's prompt, in a conversation: so that a prompt that is given is told from one
    that was left by an earlier run. Written by begin."""

    options: Options
    """Complete and checked. Written by begin."""
    plan: Plan
    """Written by planner."""
    requirements: list[Requirement]
    """Written by decomposer, appended to by skills."""
    skill_uses: list[SkillUse]
    """Chosen skills that have had their turn, in order. Written by the skills' nodes."""
    drawing: DrawingSettings
    """How skills want images drawn. Written by the skills' nodes."""
    draw_prompt: str
    """The prompt of the next drawing. Written by planner, skill and reflector."""
    drawn: list[Candidate]
    """The newest candidates, not judged yet. Written by generator, emptied by judge."""
    thought: Annotated[str, DeltaChannel(_newest)]
    """The judge's reasoning about the newest round. Written by judge, emptied by reflector.
    A delta channel, so that it is kept once and not again in every checkpoint until it is emptied."""
    timings: dict[str, float]
    """Seconds of the current round by node. Written by generator, read by judge."""
    rounds: Annotated[list[Round], DeltaChannel(_appended)]
    """All judged rounds. Appended by judge. A delta channel, so that checkpoints grow linearly."""
    experiences: Annotated[list[Experience], DeltaChannel(_appended)]
    """One per round but the last. Appended by reflector."""
    recalls: Annotated[list[Recall], DeltaChannel(_appended)]
    """What earlier runs' lessons rounds were drawn with. Appended by planner and reflector."""
    usage: Annotated[dict[str, Usage], merged]
    """What was consumed so far by role, and by `generator`. Added to by every node."""
    warnings: Annotated[list[str], DeltaChannel(_appended)]
    """What went wrong without ending the run."""
    stop_reason: StopReason | None
    """Why the loop ends; None while it goes on. Written by judge, or by a node that failed."""
    failure: Failure | None
    """Set where a fault ended the loop."""
    image: str | None
    """The best image. Written by finish."""
    image_url: str
    """Where the image can be looked at, if a server shows it: the newest one, and in the end the best one.
    Written by generator and finish."""
    score: float
    """The best image's share of requirements met, in [0, 1]. Written by finish."""
    best_round: int
    """The best image's round, from 1. Written by finish."""
    final_prompt: str
    """The prompt that made the best image. Written by finish."""


class Output(TypedDict, total=False):
    """What a run hands back."""

    run_id: str
    prompt: str
    options: Options
    plan: Plan
    image: str | None
    image_url: str
    score: float
    stop_reason: StopReason | None
    final_prompt: str
    best_round: int
    requirements: list[Requirement]
    rounds: list[Round]
    experiences: list[Experience]
    recalls: list[Recall]
    skill_uses: list[SkillUse]
    drawn: list[Candidate]
    """Images that were not judged, since a fault or a limit came first."""
    usage: dict[str, Usage]
    warnings: list[str]
    failure: Failure | None
    messages: list[AnyMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one run works with; built by the service, never by a node.

    Attributes:
        chats: The chat model of each role.
        generator: Draws the images.
        images: Keeps them.
        ledger: Remembers what was paid for.
        skills: The skills that can be chosen.
        ranking: Says which of many skills the planner is shown; by their words alone where it is None.
        default_skills: What is chosen from where a run does not say: `auto`, `none` or names.
        skill_timeout_s: Seconds that one skill may take.
        learning: Whether runs learn from the store that the graph was compiled with, and write to it.
        tracing: Makes spans of what is done; None where nobody wants them.
        writer: Takes what later runs can learn from; None where the store is written to directly.
        control: Asked to drain, the run stops at the next step and can be resumed.
        cancelled: Set to end the run at the next possible moment.
        encodings: The last pictures as chat models were shown them.
        links: What stands before an image's id in a link to it; None where no server shows images.
        started: `time.monotonic()` when this process began to work on the run; the deadline counts from it.
    """

    chats: Mapping[Role, ChatClient]
    generator: ImageGenerator
    images: ImageStore
    ledger: Ledger
    skills: SkillRegistry
    ranking: SkillRanking | None = None
    default_skills: str = "auto"
    skill_timeout_s: float = 300.0
    learning: bool = True
    tracing: Tracing | None = None
    writer: ExperienceWriter | None = None
    links: str | None = None
    encodings: Encodings = field(default_factory=Encodings)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    control: RunControl = field(default_factory=RunControl)
    started: float = field(default_factory=time.monotonic)

    def link(self, image: str) -> str | None:
        """A link to an image; None where no server shows images."""
        return None if self.links is None else f"{self.links}{image}.png"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        """Servers ask for a schema of what a caller may pass as context; of this, nothing can be sent."""
        return core_schema.any_schema()
