"""Generator: the candidates of a round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

from gems.errors import BudgetReachedError
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.drawing import count_images, image_size, image_url_update
from gems.options import candidate_seed
from gems.state import State, negative_prompt
from gems.types import Candidate, ImageRequest, spent_usd

T = TypeVar("T")


async def generate(state: State, work: NodeContext) -> Update:
    """Generate the round's candidates concurrently, each with its own seed."""
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
    """Return the requests of round `number`, at most as many as the image budget allows.

    `source` is the PNG of the image to edit: always the user's, so that errors do not accumulate over rounds.
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
            # The paper generates one image per call.
            alone=options["profile"] == "paper",
            source=source,
        )
        for index in range(max(1, count))
    ]


def affordable_images(state: State, work: NodeContext) -> int | None:
    """Return how many images the remaining budget pays for; None if there is no such limit.

    Raises `BudgetReachedError` if it does not pay for a single image.
    """
    budget, price = state["options"]["budget_usd"], work.context.generator.capabilities.price_usd
    spent = spent_usd(state.get("usage") or {})
    if budget is None or spent is None or not price:
        return None
    # Allow for rounding errors in sums of prices.
    images = int((budget - spent) / price + 1e-9)
    if images < 1:
        raise BudgetReachedError(
            f"An image costs ${price:g}, but only ${max(0.0, budget - spent):.4g} of the budget is left."
        )
    return images


def drop_failed(results: Sequence[T | BaseException], work: NodeContext) -> list[T | None]:
    """Return the results, None for failures, which are warned about; raise the first if all failed."""
    failures = [result for result in results if isinstance(result, BaseException)]
    if len(failures) == len(results):
        raise failures[0]
    for failure in failures:
        if not isinstance(failure, Exception):
            raise failure
        work.warn(f"A candidate was left out: {failure}")
    return [None if isinstance(result, BaseException) else result for result in results]
