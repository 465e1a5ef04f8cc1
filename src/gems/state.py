"""Graph input, state and output, and the context of a run."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from langchain_core.messages import AnyMessage, BaseMessage, convert_to_messages
from langgraph.channels.delta import DeltaChannel
from langgraph.graph.message import add_messages
from langgraph.runtime import RunControl
from pydantic import Field
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypedDict

from gems.errors import NotOfferedError
from gems.options import RunOptions
from gems.types import (
    Candidate,
    DrawingSettings,
    Experience,
    Failure,
    Options,
    Plan,
    Recall,
    Requirement,
    Role,
    Round,
    Shown,
    SkillUse,
    Step,
    StopReason,
    Usage,
    merge_usage,
)

if TYPE_CHECKING:
    from gems.memory.images import ImageStore
    from gems.memory.ledger import Ledger
    from gems.memory.patches import Patches
    from gems.memory.vision_record import VisionRecord
    from gems.memory.writer import ExperienceWriter
    from gems.models.base import ImageGenerator
    from gems.models.chat.client import ChatClient
    from gems.models.detectors.base import ObjectDetector
    from gems.models.images import EncodedImageCache
    from gems.nodes.context import Ahead
    from gems.observability.tracing import Tracing
    from gems.skills.models import SkillRegistry
    from gems.skills.ranking import SkillRanking

T = TypeVar("T")


_MOST_SHOWN = 40


def _append(kept: Sequence[Any] | None, writes: Sequence[Sequence[Any]]) -> list[Any]:
    """Append all writes; a delta channel calls this with several writes at once."""
    return [*(kept or ()), *(item for write in writes for item in write)]


def _append_shown(kept: Sequence[Any] | None, writes: Sequence[Sequence[Any]]) -> list[Any]:
    """Append all writes, and keep the newest."""
    return _append(kept, writes)[-_MOST_SHOWN:]


def _keep_last(kept: str | None, writes: Sequence[str]) -> str:
    """Return the last write."""
    return writes[-1] if writes else kept or ""


def _add_messages(kept: Sequence[Any] | None, writes: Sequence[Any]) -> list[Any]:
    """Append new messages, each with an id.

    A delta channel repeats this whenever it is read, so ids depend on positions and not on chance.
    """
    messages: Any = list(kept or ())
    for write in writes:
        new_messages = convert_to_messages(write if isinstance(write, list | tuple) else [write])
        with_ids: Any = [_with_id(message, len(messages) + number) for number, message in enumerate(new_messages)]
        messages = add_messages(messages, with_ids)
    return list(messages)


def _with_id(message: BaseMessage, position: int) -> BaseMessage:
    """Return the message with an id."""
    if message.id:
        return message
    identity = f"{position}/{message.type}/{message.text}".encode(errors="replace")
    return message.model_copy(update={"id": hashlib.sha256(identity).hexdigest()[:32]})


class _Prompt(TypedDict, total=False):
    prompt: Annotated[str, Field(description="What to generate, 1 to 20,000 characters.")]


class Form(_Prompt, RunOptions, total=False):
    """An image to generate: pass a prompt, or a message with it. Everything else has a default."""

    messages: Annotated[
        list[AnyMessage],
        DeltaChannel(_add_messages),
        Field(description="A conversation: without a prompt, its newest message says what to generate or change."),
    ]


class Input(Form, total=False):
    """Input of a run: a form, and fields that only the service sets.

    It names no image to edit, since any id would open images of other users: that of a service's run is in the
    options in the ledger, that of a conversation comes from the thread's own images.
    """

    owner: str
    """The user whose run it is, on servers with users; only their own runs learn from it."""
    run_id: str
    """Set by the service; the thread's id otherwise."""


class State(Input, total=False):
    """State of a run. JSON-native except for messages, small, without images."""

    prompt_digest: str
    """Digest of the newest run's prompt in a conversation, to distinguish a new prompt from one that an
    earlier run left. Written by begin."""
    shown: Annotated[list[Shown], DeltaChannel(_append_shown)]
    """The images that runs on this thread ended with, the newest 40, except those of the service, whose threads have
    one run each. Written by finish. Only what is listed here can be named by a later message, whatever clients send
    as messages of the program."""

    options: Options
    """Complete and checked. Written by begin."""
    plan: Plan
    """Written by planner."""
    requirements: list[Requirement]
    """Written by decomposer, ready or generator, appended to by generator and skills."""
    listing: bool
    """Whether the requirements are still being listed. Written by decomposer, ready and generator."""
    unchecked: list[str]
    """What the prompt asks for and no requirement covers, as questions. Written by decomposer, ready and generator."""
    skill_uses: list[SkillUse]
    """Results of the chosen skills, in order. Written by the skills' nodes."""
    generation_overrides: DrawingSettings
    """Settings of skills for the generator. Written by the skills' nodes."""
    current_prompt: str
    """The prompt of the next images. Written by planner, skill and reflector."""
    step: Step | None
    """What is drawn next. Written by judge; None in the first round."""
    instruction: str
    """What the editor is told, for a step that changes an image. Written by reflector."""
    drawn: list[Candidate]
    """The newest candidates, not judged yet. Written by generator, cleared by judge."""
    judge_reasoning: Annotated[str, DeltaChannel(_keep_last)]
    """The judge's reasoning about the newest round. Written by judge, cleared by reflector.
    A delta channel, so that only one checkpoint stores it."""
    timings: dict[str, float]
    """Seconds of the current round by node. Written by generator, read by judge."""
    rounds: Annotated[list[Round], DeltaChannel(_append)]
    """All judged rounds. Appended by judge. A delta channel, so that checkpoints grow linearly."""
    experiences: Annotated[list[Experience], DeltaChannel(_append)]
    """One per round but the last. Appended by reflector."""
    recalls: Annotated[list[Recall], DeltaChannel(_append)]
    """Lessons of earlier runs that rounds used. Appended by planner and reflector."""
    usage: Annotated[dict[str, Usage], merge_usage]
    """Usage so far by role, and of `generator`. Added to by every node."""
    warnings: Annotated[list[str], DeltaChannel(_append)]
    """Problems that did not end the run."""
    stop_reason: StopReason | None
    """Why the loop ends; None while it is running. Written by judge, or by a node that failed."""
    failure: Failure | None
    """Set if an error ended the loop."""
    image: str | None
    """The best image. Written by finish."""
    image_url: str
    """Link to the newest image, and in the end to the best one, if a server shows images. Written by
    generator and finish."""
    score: float
    """The best image's share of requirements met, in [0, 1]. Written by finish."""
    best_round: int
    """The best image's round, from 1. Written by finish."""
    final_prompt: str
    """The prompt of the best image. Written by finish."""


class Output(TypedDict, total=False):
    """Output of a run."""

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
    """Images that were not judged because of an error or a limit."""
    usage: dict[str, Usage]
    warnings: list[str]
    failure: Failure | None
    messages: list[AnyMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The dependencies of one run; built by the service, never by a node.

    Attributes:
        chats: The chat model of each role.
        generator: The image generator.
        generators: Those that a run may choose, by name; that of the settings has an empty one.
        judges: Chat models that a run may choose as its judge, in the same way.
        detector: Finds objects, as a second look beside the judge; None for none.
        images: The image store.
        encodings: The last images as chat models were shown them.
        ledger: Paid results.
        skills: The skills that can be chosen.
        patches: Changes that were adopted, and all others that can be named; None: there are none.
        vision: Which judges are known to see; None: none is asked before it is shown the first image.
        ranking: Selects the skills that the planner is shown, if there are many; None: by their words alone.
        default_skills: The skills of runs that do not say: `auto`, `none` or names.
        skill_timeout_s: Time limit of one skill in seconds.
        learning: Whether runs learn from the store that the graph was compiled with, and write to it.
        tracing: Creates spans; None for no tracing.
        writer: Writes experiences in the background; None to write to the store directly.
        control: If asked to drain, the run stops at the next step and can be resumed.
        cancelled: Set to end the run as soon as possible.
        links: Prefix of links to images; None if no server shows images.
        ahead: What a node began and a later one waits for, by run and name.
        started: `time.monotonic()` when this process began to work on the run; the deadline counts from it.
    """

    chats: Mapping[Role, ChatClient]
    generator: ImageGenerator
    images: ImageStore
    encodings: EncodedImageCache
    ledger: Ledger
    skills: SkillRegistry
    generators: Mapping[str, ImageGenerator] = field(default_factory=dict)
    judges: Mapping[str, ChatClient] = field(default_factory=dict)
    detector: ObjectDetector | None = None
    patches: Patches | None = None
    vision: VisionRecord | None = None
    ranking: SkillRanking | None = None
    default_skills: str = "auto"
    skill_timeout_s: float = 300.0
    learning: bool = True
    tracing: Tracing | None = None
    writer: ExperienceWriter | None = None
    links: str | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ahead: dict[str, Ahead] = field(default_factory=dict)
    control: RunControl = field(default_factory=RunControl)
    started: float = field(default_factory=time.monotonic)

    def choose(self, options: Mapping[str, Any]) -> Context:
        """Return the context with the models that the options of a run name; NotOfferedError for other names."""
        generator = _offered("generator", options, self.generators, self.generator)
        judge = _offered("judge", options, self.judges, self.chats["judge"])
        if generator is self.generator and judge is self.chats["judge"]:
            return self
        return replace(self, generator=generator, chats={**self.chats, "judge": judge})

    async def end_ahead(self, *, cancel: bool = False) -> None:
        """Wait for what no node waits for any more, or cancel it."""
        tasks = [job.task for job in self.ahead.values()]
        self.ahead.clear()
        for task in tasks if cancel else ():
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def link(self, image: str) -> str | None:
        """Return a link to an image; None if no server shows images."""
        return None if self.links is None else f"{self.links}{image}.png"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        """Return a schema for servers that describe the context; callers cannot send one."""
        return core_schema.any_schema()


def _offered(kind: str, options: Mapping[str, Any], offered: Mapping[str, T], current: T) -> T:
    name = options.get(kind) or ""
    if name and name not in offered:
        raise NotOfferedError(kind, name, filter(None, offered))
    return offered.get(name, current)


def negative_prompt(state: State) -> str:
    """Return what images must not show, from the user, from skills and from the generator's recipe."""
    options = state["options"]
    settings = (state.get("generation_overrides") or {}, options.get("recipe") or {})
    wanted = (options["negative_prompt"], *(each.get("negative_prompt", "") for each in settings))
    return ", ".join(text for text in wanted if text)
