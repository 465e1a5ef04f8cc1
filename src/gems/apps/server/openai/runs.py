"""From a request to runs that go on."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service
from gems.apps.server.openai.errors import AnswerError
from gems.apps.serving.openai.bodies import RunFields
from gems.apps.serving.openai.sizes import drawable
from gems.arguments import RunArguments
from gems.errors import GemsError
from gems.options import candidate_seed
from gems.runs.source_images import SourceImage

MODEL = "gems"
# Clients that draw send the names of OpenAI's own image models unless they are told otherwise.
_ALIAS = re.compile(r"(gpt-image|chatgpt-image|dall-e)-[\w.-]+")
_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Runs that were begun for one request.

    Attributes:
        run_ids: In the order of their seeds.
        until: `time.monotonic()` when the answer is due.
        is_hurried: Whether the request wants it sooner than the server does.
        model: As the request named it.
    """

    run_ids: tuple[str, ...]
    until: float
    is_hurried: bool
    model: str


def model_names(service: Service) -> list[str]:
    """The models that `GET /v1/models` lists."""
    return list(dict.fromkeys([MODEL, service.gems.resources.generator.capabilities.model]))


def check_model(service: Service, name: str | None) -> str:
    """The model that was asked for; the loop with its generator stands behind every name.

    Raises:
        AnswerError: there is no such model.
    """
    if not name or name in model_names(service) or _ALIAS.fullmatch(name):
        return name or MODEL
    known = ", ".join(repr(known) for known in model_names(service))
    raise AnswerError(
        f"There is no model {name[:80]!r}; there are {known}.",
        param="model",
        code="model_not_found",
        status=404,
    )


async def begin(
    service: Service,
    caller: Caller,
    prompt: str,
    wish: RunFields,
    count: int = 1,
    source: SourceImage | None = None,
) -> Begun:
    """Begin runs that differ in their seeds; all of them or none.

    Args:
        service: The server's.
        caller: Who asks.
        prompt: What to draw, or what to change.
        wish: Everything else that was asked for.
        count: How many runs.
        source: The picture to edit.

    Raises:
        AnswerError: a field cannot be used.
        GemsError: see `Access.beginning` and `RunHub.start`.
    """
    model = check_model(service, wish.model)
    most_s = service.settings.serve.deadline_s
    limit_s = min(most_s, wish.deadline_s or most_s)
    until = time.monotonic() + limit_s
    arguments = _arguments(service, caller, wish, limit_s) | {"source": source}
    _check_count(caller, count)
    run_ids: list[str] = []
    async with service.access.beginning(caller, count * wish.rounds * (wish.candidates or 1), runs=count):
        try:
            for seed in _seeds(wish.seed, count):
                run_ids.append(await service.hub.start(prompt, **arguments | {"seed": seed}))
        except GemsError:
            for run_id in run_ids:
                await service.hub.cancel(run_id)
            raise
    return Begun(run_ids=tuple(run_ids), until=until, is_hurried=limit_s < most_s, model=model)


def _arguments(service: Service, caller: Caller, wish: RunFields, limit_s: float) -> RunArguments:
    return {
        "max_rounds": wish.rounds,
        "candidates": wish.candidates,
        "size": drawable(wish.size, service.gems.resources.generator.capabilities),
        "negative_prompt": wish.negative_prompt,
        "budget_usd": wish.budget_usd,
        # A little is left for handing the image on.
        "deadline_s": limit_s * _SHARE,
        "skills": wish.skills or None,
        "profile": wish.profile,
        "owner": caller.owner,
    }


def _check_count(caller: Caller, count: int) -> None:
    if caller.key is not None and count > caller.key.runs_at_a_time:
        most = caller.key.runs_at_a_time
        raise AnswerError(f"n is {count}; your key may have {most} images drawn at a time.", param="n")


def _seeds(seed: int | None, count: int) -> list[int | None]:
    """A seed for each run: the given one first, then unrelated ones that follow from it."""
    if seed is None:
        return [None] * count
    # No round has the number 0, so that these are no candidate's seeds.
    return [seed, *(candidate_seed(seed, 0, index) for index in range(1, count))]
