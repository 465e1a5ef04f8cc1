"""Training data from runs: pairs of images, rewards of images, steps of agents."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gems.memory.ledger import KeptQuestion, RecordedAnswer
from gems.models.chat.parsing import read_json
from gems.models.chat.schemas import TASK_ROLES, ChecklistReply
from gems.results import RunResult
from gems.types import Answer, Candidate, RequirementKind, Round, Verdict

ExportKind = Literal["pairs", "rewards", "trajectories"]
Relation = Literal["candidate", "redraw", "edit", "inpaint"]
_ASKED_ONCE = ("judge", "parent", "")
"""Sources of answers behind which is a single look."""
_QUESTION = re.compile(r"^(\d+)\. (.+)$", re.MULTILINE)
# By the beginning of the model's name; from the model cards on Hugging Face, read in November 2026.
_LICENCES = {
    "black-forest-labs/flux.1-schnell": "apache-2.0",
    "black-forest-labs/flux.2-klein-4b": "apache-2.0",
    "black-forest-labs/flux": "flux non-commercial",
    "qwen/qwen-image": "apache-2.0",
    "stabilityai/stable-diffusion-3": "stability community",
    "stabilityai/stable-diffusion-xl": "openrail++",
    "tongyi-mai/z-image": "apache-2.0",
}


class ExportOptions(BaseModel):
    """What is exported of the chosen runs.

    Raises:
        ValidationError: A share of a split is not in (0, 1], or they are not 1 together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_margin: float = Field(0.0, ge=0, le=1, description="Least difference of scores of a pair; never a tie.")
    per_prompt: int | None = Field(None, ge=1, description="Most rows for one prompt.")
    kinds: tuple[RequirementKind, ...] = Field((), description="Only what differs in requirements of these kinds.")
    unconfirmed: bool = Field(False, description="Whether answers count behind which is a single look.")
    drawn_prompts: bool = Field(False, description="Whether the prompt is the one that was drawn, not the user's.")
    hash_prompts: bool = Field(False, description="Whether prompts are replaced by their SHA-256.")
    harmful: bool = Field(False, description="Whether steps are included that made the image worse.")
    splits: dict[str, float] = Field({"train": 1.0}, description="Shares of the prompts by name.")

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, splits: dict[str, float]) -> dict[str, float]:
        if not splits or any(not re.fullmatch(r"\w+", name) or not 0 < share <= 1 for name, share in splits.items()):
            raise ValueError("each split needs a name of letters and digits and a share in (0, 1]")
        if abs(sum(splits.values()) - 1) > 1e-6:
            raise ValueError(f"the shares are {sum(splits.values()):g} together, not 1")
        return splits


@dataclass(frozen=True, slots=True)
class Judged:
    """An image of a run with its verdict."""

    turn: Round
    candidate: Candidate
    verdict: Verdict

    @property
    def image(self) -> str:
        """The id of the image."""
        return self.candidate["image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two images of one run, of which `chosen` meets more of the requirements that are known for both."""

    chosen: Judged
    rejected: Judged
    margin: float
    """Difference of the shares of requirements met, in (0, 1]."""
    is_confirmed: bool
    """Whether a second look or an instrument stands behind each requirement that only the chosen image meets."""
    relation: Relation
    """How the later image came about: of the same round, drawn anew, or changed from the other one."""


def list_images(result: RunResult) -> list[Judged]:
    """Return the judged images of a run that a generator drew, once each."""
    found: dict[str, Judged] = {}
    for turn in result.rounds:
        if turn.get("action") == "given":
            continue
        for candidate, verdict in zip(turn["candidates"], turn["verdicts"], strict=True):
            found.setdefault(candidate["image"], Judged(turn, candidate, verdict))
    return list(found.values())


def find_pairs(result: RunResult, options: ExportOptions) -> list[Pair]:
    """Return the pairs of a run, those that differ most first."""
    kinds = {item.id: item.kind for item in result.requirements}
    found = [
        pair
        for first, second in combinations(list_images(result), 2)
        if (pair := _compare(first, second, kinds, options)) is not None
    ]
    found.sort(key=lambda pair: (-pair.margin, pair.chosen.image, pair.rejected.image))
    return found


def _compare(
    first: Judged, second: Judged, kinds: Mapping[str, RequirementKind], options: ExportOptions
) -> Pair | None:
    one, other = _by_requirement(first.verdict), _by_requirement(second.verdict)
    known = [name for name in one if {one[name]["answer"], other.get(name, _UNKNOWN)["answer"]} <= {"yes", "no"}]
    better = [name for name in known if (one[name]["answer"], other[name]["answer"]) == ("yes", "no")]
    worse = [name for name in known if (one[name]["answer"], other[name]["answer"]) == ("no", "yes")]
    if len(better) == len(worse):
        return None
    chosen, rejected, decisive, answers = first, second, better, one
    if len(worse) > len(better):
        chosen, rejected, decisive, answers = second, first, worse, other
    margin = abs(len(better) - len(worse)) / len(known)
    is_confirmed = all(answers[name]["source"] not in _ASKED_ONCE for name in decisive)
    of_kind = not options.kinds or any(kinds.get(name) in options.kinds for name in decisive)
    if not of_kind or margin < options.min_margin or not (is_confirmed or options.unconfirmed):
        return None
    return Pair(
        chosen=chosen, rejected=rejected, margin=margin, is_confirmed=is_confirmed, relation=_relate(first, second)
    )


_UNKNOWN: Mapping[str, Any] = {"answer": "unknown"}


def _by_requirement(verdict: Verdict) -> dict[str, Answer]:
    return {answer["requirement"]: answer for answer in verdict["answers"]}


def _relate(first: Judged, second: Judged) -> Relation:
    if first.turn["number"] == second.turn["number"]:
        return "candidate"
    earlier, later = sorted((first, second), key=lambda judged: judged.turn["number"])
    action = later.turn.get("action", "redraw")
    is_change = later.turn.get("parent") == earlier.image and action in ("edit", "inpaint")
    return action if is_change else "redraw"  # type: ignore[return-value]


def pair_row(pair: Pair, result: RunResult, options: ExportOptions) -> dict[str, Any]:
    """Return a pair as a row, with the ids of its images as `chosen` and `rejected`."""
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    row: dict[str, Any] = {"prompt": _prompt(pair.chosen, result, options)}
    row |= {name: judged.image for name, judged in sides.items()}
    row |= {"margin": pair.margin, "confirmed": pair.is_confirmed, "relation": pair.relation}
    for name, judged in sides.items():
        row |= {f"{name}_{field}": value for field, value in _origin(judged).items()}
    chosen, rejected = _by_requirement(pair.chosen.verdict), _by_requirement(pair.rejected.verdict)
    row["requirements"] = [
        {"question": item.question, "kind": item.kind}
        | {f"chosen_{key}": value for key, value in _answer(chosen.get(item.id)).items()}
        | {f"rejected_{key}": value for key, value in _answer(rejected.get(item.id)).items()}
        for item in result.requirements
    ]
    return row | {"run": result.run_id}


def reward_rows(result: RunResult, options: ExportOptions) -> Iterator[dict[str, Any]]:
    """Yield each judged image of a run with its score and labels, its id as `image`."""
    for judged in list_images(result):
        answers = _by_requirement(judged.verdict)
        labels = [
            {"question": item.question, "kind": item.kind} | _answer(answers.get(item.id))
            for item in result.requirements
            if not options.kinds or item.kind in options.kinds
        ]
        known = [label for label in labels if label["answer"] in ("yes", "no")]
        is_confirmed = all(label["source"] not in _ASKED_ONCE for label in known if label["answer"] == "yes")
        if not known or not (is_confirmed or options.unconfirmed):
            continue
        row = {"prompt": _prompt(judged, result, options), "image": judged.image, "confirmed": is_confirmed}
        yield row | _origin(judged) | {"labels": labels, "run": result.run_id}


def step_rows(result: RunResult, answers: Iterable[RecordedAnswer], options: ExportOptions) -> Iterator[dict[str, Any]]:
    """Yield each answer of a chat model with what it was asked and what came of it, ids of images as `images`.

    The reward of the reflector's answers is the change of the score to the next round, in [-1, 1]; of the planner's
    the score of the first round; of a checklist the share of its answers that later looks left as they were. It is
    None where nothing is known. A step is harmful if the next round is worse, or a later look decided otherwise.
    """
    for recorded in answers:
        asked = recorded["answer"].get("question")
        if asked is None or recorded["task"] not in TASK_ROLES:
            continue
        reward, is_harmful = _come_of(recorded, asked, result)
        if is_harmful and not options.harmful:
            continue
        images = [part["image"] for part in asked["parts"] if isinstance(part, dict)]
        content = [_content(part) for part in asked["parts"]]
        yield {
            "prompt_text": _hashed(result.prompt, options),
            "prompt": [
                *([_message("system", [_content(asked["system"])])] if asked["system"] else []),
                _message("user", content),
            ],
            "completion": [_message("assistant", [_content(recorded["answer"]["text"])])],
            "images": images,
            "reward": reward,
            "harmful": is_harmful,
            "role": TASK_ROLES[recorded["task"]],
            "task": recorded["task"],
            "round": asked["round"],
            "score": result.score,
            "passed": result.passed,
            "run": result.run_id,
        }


def _come_of(recorded: RecordedAnswer, asked: KeptQuestion, result: RunResult) -> tuple[float | None, bool]:
    role = TASK_ROLES[recorded["task"]]  # type: ignore[index]
    scores = {turn["number"]: turn["score"] for turn in result.rounds}
    if role == "planner":
        return scores.get(1), False
    if role == "reflector":
        before, after = scores.get(asked["round"]), scores.get(asked["round"] + 1)
        if before is None or after is None:
            return None, False
        return round(after - before, 6), after < before
    share = _agreement(recorded, asked, result)
    return share, share is not None and share < 1


def _agreement(recorded: RecordedAnswer, asked: KeptQuestion, result: RunResult) -> float | None:
    """Return the share of a checklist's answers that are the final ones; None if none can be compared."""
    if recorded["task"] != "checklist":
        return None
    images = {part["image"] for part in asked["parts"] if isinstance(part, dict)}
    texts = "\n".join(part for part in asked["parts"] if isinstance(part, str))
    numbers = {text: int(number) for number, text in _QUESTION.findall(texts)}
    given = {item.number: item.answer for item in read_json(recorded["answer"]["text"], ChecklistReply).answers}
    questions = {item.id: " ".join(item.question.split()) for item in result.requirements}
    judged = [each for each in list_images(result) if each.image in images]
    same = [
        given[number] == answer["answer"]
        for answer in (judged[-1].verdict["answers"] if judged else ())
        if answer["source"] not in _ASKED_ONCE
        and (number := numbers.get(questions.get(answer["requirement"], ""), 0)) in given
    ]
    return round(sum(same) / len(same), 6) if same else None


def _content(part: str | dict[str, str]) -> dict[str, str | None]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "text": None}


def _message(role: str, content: Sequence[dict[str, str | None]]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _answer(answer: Answer | None) -> dict[str, Any]:
    found: Mapping[str, Any] = answer or {"answer": "unknown", "evidence": "", "probability": None, "source": ""}
    return {name: found[name] for name in ("answer", "evidence", "probability", "source")}


def _origin(judged: Judged) -> dict[str, Any]:
    drawn = judged.candidate
    return {
        "score": judged.verdict["score"],
        "seed": drawn["seed"],
        "model": drawn["model"],
        "licence": find_licence(drawn["model"]),
        "round": judged.turn["number"],
        "action": judged.turn.get("action", "draw"),
    }


def find_licence(model: str) -> str | None:
    """Return the licence of a generator's weights; None if it is not known."""
    name = model.lower().partition("@")[0].removeprefix("diffusers:")
    return next((licence for begin, licence in _LICENCES.items() if name.startswith(begin)), None)


def _prompt(judged: Judged, result: RunResult, options: ExportOptions) -> str:
    return _hashed(judged.turn["prompt"] if options.drawn_prompts else result.prompt, options)


def _hashed(prompt: str, options: ExportOptions) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest() if options.hash_prompts else prompt


def choose_split(prompt: str, splits: Mapping[str, float]) -> str:
    """Return the split of a prompt, the same for all that differ in case and spaces only."""
    digest = hashlib.sha256(" ".join(prompt.casefold().split()).encode()).digest()
    point, reached = int.from_bytes(digest[:8]) / 2**64, 0.0
    for name, share in splits.items():
        reached += share
        if point < reached:
            return name
    return list(splits)[-1]


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


@dataclass(slots=True)
class Selection:
    """Rows of one export, one run after the other, and what was left out of them."""

    kind: ExportKind
    options: ExportOptions
    left_out: Counter[str]
    _rows: Counter[bytes]
    """Rows by the digest of their prompt, if they are limited."""
    _seen: set[bytes]
    """Digests of the rows: all that grows with their number."""

    @classmethod
    def start(cls, kind: ExportKind, options: ExportOptions) -> Selection:
        """Begin an export."""
        return cls(kind, options, Counter(), Counter(), set())

    def choose(self, result: RunResult, answers: Sequence[RecordedAnswer] = ()) -> Iterator[dict[str, Any]]:
        """Yield the rows of the next run."""
        found = False
        for key, row in self._list(result, answers):
            found = True
            digest, prompt = _digest(*key), _digest(result.prompt)
            if digest in self._seen:
                self.left_out["found in another run too"] += 1
            elif self.options.per_prompt and self._rows[prompt] >= self.options.per_prompt:
                self.left_out["beyond the most of a prompt"] += 1
            else:
                self._seen.add(digest)
                if self.options.per_prompt:
                    self._rows[prompt] += 1
                yield row
        if not found:
            self.left_out["runs without anything to export"] += 1

    def _list(
        self, result: RunResult, answers: Sequence[RecordedAnswer]
    ) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        if self.kind == "pairs":
            for pair in find_pairs(result, self.options):
                yield (pair.chosen.image, pair.rejected.image), pair_row(pair, result, self.options)
        elif self.kind == "rewards":
            for row in reward_rows(result, self.options):
                yield (result.prompt, row["image"]), row
        else:
            for number, row in enumerate(step_rows(result, answers, self.options)):
                yield (result.run_id, str(number)), row
