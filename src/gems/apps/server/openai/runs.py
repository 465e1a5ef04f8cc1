"""Start the runs of a request."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service
from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.schemas import RunFields
from gems.apps.serving.openai.sizes import supported_size
from gems.errors import GemsError
from gems.options import RunArguments, candidate_seed
from gems.runs.source_images import SourceImage

MODEL = "gems"
# Clients send the names of OpenAI's image models by default.
_ALIAS = re.compile(r"(gpt-image|chatgpt-image|dall-e)-[\w.-]+")
_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRuns:
    """Runs started for one request, in the order of their seeds.

    `until` is the `time.monotonic()` of the deadline; `is_hurried` means that the request set it.
    """

    run_ids: tuple[str, ...]
    until: float
    is_hurried: bool
    model: str


def model_names(service: Service) -> list[str]:
    """List the model names."""
    return list(dict.fromkeys([MODEL, service.gems.resources.generator.capabilities.model]))


def check_model(service: Service, name: str | None) -> str:
    """Validate a model name, or raise AnswerError. All names select the same loop and generator."""
    if not name or name in model_names(service) or _ALIAS.fullmatch(name):
        return name or MODEL
    known = ", ".join(repr(known) for known in model_names(service))
    raise AnswerError(
        f"Unknown model: {name[:80]!r}. Available models: {known}.",
        param="model",
        code="model_not_found",
        status=404,
    )


async def start_runs(
    service: Service,
    caller: Caller,
    prompt: str,
    fields: RunFields,
    count: int = 1,
    source: SourceImage | None = None,
) -> StartedRuns:
    """Start `count` runs that differ in their seeds, or none if one fails.

    Args:
        service: The server's.
        caller: Who asks.
        prompt: What to draw, or what to change.
        fields: Everything else that was asked for.
        count: How many runs.
        source: The picture to edit.

    Raises:
        AnswerError: a field cannot be used.
        GemsError: see `Access.beginning` and `RunManager.start`.
    """
    model = check_model(service, fields.model)
    most_s = service.settings.serve.deadline_s
    limit_s = min(most_s, fields.deadline_s or most_s)
    until = time.monotonic() + limit_s
    arguments = _arguments(service, caller, fields, limit_s) | {"source": source}
    _check_count(caller, count)
    run_ids: list[str] = []
    async with service.access.beginning(caller, count * fields.rounds * (fields.candidates or 1), runs=count):
        try:
            for seed in _seeds(fields.seed, count):
                run_ids.append(await service.manager.start(prompt, **arguments | {"seed": seed}))
        except GemsError:
            for run_id in run_ids:
                await service.manager.cancel(run_id)
            raise
    return StartedRuns(run_ids=tuple(run_ids), until=until, is_hurried=limit_s < most_s, model=model)


def _arguments(service: Service, caller: Caller, fields: RunFields, limit_s: float) -> RunArguments:
    return {
        "max_rounds": fields.rounds,
        "candidates": fields.candidates,
        "size": supported_size(fields.size, service.gems.resources.generator.capabilities),
        "negative_prompt": fields.negative_prompt,
        "budget_usd": fields.budget_usd,
        # The rest of the time is for sending the image.
        "deadline_s": limit_s * _SHARE,
        "skills": fields.skills or None,
        "profile": fields.profile,
        "owner": caller.owner,
    }


def _check_count(caller: Caller, count: int) -> None:
    if caller.key is not None and count > caller.key.runs_at_a_time:
        most = caller.key.runs_at_a_time
        raise AnswerError(f"n is {count}, but this key may run only {most} in parallel.", param="n")


def _seeds(seed: int | None, count: int) -> list[int | None]:
    """Return the given seed, then unrelated ones derived from it."""
    if seed is None:
        return [None] * count
    # Rounds start at 1, so these differ from all candidates' seeds.
    return [seed, *(candidate_seed(seed, 0, index) for index in range(1, count))]
