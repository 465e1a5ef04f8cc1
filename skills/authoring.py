"""Public API for a skill's `graph.py`. Stable, since third-party skills depend on it.

def build(context: SkillContext) -> StateGraph: ...
def verifiers(context: SkillContext) -> list[Verifier]: ...   # optional
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Protocol

from typing_extensions import TypedDict

from gems.types import AnswerValue, DrawingSettings, Options, Requirement, RequirementKind, Usage, merge_usage

if TYPE_CHECKING:
    from langgraph.graph import StateGraph

    from gems.models.detectors.base import ObjectDetector
    from gems.nodes.context import NodeContext

    Work = NodeContext
else:

    def __getattr__(name: str) -> Any:
        """Load `NodeContext` (alias `Work`) on first use, since `gems.nodes` imports this module."""
        if name in ("NodeContext", "Work"):
            from gems.nodes.context import NodeContext  # noqa: PLC0415

            return NodeContext
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ExtraRequirement",
    "NodeContext",
    "SkillContext",
    "SkillInput",
    "SkillOutput",
    "SkillState",
    "Step",
    "Verifier",
    "VerifierAnswer",
    "VerifierRequest",
    "Work",
]

Step = Callable[..., Awaitable[dict[str, Any]]]
"""A node of a skill's graph in the form that LangGraph takes."""


class ExtraRequirement(TypedDict):
    """A requirement that a skill adds to those of the user's prompt."""

    question: str
    """A question about the image for which yes is the good answer."""
    kind: NotRequired[RequirementKind]
    """`other` by default."""


class SkillInput(TypedDict):
    """Input of a skill's graph."""

    prompt: str
    """The prompt to improve: the planner's, or that of the previous skill."""
    user_prompt: str
    """The user's prompt, verbatim."""
    requirements: list[Requirement]
    """The requirements so far."""
    options: Options
    """The run's options."""
    run_id: str


class SkillState(SkillInput, total=False):
    """State of a skill's graph; a graph may declare its own state with these keys."""

    guidance: str
    """The skill's body. Written by the step `load`."""
    extra_requirements: list[ExtraRequirement]
    drawing: DrawingSettings
    restored: list[str]
    """Questions of what was lost and restored. Written by the step `keep`."""
    usage: Annotated[dict[str, Usage], merge_usage]
    warnings: Annotated[list[str], add]


class SkillOutput(TypedDict, total=False):
    """Output of a skill's graph."""

    prompt: str
    """The improved prompt; if missing or empty, the given prompt is used."""
    extra_requirements: list[ExtraRequirement]
    """Appended to the requirements, at most ten per skill."""
    drawing: DrawingSettings
    """Settings of generation; the user's own take precedence."""
    restored: list[str]
    """Written by the step `keep`."""
    usage: Annotated[dict[str, Usage], merge_usage]
    """Written by the steps that `SkillContext.node` makes."""
    warnings: Annotated[list[str], add]
    """Likewise; or messages of the skill to the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierRequest:
    """Input of a verifier.

    Attributes:
        image: PNG bytes.
        user_prompt: The user's prompt.
        requirements: Those that the verifier takes.
        detector: The run's object detector; None if there is none, or in profile `paper`.
    """

    image: bytes = field(repr=False)
    user_prompt: str
    requirements: Sequence[Requirement]
    detector: ObjectDetector | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierAnswer:
    """A verifier's answer to one requirement.

    Attributes:
        answer: `unknown` leaves the question to the judge.
        evidence: The exact finding, which the reflector is shown. At most 300 characters are kept.
        box: Where a `no` has its place: x1, y1, x2, y2 in thousandths of width and height from the upper left corner;
            empty if it has none.
        instrument: Name of the instrument that found it, for which its agreement with the judge is counted: the judge
            is asked as well, and looks once more where the two contradict each other. Empty for an answer that stands
            by itself.
    """

    answer: AnswerValue
    evidence: str
    box: Sequence[int] = ()
    instrument: str = ""


class Verifier(Protocol):
    """A tool that answers certain requirements better than a general model.

    One with an attribute `uses_detector` that is true is left out where there is no detector.
    """

    def takes(self, requirement: Requirement) -> bool:
        """Return whether it can answer this requirement."""
        ...

    async def verify(self, request: VerifierRequest) -> Mapping[str, VerifierAnswer]:
        """Return answers by requirement id; the judge is asked about missing ones.

        Raises:
            GemsError: The verifier failed. The judge is then asked about all requirements, with a warning.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillContext:
    """Context for the functions of a skill's `graph.py`.

    Attributes:
        name: The skill's name.
        folder: The skill's folder.
        body: Reads the text below the front matter of SKILL.md.
        reference: Reads a text file of the folder by its relative path, such as `references/fonts.md`.
        load: Step that reads the body into `guidance`.
        enhance: Step that lets the chat model rewrite `prompt` by `guidance`.
        keep: Step that restores what the user asked for and `prompt` lost.
        consult: Asks the planner's chat model a question and returns the answer as an instance of a pydantic
            model: `await context.consult(work, instructions, user_prompt, Form, material="...")`. The
            instructions state the task and the JSON form in the skill's own words; prompt and material are
            shown as data.
        node: Makes a step from `async def doing(state, work) -> update`; `work`, a `NodeContext`, asks the
            chat model, emits warnings and records usage.
        graph: Returns an empty graph of `SkillState`, to add steps to.
        default: Returns the graph of a skill without code: load, enhance, keep.
    """

    name: str
    folder: Path
    body: Callable[[], Awaitable[str]]
    reference: Callable[[str], Awaitable[str]]
    load: Step
    enhance: Step
    keep: Step
    consult: Callable[..., Awaitable[Any]]
    node: Callable[[Callable[[Any, NodeContext], Awaitable[dict[str, Any]]]], Step]
    graph: Callable[[], StateGraph[Any, Any, Any, Any]]
    default: Callable[[], StateGraph[Any, Any, Any, Any]]
