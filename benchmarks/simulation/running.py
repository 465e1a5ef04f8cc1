"""The product's own nodes, run on the simulated world without graph, stores and pictures.

What is decided here is decided by `gems.nodes`: only asking, drawing and telling are replaced, and the order
of the nodes is that of `gems.graphs`. `tests/benchmarks/test_quality.py` holds it against the whole graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from PIL import Image

from benchmarks.simulation.models import REQUIREMENT, Mind
from benchmarks.simulation.world import Editor, Errors, Painting
from gems.events import Event
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.graphs.routing import after_judge
from gems.memory.experience import EXPERIENCES, PendingOp
from gems.models.chat.messages import ChatReply, Picture, Question
from gems.models.chat.parsing import read_json
from gems.models.images import encode_png
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import state_requirements
from gems.nodes.generator import generate
from gems.nodes.judge import judge
from gems.nodes.lessons import record_outcome
from gems.nodes.reflector import reflect
from gems.options import resolve_options
from gems.results import outcome
from gems.skills.models import SkillRegistry
from gems.state import Context, State
from gems.types import NO_USAGE, Candidate, Role, Round, best_verdict

SIDE = 64
CAPABILITIES = GeneratorCapabilities(model="simulated", default_size=(SIDE, SIDE), price_usd=0.0)


@dataclass(frozen=True, slots=True)
class Ending:
    """What a run came to.

    Attributes:
        image: What it handed back.
        met: Whether that image really meets everything.
        passed: Whether the judge was satisfied with it.
        images: How many images were drawn.
        calls: How many questions the chat model was asked.
    """

    image: str
    met: bool
    passed: bool
    images: int
    calls: int


@dataclass(slots=True)
class Course:
    """A whole run, from which shorter ones can be read.

    No decision of a round depends on how many rounds are still to come, so a run with a smaller budget is the
    beginning of one with a larger; a test holds that against real shorter runs.

    Attributes:
        painting: What was drawn.
        rounds: As the run recorded them.
        stop_reason: Why it ended.
        calls: Questions to the chat model until each round was judged.
        editor: How images were changed, if they were.
    """

    painting: Painting
    rounds: list[Round]
    stop_reason: str
    calls: list[int]
    editor: Editor | None = None

    def after(self, rounds: int | None = None) -> Ending:
        """The ending had there been so many rounds at most."""
        kept = self.rounds[:rounds]
        passed = len(kept) == len(self.rounds) and self.stop_reason == "passed"
        images = sum(len(turn["candidates"]) for turn in kept)
        return self._ending(outcome(kept)["image"], passed, images, self.calls[len(kept) - 1])

    def best_of(self, images: int) -> Ending:
        """The ending of the first round had it drawn so many images only."""
        verdicts = self.rounds[0]["verdicts"][:images]
        best = verdicts[best_verdict(verdicts)]
        # Two questions come before the first image; each image costs the same number.
        calls = 2 + (self.calls[0] - 2) * images // len(self.rounds[0]["verdicts"])
        return self._ending(best["image"], best["score"] == 1.0, images, calls)

    def _ending(self, image: str, passed: bool, images: int, calls: int) -> Ending:
        met = all(self.painting.shown(image, self.editor))
        return Ending(image, met, passed, images, calls)


@dataclass(slots=True)
class Memory:
    """What earlier runs left of steps and their outcomes, in place of the store; there are no lessons."""

    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def abatch(self, ops: Sequence[Any]) -> list[list[Any]]:
        """Find no lesson."""
        return [[] for _ in ops]

    async def asearch(self, _place: Any, *, filter: dict[str, Any], limit: int) -> list[Any]:  # noqa: A002 - as LangGraph
        """Return the newest experiences after which an action was taken."""
        found = [value for value in reversed(self.kept.values()) if value["action_after"] == filter["action_after"]]
        return [SimpleNamespace(value=value) for value in found[:limit]]


@dataclass(slots=True)
class Desk(NodeContext):
    """A turn that asks the simulated mind and draws nothing but names of images."""

    mind: Mind = field(kw_only=True)

    def emit(self, event: Event) -> None:
        """Nobody watches."""

    async def ask(self, question: Question) -> ChatReply:
        """The mind's answer."""
        text = "\n".join(part for part in question.parts if isinstance(part, str))
        told = self.mind.reply(question.task, text, [picture.image for picture in question.pictures])
        return ChatReply(
            text=told,
            thought="",
            parsed=read_json(told, question.reply) if question.reply is not None else None,
            yes_probability=None,
            usage=NO_USAGE,
        )

    async def hand_on(self, operation: PendingOp) -> None:
        """Keep an experience for later runs."""
        if self.store is not None and operation["kind"] == "put" and operation["namespace"][0] == EXPERIENCES:
            cast("Memory", self.store).kept[operation["key"]] = operation["value"]

    async def draw(self, index: int, request: ImageRequest, parent: tuple[bytes, bytes] | None = None) -> Candidate:
        """The name of the image, which says what it shows."""
        name = f"{request.prompt}|{request.seed}"
        if request.source is not None:
            fault = REQUIREMENT.findall(request.prompt)[0]
            shown = request.source.removeprefix(_PIXELS).decode()
            name = f"{shown}>{fault} {request.seed}{' locked' if parent else ''}"
        return {
            "index": index,
            "image": name,
            "seed": request.seed,
            "width": SIDE,
            "height": SIDE,
            "model": CAPABILITIES.model,
            "parameters": {},
            "seconds": 0.0,
        }

    async def picture(self, image: str, role: Role, label: str = "") -> Picture:  # noqa: ARG002 - as NodeContext
        """The image's name in place of its pixels."""
        return Picture(image=image, data=b"", media_type="image/png", label=label)


@dataclass(frozen=True, slots=True)
class _Simulated:
    capabilities: GeneratorCapabilities


_PIXELS = encode_png(Image.new("RGB", (SIDE, SIDE)))
"""What an image of the simulation begins with, so that masks find its size; its name follows."""


class _Names:
    async def load(self, image: str) -> bytes:
        return _PIXELS + image.encode()


def _context(capabilities: GeneratorCapabilities) -> Context:
    # Nothing of it is used but the generator's capabilities, images by name, and that there are no skills.
    return Context(
        chats=cast("Any", {"judge": SimpleNamespace(name="simulated")}),
        generator=cast("Any", _Simulated(capabilities)),
        images=cast("Any", _Names()),
        encodings=cast("Any", None),
        ledger=cast("Any", None),
        skills=SkillRegistry(()),
        default_skills="none",
    )


_DRAWER, _EDITOR = (_context(replace(CAPABILITIES, editing=editing)) for editing in (False, True))


async def run(
    painting: Painting, errors: Errors, editor: Editor | None = None, memory: Memory | None = None, **given: Any
) -> Course:
    """One run of the loop.

    Args:
        painting: What to draw; its number is the seed as well.
        errors: How the judge errs.
        editor: How images are changed; None for a generator that only draws.
        memory: What earlier runs left, which this one adds to; None for nothing.
        given: Options as a caller of the graph gives them.
    """
    mind, calls, context = Mind(painting, errors, editor), list[int](), _EDITOR if editor else _DRAWER

    def desk() -> Desk:
        return _desk(state, mind, memory)

    asked = {"prompt": painting.prompt, "current_prompt": painting.prompt, "seed": painting.number}
    state = cast("State", {**asked, "rounds": [], "experiences": [], **given})
    state["options"] = resolve_options(state, context)
    # The planner's question about skills is part of every run.
    mind.reply("route", "", ())
    state["requirements"], _ = await state_requirements(painting.prompt, desk())
    while True:
        _take(state, await generate(state, desk()))
        _take(state, await judge(state, desk()))
        calls.append(mind.calls.total())
        if after_judge(state) == "finish":
            await record_outcome(state, desk())
            return Course(painting, state["rounds"], str(state["stop_reason"]), calls, editor)
        _take(state, await reflect(state, desk()))


def _take(state: State, update: Update) -> None:
    """Put a node's update into the state as the graph's reducers do."""
    values = cast("dict[str, Any]", state)
    for name, value in update.items():
        values[name] = [*values[name], *value] if name in ("rounds", "experiences") else value


def _desk(state: State, mind: Mind, memory: Memory | None) -> Desk:
    begun = NodeContext.begin(state, _EDITOR if mind.editor else _DRAWER, _tell_nobody, "")
    return Desk(
        context=begun.context,
        run_id=begun.run_id,
        round=begun.round,
        profile=begun.profile,
        deadline_s=begun.deadline_s,
        write=begun.write,
        store=cast("Any", memory),
        mind=mind,
    )


def _tell_nobody(event: Any) -> None:
    """Take an event and forget it."""
