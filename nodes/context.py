"""What nodes and skills do their work with: asking once, drawing once, within the run's limits."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from langgraph.store.base import BaseStore

from gems.errors import DeadlineReachedError, GemsError, RunCancelledError, StorageError
from gems.events import Event, ImageDrawn, StepDone, Warned
from gems.memory.outbox import PendingOp
from gems.memory.writer import apply
from gems.models.chat.messages import ChatReply, Picture, Question
from gems.models.chat.parsing import read_json
from gems.models.images import jpegs
from gems.models.schemas import TASK_ROLES
from gems.models.usage import NOTHING, merged
from gems.observability.tracing import OFF, Span
from gems.state import Context, State
from gems.types import Candidate, GeneratedImage, ImageRequest, Profile, Role, Usage

logger = logging.getLogger(__name__)
T = TypeVar("T")

GENERATOR = "generator"
"""Name of the generator's share in a run's usage."""
# Longest side in pixels of shown images. What is wrong with one the reflector reads in the judge's words.
_SIDE = 1024
_SIDES: dict[Role, int] = {"reflector": 512}


@dataclass(slots=True)
class NodeContext:
    """One node's turn in one run.

    Attributes:
        context: What the run is given.
        run_id: Names the run in the ledger; empty for a run that nothing could resume.
        round: The round this turn belongs to, 0 before the first.
        profile: Decides how images are shown.
        deadline_s: Seconds the run may take, counted from `context.started`; None for no limit.
        write: Takes events as plain dictionaries.
        store: What other runs learnt; None where memory is off.
        source: Id of the picture that the run edits; empty where it draws from nothing.
        usage: What this turn consumed so far, by role and `generator`.
        warnings: What went wrong in this turn without ending it.
    """

    context: Context
    run_id: str
    round: int
    profile: Profile
    deadline_s: float | None
    write: Callable[[Any], None]
    store: BaseStore | None = None
    source: str = ""
    usage: dict[str, Usage] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        state: State,
        context: Context,
        write: Callable[[Any], None],
        thread_id: str | None,
        store: BaseStore | None = None,
    ) -> NodeContext:
        """A turn for the round that `state` is in."""
        options = state.get("options")
        return cls(
            context=context,
            run_id=state.get("run_id") or thread_id or "",
            round=len(state.get("rounds") or ()) + 1,
            profile=options["profile"] if options else state.get("profile", "balanced"),
            deadline_s=options["deadline_s"] if options else state.get("deadline_s"),
            write=write,
            store=store,
            source=(options.get("source") if options else None) or "",
        )

    @property
    def is_editing(self) -> bool:
        """Whether chat models are told that a picture is edited; what the paper asks stays as it is."""
        return bool(self.source) and self.profile != "paper"

    def emit(self, event: Event) -> None:
        """Tell whoever watches."""
        stamped = event.model_copy(update={"run_id": self.run_id, "seconds": self.seconds()})
        self.write(stamped.model_dump())

    def warn(self, message: str) -> None:
        """Record what went wrong and tell whoever watches."""
        logger.warning("Run %s, round %d: %s", self.run_id, self.round, message)
        self.warnings.append(message)
        self.emit(Warned(message=message))

    def seconds(self) -> float:
        """How long this process has worked on the run."""
        return time.monotonic() - self.context.started

    def total_usage(self, state: State) -> dict[str, Usage]:
        """What the run consumed so far, this turn included."""
        return merged(state.get("usage"), self.usage)

    def check_limits(self) -> None:
        """Raise where the run should not begin anything new.

        Raises:
            RunCancelledError: somebody cancelled the run.
            DeadlineReachedError: its time is used up.
        """
        if self.context.cancelled.is_set():
            raise RunCancelledError("The run was cancelled.")
        if (left := self._seconds_left()) is not None and left <= 0:
            raise DeadlineReachedError(f"The run's {self.deadline_s:g} seconds are used up.")

    async def within_limits(self, doing: Awaitable[T]) -> T:
        """Await `doing`, but no longer than until the deadline or a cancellation.

        Raises:
            RunCancelledError: the run was cancelled in the meantime.
            DeadlineReachedError: the deadline came first.
        """
        task = asyncio.ensure_future(doing)
        cancelled = asyncio.ensure_future(self.context.cancelled.wait())
        try:
            await asyncio.wait(
                (task, cancelled), timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                return task.result()
            if cancelled.done():
                raise RunCancelledError("The run was cancelled.")
            raise DeadlineReachedError(f"The run's {self.deadline_s:g} seconds are used up.")
        finally:
            cancelled.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def ask(self, question: Question) -> ChatReply:
        """The answer to `question`: from the ledger where it was given before, else from the chat model.

        Raises:
            GemsError: see `ChatClient.ask` and `within_limits`.
        """
        role = TASK_ROLES[question.task]
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
            )
        reply = await self._answered(role, question)
        if self.run_id:
            await self._enter_answer(key, question, reply)
        return reply

    async def draw(self, index: int, request: ImageRequest) -> Candidate:
        """The candidate for `request`: from the ledger where it was drawn before, else from the generator.

        The image is stored and entered into the ledger before this returns.

        Raises:
            GemsError: see `ImageGenerator.generate` and `within_limits`.
        """
        generator, ledger = self.context.generator, self.context.ledger
        fingerprint = request.fingerprint(generator.capabilities.model)
        if self.run_id:
            kept = await ledger.drawing(self.run_id, self.round, index, fingerprint)
            if kept is not None:
                self._count_drawing(kept["seconds"])
                return kept
        watched = replace(request, on_progress=self._progress(index))
        with self.span("draw", model=generator.capabilities.model, candidate=index) as span:
            span.texts(prompt=request.prompt)
            drawn = await self.within_limits(generator.generate(watched))
            span.tell(
                seed=drawn.seed, width=drawn.width, height=drawn.height, seconds=round(drawn.seconds, 3)
            )
        # Paid for: from here on the image must be kept, even if this turn is cancelled meanwhile.
        keeping = asyncio.ensure_future(self._keep(index, request, drawn, fingerprint))
        try:
            return await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await keeping
            raise

    async def hand_on(self, operation: PendingOp) -> None:
        """Hand on what later runs can learn from; beside the loop where there is a writer.

        A store that is down takes nothing from the run, which says so.
        """
        try:
            if self.context.writer is not None:
                await self.context.writer.submit(operation)
            elif self.store is not None:
                await apply(self.store, [operation])
        except GemsError as error:
            self.warn(f"What was learnt could not be handed on: {error}")

    async def picture(self, image: str, role: Role, label: str = "") -> Picture:
        """A stored image, encoded for showing it to the chat model of `role`."""
        side = None if self.profile == "paper" else self._side(role)
        encodings, images = self.context.encodings, self.context.images
        encoded, media_type = await encodings.encoded(image, side, images.load)
        return Picture(image=image, data=encoded, media_type=media_type, label=label)

    def span(self, kind: str, name: str = "", **facts: Any) -> AbstractContextManager[Span]:
        """A span of the trace for a piece of this turn; see `Tracing.span`."""
        tracing = self.context.tracing or OFF
        return tracing.span(kind, name, run_id=self.run_id, round=self.round, **facts)

    async def _answered(self, role: Role, question: Question) -> ChatReply:
        client = self.context.chats[role]
        with self.span("chat", question.task, role=role, task=question.task, model=client.name) as span:

            def count(used: Usage) -> None:
                self._count(role, used)
                span.used(used)

            span.texts(question=question.text, system=question.system)
            reply = await self.within_limits(client.ask(question, count))
            span.texts(answer=reply.text)
            return reply

    async def _keep(
        self, index: int, request: ImageRequest, drawn: GeneratedImage, fingerprint: str
    ) -> Candidate:
        image, shown = await asyncio.gather(
            self.context.images.put(drawn.data), asyncio.to_thread(self._as_shown, drawn)
        )
        self.context.encodings.hold(image, shown)
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
        self._count_drawing(drawn.seconds)
        await self._enter_drawing(candidate, fingerprint, request)
        path = self.context.link(candidate["image"]) or str(self.context.images.path(candidate["image"]))
        self.emit(ImageDrawn(round=self.round, prompt=request.prompt, candidate=candidate, path=path))
        return candidate

    def _as_shown(self, drawn: GeneratedImage) -> dict[int, bytes]:
        """What judge and reflector will be shown, made while the picture is at hand. Blocking."""
        if drawn.pixels is None or self.profile == "paper":
            return {}
        return jpegs(drawn.pixels, {self._side("judge"), self._side("reflector")})

    def _side(self, role: Role) -> int:
        return self.context.chats[role].limits.image_side or _SIDES.get(role, _SIDE)

    def _seconds_left(self) -> float | None:
        if self.deadline_s is None:
            return None
        return max(0.0, self.context.started + self.deadline_s - time.monotonic())

    def _count(self, name: str, usage: Usage) -> None:
        self.usage = merged(self.usage, {name: usage})

    def _count_drawing(self, seconds: float) -> None:
        price = self.context.generator.capabilities.price_usd
        self._count(GENERATOR, NOTHING | {"calls": 1, "seconds": seconds, "usd": price})

    def _progress(self, index: int) -> Callable[[int, int], None]:
        """A callback for any thread that tells about inference steps on the event loop."""
        loop, of_node = asyncio.get_running_loop(), copy_context()
        # A thread of a worker knows nothing of the graph, which asks what writes to its stream where it is.

        def tell(done: int, total: int) -> None:
            step = StepDone(round=self.round, candidate=index, done=done, total=total)
            loop.call_soon_threadsafe(self.emit, step, context=of_node)

        return tell

    async def _enter_answer(self, key: str, question: Question, reply: ChatReply) -> None:
        try:
            await self.context.ledger.enter_answer(
                self.run_id,
                key,
                question.task,
                {
                    "text": reply.text,
                    "thought": reply.thought,
                    "yes_probability": reply.yes_probability,
                    "usage": reply.usage,
                },
            )
        except StorageError as error:
            self.warn(f"An answer could not be entered into the ledger: {error}")

    async def _enter_drawing(self, candidate: Candidate, fingerprint: str, request: ImageRequest) -> None:
        unsaved = self.context.images.unsaved.get(candidate["image"])
        if unsaved is not None:
            self.warn(f"An image could not be stored and is held in memory only: {unsaved}")
        elif self.run_id:
            try:
                await self.context.ledger.enter_drawing(
                    self.run_id, self.round, candidate, fingerprint, request
                )
            except StorageError as error:
                self.warn(f"A drawing could not be entered into the ledger: {error}")


def _answer_key(number: int, question: Question) -> str:
    """SHA-256 of the question and its place in the run; images stand by their ids."""
    parts = [part if isinstance(part, str) else [part.image, part.label] for part in question.parts]
    identity = [number, question.task, question.system, parts, question.attempt]
    return hashlib.sha256(json.dumps(identity, ensure_ascii=False).encode()).hexdigest()
