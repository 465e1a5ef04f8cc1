"""Generate, edit, repair, verify, get, cancel, resume."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import CallToolResult
from pydantic import Field, TypeAdapter, WithJsonSchema
from typing_extensions import Unpack

from gems.apps.mcp.results import CheckReport, RunReport, check_answer, run_answer
from gems.apps.run_manager import RunManager
from gems.apps.run_view import RunView
from gems.apps.server.auth import Access, Caller, images_left, max_images
from gems.apps.text import pluralize
from gems.errors import GemsError, RequestError
from gems.events import Event, ImageDrawn, Judged, RequirementsListed, Started, wait_for_result
from gems.memory.source_images import decode_base64
from gems.options import Interface, Option, RunArguments, RunOptions, options_of
from gems.results import RunResult
from gems.types import RunRow

_Tool = TypeVar("_Tool", bound=Callable[..., Any])
_BASE64_HINT = "Send the image as base64 in `image`."


def _with_run_options(interface: Interface) -> Callable[[_Tool], _Tool]:
    """Return a decorator that replaces the `**` parameter of a tool by the options of runs.

    Their limits are checked here and not shown, since not all clients know all of JSON Schema.
    """
    annotated: Any = Annotated
    added = [
        Parameter(
            option.name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=annotated[option.type | None, option, _shown_schema(option)],
        )
        for option in options_of(interface).values()
    ]

    def expand(tool: _Tool) -> _Tool:
        found = signature(tool, eval_str=True)
        own = [item for item in found.parameters.values() if item.kind is not Parameter.VAR_KEYWORD]
        expanded: Any = tool
        expanded.__signature__ = found.replace(parameters=[*own, *added])
        return tool

    return expand


def _shown_schema(option: Option) -> WithJsonSchema:
    schema: dict[str, Any] = TypeAdapter[Any](option.type | None).json_schema()
    return WithJsonSchema(schema | {"description": option.description})


Out = Annotated[str | None, Field(description="PNG file or folder for the image; not over HTTP.")]
RunId = Annotated[str, Field(description="Run id, as returned by generate_image.")]
Link = Annotated[bool, Field(description="Also link the full-size image as a resource.")]
Wait = Annotated[bool, Field(description="If false, return at once; check the run with get_run.")]
Answer = Annotated[CallToolResult, RunReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Public methods are tools, whose docstrings and arguments clients see.

    `local` callers are the user of this machine, whose files may be used.
    """

    manager: RunManager
    access: Access
    local: bool
    answer_s: float = 45.0
    """Seconds after which a call is answered although its run is still in progress; clients wait for 60.

    At most half of them are spent waiting for a free place.
    """

    @_with_run_options("generate_image")
    async def generate_image(
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What to generate, in any detail.")],
        *,
        out: Out = None,
        link: Link = False,
        wait: Wait = True,
        **options: Unpack[RunOptions],
    ) -> Answer:
        """Generate an image, check it against each requirement of the prompt, and refine it until it matches.

        Returns the best image, its path, score and checklist, or after 45 seconds the run id: then call get_run.
        Cancelling the call cancels the run, keeping its best image.
        """
        arguments = cast("RunArguments", {**options, "out": self._target(out)})
        return await self._run(context, prompt, arguments, link=link, wait=wait)

    async def resume_run(
        self,
        context: Context[Any, Any],
        run_id: RunId,
        answer: Annotated[str | None, Field(description="Answer to a question that a skill asked.")] = None,
        link: Link = False,
        wait: Wait = True,
    ) -> Answer:
        """Resume a run that was interrupted, cancelled, failed, or waits for an answer.

        Finished images are not paid for again.
        """
        caller, until = self._caller(context), self._until()
        row = await self.access.row(caller, run_id)
        if not self.manager.is_working(run_id):
            left = await images_left(self.manager.gems, row)
            await self._start_run(caller, left, row["options"], self.manager.resume(run_id, answer), until)
        return await self._answer(run_id, context, until, link=link, wait=wait)

    @_with_run_options("edit_image")
    async def edit_image(
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What to change; everything else should stay the same.")],
        path: Annotated[
            str | None, Field(description="PNG, JPEG, WebP, GIF, AVIF or HEIC file; not over HTTP.")
        ] = None,
        image: Annotated[str | None, Field(description="The image as base64, instead of a path.")] = None,
        *,
        out: Out = None,
        link: Link = False,
        wait: Wait = True,
        **options: Unpack[RunOptions],
    ) -> Answer:
        """Edit an image, check the result against the prompt, and retry until it matches.

        Every round edits the given image, never the last result. Returns the same as generate_image.
        """
        given = {"source": self._picture(path, image), "out": self._target(out)}
        arguments = cast("RunArguments", {**options, **given})
        return await self._run(context, prompt, arguments, link=link, wait=wait)

    @_with_run_options("repair_image")
    async def repair_image(  # noqa: PLR0913 - each is an argument of the tool
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What the image should show, all of it.")],
        path: Annotated[
            str | None, Field(description="PNG, JPEG, WebP, GIF, AVIF or HEIC file; not over HTTP.")
        ] = None,
        image: Annotated[str | None, Field(description="The image as base64, instead of a path.")] = None,
        mask: Annotated[
            str | None,
            Field(description="Base64 of an image of the same size, white or transparent where it may change."),
        ] = None,
        instruction: Annotated[str | None, Field(description="What to change first, in plain words.")] = None,
        *,
        out: Out = None,
        link: Link = False,
        wait: Wait = True,
        **options: Unpack[RunOptions],
    ) -> Answer:
        """Check an image against a prompt, and mend only what it lacks, keeping the rest.

        An image that lacks nothing is returned as it is. Returns the same as generate_image.
        """
        given: dict[str, Any] = {"out": self._target(out), "instruction": instruction}
        if mask is not None:
            given["mask"] = decode_base64(mask, "mask", "Send the mask as base64 in `mask`.")
        picture, caller, until = self._picture(path, image), self._caller(context), self._until()
        arguments = cast("RunArguments", {**options, **given, "owner": caller.owner})
        starting = self.manager.repair(picture, prompt, **arguments)
        run_id = await self._start_run(caller, max_images(arguments), arguments, starting, until)
        return await self._answer(run_id, context, until, link=link, wait=wait)

    async def verify_image(
        self,
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What the image should show.")],
        path: Annotated[
            str | None, Field(description="PNG, JPEG, WebP, GIF, AVIF or HEIC file; not over HTTP.")
        ] = None,
        image: Annotated[str | None, Field(description="The image as base64, instead of a path.")] = None,
    ) -> Annotated[CallToolResult, CheckReport]:
        """Check any image against a prompt, requirement by requirement. Generates no image."""
        self._caller(context)
        return check_answer(await self.manager.gems.verify(self._picture(path, image), prompt))

    async def get_run(self, context: Context[Any, Any], run_id: RunId, link: Link = False) -> Answer:
        """Return the result or the progress of a run."""
        await self._row(run_id, context)
        return await self._show_run(run_id, link=link)

    async def cancel_run(self, context: Context[Any, Any], run_id: RunId) -> Answer:
        """Cancel a run, keeping its best image. A finished run is not changed."""
        await self._row(run_id, context)
        await self.manager.cancel(run_id)
        if self.manager.is_working(run_id):
            return await self._format(await self.manager.result(run_id), link=False)
        return await self._show_run(run_id, link=False)

    async def run_image(self, run_id: str, context: Context[Any, Any]) -> bytes:
        """The best image of a run in full size."""
        try:
            await self._row(run_id, context)
            result = await self.manager.gems.show(run_id)
            if result.image_id is not None:
                return await self.manager.gems.resources.images.load(result.image_id)
        except GemsError as error:
            raise ResourceNotFoundError(str(error)) from None
        raise ResourceNotFoundError(f"Run {run_id} has no image.")

    def _caller(self, context: Context[Any, Any]) -> Caller:
        """Authenticate the caller; raise UnknownKeyError if a required key is missing or invalid."""
        if self.local:
            return Caller()
        headers = context.headers or {}
        return self.access.caller(headers.get("authorization"), headers.get("api-key"))

    async def _row(self, run_id: str, context: Context[Any, Any]) -> RunRow:
        """Return a run that the caller may see; raise RunNotFoundError for any other."""
        return await self.access.row(self._caller(context), run_id)

    def _until(self) -> float:
        """Return the `time.monotonic()` at which a call that begins now is answered."""
        return time.monotonic() + self.answer_s

    async def _start_run(
        self, caller: Caller, images: int, options: Mapping[str, Any], starting: Awaitable[str], until: float
    ) -> str:
        """Start a run within the limits of the caller's key; cancelling this call cancels the run."""
        task = asyncio.ensure_future(self._admitted(caller, images, options, starting, until))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(GemsError):
                await self.manager.cancel(await task)
            raise

    async def _admitted(
        self, caller: Caller, images: int, options: Mapping[str, Any], starting: Awaitable[str], until: float
    ) -> str:
        try:
            # The rest of the time is for the run.
            async with self.access.beginning(caller, images, options=options, until=until - self.answer_s / 2):
                return await starting
        finally:
            if asyncio.iscoroutine(starting):
                # Prevents the warning about a coroutine that was never awaited.
                starting.close()

    def _target(self, out: str | None) -> Path | None:
        """Return the output path; raise RequestError for remote callers."""
        if out is None:
            return None
        if not self.local:
            raise RequestError("Remote callers cannot write to paths of the server.", hint="Omit `out`.")
        return Path(out).expanduser()

    def _picture(self, path: str | None, image: str | None) -> bytes | Path:
        """Return the image given as path or base64; raise RequestError unless it is exactly one of them."""
        if path is not None and not self.local:
            raise RequestError("Remote callers cannot read paths of the server.", hint=_BASE64_HINT)
        if (path is None) == (image is None):
            hint = "Pass either `path` or `image`." if self.local else _BASE64_HINT
            raise RequestError("Exactly one image is required.", hint=hint)
        if path is not None:
            return Path(path).expanduser()
        return decode_base64(image or "", "image", _BASE64_HINT)

    async def _show_run(self, run_id: str, *, link: bool) -> CallToolResult:
        """Format the result or the progress of a run."""
        return await self._format(await self.manager.gems.show(run_id), link=link)

    async def _format(self, result: RunResult, *, link: bool) -> CallToolResult:
        """Format a result."""
        images = self.manager.gems.resources.images
        return await run_answer(result, images, local=self.local, link=link)

    async def _run(
        self, context: Context[Any, Any], prompt: str, arguments: RunArguments, *, link: bool, wait: bool
    ) -> Answer:
        caller, until = self._caller(context), self._until()
        starting = self.manager.start(prompt, **arguments | {"owner": caller.owner})
        run_id = await self._start_run(caller, max_images(arguments), arguments, starting, until)
        return await self._answer(run_id, context, until, link=link, wait=wait)

    async def _answer(self, run_id: str, context: Context[Any, Any], until: float, *, link: bool, wait: bool) -> Answer:
        if not wait:
            return await self._show_run(run_id, link=link)
        result = await _report_progress(self.manager, run_id, context, until)
        return await self._show_run(run_id, link=link) if result is None else await self._format(result, link=link)


async def _report_progress(
    manager: RunManager, run_id: str, context: Context[Any, Any], until: float
) -> RunResult | None:
    """Wait for the result of a run, reporting its progress; None at a time of `time.monotonic()`.

    Cancelling the call cancels the run.
    """
    row = await manager.gems.resources.ledger.run(run_id)
    options = None if row is None else row["options"]
    # The requirements, then the images and the verdict of each round.
    total = 1 + options["max_rounds"] * (options["candidates"] + 1) if options else None
    run, done = RunView(), 0

    async def report(event: Event) -> None:
        nonlocal done
        is_first_list = not run.questions
        run.take(event)
        if isinstance(event, RequirementsListed) and not is_first_list:
            return
        if message := _progress_message(event, run):
            await context.report_progress(done, total, message)
            done += 1

    waiting = asyncio.ensure_future(wait_for_result(manager.watch(run_id), report))
    try:
        await asyncio.wait((waiting,), timeout=max(0.0, until - time.monotonic()))
        return waiting.result() if waiting.done() else None
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True), suppress(GemsError):
            await manager.cancel(run_id)
        raise
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def _progress_message(event: Event, run: RunView) -> str:
    """Format an event that counts as progress; empty for others."""
    match event:
        case Started():
            return f"run {event.run_id}"
        case RequirementsListed():
            return pluralize(len(event.requirements), "requirement")
        case ImageDrawn():
            return f"round {event.round}: image {event.candidate['index'] + 1} is drawn"
        case Judged():
            judged = run.round(event.round)
            met = f"{judged.met} of {pluralize(len(judged.answers), 'requirement')} met"
            return f"round {event.round}: {met}, score {event.score:.2f}"
    return ""
