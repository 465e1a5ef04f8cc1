"""The generator: the candidates of a round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

from gems.errors import BudgetReachedError
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.drawing import image_size, image_url_update, negative_prompt
from gems.nodes.stopping import count_images, spent_usd
from gems.options import candidate_seed
from gems.state import State
from gems.types import Candidate, ImageRequest

T = TypeVar("T")


async def generate(state: State, work: NodeContext) -> Update:
    """Draw the round's candidates side by side, each with a seed of its own."""
    started = time.perf_counter()
    source = await work.context.images.load(work.source) if work.source else None
    requests = candidate_requests(state, work.round, source)[: affordable_images(state, work)]
    results = await asyncio.gather(
        *(work.draw(index, request) for index, request in enumerate(requests)), return_exceptions=True
    )
    drawn: list[Candidate] = [candidate for candidate in drop_failed(results, work) if candidate is not None]
    timings = {"generator": round(time.perf_counter() - started, 4)}
    return {"drawn": drawn, "timings": timings} | image_url_update(drawn[0]["image"], work.context)


def candidate_requests(state: State, number: int, source: bytes | None = None) -> list[ImageRequest]:
    """The requests of round `number`, no more than the image budget leaves room for.

    Args:
        state: The run's state.
        number: The round.
        source: PNG bytes of the picture to edit: always the user's, so that faults of one round's edit do not
            pile up in the next.
    """
    options = state["options"]
    count = options["candidates"]
    if options["max_images"] is not None:
        count = min(count, options["max_images"] - count_images(state.get("rounds") or []))
    drawing = state.get("drawing") or {}
    width, height = image_size(state)
    return [
        ImageRequest(
            prompt=state["draw_prompt"],
            negative_prompt=negative_prompt(state),
            seed=candidate_seed(options["seed"], number, index),
            width=width,
            height=height,
            steps=drawing.get("steps"),
            guidance=drawing.get("guidance"),
            # As the paper's calls are: one image each.
            alone=options["profile"] == "paper",
            source=source,
        )
        for index in range(max(1, count))
    ]


def affordable_images(state: State, work: NodeContext) -> int | None:
    """How many images what is left of the budget pays for; None where there is no such limit.

    Raises:
        BudgetReachedError: not even one.
    """
    budget, price = state["options"]["budget_usd"], work.context.generator.capabilities.price_usd
    spent = spent_usd(state.get("usage") or {})
    if budget is None or spent is None or not price:
        return None
    # A hair more, since sums of prices are not exact.
    images = int((budget - spent) / price + 1e-9)
    if images < 1:
        raise BudgetReachedError(
            f"An image costs ${price:g}, and ${max(0.0, budget - spent):.4g} of the budget are left."
        )
    return images


def drop_failed(results: Sequence[T | BaseException], work: NodeContext) -> list[T | None]:
    """The results in their places, None where one failed; a failure is told about.

    Raises:
        BaseException: all failed; the first failure is raised.
    """
    failures = [result for result in results if isinstance(result, BaseException)]
    if len(failures) == len(results):
        raise failures[0]
    for failure in failures:
        if not isinstance(failure, Exception):
            raise failure
        work.warn(f"A candidate was left out: {failure}")
    return [None if isinstance(result, BaseException) else result for result in results]
