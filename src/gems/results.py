"""RunResult and how it is built from state."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from gems.state import State, negative_prompt
from gems.types import (
    Answer,
    AnswerValue,
    Experience,
    Failure,
    Fork,
    Options,
    Plan,
    Recall,
    Requirement,
    RequirementKind,
    Round,
    RunRow,
    RunStatus,
    SkillUse,
    StopReason,
    Usage,
    best_round,
    build_verdict,
    unknown_answer,
)

if TYPE_CHECKING:
    from PIL.Image import Image


class CheckedRequirement(BaseModel):
    """A requirement with the answer for the returned image."""

    model_config = ConfigDict(frozen=True)

    id: str
    question: str
    kind: RequirementKind
    parents: list[str]
    skill: str = Field("", description="The skill that added it; empty if it comes from the prompt.")
    answer: AnswerValue
    evidence: str
    probability: float | None = Field(description="Probability of yes in [0, 1], if known.")
    source: str = Field(description="Source of the answer: judge, confirmation, parent, or a verifier's name.")
    box: list[int] | None = Field(
        None, description="Where a no has its place: x1, y1, x2, y2 in thousandths of width and height, if known."
    )


class RunResult(BaseModel):
    """A run and its best image.

    `image` opens the image; everything else is plain data, the same as `gems run --json` prints.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    status: str = Field(description="done, running, interrupted or failed.")
    prompt: str = Field(description="The user's prompt.")
    path: str | None = Field(description="The PNG file; None if it could not be written.")
    image_id: str | None = Field(description="SHA-256 of the stored PNG; None while there is no image.")
    score: float = Field(description="Share of requirements met, in [0, 1].")
    stop_reason: StopReason | None = Field(description="None while the run is in progress.")
    final_prompt: str = Field(description="The prompt of the image.")
    best_round: int = Field(description="The image's round, from 1; 0 while there is none.")
    rounds: list[Round]
    requirements: list[CheckedRequirement]
    experiences: list[Experience]
    recalls: list[Recall] = Field(
        default_factory=list, description="Lessons of earlier runs, by the round that used them."
    )
    skill_uses: list[SkillUse] = Field(default_factory=list, description="Results of the chosen skills, in order.")
    usage: dict[str, Usage] = Field(description="By planner, judge, reflector and generator.")
    plan: Plan | None
    options: Options
    models: dict[str, str]
    warnings: list[str]
    failure: Failure | None
    seconds: float = Field(description="Wall time of the rounds, summed.")
    forked_from: Fork | None = Field(
        None, description="The run whose history this one shares, and up to which round; included in usage."
    )

    _data: bytes | None = PrivateAttr(default=None)
    _load_image: Callable[[str], bytes | None] | None = PrivateAttr(default=None)
    _digest: str | None = PrivateAttr(default=None)

    @property
    def image(self) -> Image:
        """The image as a `PIL.Image`; ValueError if the run has none."""
        from PIL import Image  # noqa: PLC0415 - only needed here

        if (data := self._repr_png_()) is None:
            raise ValueError(f"The run {self.run_id} has no image.")
        return Image.open(io.BytesIO(data))

    @property
    def passed(self) -> bool:
        """Whether every requirement is met, and this was confirmed.

        False if the prompt asks for more than was checked, which ends a run as undecided.
        """
        met = bool(self.requirements) and all(item.answer == "yes" for item in self.requirements)
        return met and self.failure is None and self.stop_reason != "undecided"

    def with_image(
        self, data: bytes, path: Path | None, at_hand: Callable[[str], bytes | None] | None = None
    ) -> RunResult:
        """Return a copy with the PNG bytes, their file, and a loader of images of any round for notebooks."""
        copy = self.model_copy(update={"path": str(path) if path else None})
        copy._data, copy._load_image = data, at_hand  # noqa: SLF001 - an own copy
        return copy

    def _repr_png_(self) -> bytes | None:
        """Show the image where only images are supported. Reads a file after `release_image`."""
        if self._digest is None or self._load_image is None:
            return self._data
        with suppress(OSError):
            data = Path(self.path or "").read_bytes()
            if _digest_of(data) == self._digest:
                return data
        return self._load_image(self.image_id or "")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        """Show the run in notebooks."""
        from gems.reporting.notebook import result_html, result_summary  # noqa: PLC0415 - only for notebooks

        page = result_html(self, self._repr_png_(), self._load_image or (lambda _image: None))
        return {"text/html": page, "text/plain": f"{self.prompt}\n{result_summary(self)}"}


def _digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def release_image(result: RunResult) -> RunResult:
    """Return a copy that reads the image when it is shown, for those who keep many results.

    It reads the file, or the stored image where that has changed; what has no file stays in memory.
    """
    data = result._data  # noqa: SLF001 - this module's own
    if data is None or result.path is None or result._load_image is None:  # noqa: SLF001
        return result
    copy = result.model_copy()
    copy._data, copy._digest = None, _digest_of(data)  # noqa: SLF001
    return copy


def add_warning(result: RunResult, warning: str) -> RunResult:
    """Return a copy with another warning, without the image's bytes."""
    return result.model_copy(update={"warnings": [*result.warnings, warning]})


def all_rounds(state: State) -> list[Round]:
    """Return the judged rounds, followed by one for images that were generated but not judged.

    Such images exist if an error or a limit occurred before they were judged. Their answers are all unknown,
    so that they are neither lost nor reported as verified.
    """
    judged = list(state.get("rounds") or [])
    candidates = state.get("drawn") or []
    if not candidates:
        return judged
    answers = [unknown_answer(requirement, "not judged") for requirement in state["requirements"]]
    unjudged: Round = {
        "number": len(judged) + 1,
        "prompt": state["current_prompt"],
        "negative_prompt": negative_prompt(state),
        "candidates": candidates,
        "verdicts": [build_verdict(candidate["image"], answers) for candidate in candidates],
        "best": 0,
        "score": 0.0,
        "seconds": state.get("timings") or {},
    }
    return [*judged, unjudged]


def outcome(rounds: list[Round]) -> dict[str, Any]:
    """Return the best image of at least one round with its score, round and prompt."""
    best = best_round(rounds)
    return {
        "image": best["candidates"][best["best"]]["image"],
        "score": best["score"],
        "best_round": best["number"],
        "final_prompt": best["prompt"],
    }


def build_result(state: State, row: RunRow, status: RunStatus) -> RunResult:
    """Build the result of a run from its state, without the image's bytes."""
    rounds = all_rounds(state)
    found: dict[str, Any] = {"image": None, "score": 0.0, "best_round": 0}
    found["final_prompt"] = state.get("current_prompt", "")
    answers: list[Answer] = []
    if rounds:
        found, best = outcome(rounds), best_round(rounds)
        answers = best["verdicts"][best["best"]]["answers"]
    return RunResult(
        run_id=row["run_id"],
        status=status,
        prompt=row["prompt"],
        path=None,
        image_id=found["image"],
        score=found["score"],
        stop_reason=state.get("stop_reason"),
        final_prompt=found["final_prompt"],
        best_round=found["best_round"],
        rounds=rounds,
        requirements=check_requirements(state.get("requirements") or [], answers),
        experiences=state.get("experiences") or [],
        recalls=state.get("recalls") or [],
        skill_uses=state.get("skill_uses") or [],
        usage=state.get("usage") or {},
        plan=state.get("plan"),
        options=row["options"],
        models=row["models"],
        warnings=state.get("warnings") or [],
        failure=state.get("failure"),
        seconds=round(sum(sum(round_["seconds"].values()) for round_ in rounds), 3),
        forked_from=row["forked_from"],
    )


def check_requirements(requirements: Sequence[Requirement], answers: Sequence[Answer]) -> list[CheckedRequirement]:
    """Return the requirements with their answers; unknown where there is none."""
    known: dict[str, Any] = {answer["requirement"]: answer for answer in answers}
    missing = {"answer": "unknown", "evidence": "", "probability": None, "source": ""}
    return [
        CheckedRequirement.model_validate({**missing, **known.get(item["id"], {}), **item}) for item in requirements
    ]
