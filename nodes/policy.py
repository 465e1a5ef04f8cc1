"""Decide after each round whether the loop ends, and else what is drawn next and from what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gems.generation import GeneratorCapabilities
from gems.memory.experience import StepCounts, add_counts, count_outcomes, step_outcomes, unmet_kind, unmet_number
from gems.models.chat.schemas import OUT_OF_REACH
from gems.nodes.generator import count_images
from gems.options import derived_seed
from gems.types import (
    REDRAW,
    Action,
    Answer,
    Options,
    Requirement,
    Round,
    Step,
    StopReason,
    Usage,
    answers_of,
    best_round,
    total_usage,
)

_PRIORS: dict[Action, tuple[float, float]] = {"redraw": (1, 2), "edit": (1, 1), "inpaint": (1, 1)}
"""Beta priors of how often an action improves the best image; small, so that a first success or failure counts."""
_PRIORS_OF_REDRAWING: dict[str, tuple[float, float]] = {"2": (3, 2), "3": (3, 1)}
"""The same where more than one requirement is unmet: the more, the likelier is a new image to be better."""
_LARGEST_BOX = 600_000
"""Largest area of a box, in millionths of the picture: what is larger is no place."""

_FEWEST_ROUNDS = 3
"""Rounds after which a run may end for lack of hope: two may fail by chance, in either way."""
_EARLIER_STEPS = 8
"""Steps of this run as which those of all earlier ones count where hope is judged: each prompt is its own case."""
_MOST_EXPECTED, _MOST_EXPECTED_MENDING = 7.0, 5.0
"""Images that a run may still be expected to need, where all are drawn anew and where faults can be mended.

Chosen by `benchmarks.quality`: so as to draw about as many images as five rounds need (docs/policy.md)."""

_UNDECIDED_AFTER = 2
"""Images over which a requirement stays unknown before it no longer drives redraws."""


def find_stop_reason(
    options: Options, rounds: Sequence[Round], usage: dict[str, Usage], unchecked: Sequence[str] = ()
) -> StopReason | None:
    """Return the reason to start no further round, or None to continue.

    `rounds` holds at least one judged round; `unchecked` is what the prompt asks for and no requirement covers. The
    deadline is not checked here: every node checks it itself.
    """
    if rounds[-1]["score"] == 1.0:
        return "undecided" if unchecked else "passed"
    # The paper's loop knows no such reason.
    if options["profile"] != "paper" and undecided_requirements(rounds):
        return "undecided"
    if len(rounds) >= options["max_rounds"]:
        return "max_rounds"
    if _is_budget_spent(options, rounds, usage):
        return "budget"
    return "plateau" if _is_plateau(options["plateau"], [turn["score"] for turn in rounds]) else None


def undecided_requirements(rounds: Sequence[Round]) -> list[str]:
    """Return the ids of what alone keeps the newest round from passing and stays unknown; empty if anything is unmet.

    Another image of the same prompt would not make the judge able to answer.
    """
    unmet = [answer for answer in answers_of(rounds[-1]).values() if answer["answer"] != "yes"]
    if any(answer["answer"] == "no" for answer in unmet):
        return []
    settled = all(
        is_out_of_reach(answer) or _count_unknown(answer["requirement"], rounds) >= _UNDECIDED_AFTER for answer in unmet
    )
    return [answer["requirement"] for answer in unmet] if settled else []


def _count_unknown(requirement: str, rounds: Sequence[Round]) -> int:
    """Count the images over which the requirement stayed unknown."""
    found = {
        verdict["image"]
        for turn in rounds
        for verdict in turn["verdicts"]
        for answer in verdict["answers"]
        if answer["requirement"] == requirement and answer["answer"] == "unknown"
    }
    return len(found)


def is_out_of_reach(answer: Answer) -> bool:
    """Return whether the models in use can neither generate nor check what is asked."""
    return answer["answer"] == "unknown" and answer["evidence"].startswith(OUT_OF_REACH)


def _is_budget_spent(options: Options, rounds: Sequence[Round], usage: dict[str, Usage]) -> bool:
    limit = options["max_images"]
    if limit is not None and count_images(rounds) >= limit:
        return True
    budget, spent = options["budget_usd"], total_usage(usage)["usd"]
    if budget is None or spent is None:
        return False
    # The next round is expected to cost the average of the rounds so far.
    return spent + spent / len(rounds) > budget


def _is_plateau(patience: int | None, scores: Sequence[float]) -> bool:
    """Return whether the last `patience` rounds brought no improvement."""
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def may_mend(options: Options, generator: GeneratorCapabilities) -> bool:
    """Return whether an image may be mended: never one of the paper's loop, or in edits of one image in each round."""
    wanted = options.get("repair", "never") != "never" and options["profile"] != "paper"
    return wanted and ("source" not in options or options.get("mending", False)) and generator.editing


def is_hopeless(
    options: Options,
    rounds: Sequence[Round],
    requirements: Sequence[Requirement],
    generator: GeneratorCapabilities,
    earlier: StepCounts,
) -> bool:
    """Return whether a round that brought nothing leaves so many images to be expected that the run had better end.

    Expected is one improvement of the best image for each unmet requirement, in the likelier of both ways, each with
    the mean chance of its Beta distribution. Of drawing anew only this run counts: it depends on the prompt, and a run
    that gave up after what other runs did would never show the opposite. Where nothing can be mended, each improvement
    by drawing anew is taken to be as unlikely as the last one.
    """
    stalled = len(rounds) > 1 and rounds[-1]["score"] <= best_round(rounds[:-1])["score"]
    # What a person gave or wanted says nothing of what the run can do.
    of_policy = [turn for turn in rounds if turn.get("action") != "given" and turn.get("by") != "person"]
    if not options.get("early_stop") or len(of_policy) < _FEWEST_ROUNDS or not stalled:
        return False
    own, best = _count_own(rounds, requirements), best_round(rounds)
    unmet = sum(answer["answer"] != "yes" for answer in answers_of(best).values())

    def expect(action: Action, kind: str, prior: tuple[float, float], others: StepCounts) -> float:
        better, worse = (sum(pair) for pair in zip(prior, own.get((action, kind), (0, 0)), strict=True))
        known = others.get((action, kind), (0, 0))
        weight = min(1.0, _EARLIER_STEPS / max(1, sum(known)))
        return 1 + (worse + weight * known[1]) / (better + weight * known[0])

    numbers = [unmet_number(left) for left in range(1, unmet + 1)]
    is_bound = "mask" in options
    steps = _mending_steps(best, rounds, generator, is_bound=is_bound) if may_mend(options, generator) else []
    without = sum(expect("redraw", number, _PRIORS["redraw"], {}) for number in numbers) > _MOST_EXPECTED
    if not steps:
        return without
    kinds = {requirement["id"]: requirement["kind"] for requirement in requirements}
    ways = [(step["action"], kinds[step["requirements"][0]]) for step in steps]
    expected = sorted(expect(*way, _prior(*way), earlier) for way in ways)
    if not is_bound and options["repair"] == "auto":
        drawn = [expect("redraw", number, _prior("redraw", number), {}) for number in numbers]
        # What is the easiest to mend is left for the end.
        expected = [*map(min, expected, drawn), *drawn[len(expected) :]]
        # A generator that edits badly leaves as much hope in drawing anew as one that only draws.
        return without and sum(expected) > _MOST_EXPECTED_MENDING
    return sum(expected) > _MOST_EXPECTED_MENDING


def _prior(action: Action, kind: str) -> tuple[float, float]:
    return _PRIORS_OF_REDRAWING.get(kind, _PRIORS[action]) if action == "redraw" else _PRIORS[action]


def choose_step(
    options: Options,
    rounds: Sequence[Round],
    requirements: Sequence[Requirement],
    generator: GeneratorCapabilities,
    earlier: StepCounts,
) -> Step:
    """Choose what is drawn next: a new image, or the best one so far with one of its faults mended.

    Each way is drawn from its Beta distribution, after what worked in `earlier` runs and in this one (Thompson
    sampling, Thompson 1933), with the run's seed, so that a run repeats. An image is only built upon if none is better.
    """
    if not may_mend(options, generator):
        return REDRAW
    steps = _least_tried_steps(rounds, generator, is_bound="mask" in options)
    if not steps:
        return REDRAW
    kinds = {requirement["id"]: requirement["kind"] for requirement in requirements}
    counts = add_counts(earlier, _count_own(rounds, requirements))
    chance = np.random.default_rng(derived_seed(options["seed"], "step", rounds[-1]["number"]))

    def worth(action: Action, kind: str) -> float:
        better, worse = _prior(action, kind)
        improved, failed = counts.get((action, kind), (0, 0))
        return chance.beta(better + improved, worse + failed)

    worths = [worth(step["action"], kinds[step["requirements"][0]]) for step in steps]
    if options["repair"] == "auto" and "mask" not in options:
        steps.append(REDRAW)
        worths.append(worth("redraw", unmet_kind(best_round(rounds))))
    return steps[max(range(len(steps)), key=worths.__getitem__)]


def _count_own(rounds: Sequence[Round], requirements: Sequence[Requirement]) -> StepCounts:
    own = (step_outcomes(rounds[:number], rounds[number], requirements) for number in range(1, len(rounds)))
    return add_counts(*map(count_outcomes, own))


def _mending_steps(
    turn: Round, rounds: Sequence[Round], generator: GeneratorCapabilities, *, is_bound: bool = False
) -> list[Step]:
    """Return a step for each fault of a round's image; if nothing else may be drawn, for what is unknown as well."""
    parent = turn["verdicts"][turn["best"]]["image"]
    unmet = [answer for answer in answers_of(turn).values() if answer["answer"] != "yes"]
    faults = [answer for answer in unmet if answer["answer"] == "no" and answer["source"] != "parent"]
    if is_bound:
        faults = faults or unmet
    return [_mending_step(answer, parent, rounds, generator) for answer in faults]


def _least_tried_steps(rounds: Sequence[Round], generator: GeneratorCapabilities, *, is_bound: bool) -> list[Step]:
    """Return the steps that mend the best image, or one that was drawn anew and is as good, and were tried least.

    What an editor could not do once it often cannot do at all, and an equally good image has other faults.
    """
    best = best_round(rounds)
    equal = [turn for turn in rounds if turn["score"] == best["score"] and not turn.get("parent") and turn is not best]
    # What a person chose or wanted is not left for another image.
    is_chosen = is_bound or any("taken" in turn or turn.get("by") == "person" for turn in rounds)
    parents = [best] if is_chosen else [best, *equal]
    steps = [step for turn in parents for step in _mending_steps(turn, rounds, generator, is_bound=is_bound)]
    tries = [len(_find_tries(step["parent"], step["requirements"][0], rounds)) for step in steps]
    return [step for step, count in zip(steps, tries, strict=True) if count == min(tries)]


def _find_tries(parent: str, requirement: str, rounds: Sequence[Round]) -> list[Round]:
    """Return the rounds that mended a fault of an image."""
    return [turn for turn in rounds if turn.get("parent") == parent and requirement in turn.get("repaired", ())]


def wanted_step(options: Options, rounds: Sequence[Round], generator: GeneratorCapabilities) -> Step | None:
    """Return what follows the image that a user wants changed in their own words; None after that, and else."""
    instruction = options.get("instruction", "")
    if not instruction or len(rounds) > 1 or options["max_rounds"] <= 1:
        return None
    if not may_mend(options, generator):
        return REDRAW | {"instruction": instruction, "by": "person"}
    parent = rounds[0]["verdicts"][0]["image"]
    unmet = [answer["requirement"] for answer in answers_of(rounds[0]).values() if answer["answer"] == "no"]
    action: Action = "inpaint" if "mask" in options and generator.inpainting else "edit"
    step: Step = {"action": action, "parent": parent, "boxes": [], "requirements": unmet}
    return step | {"instruction": instruction, "by": "person"}


def _mending_step(fault: Answer, parent: str, rounds: Sequence[Round], generator: GeneratorCapabilities) -> Step:
    box = fault.get("box") or []
    # Where a repair of this place did not help, the place may be wrong.
    tried = any(turn.get("boxes") for turn in _find_tries(parent, fault["requirement"], rounds))
    boxes = [box] if box and not tried and (box[2] - box[0]) * (box[3] - box[1]) <= _LARGEST_BOX else []
    action: Action = "inpaint" if boxes and generator.inpainting else "edit"
    return {"action": action, "parent": parent, "boxes": boxes, "requirements": [fault["requirement"]]}
