"""The values that travel through the graph and its stores.

Everything that is checkpointed is a `TypedDict` of JSON-native values, so that any checkpointer,
Studio and plain JSON can hold it. Images are never among them: an image is its SHA-256.
Requests and results of image generators are frozen dataclasses, since they carry bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NotRequired

from typing_extensions import TypedDict

from gems.errors import SizeError

if TYPE_CHECKING:
    from PIL.Image import Image

AnswerValue = Literal["yes", "no", "unknown"]
RequirementKind = Literal["object", "count", "attribute", "relation", "text", "style", "other"]
Profile = Literal["balanced", "paper"]
StopReason = Literal["passed", "max_rounds", "budget", "plateau", "refused", "cancelled", "failed"]
Role = Literal["planner", "judge", "reflector"]


class Requirement(TypedDict):
    """A yes/no question about the image that yes answers well."""

    id: str
    """`r1`, `r2`, ... in the order of the user's prompt."""
    question: str
    kind: RequirementKind
    parents: list[str]
    """Ids of requirements without which this one makes no sense."""
    skill: NotRequired[str]
    """Name of the skill that added it; left out where the user's prompt says it."""


class Answer(TypedDict):
    """What a judge says about one requirement of one image."""

    requirement: str
    """Id of the requirement."""
    answer: AnswerValue
    evidence: str
    """One line that says what was seen."""
    probability: float | None
    """Probability of yes in [0, 1]; None where the endpoint gives no logprobs."""
    source: str
    """Who answered: `judge`, `confirmation`, `parent`, or the name of a skill's verifier."""


class Candidate(TypedDict):
    """One image of a round, before it is judged."""

    index: int
    """Position within the round, from 0."""
    image: str
    """SHA-256 of the PNG bytes, lower-case hexadecimal."""
    seed: int
    """The seed that was asked for."""
    width: int
    height: int
    model: str
    """What really drew it."""
    parameters: dict[str, Any]
    """Further parameters that made the image, as the generator reports them."""
    seconds: float


class Verdict(TypedDict):
    """The answers for one image."""

    image: str
    answers: list[Answer]
    """One per requirement, in plan order."""
    score: float
    """Share of requirements met, in [0, 1]; unknown counts as unmet."""


class Round(TypedDict):
    """One turn of the loop: what was drawn and what the judge said."""

    number: int
    """From 1."""
    prompt: str
    """The prompt that was drawn."""
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


class TrackRecord(TypedDict):
    """What came of showing a lesson to rounds."""

    shown: int
    helped: int
    """Rounds in which what it was about then passed."""
    hurt: int
    """Rounds in which it failed all the same."""


class Experience(TypedDict):
    """The compressed summary of a round."""

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
    """A lesson was drawn from several experiences."""
    text: str
    kinds: list[RequirementKind]
    """Kinds of requirements that it is about."""
    similarity: float
    """To the prompt and to what failed; higher is better, at most 1."""
    record: TrackRecord
    """What had come of it until then."""


class Recall(TypedDict):
    """What earlier runs' lessons a round was drawn with."""

    round: int
    """The round whose prompt they went into."""
    lessons: list[Recalled]


class Plan(TypedDict):
    """What the planner decided before the first round."""

    skills: list[str]
    """Names of the chosen skills, empty for none."""
    why: str
    prompt: str
    """The prompt of the first round."""


class DrawingSettings(TypedDict, total=False):
    """How a skill wants images drawn; what the user asked for goes first."""

    negative_prompt: str
    """What to avoid, in addition to what the user wants avoided."""
    guidance: float
    """Guidance scale, at least 0."""
    steps: int
    """Inference steps, at least 1."""
    size: str
    """`WIDTHxHEIGHT` in pixels."""


class SkillUse(TypedDict):
    """What came of a chosen skill."""

    name: str
    prompt: str
    """The prompt that it made; the one before where it failed."""
    restored: list[str]
    """Questions of requirements that the new prompt had lost and that were put back."""
    requirements: list[str]
    """Ids of the requirements that it added."""
    drawing: DrawingSettings
    fault: str
    """Why the run went on without it; empty where it did its part."""


class Failure(TypedDict):
    """Why a run could not go on."""

    node: str
    """The node that failed; a resumed run starts there."""
    error: str
    """Class name from `gems.errors`."""
    message: str


class Fork(TypedDict):
    """Where a run came from: it shares another run's history up to a round."""

    run_id: str
    """The other run, which may have been deleted since."""
    round: int
    """The last round that both share."""


class Usage(TypedDict):
    """What a role or a run consumed so far."""

    calls: int
    input_tokens: int
    output_tokens: int
    images_sent: int
    image_bytes_sent: int
    seconds: float
    """Wall time of the calls, summed; parallel calls count each."""
    usd: float | None
    """None where the price is not known."""


class Options(TypedDict):
    """How a run is to be carried out; complete and checked."""

    max_rounds: int
    candidates: int
    width: int
    height: int
    sized: bool
    """Whether the user asked for this size; a skill may change it otherwise."""
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
    memory: bool
    """Whether the run learns from others, and others from it."""
    source: NotRequired[str]
    """SHA-256 of the stored picture that each round edits; left out where images are drawn from nothing."""


Progress = Callable[[int, int], None]
"""Called with (inference steps done, steps in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One image to draw.

    Attributes:
        prompt: What to draw.
        seed: In [0, 2**31); there is no default, since an image must be repeatable.
        width: Pixels.
        height: Pixels.
        negative_prompt: What to avoid; empty for nothing.
        steps: Inference steps; None for the generator's own.
        guidance: Guidance scale; None for the generator's own.
        source: PNG bytes of an image to edit; None to draw from nothing.
        alone: Draw it in a batch of its own. Not part of the request's identity: neighbours make no more than
            floating-point noise.
        on_progress: Told about inference steps, on any thread. Not part of the request's identity.
    """

    prompt: str
    seed: int
    width: int
    height: int
    negative_prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    source: bytes | None = None
    alone: bool = field(default=False, compare=False)
    on_progress: Progress | None = field(default=None, compare=False, repr=False)

    def fingerprint(self, model: str) -> str:
        """SHA-256 of everything that decides the pixels: the same request to the same model."""
        identity = [
            model,
            self.prompt,
            self.seed,
            self.width,
            self.height,
            self.negative_prompt,
            self.steps,
            self.guidance,
            hashlib.sha256(self.source).hexdigest() if self.source is not None else None,
        ]
        return hashlib.sha256(json.dumps(identity, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedImage:
    """One drawn image and what really made it.

    Attributes:
        data: PNG bytes, opened and verified.
        width: Pixels.
        height: Pixels.
        seed: The seed that made it; None where the generator takes none.
        model: What drew it.
        parameters: JSON-native; steps, guidance, revised prompt and whatever else decided the pixels.
        seconds: Wall time of the drawing.
        pixels: The same picture as it was opened for verifying it, so that nobody need open it again; None
            where it was not.
    """

    data: bytes = field(repr=False)
    width: int
    height: int
    seed: int | None
    model: str
    parameters: dict[str, Any]
    seconds: float
    pixels: Image | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorCapabilities:
    """What an image generator can do.

    Attributes:
        model: Name for records, for example `diffusers:z-image-turbo`.
        default_size: Width and height in pixels where the user asks for none.
        sizes: The only sizes it draws; None where any within the limits below will do.
        size_multiple: Width and height must be multiples of this.
        min_side: Smallest width or height in pixels.
        max_side: Largest width or height in pixels.
        seeds: Whether a seed decides the pixels.
        negative_prompts: Whether a negative prompt is heeded.
        editing: Whether a request may carry a source image.
        max_batch: How many waiting requests it may draw in one batch.
        price_usd: US dollars per image; None where not known.
    """

    model: str
    default_size: tuple[int, int]
    sizes: tuple[tuple[int, int], ...] | None = None
    size_multiple: int = 1
    min_side: int = 1
    max_side: int = 8192
    seeds: bool = True
    negative_prompts: bool = True
    editing: bool = False
    max_batch: int = 1
    price_usd: float | None = None

    def check_size(self, width: int, height: int) -> None:
        """Say what is wrong with a size before anything is paid for.

        Raises:
            SizeError: the generator cannot draw `width` x `height` pixels.
        """
        asked = f"{self.model} cannot draw {width}x{height}"
        if self.sizes is not None and (width, height) not in self.sizes:
            known = ", ".join(f"{w}x{h}" for w, h in self.sizes)
            raise SizeError(f"{asked}.", hint=f"Choose one of: {known}.")
        for side in (width, height):
            if not self.min_side <= side <= self.max_side:
                raise SizeError(
                    f"{asked}: each side must be {self.min_side} to {self.max_side} pixels.",
                    hint=f"The default is {self.default_size[0]}x{self.default_size[1]}.",
                )
        if width % self.size_multiple or height % self.size_multiple:
            raise SizeError(
                f"{asked}: width and height must be multiples of {self.size_multiple}.",
                hint=f"The nearest size is {self._nearest(width)}x{self._nearest(height)}.",
            )

    def _nearest(self, side: int) -> int:
        """The nearest multiple that is within the limits."""
        least, most = -(-self.min_side // self.size_multiple), self.max_side // self.size_multiple
        return min(max(round(side / self.size_multiple), least), most) * self.size_multiple
