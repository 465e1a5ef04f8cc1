"""Start runs for a request, wait, sizes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import anyio
from fastapi import Request

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service
from gems.apps.server.openai.errors import LENGTH_HEADER, PLACE_HEADER, RUN_HEADER, AnswerError, client_left
from gems.apps.server.openai.schemas import RunFields
from gems.apps.server.queue import QueuePlace
from gems.errors import DeadlineReachedError, GemsError, OptionError, RunNotFoundError
from gems.events import Event, Finished, wait_for_result
from gems.generation import GeneratorCapabilities, nearest_size
from gems.memory.source_images import SourceImage
from gems.options import CHOICES, RANDOM_SEED, RunArguments, candidate_seed, given_options, parse_size
from gems.results import RunResult
from gems.service import new_run_id

MODEL = "gems"
# Clients send the names of OpenAI's image models by default.
_ALIAS = re.compile(r"(gpt-image|chatgpt-image|dall-e)-[\w.-]+")
_SHARE = 0.95
_WAITED = 0.8
"""Most of the time of a request that is spent waiting for a free place."""
_LEAST_S = 0.001
T = TypeVar("T")


def supported_size(size: str | None, generator: GeneratorCapabilities) -> str | None:
    """Return the nearest supported size as `WIDTHxHEIGHT`, or None for the default."""
    if size is None or size.strip().lower() in ("", "auto"):
        return None
    try:
        width, height = parse_size(size)
    except OptionError:
        raise AnswerError("Invalid size. Use auto or WIDTHxHEIGHT, e.g. 1024x1024.", param="size") from None
    return "{}x{}".format(*nearest_size(width, height, generator))


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRuns:
    """Runs started for one request, in the order of their seeds.

    `until` is the `time.monotonic()` of the deadline; `is_hurried` means that the request set it.
    """

    run_ids: tuple[str, ...]
    until: float
    is_hurried: bool
    model: str
    keeps_running: bool = False
    """Whether the runs go on if the client disconnects."""
    starting: asyncio.Future[None]
    """Done once all runs have started; an error if they could not."""
    places: asyncio.Queue[QueuePlace | None]
    """Places in the queue while they wait to be started, then None."""
    place: QueuePlace | None
    """The first of these places; None if they started at once."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers with the ids of the runs, and the place in the queue if they had to wait."""
        headers = {RUN_HEADER: ",".join(self.run_ids)}
        if self.place is not None:
            headers |= {PLACE_HEADER: str(self.place.position), LENGTH_HEADER: str(self.place.length)}
        return headers


def model_names(service: Service) -> list[str]:
    """List the model names: the default's, and those of the generators on offer."""
    resources = service.gems.resources
    return list(dict.fromkeys([MODEL, resources.generator.capabilities.model, *resources.generators]))


def chosen_models(service: Service, fields: RunFields) -> Mapping[str, Any]:
    """Return the options by which a request chooses among models on offer; raise AnswerError for an unknown `model`."""
    model = check_model(service, fields.model)
    generator = {"generator": model} if model in service.gems.resources.generators else {}
    return {name: value for name, value in given_options(fields).items() if name in CHOICES} | generator


def check_model(service: Service, name: str | None) -> str:
    """Validate a model name, or raise AnswerError. All select the same loop; those on offer, another generator."""
    if not name or name in model_names(service) or _ALIAS.fullmatch(name):
        return name or MODEL
    known = ", ".join(repr(known) for known in model_names(service))
    message = f"Unknown model: {name[:80]!r}. Available models: {known}."
    raise AnswerError(message, param="model", code="model_not_found", status=404)


async def start_runs(
    service: Service,
    caller: Caller,
    prompt: str,
    fields: RunFields,
    count: int = 1,
    source: SourceImage | None = None,
    mask: bytes | None = None,
) -> StartedRuns:
    """Start `count` runs that differ in their seeds, or none if one fails.

    Returns before they have started if they must wait for a free place.
    """
    chosen = chosen_models(service, fields)
    generator = service.gems.resources.context(chosen).generator.capabilities
    most_s = service.settings.serve.deadline_s
    options = {**given_options(fields), **chosen}
    limit_s = min(most_s, options.get("deadline_s") or most_s)
    until = time.monotonic() + limit_s
    # The rest of the time is for sending the image.
    own: RunArguments = {
        "max_rounds": fields.rounds,
        "size": supported_size(fields.size, generator),
        "owner": caller.owner,
        "source": source,
        "mask": mask,
    }
    arguments = cast("RunArguments", {**options, **own})
    if caller.key is not None and count > caller.key.runs_at_a_time:
        most = caller.key.runs_at_a_time
        raise AnswerError(f"n is {count}, but this key may run only {most} in parallel.", param="n")
    run_ids = tuple(new_run_id() for _ in range(count))
    places: asyncio.Queue[QueuePlace | None] = asyncio.Queue()

    async def start() -> None:
        images = count * fields.rounds * (options.get("candidates") or 1)
        waiting_s = limit_s * _WAITED
        try:
            async with service.access.beginning(
                caller, images, count, options=options, until=until - limit_s + waiting_s, tell=places.put_nowait
            ):
                left_s = max(_LEAST_S, min(limit_s, until - time.monotonic()) * _SHARE)
                arguments["deadline_s"] = min(limit_s * _SHARE, left_s)
                for run_id, seed in zip(run_ids, _seeds(options.get("seed"), count), strict=True):
                    await service.manager.start(prompt, **arguments | {"seed": seed, "new_id": run_id})
        except GemsError:
            for run_id in run_ids:
                with suppress(RunNotFoundError):
                    await service.manager.cancel(run_id)
            raise
        finally:
            places.put_nowait(None)

    starting = asyncio.ensure_future(start())
    try:
        place = await places.get()
    except asyncio.CancelledError:
        starting.cancel()
        raise
    if place is None:
        await starting
    return StartedRuns(
        run_ids=run_ids,
        until=until,
        is_hurried=limit_s < most_s,
        model=fields.model or MODEL,
        keeps_running=bool(fields.keep_running),
        starting=starting,
        places=places,
        place=place,
    )


async def watch_places(begun: StartedRuns) -> AsyncGenerator[QueuePlace]:
    """Yield the places in the queue until the runs have started; raise the error if they could not."""
    place = begun.place
    while place is not None:
        yield place
        place = await begun.places.get()
    await begun.starting


def _seeds(seed: int | None, count: int) -> list[int | None]:
    """Return the given seed, then unrelated ones derived from it."""
    if seed is None or seed == RANDOM_SEED:
        return [None] * count
    # Rounds start at 1, so these differ from all candidates' seeds.
    return [seed, *(candidate_seed(seed, 0, index) for index in range(1, count))]


async def stop_if_left(service: Service, begun: StartedRuns, events: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Yield the events of a response, and cancel its runs if nobody reads it to its end."""
    has_ended = False
    try:
        async with aclosing(events):
            async for event in events:
                yield event
        has_ended = True
    finally:
        if not has_ended:
            await _cancel_runs(service, begun)


async def wait_unless_left(service: Service, begun: StartedRuns, request: Request, doing: Coroutine[Any, Any, T]) -> T:
    """Return the result of `doing`; cancel the runs and raise AnswerError if the client disconnects before."""
    task, left = asyncio.ensure_future(doing), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await _cancel_runs(service, begun)
            raise client_left()
        return task.result()
    finally:
        for unfinished in (task, left):
            unfinished.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel_runs(service: Service, begun: StartedRuns) -> None:
    # Runs of a server that stops go on with the next one.
    if begun.keeps_running or service.manager.is_draining:
        return
    with anyio.CancelScope(shield=True):
        begun.starting.cancel()
        await asyncio.gather(begun.starting, return_exceptions=True)
        for run_id in begun.run_ids:
            # Those that still waited never started.
            with suppress(RunNotFoundError):
                await service.manager.cancel(run_id)


async def watch_until_due(service: Service, begun: StartedRuns, run_id: str) -> AsyncGenerator[Event]:
    """Yield the events of a run, ending with `Finished`.

    A run normally ends before the deadline. If it is late, its best image so far is used as the result, and
    the run continues in the background. Raises AnswerError if the deadline of the request was too short for
    an image, and GemsError if the run ended without one.
    """
    await asyncio.shield(begun.starting)
    try:
        async with aclosing(_watch_until(service, run_id, begun.until)) as events:
            async for event in events:
                yield event
    except DeadlineReachedError as error:
        if not begun.is_hurried:
            raise
        raise AnswerError(str(error), param="deadline_s", code="deadline_reached") from error


async def _watch_until(service: Service, run_id: str, until: float) -> AsyncGenerator[Event]:
    async with aclosing(service.manager.watch(run_id)) as events:
        coming, is_due = asyncio.ensure_future(anext(events)), False
        try:
            while True:
                await asyncio.wait((coming,), timeout=None if is_due else max(0.0, until - time.monotonic()))
                if coming.done():
                    event = coming.result()
                    yield event
                    if isinstance(event, Finished):
                        return
                    coming = asyncio.ensure_future(anext(events))
                elif time.monotonic() >= until:
                    is_due = True
                    if (result := await _current_result(service, run_id)) is not None:
                        yield Finished(run_id=run_id, result=result)
                        return
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def wait_for_results(service: Service, begun: StartedRuns) -> list[RunResult]:
    """Wait for runs, and return the results with an image; raise the first error if there are none."""
    waiting = (wait_for_result(watch_until_due(service, begun, run_id)) for run_id in begun.run_ids)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    results = [end for end in ends if isinstance(end, RunResult)]
    faults = [end for end in ends if isinstance(end, BaseException)]
    if not results:
        raise faults[0]
    return results


async def load_png(service: Service, result: RunResult) -> bytes:
    """Return the PNG of a result: the saved file with its metadata, or the stored image."""
    saved = await asyncio.to_thread(result._repr_png_)
    return saved or await service.gems.resources.images.load(result.image_id or "")


def outcome_text(result: RunResult) -> str:
    """Say which round is best, how much it meets, and why the run ended."""
    met = sum(item.answer == "yes" for item in result.requirements)
    reason = f" ({result.stop_reason})" if result.stop_reason else ""
    ending = f"Round {result.best_round} is best: {met} of {len(result.requirements)} met{reason}."
    if result.status == "running":
        ending += f" The time is up; run {result.run_id} is about to end."
    elif result.failure is not None:
        ending += f" {result.failure['message']}"
    return ending


async def _current_result(service: Service, run_id: str) -> RunResult | None:
    """Return the current state of a run; None without an image."""
    with suppress(GemsError):
        result = await service.gems.show(run_id)
        if result.image_id is not None:
            return result
    return None
