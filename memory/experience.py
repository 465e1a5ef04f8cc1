"""Experiences and lessons as the store holds them, and credits for lessons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

from typing_extensions import TypedDict

from gems.types import (
    Action,
    AnswerValue,
    Experience,
    Recall,
    Requirement,
    RequirementKind,
    Round,
    TrackRecord,
    answers_of,
    best_round,
)

EXPERIENCES: Final = "experiences"
LESSONS: Final = "lessons"
MAX_WORDS = 100
"""Maximum length of the text of an experience or a lesson."""


class Checked(TypedDict):
    """A requirement in an experience."""

    kind: RequirementKind
    question: str


def no_record() -> TrackRecord:
    """Return an empty track record."""
    return {"shown": 0, "helped": 0, "hurt": 0}


def sum_records(records: Sequence[Mapping[str, Any]]) -> TrackRecord:
    """Add up track records."""
    shown, helped, hurt = (sum(record.get(name, 0) for record in records) for name in ("shown", "helped", "hurt"))
    return {"shown": shown, "helped": helped, "hurt": hurt}


def memory_namespace(generator: str, owner: str) -> str:
    """Return the generator's name for an owner's runs; owners do not see each other's prompts."""
    return f"{generator} of {owner}" if owner else generator


def namespace(kind: Literal["experiences", "lessons", "measurements"], generator: str) -> tuple[str, str]:
    """Return the namespace of experiences, lessons or measurements about a generator."""
    # LangGraph does not allow dots in labels of a namespace.
    return kind, generator.replace(".", "_") or "unknown"


def experience_key(run: str, number: int) -> str:
    """Return an experience's key within its namespace."""
    return f"{run}:{number}"


def indexed_text(prompt: str, questions: Iterable[str]) -> str:
    """Return the text that searches for an experience or a lesson match."""
    return "\n".join([prompt, *questions])


def kinds_of(checked: Iterable[Checked]) -> list[RequirementKind]:
    """Return the kinds of the requirements, each once."""
    return cast("list[RequirementKind]", sorted({item["kind"] for item in checked}))


def shorten(text: str) -> str:
    """Return the text on one line, cut to 100 words."""
    return " ".join(text.split()[:MAX_WORDS])


def now() -> str:
    """Return the current time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class PendingOp(TypedDict):
    """One operation on the store."""

    id: str
    """Identifies the operation: the same one is not executed twice."""
    kind: Literal["put", "credit"]
    """A credit adds to an item's track record."""
    namespace: list[str]
    key: str
    value: dict[str, Any]


def collect_experiences(state: Mapping[str, Any], run: str) -> list[dict[str, Any]]:
    """Return the experience of every round of a run's state that has one."""
    rounds = {turn["number"]: turn for turn in state.get("rounds") or []}
    return [
        build_experience(state, run, found, [rounds[n] for n in sorted(rounds) if n <= found["round"] + 1])
        for found in state.get("experiences") or []
        if found["round"] in rounds
    ]


def build_experience(
    state: Mapping[str, Any], run: str, experience: Experience, rounds: Sequence[Round]
) -> dict[str, Any]:
    """Build one round's experience, an `ExperienceEntry`; `rounds` ends with that round, or with the next one."""
    requirements = state["requirements"]
    earlier = [turn for turn in rounds if turn["number"] <= experience["round"]]
    round_data, following = earlier[-1], rounds[-1] if len(rounds) > len(earlier) else None
    failed = requirements_with_answer(round_data, requirements, "no")
    return {
        "run": run,
        "round": round_data["number"],
        "prompt": state["prompt"],
        "generator": round_data["candidates"][round_data["best"]]["model"],
        "skills": list((state.get("plan") or {}).get("skills") or []),
        "failed": failed,
        "passed": requirements_with_answer(round_data, requirements, "yes"),
        "text": shorten(experience["text"]),
        "next_prompt": experience["next_prompt"],
        "score": round_data["score"],
        "score_after": following["score"] if following else None,
        "failed_after": requirements_with_answer(following, requirements, "no") if following else [],
        "passed_after": requirements_with_answer(following, requirements, "yes") if following else [],
        "action_after": following.get("action", "redraw") if following else "",
        "steps_after": step_outcomes(earlier, following, requirements) if following else [],
        "at": now(),
        "record": no_record(),
        "text_indexed": indexed_text(state["prompt"], [item["question"] for item in failed]),
    }


def requirements_with_answer(
    round_data: Round, requirements: Sequence[Requirement], wanted: AnswerValue
) -> list[Checked]:
    """Return the requirements for which the round's best image has this answer."""
    answers = best_answers(round_data)
    return [
        {"kind": requirement["kind"], "question": requirement["question"]}
        for requirement in requirements
        if answers.get(requirement["id"]) == wanted
    ]


def best_answers(turn: Round) -> dict[str, AnswerValue]:
    """Return the answers for the round's best image, by requirement."""
    return {name: answer["answer"] for name, answer in answers_of(turn).items()}


class StepOutcome(TypedDict):
    """What a step of a run was worth."""

    action: Action
    kind: str
    """Kind of the requirement that it was for; for `redraw`, which is for all, the number of unmet ones: `1`, `2`, or
    `3`, which means more, too."""
    improved: bool
    """Whether the best image became better."""


StepCounts = Mapping[tuple[Action, str], tuple[int, int]]
"""How many steps of an action, for a kind, made the best image better, and how many did not."""
_MANY_UNMET = 3


def unmet_kind(turn: Round) -> str:
    """Return the kind of a `StepOutcome` that draws anew after a round."""
    return unmet_number(sum(answer != "yes" for answer in best_answers(turn).values()))


def unmet_number(unmet: int) -> str:
    """Return the kind of a `StepOutcome` that draws anew, by the number of unmet requirements."""
    return str(min(max(unmet, 1), _MANY_UNMET))


def step_outcomes(earlier: Sequence[Round], turn: Round, requirements: Iterable[Requirement]) -> list[StepOutcome]:
    """Return the outcomes of the step to a round, given all rounds before it; none if a person chose the step."""
    if turn.get("by") == "person":
        return []
    best, kinds = best_round(earlier), {requirement["id"]: requirement["kind"] for requirement in requirements}
    mended: list[str] = [kinds[name] for name in turn.get("repaired", ()) if name in kinds]
    found: list[StepOutcome] = []
    if (abandoned := turn.get("abandoned")) is not None:
        found += [{"action": abandoned, "kind": kind, "improved": False} for kind in mended]
    changed = mended if turn.get("parent") else []
    action, improved = turn.get("action", "redraw"), turn["score"] > best["score"]
    return found + [{"action": action, "kind": kind, "improved": improved} for kind in changed or [unmet_kind(best)]]


def count_outcomes(outcomes: Iterable[StepOutcome]) -> StepCounts:
    """Count outcomes by action and kind."""
    found = list(outcomes)
    better = Counter((each["action"], each["kind"]) for each in found if each["improved"])
    all_of_them = Counter((each["action"], each["kind"]) for each in found)
    return {key: (better[key], count - better[key]) for key, count in all_of_them.items()}


def add_counts(*counts: StepCounts) -> StepCounts:
    """Return the sums of counts."""
    total: dict[tuple[Action, str], tuple[int, int]] = {}
    for key, (better, worse) in (item for each in counts for item in each.items()):
        before = total.get(key, (0, 0))
        total[key] = (before[0] + better, before[1] + worse)
    return total


def lesson_credits(recall: Recall, rounds: Sequence[Round], requirements: Iterable[Requirement]) -> list[TrackRecord]:
    """Return a credit for each lesson of a recall, in order.

    A lesson is about the requirements of its kinds that failed in the round before; for a first round, about
    all requirements of its kinds. It helped if all of these then passed, and hurt if one failed.
    """
    by_number = {round_data["number"]: round_data for round_data in rounds}
    after = best_answers(by_number[recall["round"]])
    before = by_number.get(recall["round"] - 1)
    earlier = best_answers(before) if before else {}
    open_ones = [item for item in requirements if not before or earlier.get(item["id"]) == "no"]
    found: list[TrackRecord] = []
    for lesson in recall["lessons"]:
        answers = [after.get(item["id"]) for item in open_ones if item["kind"] in lesson["kinds"]]
        failed = "no" in answers
        met = bool(answers) and not failed and "yes" in answers
        found.append({"shown": 1, "helped": int(met), "hurt": int(failed)})
    return found


def experience_ops(state: Mapping[str, Any], run: str, generator: str) -> list[PendingOp]:
    """Return one put for each round of a run, however far it came, that has an experience."""
    return [
        {
            "id": f"experience/{run}/{value['round']}",
            "kind": "put",
            "namespace": list(namespace(EXPERIENCES, generator)),
            "key": experience_key(run, value["round"]),
            "value": {**value, "generator": generator},
        }
        for value in collect_experiences(state, run)
    ]


def credit_ops(recall: Recall, state: Mapping[str, Any], name: str) -> list[PendingOp]:
    """Return one credit per lesson of a recall whose round is judged; `name` begins the ids."""
    merits = lesson_credits(recall, state["rounds"], state["requirements"])
    return [
        {
            "id": f"{name}/{recall['round']}/{lesson['key']}",
            "kind": "credit",
            "namespace": lesson["namespace"],
            "key": lesson["key"],
            "value": dict(merit),
        }
        for lesson, merit in zip(recall["lessons"], merits, strict=True)
    ]
