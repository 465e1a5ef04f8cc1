"""Plain data: Requirement, Verdict, Round, Candidate, Usage; sums of usage, and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, NotRequired, cast

from typing_extensions import TypedDict

if TYPE_CHECKING:
    pass

AnswerValue = Literal["yes", "no", "unknown"]
RequirementKind = Literal["object", "count", "attribute", "relation", "text", "style", "other"]
Profile = Literal["balanced", "paper"]
Action = Literal["draw", "redraw", "edit", "inpaint", "given"]
"""How a round gets its images: from the prompt, or from its parent, as a whole or in a mask; `given` by the user."""
RepairMode = Literal["auto", "never", "always"]
DecisionAction = Literal["continue", "redraw", "edit", "accept", "undo"]
"""What a person may decide: leave it to the policy, draw anew, change an image, take one, take the newest one back."""
MAX_INSTRUCTION = 2_000
"""Most characters of what a person wants changed in an image."""
StopReason = Literal[
    "passed", "accepted", "undecided", "max_rounds", "budget", "deadline", "plateau", "refused", "cancelled", "failed"
]
Role = Literal["planner", "judge", "reflector"]
NO_USAGE: Usage = {
    "calls": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "images_sent": 0,
    "image_bytes_sent": 0,
    "seconds": 0.0,
    "usd": 0.0,
    "wasted_calls": 0,
    "wasted_tokens": 0,
}


class Requirement(TypedDict):
    """A yes/no question about the image to which yes is the good answer."""

    id: str
    """`r1`, `r2`, ... in the order of the user's prompt."""
    question: str
    kind: RequirementKind
    parents: list[str]
    """Ids of requirements that this one presupposes."""
    skill: NotRequired[str]
    """Name of the skill that added it; missing if it comes from the user's prompt."""


class Finding(TypedDict):
    """What an instrument answered to a requirement that the judge was asked about as well."""

    instrument: str
    """Its name, such as `ocr` or that of a detector."""
    answer: AnswerValue
    """The instrument's."""
    judge: AnswerValue
    """The judge's, who did not know the other; where the two are yes and no, another look decided."""


class Recheck(TypedDict):
    """A yes with a probability, and what a later look said."""

    probability: float
    """The first look's, in [0, 1]."""
    met: bool
    """Whether the later look said yes."""


class Answer(TypedDict):
    """A judge's answer to one requirement of one image."""

    requirement: str
    """Id of the requirement."""
    answer: AnswerValue
    evidence: str
    """One line that describes what was seen."""
    probability: float | None
    """Probability of yes in [0, 1], of a checklist at the token of this verdict; None if the endpoint gives no
    logprobs."""
    source: str
    """Source of the answer: `judge`, `confirmation`, `parent`, or the name of a skill's verifier."""
    box: NotRequired[list[int]]
    """Where a no has its place: x1, y1, x2, y2 in thousandths of width and height from the upper left corner."""
    placed_by: NotRequired[str]
    """The instrument that found or checked the box; missing if the judge alone says so."""
    finding: NotRequired[Finding]
    """What an instrument found; missing if none looked."""
    rechecks: NotRequired[list[Recheck]]
    """Later looks at what had a probability; missing if there were none."""


class Candidate(TypedDict):
    """One image of a round, before it is judged."""

    index: int
    """Position within the round, from 0."""
    image: str
    """SHA-256 of the PNG bytes, lower-case hexadecimal."""
    seed: int
    """The requested seed."""
    width: int
    height: int
    model: str
    """The model that generated it."""
    parameters: dict[str, Any]
    """Other parameters, as the generator reports them."""
    seconds: float


class Verdict(TypedDict):
    """The answers for one image."""

    image: str
    answers: list[Answer]
    """One per requirement, in plan order."""
    score: float
    """Share of requirements met, in [0, 1]; unknown counts as unmet."""
    likely: NotRequired[float]
    """The score with each yes counted by its chance to hold, as later looks found it before; missing if no answer has
    a probability."""


class Step(TypedDict):
    """What the policy has decided to draw next."""

    action: Action
    parent: str
    """Id of the image that is changed; empty if none is."""
    boxes: list[list[int]]
    """What may be changed of it, in thousandths as in `Answer`; empty for all of it."""
    requirements: list[str]
    """Ids of the requirements that the change is for; empty for a new image, which is for all."""
    abandoned: NotRequired[Action]
    """The change of an image that was tried first, and could not be used."""
    mask: NotRequired[str]
    """Id of a stored image of the parent's size that is white where it may be changed, in place of boxes."""
    instruction: NotRequired[str]
    """What a person wants changed, in their own words; missing if the reflector says it."""
    by: NotRequired[Literal["person"]]
    """Who decided it; missing for the policy."""


REDRAW: Step = {"action": "redraw", "parent": "", "boxes": [], "requirements": []}


class Origin(TypedDict, total=False):
    """How the images of a round came to be; of rounds of earlier versions, which only drew, nothing is known."""

    action: Action
    parent: str
    """Id of the image that was changed."""
    boxes: list[list[int]]
    """Places, as in `Answer`, outside which, with a margin, every pixel is the parent's; empty for a change of all."""
    mask: str
    """Id of the stored mask that was used in place of boxes, or within which they lie."""
    instruction: str
    """What the editor was told."""
    repaired: list[str]
    """Ids of the requirements that the change was for."""
    abandoned: Action
    """The change that was tried first, and could not be used."""
    by: Literal["person"]
    """Who decided what is drawn; missing for the policy."""


class Round(Origin):
    """One round of the loop: its images and their verdicts."""

    number: int
    """From 1."""
    prompt: str
    """The prompt of the images."""
    negative_prompt: str
    candidates: list[Candidate]
    verdicts: list[Verdict]
    """One per candidate, in the same order."""
    best: int
    """Index of the best candidate."""
    score: float
    """Score of the best candidate."""
    seconds: dict[str, float]
    """Wall time of the round's nodes, by node name."""
    taken: NotRequired[bool]
    """Whether a person took its image, or took it back (false); missing if nobody did either."""


def origin_of(turn: Round) -> Origin:
    """Return what a round records about how its images came to be."""
    return cast("Origin", {name: value for name, value in turn.items() if name in Origin.__annotations__})


class Decision(TypedDict, total=False):
    """What a person decides after a round: the answer to a `DecisionRequest`, or the first step of a fork."""

    action: DecisionAction
    """`edit` by default if there is a mask or an instruction, else `continue`."""
    parent: str
    """Id of an image of any round, to change it or to take it; the best one by default, for `accept` the newest."""
    mask: str
    """Where the parent may change: an image of its size as base64 or data URL, white or transparent there; everywhere
    by default. The service stores it and passes its id on."""
    instruction: str
    """What to change, in the person's own words; in a prompt for `redraw`, it is appended."""


class Choice(TypedDict):
    """An image that a person may choose."""

    round: int
    image: str
    """Its id."""
    score: float


class DecisionRequest(TypedDict):
    """The question to a person after a round: the payload of the graph's interrupt."""

    question: str
    """The question with all that is needed to answer it, as text."""
    round: int
    """The newest round."""
    image: str
    """Id of its best image."""
    choices: list[Choice]
    """All images so far that were not taken back."""
    unmet: list[Answer]
    """What the newest image does not meet, with evidence and boxes."""
    next: DecisionAction
    """What follows if the person leaves it to the policy; `accept` if the run would end."""
    fault: str
    """Why the last answer was not understood; empty at first."""


class TrackRecord(TypedDict):
    """How often a lesson was shown, helped and hurt."""

    shown: int
    helped: int
    """Rounds in which the requirements it is about then passed."""
    hurt: int
    """Rounds in which one of them still failed."""


class Experience(TypedDict):
    """The summary of a round."""

    round: int
    text: str
    """At most 100 words."""
    next_prompt: str
    """The prompt written for the next round."""


class Recalled(TypedDict):
    """A lesson of earlier runs as it was shown."""

    namespace: list[str]
    key: str
    kind: Literal["lesson", "experience"]
    """A lesson is built from several experiences."""
    text: str
    kinds: list[RequirementKind]
    """Kinds of requirements that the lesson is about."""
    similarity: float
    """Similarity to the prompt and to what failed; higher is better, at most 1."""
    record: TrackRecord
    """Its track record at that time."""


class Recall(TypedDict):
    """The lessons of earlier runs that a round used."""

    round: int
    """The round whose prompt they influenced."""
    lessons: list[Recalled]


class Shown(TypedDict):
    """The image that a run on a thread ended with, for later messages on this thread."""

    image: str
    message: str
    """Id of the answer that shows it; empty for a run by prompt."""
    prompt: str
    """What was asked for, shortened; empty where a message says it."""
    place: int
    """Number of the thread's messages before."""


class Plan(TypedDict):
    """The planner's decision before the first round."""

    skills: list[str]
    """Names of the chosen skills, empty for none."""
    why: str
    prompt: str
    """The prompt of the first round."""


class DrawingSettings(TypedDict, total=False):
    """A skill's settings for the generator; the user's options take precedence."""

    negative_prompt: str
    """What to avoid, in addition to the user's negative prompt."""
    guidance: float
    """Guidance scale, at least 0."""
    steps: int
    """Inference steps, at least 1."""
    size: str
    """`WIDTHxHEIGHT` in pixels."""


class SkillUse(TypedDict):
    """The result of a chosen skill."""

    name: str
    prompt: str
    """The prompt that it wrote, without the user's own words if it left them out; the previous one if it failed."""
    restored: list[str]
    """Questions of requirements that the new prompt had lost and that were restored."""
    requirements: list[str]
    """Ids of the requirements that it added."""
    drawing: DrawingSettings
    fault: str
    """Why the run continued without it; empty if it succeeded."""


class Failure(TypedDict):
    """Why a run could not continue."""

    node: str
    """The node that failed; a resumed run starts there."""
    error: str
    """Class name from `gems.errors`."""
    message: str


class Fork(TypedDict):
    """The origin of a fork, which shares another run's history up to a round."""

    run_id: str
    """The other run, which may have been deleted since."""
    round: int
    """The last shared round."""


class Usage(TypedDict):
    """Consumption of a role or a run so far."""

    calls: int
    input_tokens: int
    output_tokens: int
    images_sent: int
    image_bytes_sent: int
    seconds: float
    """Wall time of the calls, summed; parallel calls count each."""
    usd: float | None
    """None if the price is not known."""
    wasted_calls: NotRequired[int]
    """Calls whose reply was of no use: cut off, unreadable or refused. Missing, as below, where it was not counted."""
    wasted_tokens: NotRequired[int]
    """Tokens of these calls, in and out."""


class Options(TypedDict):
    """Options of a run, complete and checked."""

    max_rounds: int
    candidates: int
    width: int
    height: int
    sized: bool
    """Whether the user set this size; otherwise a skill may change it."""
    seed: int
    profile: Profile
    negative_prompt: str
    skills: str
    """`auto`, `none`, or names separated by commas."""
    max_images: int | None
    budget_usd: float | None
    deadline_s: float | None
    plateau: int | None
    """Rounds without a better score after which the run stops; None for never."""
    early_stop: NotRequired[bool]
    """Whether the run stops earlier where little hope is left; missing, as in earlier versions, for no."""
    memory: bool
    """Whether the run learns from others, and others from it."""
    repair: NotRequired[RepairMode]
    """Whether images may be mended instead of drawn anew; missing, as in earlier versions, for never."""
    source: NotRequired[str]
    """SHA-256 of the stored image that each round edits, or that is mended; missing if there is none."""
    mending: NotRequired[bool]
    """Whether the source is the first round, and is mended from then on; missing for no."""
    mask: NotRequired[str]
    """SHA-256 of the stored mask outside which no pixel of the source may change; missing for everywhere."""
    instruction: NotRequired[str]
    """What the user wants changed in the image that is mended; missing if only the requirements count."""
    ask: NotRequired[bool]
    """Whether a person decides after each round; missing, as in earlier versions, for no."""
    generator: NotRequired[str]
    """Name on offer of the generator; missing for that of the settings."""
    judge: NotRequired[str]
    """Name on offer of the judge; missing for that of the settings."""
    patches: NotRequired[list[str]]
    """Ids of the patches that the run was started with; missing for none."""
    recipe: NotRequired[DrawingSettings]
    """What these patches say of the generator; settings of skills take precedence."""


RunStatus = Literal["running", "interrupted", "done", "failed"]


class RunRow(TypedDict):
    """A run in the index. The checkpointer has the authoritative state; this is for listing."""

    run_id: str
    created: str
    """UTC, ISO 8601."""
    updated: str
    status: RunStatus
    prompt: str
    options: Options
    models: dict[str, str]
    summary: dict[str, Any]
    """Score, stop reason, rounds, images, path of the result; empty while the run is in progress."""
    forked_from: Fork | None
    """None for a run that is not a fork."""
    owner: str
    """The user whose run it is, on servers with users; empty otherwise."""


def sum_prices(prices: Iterable[float | None]) -> float | None:
    """Sum US dollars; unknown if one of them is."""
    known = list(prices)
    return None if None in known else sum((price or 0.0 for price in known), 0.0)


def add_usage(first: Usage, second: Usage) -> Usage:
    """Add two usages; the price is unknown if either is."""
    return {
        "calls": first["calls"] + second["calls"],
        "input_tokens": first["input_tokens"] + second["input_tokens"],
        "output_tokens": first["output_tokens"] + second["output_tokens"],
        "images_sent": first["images_sent"] + second["images_sent"],
        "image_bytes_sent": first["image_bytes_sent"] + second["image_bytes_sent"],
        "seconds": first["seconds"] + second["seconds"],
        "usd": sum_prices((first["usd"], second["usd"])),
        "wasted_calls": first.get("wasted_calls", 0) + second.get("wasted_calls", 0),
        "wasted_tokens": first.get("wasted_tokens", 0) + second.get("wasted_tokens", 0),
    }


def merge_usage(first: Mapping[str, Usage] | None, second: Mapping[str, Usage] | None) -> dict[str, Usage]:
    """Add usages by role or model."""
    total = dict(first or {})
    for name, usage in (second or {}).items():
        total[name] = add_usage(total.get(name, NO_USAGE), usage)
    return total


def total_usage(usage: Mapping[str, Usage], *, chat_only: bool = False) -> Usage:
    """Sum the usage of all roles, or of all but the image generator."""
    return reduce(
        add_usage, (used for role, used in usage.items() if not (chat_only and role == "generator")), NO_USAGE
    )


def pass_rate(answers: Sequence[AnswerValue]) -> float:
    """Return the share of requirements met, in [0, 1]; unknown counts as unmet.

    Source: GEMS (arXiv:2603.28088) counts passes; dividing is ours.
    """
    if not answers:
        raise ValueError("No answers to score.")
    return sum(answer == "yes" for answer in answers) / len(answers)


def build_verdict(image: str, answers: list[Answer]) -> Verdict:
    """Return the answers for one image with their score."""
    return {"image": image, "answers": answers, "score": pass_rate([a["answer"] for a in answers])}


def best_verdict(verdicts: Sequence[Verdict]) -> int:
    """Return the position of the best image; raise `ValueError` if there is none.

    The highest score wins. Among equal scores the image with more confirmed answers wins, since a score
    confirmed twice is more reliable; then the one that is likelier to have it, where that is known of all of them, and
    then the earlier one.
    """
    if not verdicts:
        raise ValueError("No images to choose from.")

    def worth(verdict: Verdict) -> tuple[float, int]:
        return verdict["score"], sum(a["answer"] == "yes" and a["source"] == "confirmation" for a in verdict["answers"])

    most = max(map(worth, verdicts))
    equal = [(index, verdict.get("likely")) for index, verdict in enumerate(verdicts) if worth(verdict) == most]
    likely = [chance for _, chance in equal if chance is not None]
    if len(likely) < len(equal):
        # What has no probability is neither sure nor doubtful.
        return equal[0][0]
    return next(index for index, chance in equal if chance == max(likely))


def best_round(rounds: Sequence[Round]) -> Round:
    """Return the round with the best image; raise `ValueError` if there is no round.

    What a person took comes first, and what a person took back last. Of equal scores, that wins which a person
    asked for last; then see `best_verdict`.
    """
    if not rounds:
        raise ValueError("No images to choose from.")
    taken = [turn for turn in rounds if turn.get("taken")]
    left = taken[-1:] or [turn for turn in rounds if turn.get("taken", True)] or list(rounds)
    best = left[best_verdict([turn["verdicts"][turn["best"]] for turn in left])]
    asked_for = [turn for turn in left if turn.get("by") == "person" and turn["score"] == best["score"]]
    return asked_for[-1] if asked_for else best


def find_image(rounds: Sequence[Round], image: str) -> tuple[Round, int] | None:
    """Return the newest round of an image, rather one that was not taken back, and its position; None for no round."""
    for turn in sorted(rounds, key=lambda turn: (turn.get("taken", True), turn["number"]), reverse=True):
        for index, verdict in enumerate(turn["verdicts"]):
            if verdict["image"] == image:
                return turn, index
    return None


def answers_of(turn: Round) -> dict[str, Answer]:
    """Return the answers for the round's best image, by requirement."""
    return {answer["requirement"]: answer for answer in turn["verdicts"][turn["best"]]["answers"]}


def build_answer(
    requirement: Requirement,
    value: AnswerValue,
    evidence: str,
    *,
    probability: float | None = None,
    source: str = "judge",
    box: list[int] | None = None,
) -> Answer:
    """Return an answer with the evidence on one line, at most 300 characters; only a no has a box."""
    answer: Answer = {
        "requirement": requirement["id"],
        "answer": value,
        "evidence": " ".join(evidence.split())[:300],
        "probability": probability,
        "source": source,
    }
    return answer | {"box": box} if box and value == "no" else answer


def unknown_answer(requirement: Requirement, evidence: str) -> Answer:
    """Return the answer `unknown` with the reason as evidence."""
    return build_answer(requirement, "unknown", evidence)
