"""Start and resume runs within the limits of the caller's key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service
from gems.apps.server.schemas import ForkRequest, RunRequest
from gems.errors import RequestError
from gems.options import DEFAULT_ROUNDS
from gems.runs.source_images import decode_base64


async def start_run(service: Service, caller: Caller, request: RunRequest) -> str:
    """Start a run of the caller and return its id.

    Raises:
        TooManyRunsError: a limit of the key is reached.
        RequestError: the request is invalid.
        RunDrainedError: the server is stopping.
    """
    given = request.given()
    async with service.access.beginning(caller, max_images(given)):
        if "source" in given:
            # Decoded here, so that a caller's text is never used as a path.
            given["source"] = decode_base64(given["source"], "source")
        return await service.manager.start(**given, owner=caller.owner)


async def resume_run(service: Service, caller: Caller, run_id: str, answer: str | None = None) -> str:
    """Resume a run of the caller, unless it is in progress already. Raises as `begin` does.

    Raises:
        RunNotFoundError: the caller has no such run.
        RunBusyError: another process executes it.
    """
    row = await service.access.row(caller, run_id)
    if service.manager.is_working(run_id):
        return run_id
    drawn = len(await service.gems.resources.ledger.drawings(run_id))
    async with service.access.beginning(caller, max(0, max_images(row["options"]) - drawn)):
        return await service.manager.resume(run_id, answer)


async def attach_run(service: Service, caller: Caller, run_id: str, prompt: str) -> str:
    """Resume a run of the caller unless it is done. Raises as `go_on` does.

    Raises:
        RequestError: the run has another prompt.
    """
    row = await service.access.row(caller, run_id)
    if row["prompt"] != prompt:
        raise RequestError(
            f"Run {run_id!r} has another prompt.",
            hint="Omit thread_id to start a run, or send the prompt of the run to attach to it.",
        )
    is_done = (await service.gems.show(run_id)).status == "done"
    return run_id if is_done else await resume_run(service, caller, run_id)


async def fork_run(service: Service, caller: Caller, run_id: str, request: ForkRequest) -> str:
    """Start a fork of a run of the caller and return its id. Raises as `go_on` does."""
    row = await service.access.row(caller, run_id)
    given = request.given()
    number, prompt = given.pop("round"), given.pop("prompt", None)
    options: dict[str, Any] = {**row["options"], **given}
    left = max(1, options["max_rounds"] - number) * options["candidates"]
    async with service.access.beginning(caller, left):
        return await service.manager.fork(run_id, number, prompt, **given)


def max_images(options: Mapping[str, Any]) -> int:
    """Return the maximum number of images of a run."""
    rounds = options.get("max_rounds")
    images = (DEFAULT_ROUNDS if rounds is None else rounds) * (options.get("candidates") or 1)
    most = options.get("max_images")
    return images if most is None else min(images, most)
