"""Harnesses: ways from a prompt to an image, each a normal run with ledger and resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from gems.errors import OptionError, RefusedError, RejectedRequestError, UnreadableReplyError
from gems.events import Planned
from gems.graphs.loop import GraphBuilder, build_graph
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.generator import generate
from gems.nodes.reflector import append_questions, failed_questions, refine_prompt, round_slots
from gems.nodes.rewrite import enhance
from gems.options import MAX_CANDIDATES, MAX_ROUNDS, RunOptions
from gems.state import State, negative_prompt
from gems.types import Profile, RepairMode, Round, Step

REWRITE_GUIDANCE = (
    "Rewrite the prompt so that nothing in it is left to chance. Say how many of each thing there are and "
    "what it looks like, place things relative to each other, and quote lettering exactly. Then add in a few "
    "words what the prompt leaves open: setting, light, material, style."
)
"""Takes the place of a skill's guidance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """One way from a prompt to an image."""

    name: str
    title: str
    description: str
    profile: Profile | None = "paper"
    """The profile of its runs; None for the default."""
    repair: RepairMode = "never"
    """Whether its runs mend images instead of drawing anew."""
    skills: Literal["auto", "none"] = "none"
    spends: Literal["rounds", "candidates"] | None = "rounds"
    """Whether several images are rounds or candidates of one round; None if it generates one image."""
    graph: GraphBuilder = build_graph
    uses_chat: bool = True
    most_images: int = MAX_ROUNDS
    can_learn: bool = False
    """Whether its runs can learn from each other."""

    def options(self, images: int) -> RunOptions:
        """Return the run options for a maximum number of images, from 1."""
        options: RunOptions = {
            "max_rounds": images if self.spends == "rounds" else 1,
            "candidates": images if self.spends == "candidates" else 1,
            "skills": self.skills,
            "repair": self.repair,
            "memory": False,
        }
        if self.profile is not None:
            options["profile"] = self.profile
        return options


async def refine_newest(state: State, work: NodeContext) -> Update:
    """Write the next prompt from the feedback on the newest round alone."""
    turn, requirements = state["rounds"][-1], state["requirements"]
    if not failed_questions(turn, requirements):
        # As in the loop: without a known failure the same prompt is used again.
        return {"current_prompt": turn["prompt"], "judge_reasoning": ""}
    newest: State = {**state, "rounds": [turn], "experiences": [], "judge_reasoning": ""}
    slots = round_slots(newest) | {"experience": ""}
    try:
        prompt = await refine_prompt(slots, turn["prompt"], work)
    except (UnreadableReplyError, RefusedError, RejectedRequestError) as error:
        work.warn(f"No answer from the refiner; the failed requirements are appended to the prompt: {error}")
        prompt = ""
    return {"current_prompt": prompt or append_questions(turn, requirements), "judge_reasoning": ""}


async def keep_prompt(state: State, work: NodeContext) -> Update:
    """Use the user's prompt unchanged."""
    return plan_update(state["prompt"], "The harness uses the prompt unchanged.", work)


async def skip_requirements(state: State, work: NodeContext) -> Update:  # noqa: ARG001 - node signature
    """Set no requirements: nothing is checked."""
    return {"requirements": []}


async def accept_image(state: State, work: NodeContext) -> Update:
    """Accept the run's only image without judging it."""
    turn: Round = {
        "number": work.round,
        "prompt": state["current_prompt"],
        "negative_prompt": negative_prompt(state),
        "candidates": state["drawn"],
        "verdicts": [{"image": candidate["image"], "answers": [], "score": 0.0} for candidate in state["drawn"]],
        "best": 0,
        "score": 0.0,
        "seconds": state.get("timings") or {},
    }
    return {"rounds": [turn], "drawn": [], "judge_reasoning": "", "stop_reason": "max_rounds"}


async def edit_everywhere(state: State, work: NodeContext) -> Update:
    """Make the round's images; a change is not limited to the place of the fault."""
    step = state.get("step")
    if not step or not step["boxes"]:
        return await generate(state, work)
    unlocked: Step = {**step, "action": "edit", "boxes": []}
    return {"step": unlocked} | await generate({**state, "step": unlocked}, work)


def plan_update(prompt: str, why: str, work: NodeContext) -> Update:
    """Return the update of a planner that chooses no skill and starts with `prompt`."""
    work.emit(Planned(plan={"skills": [], "why": why, "prompt": prompt}))
    return {"plan": {"skills": [], "why": why, "prompt": prompt}, "current_prompt": prompt}


async def rewrite_prompt(state: State, work: NodeContext) -> Update:
    """Rewrite the user's prompt with the chat model, without a skill."""
    prompt = await enhance(state["prompt"], REWRITE_GUIDANCE, work)
    return plan_update(prompt, "The harness rewrites the prompt once.", work)


_WITHOUT_MEMORY = partial(build_graph, instead={"reflector": refine_newest})
_UNJUDGED = {"decomposer": skip_requirements, "judge": accept_image}

_ALL = (
    Harness(
        name="single",
        title="Single shot",
        description="One image is generated from the unchanged prompt, without a chat model.",
        profile=None,
        spends=None,
        graph=partial(build_graph, instead={"planner": keep_prompt, **_UNJUDGED}),
        uses_chat=False,
    ),
    Harness(
        name="rewrite",
        title="Rewritten prompt",
        description="The chat model rewrites the prompt once; one image is generated from it and not judged.",
        profile=None,
        spends=None,
        graph=partial(build_graph, instead={"planner": rewrite_prompt, **_UNJUDGED}),
    ),
    Harness(
        name="best-of-n",
        title="Best of N",
        description="The prompt is generated N times with different seeds; the judge picks the best image.",
        # As in the paper's search: one question per requirement, asked once.
        spends="candidates",
        graph=partial(build_graph, instead={"planner": keep_prompt}),
        most_images=MAX_CANDIDATES,
    ),
    Harness(
        name="paper",
        title="GEMS, as in the paper",
        description="The paper's loop: one round per image, experiences of earlier rounds, all skills.",
        skills="auto",
    ),
    Harness(
        name="paper-no-memory",
        title="GEMS, without memory",
        description="The paper's loop with a refiner that sees only the feedback on the newest round.",
        skills="auto",
        graph=_WITHOUT_MEMORY,
    ),
    Harness(
        name="paper-no-skill",
        title="GEMS, without skills",
        description="The paper's loop with experiences of earlier rounds, without skills.",
    ),
    Harness(
        name="paper-loop",
        title="GEMS, the loop alone",
        description="The paper's loop with neither memory nor skills.",
        graph=_WITHOUT_MEMORY,
    ),
    Harness(
        name="balanced",
        title="GEMS, balanced",
        description="The loop of `gems run` that draws anew: one checklist, confirmation, experiences, all skills.",
        profile="balanced",
        skills="auto",
        can_learn=True,
    ),
    Harness(
        name="repair",
        title="GEMS, repair",
        description="The loop of `gems run`: the best image is mended where that promises more than drawing anew.",
        profile="balanced",
        skills="auto",
        repair="auto",
        can_learn=True,
    ),
    Harness(
        name="repair-unlocked",
        title="GEMS, repair without the lock",
        description="The same where every change may change the whole image: no pixels are kept.",
        profile="balanced",
        skills="auto",
        repair="auto",
        graph=partial(build_graph, instead={"generator": edit_everywhere}),
        can_learn=True,
    ),
)
HARNESSES: Mapping[str, Harness] = {harness.name: harness for harness in _ALL}


def load_harness(name: str) -> Harness:
    """Return the harness with this name; raises `OptionError` for an unknown name."""
    if name not in HARNESSES:
        raise OptionError(f"Unknown harness: {name!r}.", hint=f"Choose one of: {', '.join(HARNESSES)}.")
    return HARNESSES[name]
