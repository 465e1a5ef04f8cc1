"""Give nodes and skills access to the models within the run's limits."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from langgraph.store.base import BaseStore

from gems.errors import (
    ConfigurationError,
    DeadlineReachedError,
    GemsError,
    RunCancelledError,
    StorageError,
    UnalignedEditError,
)
from gems.events import Event, ImageDrawn, StepDone, Warned
from gems.generation import GeneratedImage, ImageRequest
from gems.memory.experience import PendingOp
from gems.memory.ledger import KeptAnswer
from gems.memory.patches import Patch
from gems.memory.writer import apply
from gems.models.chat.messages import ChatReply, Picture, Question
from gems.models.chat.parsing import read_json
from gems.models.chat.schemas import TASK_ROLES
from gems.models.images import encode_jpegs
from gems.models.masks import lock_outside
from gems.nodes.prompts import INSTRUCTIONS, replace_wording
from gems.observability.tracing import OFF, Span
from gems.state import Context, State
from gems.types import NO_USAGE, Candidate, Options, Origin, Profile, Role, Usage, merge_usage

logger = logging.getLogger(__name__)
T = TypeVar("T")
Writer = Callable[[Any], None]

GENERATOR = "generator"
"""Name of the generator in a run's usage."""
# Images shown to models have at most the area of a square of this side in pixels, 1.5 megapixels; the reflector
# also reads the judge's findings.
_SIDE = 1255
_SIDES: dict[Role, int] = {"reflector": 512}


_MOST_AHEAD = 1_000
"""Jobs that a context keeps that nobody waited for; a server uses one context for all runs."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A job that outlives the node that began it, with what it was given and the events that it emitted."""

    task: asyncio.Task[Any]
    work: NodeContext
    events: list[Any]


@dataclass(slots=True)
class NodeContext:
    """What one call of a node is given, with its usage by role, and its warnings."""

    context: Context
    run_id: str
    """Names the run in the ledger; empty for a run that cannot be resumed."""
    round: int
    """The current round; 0 before the first."""
    profile: Profile
    deadline_s: float | None
    """Seconds that the run may take from `context.started`; None for no limit."""
    write: Writer
    """Receives events as dictionaries."""
    store: BaseStore | None = None
    """Lessons of other runs; None if memory is off."""
    source: str = ""
    """Id of the image that each round edits; empty if there is none."""
    patches: tuple[Patch, ...] = ()
    """Changes of wordings and skills that the run was started with."""
    origin: Origin = field(default_factory=Origin)
    """How the images of the round come to be, for events."""
    usage: dict[str, Usage] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def begin(
        cls, state: State, context: Context, write: Writer, thread: str, store: BaseStore | None = None
    ) -> NodeContext:
        """Create the context for the round that `state` is in."""
        work = cls(
            context=context,
            run_id=state.get("run_id") or thread,
            round=len(state.get("rounds") or ()) + 1,
            profile=state.get("profile") or "balanced",
            deadline_s=state.get("deadline_s"),
            write=write,
            store=store,
        )
        if options := state.get("options"):
            work.use_options(options)
        return work

    def use_options(self, options: Options) -> None:
        """Take over what a run's options say: its models, profile, deadline, patches, and the image that it edits."""
        self.context = self.context.choose(options)
        patches, names = self.context.patches, options.get("patches", ())
        self.profile, self.deadline_s = options["profile"], options["deadline_s"]
        self.patches = patches.select(names) if patches else ()
        self.source = "" if options.get("mending") else options.get("source", "")

    @property
    def is_editing(self) -> bool:
        """Whether chat models are told that an image is edited; the paper's questions stay unchanged."""
        return bool(self.source) and self.profile != "paper"

    @property
    def prompt_tokens(self) -> int | None:
        """How much of a prompt the generator reads, for those who write it; the paper's questions stay unchanged."""
        return None if self.profile == "paper" else self.context.generator.capabilities.prompt_tokens

    def emit(self, event: Event) -> None:
        """Emit an event to the run's subscribers."""
        stamp = {"run_id": self.run_id, "seconds": time.monotonic() - self.context.started}
        self.write(event.model_copy(update=stamp).model_dump())

    def warn(self, message: str) -> None:
        """Record a warning and emit it."""
        logger.warning("Run %s, round %d: %s", self.run_id, self.round, message)
        self.warnings.append(message)
        self.emit(Warned(message=message))

    def total_usage(self, state: State) -> dict[str, Usage]:
        """Return the run's usage so far, including this call's."""
        return merge_usage(state.get("usage"), self.usage)

    def check_limits(self) -> None:
        """Raise `RunCancelledError` or `DeadlineReachedError` if the run should start nothing new."""
        if self.context.cancelled.is_set():
            raise RunCancelledError("The run was cancelled.")
        if (left := self._seconds_left()) is not None and left <= 0:
            raise DeadlineReachedError(f"The run reached its deadline of {self.deadline_s:g} s.")

    async def within_limits(self, doing: Awaitable[T]) -> T:
        """Await `doing`; RunCancelledError or DeadlineReachedError if the run is ended first."""
        task = asyncio.ensure_future(doing)
        cancelled = asyncio.ensure_future(self.context.cancelled.wait())
        try:
            await asyncio.wait((task, cancelled), timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if cancelled.done():
                raise RunCancelledError("The run was cancelled.")
            raise DeadlineReachedError(f"The run reached its deadline of {self.deadline_s:g} s.")
        finally:
            cancelled.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def begin_ahead(self, name: str, doing: Callable[[NodeContext], Coroutine[Any, Any, T]]) -> None:
        """Begin a job that a later node of this run waits for by `join_ahead`; its answers go to the ledger."""
        events: list[Any] = []
        aside = replace(self, write=events.append, usage={}, warnings=[])
        task = asyncio.ensure_future(doing(aside))
        # A run that fails before does not wait for it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        jobs, key = self.context.ahead, f"{self.run_id}/{name}"
        if before := jobs.pop(key, None):
            before.task.cancel()
        jobs[key] = Ahead(task, aside, events)
        while len(jobs) > _MOST_AHEAD:
            jobs.pop(next(iter(jobs))).task.cancel()

    def has_failed_ahead(self, name: str) -> bool:
        """Return whether a job has ended with an error, which `join_ahead` raises."""
        job = self.context.ahead.get(f"{self.run_id}/{name}")
        return job is not None and job.task.done() and not job.task.cancelled() and job.task.exception() is not None

    async def join_ahead(self, name: str) -> Any:
        """Return the result of a job, with its usage, warnings and events; None if no node of this process began it."""
        job = self.context.ahead.pop(f"{self.run_id}/{name}", None)
        if job is None:
            return None
        try:
            return await self.within_limits(job.task)
        finally:
            self.usage = merge_usage(self.usage, job.work.usage)
            self.warnings += job.work.warnings
            for event in job.events:
                self.write(event)

    async def ask(self, question: Question) -> ChatReply:
        """Return the answer to `question`, from the ledger if it was given before, else from the model."""
        question, role = self._amend(question), TASK_ROLES[question.task]
        key = _answer_key(self.round, question)
        kept = await self.context.ledger.answer(self.run_id, key) if self.run_id else None
        if kept is not None:
            self._count(role, kept["usage"])
            parsed = read_json(kept["text"], question.reply) if question.reply is not None else None
            return ChatReply(
                text=kept["text"],
                thought=kept["thought"],
                parsed=parsed,
                yes_probability=kept["yes_probability"],
                usage=kept["usage"],
                yes_probabilities=tuple(kept.get("yes_probabilities", ())),
            )
        reply = await self._ask_model(question)
        if self.run_id:
            answer: KeptAnswer = {
                "text": reply.text,
                "thought": reply.thought,
                "yes_probability": reply.yes_probability,
                "usage": reply.usage,
                "question": {"round": self.round, "system": question.system, "parts": _identify(question)},
            }
            if reply.yes_probabilities:
                answer["yes_probabilities"] = list(reply.yes_probabilities)
            try:
                await self.context.ledger.enter_answer(self.run_id, key, question.task, answer)
            except StorageError as error:
                self.warn(f"An answer could not be recorded in the ledger: {error}")
        return reply

    async def ask_once(self, question: Question) -> ChatReply:
        """Return the answer of the model, which is not recorded; after a failure the same is not asked again."""
        return await self._ask_model(self._amend(question), attempts=1)

    def amend_skill(self, name: str, body: str) -> str:
        """Return a skill's guidance with the run's patches."""
        return self._apply([patch for patch in self.patches if (patch.kind, patch.target) == ("skill", name)], body)

    def _amend(self, question: Question) -> Question:
        """Return the question in the wording that the run's patches give its task."""
        wanted = [patch for patch in self.patches if (patch.kind, patch.target) == ("wording", question.task)]
        if not wanted:
            return question
        return replace_wording(question, self._apply(wanted, INSTRUCTIONS[question.task]))

    def _apply(self, patches: Sequence[Patch], text: str) -> str:
        """Return the text with patches; those that do not fit any more are left out with a warning."""
        for patch in patches:
            try:
                text = patch.amend(text)
            except ConfigurationError as error:
                if (message := f"A patch is left out: {error}") not in self.warnings:
                    self.warn(message)
        return text

    async def _ask_model(self, question: Question, attempts: int | None = None) -> ChatReply:
        role = TASK_ROLES[question.task]
        client = self.context.chats[role]
        with self.span("chat", question.task, role=role, task=question.task, model=client.name) as span:

            def count(used: Usage) -> None:
                self._count(role, used)
                span.add_usage(used)

            span.set_texts(question=question.text, system=question.system)
            reply = await self.within_limits(client.ask(question, count, attempts))
            span.set_texts(answer=reply.text)
        return reply

    async def draw(self, index: int, request: ImageRequest, parent: tuple[bytes, bytes] | None = None) -> Candidate:
        """Return the candidate for `request`, from the ledger or the generator; then stored and recorded.

        `parent` are the image that is changed and its mask, as PNG: outside of the mask the candidate equals it, in
        whatever size the generator draws. Raises UnalignedEditError, once for each request, if it cannot.
        """
        generator, ledger = self.context.generator, self.context.ledger
        fingerprint = request.fingerprint(generator.capabilities.model)
        refused = hashlib.sha256(f"{self.round}/{index}/{fingerprint}".encode()).hexdigest()
        if self.run_id:
            kept = await ledger.drawing(self.run_id, self.round, index, fingerprint)
            if kept is not None:
                self._count_drawing(kept["seconds"], kept["parameters"])
                return kept
            if parent is not None and (told := await ledger.answer(self.run_id, refused)) is not None:
                self._count(GENERATOR, told["usage"])
                raise UnalignedEditError(told["text"])
        try:
            return await self._draw_new(index, request, fingerprint, parent)
        except UnalignedEditError as error:
            # It was paid for, and is not asked for again by a run that is resumed.
            usage = NO_USAGE | {"calls": 1, "usd": generator.capabilities.price_usd}
            self._count(GENERATOR, usage)
            if self.run_id:
                answer: KeptAnswer = {"text": error.message, "thought": "", "yes_probability": None, "usage": usage}
                await ledger.enter_answer(self.run_id, refused, "edit", answer)
            raise

    async def _draw_new(
        self, index: int, request: ImageRequest, fingerprint: str, parent: tuple[bytes, bytes] | None
    ) -> Candidate:
        generator = self.context.generator
        watched = replace(request, on_progress=self._progress(index))
        with self.span("draw", model=generator.capabilities.model, candidate=index) as span:
            span.set_texts(prompt=request.prompt)
            drawn = await self.within_limits(generator.generate(watched))
            if parent is not None:
                drawn = await asyncio.to_thread(lock_outside, drawn, *parent)
            span.set_facts(seed=drawn.seed, width=drawn.width, height=drawn.height, seconds=round(drawn.seconds, 3))
        # The image is paid for: keep it even if the node is cancelled meanwhile.
        keeping = asyncio.ensure_future(self._keep(index, request, drawn, fingerprint))
        try:
            return await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await keeping
            raise

    async def hand_on(self, operation: PendingOp) -> None:
        """Pass an experience to memory, in the background if there is a writer; failures are warned about."""
        try:
            if self.context.writer is not None:
                await self.context.writer.submit(operation)
            elif self.store is not None:
                await apply(self.store, [operation])
        except GemsError as error:
            self.warn(f"The experience could not be stored: {error}")

    async def picture(self, image: str, role: Role, label: str = "") -> Picture:
        """Return a stored image, encoded for the chat model of `role`."""
        side = None if self.profile == "paper" else self._side(role)
        encodings, images = self.context.encodings, self.context.images
        encoded, media_type = await encodings.encode(image, side, images.load)
        return Picture(image=image, data=encoded, media_type=media_type, label=label)

    def span(self, kind: str, name: str = "", **facts: Any) -> AbstractContextManager[Span]:
        """Open a span of the trace for a part of this call."""
        tracing = self.context.tracing or OFF
        return tracing.span(kind, name, run_id=self.run_id, round=self.round, **facts)

    async def _keep(self, index: int, request: ImageRequest, drawn: GeneratedImage, fingerprint: str) -> Candidate:
        image, shown = await asyncio.gather(
            self.context.images.put(drawn.data), asyncio.to_thread(self._as_shown, drawn)
        )
        self.context.encodings.store(image, shown)
        candidate: Candidate = {
            "index": index,
            "image": image,
            "seed": request.seed,
            "width": drawn.width,
            "height": drawn.height,
            "model": drawn.model,
            "parameters": drawn.parameters | {"seed_used": drawn.seed},
            "seconds": round(drawn.seconds, 3),
        }
        self._count_drawing(drawn.seconds, drawn.parameters)
        for warning in drawn.warnings:
            # All candidates of a round have the same prompt.
            if warning not in self.warnings:
                self.warn(warning)
        await self._enter_drawing(candidate, fingerprint, request)
        path = self.context.link(candidate["image"]) or str(self.context.images.path(candidate["image"]))
        drawn_event = ImageDrawn(
            round=self.round, prompt=request.prompt, candidate=candidate, path=path, origin=self.origin
        )
        self.emit(drawn_event)
        return candidate

    def _as_shown(self, drawn: GeneratedImage) -> dict[int, bytes]:
        """Encode the image for judge and reflector while its pixels are in memory. Blocking."""
        if drawn.pixels is None or self.profile == "paper":
            return {}
        return encode_jpegs(drawn.pixels, {self._side("judge"), self._side("reflector")})

    def _side(self, role: Role) -> int:
        return self.context.chats[role].limits.image_side or _SIDES.get(role, _SIDE)

    def _seconds_left(self) -> float | None:
        if self.deadline_s is None:
            return None
        return max(0.0, self.context.started + self.deadline_s - time.monotonic())

    def _count(self, name: str, usage: Usage) -> None:
        self.usage = merge_usage(self.usage, {name: usage})

    def _count_drawing(self, seconds: float, parameters: Mapping[str, Any]) -> None:
        # What the provider charged counts more than what was expected.
        price = parameters.get("cost_usd", self.context.generator.capabilities.price_usd)
        self._count(GENERATOR, NO_USAGE | {"calls": 1, "seconds": seconds, "usd": price})

    def _progress(self, index: int) -> Callable[[int, int], None]:
        """Return a callback, callable from any thread, that emits inference steps on the event loop."""
        loop, of_node = asyncio.get_running_loop(), copy_context()
        # LangGraph finds its stream writer in context variables, which a worker thread does not have.

        def tell(done: int, total: int) -> None:
            step = StepDone(round=self.round, candidate=index, done=done, total=total)
            loop.call_soon_threadsafe(self.emit, step, context=of_node)

        return tell

    async def _enter_drawing(self, candidate: Candidate, fingerprint: str, request: ImageRequest) -> None:
        unsaved = self.context.images.unsaved.get(candidate["image"])
        if unsaved is not None:
            self.warn(f"An image could not be stored and is held in memory only: {unsaved}")
        elif self.run_id:
            enter = self.context.ledger.enter_drawing
            try:
                await enter(self.run_id, self.round, candidate, fingerprint, request)
            except StorageError as error:
                self.warn(f"An image could not be recorded in the ledger: {error}")


def _answer_key(number: int, question: Question) -> str:
    parts = [part if isinstance(part, str) else list(part.values()) for part in _identify(question)]
    identity = [number, question.task, question.system, parts, question.attempt]
    return hashlib.sha256(json.dumps(identity, ensure_ascii=False).encode()).hexdigest()


def _identify(question: Question) -> list[str | dict[str, str]]:
    """Return the parts of a question with the ids and labels of images in their place."""
    return [part if isinstance(part, str) else {"image": part.image, "label": part.label} for part in question.parts]
