"""The rounds of a run as a tree, and how each came to be as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gems.types import Action, Round

_ACTIONS: dict[Action, str] = {
    "draw": "drawn",
    "redraw": "drawn anew",
    "edit": "edited",
    "inpaint": "painted in",
    "given": "given",
}


@dataclass(slots=True)
class Branch:
    """A round and those that changed its images."""

    turn: Round
    parent: int | None = None
    """Number of the round whose image it changed; None for a new image."""
    children: list[Branch] = field(default_factory=list)


def build_tree(rounds: Sequence[Round]) -> list[Branch]:
    """Return the rounds that changed no image, with all others below those whose image they changed, in order."""
    roots: list[Branch] = []
    branches: dict[int, Branch] = {}
    for index, turn in enumerate(rounds):
        branch = branches[turn["number"]] = Branch(turn, _find_parent(rounds[:index], turn.get("parent", "")))
        (roots if branch.parent is None else branches[branch.parent].children).append(branch)
    return roots


def _find_parent(earlier: Sequence[Round], image: str) -> int | None:
    """Return the first round that made an image, rather one that was not taken back; editors may change nothing."""
    found = [turn for turn in earlier if any(verdict["image"] == image for verdict in turn["verdicts"])]
    left = [turn for turn in found if turn.get("taken", True)] or found
    return left[0]["number"] if left else None


def by_number(roots: Sequence[Branch]) -> dict[int, Branch]:
    """Return all branches of a tree by the numbers of their rounds."""
    found: dict[int, Branch] = {}
    for branch in roots:
        found |= {branch.turn["number"]: branch} | by_number(branch.children)
    return found


def has_branches(rounds: Sequence[Round]) -> bool:
    """Return whether an image was changed, so that the rounds are more than a list."""
    return any(turn.get("parent") for turn in rounds)


def describe_round(branch: Branch, questions: Mapping[str, str]) -> str:
    """Return how the images of a round came to be; `questions` are those of the requirements by id."""
    turn = branch.turn
    parts = [_ACTIONS[turn.get("action", "draw")]]
    if turn.get("parent"):
        parts[0] += f" from round {branch.parent}" if branch.parent else f" from image {turn['parent'][:12]}"
        if turn.get("mask"):
            parts.append("within a mask")
        parts += [f"at {box}" for box in turn.get("boxes", ())]
    if turn.get("by") == "person":
        parts.append("as a person wanted")
    if "abandoned" in turn:
        parts.append(f"since it could not be {_ACTIONS[turn['abandoned']]}")
    if "taken" in turn:
        parts.append("taken by a person" if turn["taken"] else "taken back by a person")
    wanted = [questions[name] for name in turn.get("repaired", ()) if name in questions]
    return ", ".join(parts) + (f", for: {' '.join(wanted)}" if wanted else "")
