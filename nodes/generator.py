"""Generator: candidates of a round, and overrides of skills for the generator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from gems.errors import BudgetReachedError, GemsError, SkillError, UnalignedEditError
from gems.generation import GeneratorCapabilities, ImageRequest
from gems.models.images import open_image
from gems.models.masks import fit_change, make_mask
from gems.nodes.base import Update, stop_reason_for
from gems.nodes.context import GENERATOR, NodeContext
from gems.nodes.decomposer import await_requirements, complete_requirements, whole_requirement
from gems.options import candidate_seed, is_unicode, parse_size
from gems.state import Context, State, negative_prompt
from gems.types import REDRAW, Candidate, DrawingSettings, Failure, Options, Origin, Round, total_usage

T = TypeVar("T")
_MAX_STEPS = 1_000
_MAX_GUIDANCE = 100.0


def image_size(state: State) -> tuple[int, int]:
    """Return width and height in pixels: the user's, else a skill's, else the generator's default."""
    options, overrides = state["options"], state.get("generation_overrides") or {}
    if options["sized"] or "size" not in overrides:
        return options["width"], options["height"]
    return parse_size(overrides["size"])


def image_url_update(image: str, context: Context) -> dict[str, str]:
    """Return the update with the image's URL; empty if no server shows images."""
    link = context.link(image)
    return {} if link is None else {"image_url": link}


def count_images(rounds: Sequence[Round]) -> int:
    """Count the images that the rounds have drawn."""
    return sum(len(turn["candidates"]) for turn in rounds if turn.get("action") != "given")


def merge_overrides(first: DrawingSettings, second: DrawingSettings) -> DrawingSettings:
    """Merge the settings of two skills; the first one wins."""
    both = DrawingSettings(**{**second, **first})
    if texts := [given["negative_prompt"] for given in (first, second) if given.get("negative_prompt")]:
        both["negative_prompt"] = ", ".join(texts)
    return both


def check_overrides(
    given: Any, options: Options, generator: GeneratorCapabilities
) -> tuple[DrawingSettings, list[str]]:
    """Return the usable settings of a skill, and why others are ignored; SkillError for a wrong form."""
    if not isinstance(given or {}, dict):
        raise SkillError(f"Its drawing is {type(given).__name__}; it must be a dictionary.")
    kept, faults = DrawingSettings(), []
    for name, value in (given or {}).items():
        if value is None:
            continue
        fault = _check_setting(name, value, options, generator)
        if fault:
            faults.append(fault)
        elif value != "":
            kept[name] = value  # type: ignore[literal-required]
    return kept, faults


def _check_setting(name: str, value: Any, options: Options, generator: GeneratorCapabilities) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "negative_prompt" if isinstance(value, str) and len(value) <= 2_000 and is_unicode(value):
            unheeded = bool(value) and not generator.negative_prompts
            return f"{generator.model} takes no negative prompt" if unheeded else ""
        case "guidance" if number and 0 <= value <= _MAX_GUIDANCE:
            return ""
        case "steps" if isinstance(value, int) and number and 1 <= value <= _MAX_STEPS:
            return ""
        case "size" if isinstance(value, str):
            try:
                # The user's own size has priority.
                if not options["sized"]:
                    generator.check_size(*parse_size(value))
            except GemsError as error:
                return str(error)
            return ""
        case "negative_prompt" | "guidance" | "steps" | "size":
            raise SkillError(f"In its drawing, {name} cannot be {value!r:.80}.")
    return f"there is no setting {name!r:.80}"


@dataclass(frozen=True, slots=True)
class Change:
    """What the next images are made from, as PNG; nothing for a new image.

    Attributes:
        source: The image to change: the user's, so that errors do not accumulate over rounds, or the best one so far.
        mask: Where it may change; None for everywhere.
        instruction: What the editor is told; empty for the round's prompt.
        parent: The image and its mask in their own size, where something must be kept; else None.
    """

    source: bytes | None = None
    mask: bytes | None = None
    instruction: str = ""
    parent: tuple[bytes, bytes] | None = None


NO_CHANGE = Change()


async def _load_change(state: State, work: NodeContext) -> Change:
    step, images = state.get("step"), work.context.images
    within = await images.load(state["options"]["mask"]) if "mask" in state["options"] else None
    size = image_size(state)
    if not step or not step["parent"]:
        if not work.source or within is None:
            return Change(await images.load(work.source) if work.source else None)
        source = await images.load(work.source)
        return Change(*await asyncio.to_thread(fit_change, source, within, size), parent=(source, within))
    parent = await images.load(step["parent"])
    mask = await images.load(step["mask"]) if "mask" in step else within
    if "mask" not in step and step["boxes"]:
        mask = await asyncio.to_thread(lambda: make_mask(step["boxes"], open_image(parent).size, within))
    source, fitting = await asyncio.to_thread(fit_change, parent, mask, size)
    # Editors read the instruction, and models that only draw in a mask the description.
    told = f"{state['instruction']}\nThe whole picture shows: {state['prompt']}"
    return Change(source, fitting, told, None if mask is None else (parent, mask))


async def generate(state: State, work: NodeContext) -> Update:
    """Generate the round's candidates concurrently, each with its own seed."""
    started = time.perf_counter()
    change = await _load_change(state, work)
    work.origin = describe_origin(state)
    requests = candidate_requests(state, work.round, change)[: affordable_images(state, work)]
    # Nothing needs them before the judge.
    completing = asyncio.ensure_future(_complete_checklist(state, work))
    update: Update = {}
    try:
        if is_given(state):
            await asyncio.wait((completing,))
            return completing.result() | await _given_update(state, work) | {"timings": {"generator": 0.0}}
        results, _ = await asyncio.gather(_draw_all(requests, work, change.parent), asyncio.wait((completing,)))
        step = state.get("step") or REDRAW
        unaligned = all(isinstance(result, UnalignedEditError) for result in results)
        if change.instruction and unaligned and step.get("by") != "person":
            work.warn(f"The best image could not be mended, so the next one is drawn anew: {results[0]}")
            update = {"step": REDRAW | {"abandoned": step["action"], "requirements": step["requirements"]}}
            work.origin = describe_origin(cast("State", {**state, **update}))
            results = await _draw_all(candidate_requests(state, work.round)[: len(requests)], work)
    finally:
        completing.cancel()
    found = drop_failed(results, work)
    drawn = [candidate for candidate in found if isinstance(candidate, dict)]
    timings = {"generator": round(time.perf_counter() - started, 4)}
    update |= {"drawn": drawn, "timings": timings} | image_url_update(drawn[0]["image"], work.context)
    if isinstance(error := completing.exception(), GemsError):
        # The image is paid for, but cannot be judged.
        failure: Failure = {"node": GENERATOR, "error": type(error).__name__, "message": str(error)}
        whole = {"requirements": [whole_requirement(state["prompt"])]}
        return update | whole | {"stop_reason": stop_reason_for(error), "failure": failure}
    return completing.result() | update


def is_given(state: State) -> bool:
    """Return whether this round's image is the user's own, which is mended."""
    return bool(state["options"].get("mending")) and not state.get("rounds")


async def _given_update(state: State, work: NodeContext) -> Update:
    """Return the update with the user's image as the only candidate; nothing was drawn."""
    options, generator = state["options"], work.context.generator.capabilities
    if not generator.editing and options.get("repair", "never") != "never":
        work.warn(f"{generator.model} cannot edit images, so what the image lacks is drawn anew.")
    image = options["source"]
    width, height = open_image(await work.context.images.load(image)).size
    given: Candidate = {
        "index": 0,
        "image": image,
        "seed": options["seed"],
        "width": width,
        "height": height,
        "model": "",
        "parameters": {},
        "seconds": 0.0,
    }
    return {"drawn": [given]} | image_url_update(image, work.context)


def describe_origin(state: State) -> Origin:
    """Return how the images of this round come to be."""
    step = state.get("step")
    if step is None:
        return {"action": "given" if is_given(state) else "draw"}
    origin: Origin = {"action": step["action"]}
    if "by" in step:
        origin["by"] = step["by"]
    if step["parent"]:
        origin["parent"], origin["boxes"] = step["parent"], step["boxes"]
        origin["instruction"], origin["repaired"] = state["instruction"], step["requirements"]
        if mask := step.get("mask") or state["options"].get("mask"):
            origin["mask"] = mask
    elif "abandoned" in step:
        origin["abandoned"], origin["repaired"] = step["abandoned"], step["requirements"]
    return origin


async def _draw_all(
    requests: Sequence[ImageRequest], work: NodeContext, parent: tuple[bytes, bytes] | None = None
) -> list[Candidate | BaseException]:
    draws = (work.draw(index, request, parent) for index, request in enumerate(requests))
    return await asyncio.gather(*draws, return_exceptions=True)


async def _complete_checklist(state: State, work: NodeContext) -> Update:
    """Wait for the requirements, and ask before the first image is judged what they leave out."""
    listed = await await_requirements(state, work)
    known = cast("State", {**state, **listed})
    # Harnesses that check nothing have no requirements.
    if not known.get("requirements") or state.get("rounds") or work.profile == "paper":
        return listed
    return listed | await complete_requirements(known, work)


def candidate_requests(state: State, number: int, change: Change = NO_CHANGE) -> list[ImageRequest]:
    """Return the requests of round `number`, at most as many as the image budget allows."""
    options = state["options"]
    count = options["candidates"]
    if options["max_images"] is not None:
        count = min(count, options["max_images"] - count_images(state.get("rounds") or []))
    overrides = merge_overrides(state.get("generation_overrides") or {}, options.get("recipe") or {})
    width, height = image_size(state)
    return [
        ImageRequest(
            prompt=change.instruction or state["current_prompt"],
            negative_prompt=negative_prompt(state),
            seed=candidate_seed(options["seed"], number, index),
            width=width,
            height=height,
            steps=overrides.get("steps"),
            guidance=overrides.get("guidance"),
            # The paper generates one image per call.
            alone=options["profile"] == "paper",
            source=change.source,
            mask=change.mask,
        )
        for index in range(max(1, count))
    ]


def affordable_images(state: State, work: NodeContext) -> int | None:
    """Return how many images the budget still pays for, None without a limit; BudgetReachedError for none."""
    budget, price = state["options"]["budget_usd"], work.context.generator.capabilities.price_usd
    spent = total_usage(state.get("usage") or {})["usd"]
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
