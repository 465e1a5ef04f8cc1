"""Person: decide after a round, in place of the policy, what is drawn next or which image is taken."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from langgraph.types import Overwrite, interrupt

from gems.errors import GemsError, ImageMissingError, OptionError
from gems.generation import GeneratorCapabilities
from gems.memory.images import ImageStore
from gems.models.images import decode_image, encode_png, unpack_base64
from gems.models.masks import read_mask
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.policy import choose_step
from gems.options import check_editing, check_names, is_unicode
from gems.state import State
from gems.types import (
    MAX_INSTRUCTION,
    REDRAW,
    Answer,
    Decision,
    DecisionAction,
    DecisionRequest,
    Round,
    Step,
    StopReason,
    best_round,
    find_image,
)

_EXAMPLE = '{"action": "edit", "instruction": "make the circle red"}'
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_ENDS: tuple[StopReason | None, ...] = (None, "passed", "undecided", "plateau", "max_rounds")
"""Reasons to end at which a person is asked first; what ended for want of money or time ends."""


def is_asked(state: State) -> bool:
    """Return whether a person decides what follows: after each round, and where what they wanted failed."""
    options, step = state.get("options"), state.get("step") or REDRAW
    if options is None or not options.get("ask"):
        return False
    failure = state.get("failure")
    failed = (
        state.get("stop_reason") in ("failed", "refused") and failure is not None and failure.get("node") == "generator"
    )
    return state.get("stop_reason") in _ENDS or (failed and step.get("by") == "person")


async def ask_person(state: State, work: NodeContext) -> Update:
    """Ask a person what follows the newest round; ask again where the answer cannot be carried out."""
    options, generator = state["options"], work.context.generator.capabilities
    rounds, reason, step = list(state["rounds"]), state.get("stop_reason"), state.get("step") or REDRAW
    update: Update = {}
    fault = ""
    if failure := state.get("failure"):
        # What a person wanted failed: without another answer the policy goes on.
        reason, step, fault = (
            None,
            choose_step(options, rounds, state["requirements"], generator, {}),
            failure["message"],
        )
        update = {"stop_reason": None, "failure": None, "step": step}
    while True:
        answer = interrupt(decision_request(state, rounds, reason, step, fault))
        try:
            # Only the service, which names the run, has stored a mask and may name it.
            images = work.context.images
            decision = await check_decision(answer, rounds, images, generator, stored_masks="run_id" in state)
        except GemsError as error:
            fault = str(error)
            continue
        if decision["action"] != "undo":
            return update | decision_update(decision, rounds, reason, generator)
        fault = ""
        rounds = mark_taken(rounds, rounds[-1]["number"], taken=False)
        reason = "max_rounds" if len(rounds) >= options["max_rounds"] else None
        step = choose_step(options, rounds, state["requirements"], generator, {})
        update = {"rounds": Overwrite(rounds), "stop_reason": reason, "failure": None, "step": step}


def decision_request(
    state: State, rounds: Sequence[Round], reason: StopReason | None, step: Step, fault: str = ""
) -> DecisionRequest:
    """Return the question to a person about the newest round."""
    newest = rounds[-1]
    verdict = newest["verdicts"][newest["best"]]
    unmet = [answer for answer in verdict["answers"] if answer["answer"] != "yes"]
    following: DecisionAction = "accept" if reason else "redraw" if not step["parent"] else "edit"
    return {
        "question": _question(state, newest, unmet, following, fault),
        "round": newest["number"],
        "image": verdict["image"],
        "choices": [
            {"round": turn["number"], "image": found["image"], "score": found["score"]}
            for turn in rounds
            if turn.get("taken", True)
            for found in turn["verdicts"]
        ],
        "unmet": unmet,
        "next": following,
        "fault": fault,
    }


def _question(state: State, newest: Round, unmet: Sequence[Answer], following: DecisionAction, fault: str) -> str:
    questions = {item["id"]: item["question"] for item in state["requirements"]}
    met = len(newest["verdicts"][newest["best"]]["answers"]) - len(unmet)
    lines = [fault] if fault else []
    lines.append(f"Round {newest['number']} meets {met} of {met + len(unmet)} requirements.")
    lines += [f"Not met: {questions[answer['requirement']]} {answer['evidence']}".rstrip() for answer in unmet]
    then = {"accept": "the run ends", "redraw": "a new image is drawn", "edit": "the best image is changed"}[following]
    lines.append(
        f"Say what to change, or one of: continue ({then}), redraw, accept (end with this image), undo (take it back)."
    )
    return "\n".join(lines)


def read_decision(given: Any) -> Decision:
    """Return a decision as it was given: a dictionary, its JSON, the name of an action, or what to change.

    Raises:
        OptionError: it is none of these, or holds what a decision does not have.
    """
    if isinstance(given, str):
        text = given.strip()
        if text.lower() in get_args(DecisionAction):
            given = {"action": text.lower()}
        elif text.startswith("{"):
            try:
                given = json.loads(text)
            except ValueError as error:
                raise OptionError("The decision is not valid JSON.", hint=f"It looks like {_EXAMPLE}.") from error
        else:
            given = {"instruction": text} if text else {}
    if not isinstance(given, Mapping):
        raise OptionError(f"A decision is a text or an object, not {type(given).__name__}.", hint=f"Like {_EXAMPLE}.")
    check_names(given, Decision.__annotations__)
    kept = {name: value for name, value in given.items() if value not in (None, "")}
    for name, value in kept.items():
        if not isinstance(value, str) or not is_unicode(value):
            raise OptionError(f"{name} of the decision is no text.", hint=f"A decision looks like {_EXAMPLE}.")
    if len(kept.get("instruction", "")) > MAX_INSTRUCTION:
        raise OptionError(f"The instruction has more than {MAX_INSTRUCTION:,} characters.", hint="Shorten it.")
    action = kept.setdefault("action", "edit" if {"mask", "instruction", "parent"} & kept.keys() else "continue")
    if action not in get_args(DecisionAction):
        known = ", ".join(get_args(DecisionAction))
        raise OptionError(f"There is no action {action[:40]!r}.", hint=f"There are {known}.")
    return cast("Decision", kept)


async def check_decision(
    given: Any,
    rounds: Sequence[Round],
    images: ImageStore,
    generator: GeneratorCapabilities,
    *,
    stored_masks: bool = False,
) -> Decision:
    """Return a decision that can be carried out: complete, with the id of a stored mask, if any.

    With `stored_masks` the mask may be given as such an id.

    Raises:
        OptionError: it is not understood, names no image of the run, or there is nothing to change or to take back.
        EditingUnsupportedError: an image is to be changed, and the generator cannot.
    """
    decision = read_decision(given)
    newest = rounds[-1]
    if decision["action"] == "undo" and (not newest.get("taken", True) or len(_left(rounds)) < 2):
        raise OptionError("There is no other image to go back to.", hint="Say what to change, or accept or redraw.")
    taken_by_default = newest if decision["action"] == "accept" else best_round(rounds)
    parent = decision.get("parent") or taken_by_default["verdicts"][taken_by_default["best"]]["image"]
    if find_image(rounds, parent) is None:
        raise OptionError(f"{parent[:80]!r} is no image of this run.", hint="Choose the id of one of its images.")
    if decision["action"] not in ("edit", "accept"):
        return {name: value for name, value in decision.items() if name in ("action", "instruction")}  # type: ignore[return-value]
    try:
        source = await images.load(parent)
    except ImageMissingError as error:
        raise OptionError(f"The image {parent[:12]} is gone: {error.message}", hint="Choose another one.") from error
    decision["parent"] = parent
    if decision["action"] == "accept":
        return decision
    check_editing(generator)
    if not decision.get("instruction") and not _unmet(rounds, parent):
        raise OptionError("The image meets all requirements.", hint="Say in `instruction` what to change.")
    if mask := decision.get("mask"):
        size = (await asyncio.to_thread(decode_image, source, "The parent")).size
        decision["mask"] = await _stored_mask(mask, size, images, may_name=stored_masks)
    return decision


async def _stored_mask(mask: str, size: tuple[int, int], images: ImageStore, *, may_name: bool) -> str:
    data = await images.load(mask) if may_name and _IMAGE_ID.fullmatch(mask) else decode_mask(mask)
    return await store_mask(data, size, images)


def decode_mask(text: str) -> bytes:
    """Decode the base64 or data URL of a mask; OptionError if it is invalid."""
    try:
        return unpack_base64(text)
    except ValueError:
        raise OptionError("The mask is not valid base64.", hint="Send a PNG as base64 or data URL.") from None


async def store_mask(data: bytes, size: tuple[int, int] | None, images: ImageStore) -> str:
    """Store a mask in black and white, and return its id; OptionError if it cannot be used for an image of `size`."""
    mask = await asyncio.to_thread(lambda: encode_png(read_mask(data, size)))
    return await images.put(mask)


def _left(rounds: Sequence[Round]) -> list[Round]:
    return [turn for turn in rounds if turn.get("taken", True)]


def _unmet(rounds: Sequence[Round], image: str) -> list[str]:
    found = find_image(rounds, image)
    answers = found[0]["verdicts"][found[1]]["answers"] if found else []
    return [answer["requirement"] for answer in answers if answer["answer"] == "no"]


def decision_update(
    decision: Decision, rounds: Sequence[Round], reason: StopReason | None, generator: GeneratorCapabilities
) -> Update:
    """Return the update of the state that carries out a checked decision other than `undo`."""
    action, instruction = decision["action"], decision.get("instruction", "")
    if action == "continue":
        return {}
    if action == "accept":
        turn, index = cast("tuple[Round, int]", find_image(rounds, decision["parent"]))
        is_complete = turn["verdicts"][index]["score"] == 1.0 and reason in ("passed", "undecided")
        taken = mark_taken(rounds, turn["number"], taken=True, index=index)
        return {"rounds": Overwrite(taken), "stop_reason": reason if is_complete else "accepted", "failure": None}
    open_again: Update = {"stop_reason": None, "failure": None}
    if any(turn.get("taken") for turn in rounds):
        # Whoever goes on has not taken an image for good.
        kept = [cast("Round", {k: v for k, v in turn.items() if k != "taken" or not v}) for turn in rounds]
        open_again["rounds"] = Overwrite(kept)
    if action == "redraw":
        step: Step = REDRAW | {"by": "person"}
        return open_again | {"step": step | {"instruction": instruction} if instruction else step}
    return open_again | {"step": change_step(decision, rounds, generator)}


def change_step(decision: Decision, rounds: Sequence[Round], generator: GeneratorCapabilities) -> Step:
    """Return the step of a person that changes an image; the best one if the decision names none."""
    best = best_round(rounds)
    parent, mask = decision.get("parent") or best["verdicts"][best["best"]]["image"], decision.get("mask")
    step: Step = {
        "action": "inpaint" if mask and generator.inpainting else "edit",
        "parent": parent,
        "boxes": [],
        "requirements": _unmet(rounds, parent),
        "by": "person",
    }
    if mask:
        step["mask"] = mask
    if instruction := decision.get("instruction"):
        step["instruction"] = instruction
    return step


def mark_taken(rounds: Sequence[Round], number: int, *, taken: bool, index: int | None = None) -> list[Round]:
    """Return the rounds with one that a person took, with its image `index`, or took back."""
    marked: list[Round] = []
    for turn in rounds:
        changed: Round = turn
        if turn["number"] == number:
            changed = turn | {"taken": taken}
            if index is not None:
                changed |= {"best": index, "score": turn["verdicts"][index]["score"]}
        marked.append(changed)
    return marked
