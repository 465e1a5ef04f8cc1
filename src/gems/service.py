"""The service that runs, streams, resumes and cancels runs; all interfaces call it.

    async with Gems() as gems:
        result = await gems.run("three red circles above a blue striped square")
        print(result.path, result.score, result.stop_reason)

`gems.sync` has the same for programs without an event loop.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

from langchain_core.language_models import BaseChatModel
from langgraph.types import StateSnapshot
from typing_extensions import Unpack

from gems.errors import CorruptStoreError, InternalError, OptionError, RunNotFoundError
from gems.events import Event, Finished, Warned, wait_for_result
from gems.generation import editing_size, nearest_size
from gems.graphs.loop import GraphBuilder, build_graph
from gems.memory.run_filter import ALL_RUNS, RunFilter
from gems.memory.source_images import SourceImage, read_mask_image, read_source_image, store_source
from gems.memory.sqlite import reading, translate_storage_errors
from gems.models.base import ImageGenerator
from gems.models.detectors.base import ObjectDetector
from gems.nodes.person import decode_mask, read_decision, store_mask
from gems.nodes.planner import parse_skill_names
from gems.options import (
    OPTIONS,
    RunArguments,
    Target,
    check_editing,
    check_instruction,
    check_names,
    check_prompt,
    options_of,
    resolve_options,
)
from gems.reporting import report_page
from gems.reporting.page import lesson_lines
from gems.resources import Resources, open_resources
from gems.results import RunResult, add_warning, build_result
from gems.runs.cleanup import MIN_AGE, Deletion, Garbage, clear_garbage, delete_run
from gems.runs.dataset import Layout
from gems.runs.estimate import Estimate, estimate_run
from gems.runs.executor import RunExecutor, as_input, asks_for_decision, resume_input
from gems.runs.export import Exported, export_runs
from gems.runs.fork import create_fork, prevent_deletion, thread
from gems.runs.memory_admin import MemoryAdmin, Rebuilt
from gems.runs.output import check_target, load_saved_image
from gems.runs.recovery import ledger_drawings, state_from_ledger
from gems.runs.rewards import RewardJudge
from gems.runs.skill_testing import SkillWorkshop
from gems.runs.training_rows import ExportKind, ExportOptions
from gems.runs.verification import Decomposition, Verification, decompose_prompt, verify_image
from gems.settings import Settings, load_settings
from gems.skills.models import Skill, SkillRegistry
from gems.state import Input, State
from gems.types import Decision, Options, RunRow

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Where a failed run is resumed: the node whose routing leads to the failed one.
_MOST_LISTED = 200
"""Past runs among which comparable ones are looked for."""
_NODE_BEFORE = {"generator": "reflector", "judge": "generator", "reflector": "judge"}


class Gems:
    """The service with opened models and stores, for any number of runs.

    Args:
        settings: Read from the environment and `.env` by default.
        chat: A LangChain chat model for all roles whose settings do not name a model.
        generator: An image generator to use instead of the settings'; it is not closed.
        detector: An object detector to use instead of the settings'; it is not closed.
        skills: The skills that can be chosen, instead of those in folders; see `gems.skills.discovery`.
        graph: Builds another graph with the same state, input and output; the loop by default. Runs can only
            be resumed with the graph that they were started with.

    Raises:
        ConfigurationError: the settings cannot be used.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        chat: BaseChatModel | None = None,
        generator: ImageGenerator | None = None,
        detector: ObjectDetector | None = None,
        skills: Iterable[Skill] | None = None,
        graph: GraphBuilder = build_graph,
    ) -> None:
        self.settings = settings or load_settings()
        fixed = None if skills is None else SkillRegistry(skills)
        self._opening = open_resources(self.settings, chat=chat, generator=generator, detector=detector, skills=fixed)
        self._build = graph
        self._stack = AsyncExitStack()
        self._opened: Resources | None = None

    async def __aenter__(self) -> Self:
        """Open models and stores; raises ConfigurationError or StorageError."""
        self._opened = await self._stack.enter_async_context(self._opening)
        # Imports code of skills.
        graph = await asyncio.to_thread(self._build, self.resources.skills.current.all())
        store = self.resources.experiences.store if self.resources.experiences else None
        self._graph = graph.compile(checkpointer=self.resources.checkpointer, store=store, name="gems")
        self._executor = RunExecutor(self._graph, self.resources, self.settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def resources(self) -> Resources:
        """The opened models and stores; InternalError outside of `async with`."""
        if self._opened is None:
            raise InternalError("Gems is not open.", hint="Use it as `async with Gems() as gems:`.")
        return self._opened

    @property
    def memory(self) -> MemoryAdmin:
        """The experiences and lessons of runs."""
        return MemoryAdmin(self.resources)

    @cached_property
    def rewards(self) -> RewardJudge:
        """Rewards of images for trainers, remembered as long as this service is open."""
        return RewardJudge(self.resources)

    @property
    def skills(self) -> SkillWorkshop:
        """Tools for authors of skills."""
        return SkillWorkshop(self.resources, self.settings.home)

    async def rebuild_memory(
        self, progress: Callable[[int, int], None] | None = None, *, dry_run: bool = False
    ) -> Rebuilt:
        """Rebuild the store of experiences from the trajectories of all runs; see `MemoryAdmin.rebuild`."""
        checkpoints = self.settings.checkpoints_path
        with self._translate_errors():
            return await self.memory.rebuild(self._graph, checkpoints, progress, dry_run=dry_run)

    async def run(self, prompt: str, **arguments: Unpack[RunArguments]) -> RunResult:
        """Run the loop and return its best image.

        Args:
            prompt: What to generate, 1 to 20,000 characters.
            **arguments: See `RunArguments`. With a `source` each round edits that image with its prompt.

        Raises:
            RequestError: the prompt, an option or the source is invalid; nothing was paid for.
            GemsError: the run ended before there was an image; the error's `run_id` names it.
        """
        return await wait_for_result(self.stream(prompt, **arguments))

    async def stream(self, prompt: str, **arguments: Unpack[RunArguments]) -> AsyncGenerator[Event]:
        """Do the same as `run` and yield its events; the last one is `Finished` with the result.

        If the consumer stops iterating, the run is interrupted and can be resumed.
        """
        await self.resources.refresh()
        check_prompt(prompt)
        source = await self._source(arguments)
        mask = await self._mask(arguments, source)
        options = self._resolve_options(arguments, source, mask)
        target = await self._target(arguments)
        for image in (source, mask):
            if image is not None:
                await store_source(image, self.resources.images)
        run_id = _new_id(arguments.get("new_id"))
        async with self.resources.locks.hold(run_id):
            await self._check_unused(run_id)
            row = await self.resources.ledger.begin(
                run_id, prompt, options, self.resources.models(options), arguments.get("owner", "")
            )
            for image in (source, mask):
                if image is not None:
                    # Until now, deleting another run could have deleted it.
                    await store_source(image, self.resources.images)
            async with aclosing(self._executor.execute(row, as_input(row), target)) as events:
                async for event in events:
                    yield event

    async def repair(self, image: bytes | Path, prompt: str, **arguments: Unpack[RunArguments]) -> RunResult:
        """Judge an image of the user, and mend what it lacks; an image that lacks nothing is returned as it is.

        It is the first round, which is judged and not drawn. What follows is chosen as in any run: what fails is
        mended in place where the generator edits, or a new image is drawn.

        Args:
            image: A PNG, JPEG, WebP, GIF, AVIF or HEIC file or its bytes, at most 50 MB and 64 million pixels.
            prompt: What the image should show, 1 to 20,000 characters.
            **arguments: See `RunArguments`, except `source`, `size` and `profile`. With a `mask`, no pixel outside of
                it changes, so nothing is drawn anew. An `instruction` is followed first, even if nothing is lacking.

        Raises:
            RequestError: the image, the prompt or an option is invalid, or the generator cannot edit and must; nothing
                was paid for.
            GemsError: the image could not be judged.
        """
        return await wait_for_result(self.stream_repair(image, prompt, **arguments))

    async def stream_repair(
        self, image: bytes | Path, prompt: str, **arguments: Unpack[RunArguments]
    ) -> AsyncGenerator[Event]:
        """Do the same as `repair` and yield its events."""
        known = {*options_of("repair"), *RunArguments.__annotations__.keys() - OPTIONS.keys() - {"source", "mending"}}
        check_names((name for name, value in arguments.items() if value is not None), known)
        arguments |= {"source": image, "mending": True}
        async with aclosing(self.stream(prompt, **arguments)) as events:
            async for event in events:
                yield event

    async def estimate(self, prompt: str, **arguments: Unpack[RunArguments]) -> Estimate:
        """Estimate the calls, images and dollars of `run` with these arguments; nothing is asked or generated.

        Raises:
            RequestError: the prompt, an option or the source is invalid.
        """
        await self.resources.refresh()
        check_prompt(prompt)
        source = await self._source(arguments)
        options = self._resolve_options(arguments, source, await self._mask(arguments, source))
        rows = await self.resources.ledger.runs(_MOST_LISTED)
        return estimate_run(options, self.resources, rows, self.settings)

    async def resume(self, run_id: str, answer: str | Decision | None = None, **target: Unpack[Target]) -> RunResult:
        """Continue a run that was interrupted, failed, was cancelled or ran out of time.

        A finished run is returned as it is. Nothing that was generated or answered is paid for again.

        Args:
            run_id: The run.
            answer: The answer to a skill's question, or a person's decision; see `AnswerNeededError`.
            **target: See `Target`.

        Raises:
            AnswerNeededError: a skill asks a question, and there is no answer.
            RunNotFoundError: no run has this id.
            RunBusyError: another process is working on it.
            GemsError: the run ended before there was an image.
        """
        return await wait_for_result(self.stream_resume(run_id, answer, **target))

    async def stream_resume(
        self, run_id: str, answer: str | Decision | None = None, **target: Unpack[Target]
    ) -> AsyncGenerator[Event]:
        """Do the same as `resume` and yield its events."""
        row = await self._find_row(run_id)
        checked = await self._target(target)
        await self.resources.refresh()
        async with self.resources.locks.hold(run_id):
            await self.resources.ledger.catch_up()
            snapshot = await self._snapshot(run_id)
            if answer is not None and asks_for_decision(snapshot):
                answer = await self._read_decision(answer)
            start = resume_input(run_id, snapshot, answer) or await self._next_input(row, snapshot)
            has_work_left = start is not None or (await self._snapshot(run_id)).next
            warning = await self._update_models(row) if has_work_left else ""
            if warning:
                yield Warned(run_id=run_id, message=warning)
            async with aclosing(self._executor.execute(row, start, checked)) as events:
                async for event in events:
                    if warning and isinstance(event, Finished):
                        result = add_warning(event.result, warning)
                        event = event.model_copy(update={"result": result})  # noqa: PLW2901
                    yield event

    async def fork(
        self,
        run_id: str,
        number: int,
        prompt: str | None = None,
        *,
        decision: Decision | None = None,
        **arguments: Unpack[RunArguments],
    ) -> RunResult:
        """Start a new run that shares the history of another one up to a round, and continue from there.

        Nothing shared is generated or asked again, and the other run does not change. The new run's usage and
        limits include what is shared.

        Args:
            run_id: The other run; it may be in progress.
            number: The last shared round, from 1.
            prompt: The next prompt; the reflector's by default.
            decision: What a person wants next: an image of the shared rounds changed, perhaps within a mask, or
                `redraw` with an instruction. The policy's next step by default.
            **arguments: Options that differ; `profile`, `size` and `skills` cannot. `max_rounds` is raised to
                allow at least one round more than are shared.

        Raises:
            RunNotFoundError: no run has this id.
            RequestError: it has no such round, or an option is invalid.
            GemsError: see `run`.
        """
        return await wait_for_result(self.stream_fork(run_id, number, prompt, decision=decision, **arguments))

    async def stream_fork(
        self,
        run_id: str,
        number: int,
        prompt: str | None = None,
        *,
        decision: Decision | None = None,
        **arguments: Unpack[RunArguments],
    ) -> AsyncGenerator[Event]:
        """Do the same as `fork` and yield its events; `show` returns what is shared."""
        names = options_of("fork")
        check_names(
            (name for name, value in arguments.items() if value is not None),
            {*names, *Target.__annotations__, "new_id"},
        )
        source, target = await self._find_row(run_id), await self._target(arguments)
        await self.resources.refresh()
        options = {name: value for name, value in arguments.items() if name in names and value is not None}
        new_id = _new_id(arguments.get("new_id"))
        async with self.resources.locks.hold(new_id):
            await self._check_unused(new_id)
            async with prevent_deletion(self.resources.locks, source):
                with self._translate_errors():
                    row = await create_fork(
                        self._graph, source, new_id, number, prompt, cast("Input", options), self.resources, decision
                    )
            async with aclosing(self._executor.execute(row, None, target)) as events:
                async for event in events:
                    yield event

    async def verify(self, image: bytes | Path, prompt: str) -> Verification:
        """Check any image against a prompt as runs check their own; nothing is generated or stored.

        Args:
            image: A PNG, JPEG, WebP, GIF, AVIF or HEIC file or its bytes, at most 50 MB and 64 million pixels.
            prompt: What the image should show.

        Raises:
            RequestError: the prompt or the image is invalid; nothing was paid for.
            GemsError: a chat model failed.
        """
        await self.resources.refresh()
        return await verify_image(image, prompt, self.resources)

    async def decompose(self, prompt: str) -> Decomposition:
        """List the requirements of a prompt as runs check them; nothing is generated or stored.

        Raises:
            RequestError: the prompt is invalid; nothing was paid for.
            GemsError: a chat model failed.
        """
        return await decompose_prompt(prompt, self.resources)

    async def cancel(self, run_id: str) -> None:
        """End a run, in this process or another, as soon as possible.

        Its caller gets the best image so far. A run that is not in progress is left as it is;
        RunNotFoundError if no run has this id.
        """
        await self._find_row(run_id)
        if run_id in self._executor.working:
            self._executor.working[run_id].cancelled.set()
        elif await self.resources.locks.is_locked(run_id):
            await self.resources.ledger.request_cancel(run_id)

    def drain(self) -> None:
        """Stop every run of this process at its next step; each ends with `RunDrainedError`."""
        for context in self._executor.working.values():
            context.control.request_drain()

    async def runs(self, limit: int | None = None, wanted: RunFilter = ALL_RUNS) -> list[RunRow]:
        """Return the runs of this home that match, newest first, with their actual status."""
        if wanted.status is not None:
            marked = await self.resources.ledger.running()
            wanted = replace(wanted, working=await self.resources.locks.locked(marked))
        rows = [await self._with_status(row) for row in await self.resources.ledger.runs(limit, wanted)]
        # Meanwhile runs may have begun or ended.
        return [row for row in rows if wanted.status in (None, row["status"])]

    async def show(self, run_id: str) -> RunResult:
        """Return a run as far as it came; RunNotFoundError if no run has this id."""
        row = await self._find_row(run_id)
        result = await self._partial_result(row)
        if result.image_id is None:
            return result
        return await load_saved_image(result, self.resources.images, row["summary"].get("path"))

    async def question(self, run_id: str) -> Any:
        """Return what a run that stands still asks: a text, or a `DecisionRequest`; None if it asks nothing."""
        await self._find_row(run_id)
        interrupts = (await self._snapshot(run_id)).interrupts
        return interrupts[0].value if interrupts else None

    async def report(self, run_id: str) -> str:
        """Return a run as one self-contained HTML page; RunNotFoundError if no run has this id."""
        row = await self._find_row(run_id)
        result = await self._partial_result(row)
        return await report_page(result, row, self.resources.images, lesson_lines(result))

    async def delete(self, run_id: str, *, dry_run: bool = False) -> Deletion:
        """Delete a run: checkpoints, ledger rows, and images that no other run uses.

        The image in `outputs` is deleted too; files written elsewhere stay. RunNotFoundError if no run has
        this id, RunBusyError if it is being worked on.
        """
        row = await self._find_row(run_id)
        with self._translate_errors():
            return await delete_run(self._graph, row, self.resources, self.settings, dry_run=dry_run)

    async def gc(self, *, dry_run: bool = False, min_age: timedelta = MIN_AGE, unlisted: bool = False) -> Garbage:
        """Delete unreferenced images and files; see `clear_garbage`."""
        limits: dict[str, Any] = {"dry_run": dry_run, "min_age": min_age, "unlisted": unlisted}
        with self._translate_errors():
            return await clear_garbage(self._graph, self.resources, self.settings, **limits)

    async def export(
        self,
        kind: ExportKind,
        out: Path,
        *,
        runs: Sequence[str] = (),
        wanted: RunFilter = ALL_RUNS,
        owner: str = "",
        layout: Layout = "datasets",
        options: ExportOptions | None = None,
    ) -> Exported:
        """Write training data from runs to the new folder `out`, a dataset in Parquet files with a card.

        Args:
            kind: `pairs` of images of which one meets the prompt better, `rewards` of images, or `trajectories`: the
                answers of agents with what came of them.
            out: Where the dataset is put when it is complete; it may exist if it is empty.
            runs: Ids of runs; by default all that match `wanted`, except those that were made without memory.
            wanted: Conditions on runs.
            owner: Only runs of this owner; by default those without one.
            layout: See `gems.runs.dataset.DatasetWriter`.
            options: What is exported of them.

        Raises:
            MissingExtraError: `gems-agent[export]` is not installed.
            OptionError: The folder is not empty, or this kind has no such layout.
            RunNotFoundError: No run has one of these ids.
            StorageError: The folder cannot be written.
        """
        choice: dict[str, Any] = {"runs": runs, "wanted": wanted, "owner": owner, "layout": layout, "options": options}
        with self._translate_errors():
            return await export_runs(self.resources, self._partial_result, kind, out, **choice)

    def _translate_errors(self) -> AbstractContextManager[None]:
        """Translate errors of the checkpoints' file; the other stores translate their own."""
        return translate_storage_errors(self.settings.checkpoints_path)

    async def _partial_result(self, row: RunRow) -> RunResult:
        """Return a run as far as it came; if checkpoints are damaged or lost, what the ledger still knows."""
        lost: CorruptStoreError | None = None
        row = await self._with_status(row)
        try:
            state = cast("State", (await self._snapshot(row["run_id"])).values)
        except CorruptStoreError as error:
            lost = error
        if lost is not None or not state:
            drawings = await ledger_drawings(self.resources.ledger, row["run_id"])
            if lost is None and (drawings or row["summary"].get("image")):
                lost = CorruptStoreError(f"The checkpoints of the run {row['run_id']} are not there any more.")
            if lost is not None:
                state = state_from_ledger(row, drawings, lost)
        return build_result(state, row, row["status"])

    async def _with_status(self, row: RunRow) -> RunRow:
        """Return a run with its actual status: one marked as running that no process works on was killed."""
        run_id = row["run_id"]
        is_working = run_id in self._executor.working
        if row["status"] != "running" or is_working or await self.resources.locks.is_locked(run_id):
            return row
        # Its process may have marked it, and released it, since the row was read.
        newest = await self.resources.ledger.run(run_id) or row
        return newest if newest["status"] != "running" else {**newest, "status": "interrupted"}

    async def _snapshot(self, run_id: str) -> StateSnapshot:
        return await self._executor.snapshot(run_id)

    async def _read_decision(self, answer: str | Decision) -> Decision:
        """Return a decision whose mask is stored and named by its id."""
        decision = read_decision(answer)
        if mask := decision.get("mask"):
            decision["mask"] = await store_mask(decode_mask(mask), None, self.resources.images)
        return decision

    async def _source(self, arguments: RunArguments) -> SourceImage | None:
        given = arguments.get("source")
        if given is None:
            return None
        if not arguments.get("mending"):
            check_editing(self.resources.context(arguments).generator.capabilities)
        return await asyncio.to_thread(read_source_image, given)

    async def _mask(self, arguments: RunArguments, source: SourceImage | None) -> SourceImage | None:
        """Return the mask in black and white; RequestError if it does not fit the source."""
        given = arguments.get("mask")
        if given is None:
            return None
        if source is None:
            raise OptionError("A mask needs an image to edit.", hint="Pass the source image, too.")
        return await asyncio.to_thread(read_mask_image, given, (source.width, source.height))

    def _resolve_options(
        self, arguments: RunArguments, source: SourceImage | None, mask: SourceImage | None = None
    ) -> Options:
        """Check and complete the options."""
        check_names(arguments, RunArguments.__annotations__)
        given: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
        context, is_mended = self.resources.context(given), given.get("mending", False)
        generator = context.generator.capabilities
        if is_mended and source is None:
            raise OptionError("There is no image to mend.", hint="Pass the source image.")
        if given.get("instruction") is not None:
            given["instruction"] = check_instruction(given["instruction"])
            if not is_mended:
                raise OptionError("An instruction is for an image that is mended.", hint="Say it in the prompt.")
        if source is not None:
            size = editing_size(source.width, source.height, generator)
            if size is None and (is_mended or mask is not None):
                # Only what changes is drawn in that size.
                size = "{}x{}".format(*nearest_size(source.width, source.height, generator))
            given |= {"source": source.id, "size": given.get("size") or size}
        if mask is not None:
            given["mask"] = mask.id
        options = resolve_options(given, context)
        if options["skills"] not in ("auto", "none"):
            parse_skill_names(options["skills"], self.resources.skills.current)
        return options

    async def _target(self, arguments: RunArguments | Target) -> Target:
        out = arguments.get("out")
        await asyncio.to_thread(check_target, out)
        return {"out": out, "metadata": arguments.get("metadata", True)}

    async def _update_models(self, row: RunRow) -> str:
        """Record the models that a run continues with; return a warning if they changed."""
        before, now = row["models"], self.resources.models(row["options"])
        changed = [f"{role} was {was} and is now {now[role]}" for role, was in before.items() if now[role] != was]
        if not changed:
            return ""
        row["models"] = now
        await self.resources.ledger.name_models(row["run_id"], now)
        return f"The run continues with other models: {'; '.join(changed)}."

    async def _check_unused(self, run_id: str) -> None:
        if await self.resources.ledger.run(run_id) is not None:
            raise OptionError(f"The run {run_id!r} already exists.", hint=f"Continue it with `gems resume {run_id}`.")

    async def _find_row(self, run_id: str) -> RunRow:
        row = await self.resources.ledger.run(run_id)
        if row is None:
            raise RunNotFoundError(f"There is no run {run_id[:80]!r} in {self.settings.home}.")
        return row

    async def _next_input(self, row: RunRow, snapshot: StateSnapshot) -> Input | None:
        """Return the graph input to resume a run with; None if its checkpoints are complete."""
        if not snapshot.values.get("prompt"):
            # Killed before the first checkpoint: the index has the request.
            return as_input(row)
        failure = snapshot.values.get("failure")
        if not snapshot.next and failure is not None and failure["node"] in _NODE_BEFORE:
            reopened = {"stop_reason": None, "failure": None}
            node = _NODE_BEFORE[failure["node"]]
            with reading(self.settings.checkpoints_path):
                await self._graph.aupdate_state(thread(row["run_id"]), reopened, as_node=node)
        return None


def new_run_id() -> str:
    """Return an id for a new run, from the time and a random part."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _new_id(wanted: str | None) -> str:
    """Return the id of a new run: the given one, or a new one."""
    if wanted is None:
        return new_run_id()
    # The id becomes part of file names.
    if not _RUN_ID.fullmatch(wanted):
        raise OptionError(f"Invalid run id: {wanted[:120]!r}.", hint="Use letters, digits, `.`, `_` and `-`.")
    return wanted
