"""How often instruments and the judge were right, boxes good and probabilities true, as runs measured it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Literal

from typing_extensions import TypedDict

from gems.memory.experience import PendingOp, experience_key, namespace, now
from gems.types import Answer, Recheck, Requirement, RequirementKind, Round, answers_of, find_image

MEASUREMENTS: Final = "measurements"
JUDGE: Final = "judge"
"""Who placed a box that no instrument found or checked."""
_EDGES = (0.0, 0.5, 0.9, 0.99, 1.0)
"""Probabilities of yes between which later looks are counted together."""
_WEIGHT = 4
"""Later looks as which a probability counts by itself."""


class Look(TypedDict):
    """The outcome of a requirement that an instrument and the judge answered."""

    instrument: str
    kind: RequirementKind
    right: Literal["both", "instrument", "judge"]
    """Who was right by the look that decided; `both` if they agreed."""


class BoxOutcome(TypedDict):
    """The outcome of an edit within a box."""

    placed_by: str
    """`judge`, or the instrument that found or checked it."""
    kind: RequirementKind
    fixed: bool
    """Whether the requirement that it was for was met afterwards."""


class Tally(TypedDict):
    """How often an instrument and the judge agreed, and which of them was right where they did not."""

    agreed: int
    instrument: int
    judge: int


class BoxTally(TypedDict):
    """How many edits within boxes mended what they were for."""

    fixed: int
    edits: int


class YesTally(TypedDict):
    """How often later looks confirmed a yes with a probability between two limits, the lower one included."""

    least: float
    most: float
    looks: int
    confirmed: int


def find_looks(turn: Round, requirements: Iterable[Requirement]) -> list[Look]:
    """Return what instruments and the judge said about a round's images."""
    kinds = {requirement["id"]: requirement["kind"] for requirement in requirements}
    return [
        {"instrument": finding["instrument"], "kind": kinds[answer["requirement"]], "right": _who_was_right(answer)}
        for answer in _new_answers(turn)
        # What another requirement decided says nothing of them.
        if (finding := answer.get("finding")) is not None and finding["judge"] != "unknown"
        if answer["source"] != "parent" and answer["answer"] != "unknown"
    ]


def find_box_outcomes(earlier: Sequence[Round], turn: Round, requirements: Iterable[Requirement]) -> list[BoxOutcome]:
    """Return the outcome of a round's edit, if it was one within boxes that the policy chose."""
    known = find_image(earlier, turn["parent"]) if turn.get("parent") and turn.get("boxes") else None
    if known is None or turn.get("by") == "person":
        return []
    kinds = {requirement["id"]: requirement["kind"] for requirement in requirements}
    before = {answer["requirement"]: answer for answer in known[0]["verdicts"][known[1]]["answers"]}
    after = answers_of(turn)
    return [
        {
            "placed_by": before[name].get("placed_by", JUDGE),
            "kind": kinds[name],
            "fixed": after[name]["answer"] == "yes",
        }
        for name in turn.get("repaired", ())
        if "box" in before.get(name, {})
    ]


def measurement_ops(state: Mapping[str, Any], run: str, generator: str, judge: str) -> list[PendingOp]:
    """Return one put for each round of a run in which something was measured; `judge` is the judge's model."""
    rounds, operations = state.get("rounds") or [], list[PendingOp]()
    for number, turn in enumerate(rounds):
        found = {
            "looks": find_looks(turn, state["requirements"]),
            "boxes": find_box_outcomes(rounds[:number], turn, state["requirements"]),
            "rechecks": [each for answer in _new_answers(turn) for each in answer.get("rechecks", ())],
        }
        if any(found.values()):
            named = {"run": run, "round": turn["number"], "prompt": state["prompt"], "generator": generator}
            value = named | {"judge": judge, "at": now(), "text_indexed": state["prompt"]} | found
            place = list(namespace(MEASUREMENTS, generator))
            name, key = f"measurement/{run}/{turn['number']}", experience_key(run, turn["number"])
            operations.append({"id": name, "kind": "put", "namespace": place, "key": key, "value": value})
    return operations


def count_looks(looks: Iterable[Look]) -> dict[str, dict[str, Tally]]:
    """Count looks by instrument and kind of requirement."""
    found: dict[str, dict[str, Tally]] = {}
    for look in looks:
        tally = found.setdefault(look["instrument"], {}).setdefault(
            look["kind"], {"agreed": 0, "instrument": 0, "judge": 0}
        )
        tally["agreed" if look["right"] == "both" else look["right"]] += 1
    return found


def count_boxes(outcomes: Iterable[BoxOutcome]) -> dict[str, dict[str, BoxTally]]:
    """Count edits within boxes by who placed them and kind of requirement."""
    found: dict[str, dict[str, BoxTally]] = {}
    for outcome in outcomes:
        tally = found.setdefault(outcome["placed_by"], {}).setdefault(outcome["kind"], {"fixed": 0, "edits": 0})
        tally["fixed"] += outcome["fixed"]
        tally["edits"] += 1
    return found


def count_rechecks(rechecks: Iterable[Recheck]) -> list[YesTally]:
    """Count later looks by the probability of yes before them; without any, nothing."""
    looks, confirmed = Counter[int](), Counter[int]()
    for each in rechecks:
        place = _bin(each["probability"])
        looks[place] += 1
        confirmed[place] += each["met"]
    return [
        {"least": least, "most": most, "looks": looks[place], "confirmed": confirmed[place]}
        for place, (least, most) in enumerate(pairwise(_EDGES))
        if looks[place]
    ]


def calibrate(probability: float, tallies: Iterable[YesTally]) -> float:
    """Return the chance, in [0, 1], that a later look confirms a yes of this probability.

    Among similar ones it is the share that was confirmed, to which the probability itself adds four looks.
    """
    similar = [each for each in tallies if each["least"] == _EDGES[_bin(probability)]]
    looks, confirmed = (sum(each[name] for each in similar) for name in ("looks", "confirmed"))
    return (confirmed + _WEIGHT * probability) / (looks + _WEIGHT)


def expected_score(answers: Sequence[Answer], tallies: Sequence[YesTally]) -> float | None:
    """Return the share of requirements met, each yes with its chance to hold; None if no answer has a probability."""
    if all(answer["probability"] is None for answer in answers):
        return None
    met = [answer["probability"] for answer in answers if answer["answer"] == "yes"]
    return sum(1.0 if each is None else calibrate(each, tallies) for each in met) / len(answers)


def _bin(probability: float) -> int:
    return max(place for place, edge in enumerate(_EDGES[:-1]) if probability >= edge)


def _who_was_right(answer: Answer) -> Literal["both", "instrument", "judge"]:
    finding = answer["finding"]
    if finding["answer"] == finding["judge"]:
        return "both"
    return "instrument" if answer["answer"] == finding["answer"] else "judge"


def _new_answers(turn: Round) -> list[Answer]:
    """Return the answers for a round's images, but not those that an unchanged image inherits."""
    verdicts = [verdict for verdict in turn["verdicts"] if verdict["image"] != turn.get("parent")]
    return [answer for verdict in verdicts for answer in verdict["answers"]]
