"""Beginning runs for callers, within the limits of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service
from gems.apps.server.schemas import ForkRequest, RunRequest
from gems.errors import RequestError
from gems.options import DEFAULT_ROUNDS
from gems.runs.source_images import decode_base64


async def begin(service: Service, caller: Caller, request: RunRequest) -> str:
    """Begin a run that belongs to the caller; returns its id.

    Raises:
        TooManyRunsError: a limit of the key is reached.
        RequestError: the request is not usable.
        RunDrainedError: the server is being stopped.
    """
    given = request.given()
    async with service.access.beginning(caller, most_images(given)):
        if "source" in given:
            # Decoded here, so that no text of a caller's is ever taken for a path.
            given["source"] = decode_base64(given["source"], "source")
        return await service.hub.start(**given, owner=caller.owner)


async def go_on(service: Service, caller: Caller, run_id: str, answer: str | None = None) -> str:
    """Go on with a run of the caller's; nothing happens where it goes on already. Raises as `begin` does.

    Raises:
        RunNotFoundError: it is not theirs.
        RunBusyError: another process works on it.
    """
    row = await service.access.row(caller, run_id)
    if service.hub.is_working(run_id):
        return run_id
    drawn = len(await service.gems.resources.ledger.drawings(run_id))
    async with service.access.beginning(caller, max(0, most_images(row["options"]) - drawn)):
        return await service.hub.resume(run_id, answer)


async def attach(service: Service, caller: Caller, run_id: str, prompt: str) -> str:
    """See to it that a run of the caller's has come to its end or goes on. Raises as `go_on` does.

    Raises:
        RequestError: it draws another prompt.
    """
    row = await service.access.row(caller, run_id)
    if row["prompt"] != prompt:
        raise RequestError(
            f"The run {run_id!r} draws another prompt.",
            hint="Leave out thread_id to begin a run; send the run's own prompt to hear of it.",
        )
    is_done = (await service.gems.show(run_id)).status == "done"
    return run_id if is_done else await go_on(service, caller, run_id)


async def fork(service: Service, caller: Caller, run_id: str, request: ForkRequest) -> str:
    """Begin a fork of a run of the caller's; returns its id. Raises as `go_on` does."""
    row = await service.access.row(caller, run_id)
    given = request.given()
    number, prompt = given.pop("round"), given.pop("prompt", None)
    options: dict[str, Any] = {**row["options"], **given}
    left = max(1, options["max_rounds"] - number) * options["candidates"]
    async with service.access.beginning(caller, left):
        return await service.hub.fork(run_id, number, prompt, **given)


def most_images(options: Mapping[str, Any]) -> int:
    """How many images a run may draw."""
    rounds = options.get("max_rounds")
    images = (DEFAULT_ROUNDS if rounds is None else rounds) * (options.get("candidates") or 1)
    most = options.get("max_images")
    return images if most is None else min(images, most)
