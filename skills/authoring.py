"""What a skill's `graph.py` is given and hands back. Stable: skills of others are built on it.

def build(context: SkillContext) -> StateGraph: ...
def verifiers(context: SkillContext) -> list[Verifier]: ...   # may be left out
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Protocol

from typing_extensions import TypedDict

from gems.models.usage import merged
from gems.types import AnswerValue, DrawingSettings, Options, Requirement, RequirementKind, Usage

if TYPE_CHECKING:
    from langgraph.graph import StateGraph

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
"""A node of a skill's graph as LangGraph takes it."""


class ExtraRequirement(TypedDict):
    """Something that a skill wants checked beyond what the user's prompt says."""

    question: str
    """A question about the image that yes answers well."""
    kind: NotRequired[RequirementKind]
    """`other` by default."""


class SkillInput(TypedDict):
    """What a skill's graph is given."""

    prompt: str
    """The prompt to make better: the planner's, or that of the skill before."""
    user_prompt: str
    """What the user asked for, word by word."""
    requirements: list[Requirement]
    """What the image is checked for so far."""
    options: Options
    """The run's options."""
    run_id: str


class SkillState(SkillInput, total=False):
    """What a skill's graph works on; a graph may declare a state of its own that has these keys."""

    guidance: str
    """The skill's body. Written by the step `load`."""
    extra_requirements: list[ExtraRequirement]
    drawing: DrawingSettings
    restored: list[str]
    """Questions of what was lost and put back. Written by the step `keep`."""
    usage: Annotated[dict[str, Usage], merged]
    warnings: Annotated[list[str], add]


class SkillOutput(TypedDict, total=False):
    """What a skill's graph hands back."""

    prompt: str
    """The better prompt; the one given where it is left out or empty."""
    extra_requirements: list[ExtraRequirement]
    """Appended to the requirements, ten of a skill at most."""
    drawing: DrawingSettings
    """How images are to be drawn; what the user asked for goes first."""
    restored: list[str]
    """Written by the step `keep`."""
    usage: Annotated[dict[str, Usage], merged]
    """Written by the steps that `SkillContext.node` makes."""
    warnings: Annotated[list[str], add]
    """Likewise; or what the skill wants the user to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierRequest:
    """What a verifier is asked.

    Attributes:
        image: The PNG's bytes.
        user_prompt: What the user asked for.
        requirements: Those that the verifier takes.
    """

    image: bytes = field(repr=False)
    user_prompt: str
    requirements: Sequence[Requirement]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierAnswer:
    """What a verifier says about one requirement.

    Attributes:
        answer: `unknown` leaves the question to the judge.
        evidence: What was found, exactly: the reflector is told so. 300 characters at most are kept.
    """

    answer: AnswerValue
    evidence: str


class Verifier(Protocol):
    """A tool that answers certain requirements better than a general model."""

    def takes(self, requirement: Requirement) -> bool:
        """Whether it can answer this requirement."""
        ...

    async def verify(self, request: VerifierRequest) -> Mapping[str, VerifierAnswer]:
        """Answers by the requirements' ids; the judge is asked about those that are left out.

        Raises:
            GemsError: it cannot do its work; the judge is asked about everything then, with a warning.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillContext:
    """What a skill's code is built with.

    Attributes:
        name: The skill's.
        folder: Where it stands.
        body: Reads the text below the front matter of SKILL.md.
        reference: Reads a text file of the folder by its relative path, such as `references/fonts.md`.
        load: A step that reads the body into `guidance`.
        enhance: A step that has the chat model rewrite `prompt` by `guidance`.
        keep: A step that puts back what the user asked for and `prompt` lost.
        consult: Asks the planner's chat model a question of the skill's own, and gives its answer back in the
            form of a pydantic model: `await context.consult(work, instructions, user_prompt, Form,
            material="...")`. The instructions, which say what to do and name the JSON form, are the skill's
            own words; prompt and material are shown as data.
        node: Makes a step of `async def doing(state, work) -> update`; `work` asks the chat model, warns,
            and keeps the accounts.
        graph: An empty graph of `SkillState`, to add steps to.
        default: The graph of a skill without code: load, enhance, keep.
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
