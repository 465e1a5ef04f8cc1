"""Results of tools: text, a small image, and structured content."""

from __future__ import annotations

import asyncio
import base64
import io

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from PIL import Image
from pydantic import BaseModel, Field

from gems.apps.text import pluralize
from gems.errors import GemsError
from gems.memory.images import ImageStore
from gems.models.images import encode_image
from gems.results import CheckedRequirement, RunResult
from gems.runs.verification import Verification

SIDE = 512
"""Longest side in pixels of the image in a result."""
MAX_JPEG = 200_000
"""Bytes; clients fail on large results."""
_TICKS = {"yes": "[x]", "no": "[ ]", "unknown": "[?]"}


class Check(BaseModel):
    """A requirement with its answer."""

    question: str
    answer: str = Field(description="yes, no or unknown.")
    evidence: str


class RunReport(BaseModel):
    """Result or progress of a run."""

    run_id: str
    status: str = Field(description="done, running, interrupted or failed.")
    path: str | None = Field(description="PNG file on the server's machine; only for its own user.")
    score: float = Field(description="Share of requirements met, in [0, 1].")
    passed: bool
    stop_reason: str | None
    requirements: list[Check]
    seed: int
    rounds: int
    warnings: list[str]


class CheckReport(BaseModel):
    """Result of checking an image against a prompt."""

    score: float = Field(description="Share of requirements met, in [0, 1].")
    passed: bool
    requirements: list[Check]
    warnings: list[str]


def image_uri(run_id: str) -> str:
    """Return the resource URI of a run's image."""
    return f"gems://runs/{run_id}/image"


async def run_answer(result: RunResult, images: ImageStore, *, local: bool, link: bool) -> CallToolResult:
    """Format a run; `local` adds the file path, and `link` a resource link to the full-size image."""
    report = RunReport(
        run_id=result.run_id,
        status=result.status,
        path=result.path if local else None,
        score=result.score,
        passed=result.passed,
        stop_reason=result.stop_reason,
        requirements=_checks(result.requirements),
        seed=result.options["seed"],
        rounds=len(result.rounds),
        warnings=_warnings(result),
    )
    content: list[ContentBlock] = [TextContent(text=_format_report(report))]
    if result.image_id is not None:
        jpeg = await asyncio.to_thread(small_jpeg, await images.load(result.image_id))
        content.append(ImageContent(data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg"))
        if link:
            name = f"{result.run_id}.png"
            content.append(ResourceLink(name=name, uri=image_uri(result.run_id), mime_type="image/png"))
    return CallToolResult(content=content, structured_content=report.model_dump(mode="json"))


def check_answer(found: Verification) -> CallToolResult:
    """Format the verification of an image."""
    checks = _checks(found.requirements)
    report = CheckReport(score=found.score, passed=found.passed, requirements=checks, warnings=found.warnings)
    lines = [f"{_met(checks)}, score {found.score:.2f}", *_checklist(checks), *_notes(found.warnings)]
    return CallToolResult(
        content=[TextContent(text="\n".join(lines))], structured_content=report.model_dump(mode="json")
    )


def error_answer(error: GemsError) -> CallToolResult:
    """Format an error as a tool result."""
    text = str(error)
    if error.run_id:
        text += f" Resume run {error.run_id} with the tool resume_run."
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


def small_jpeg(png: bytes) -> bytes:
    """Return a JPEG of at most 512 pixels a side and 200 kB. Blocking."""
    jpeg, _ = encode_image(png, SIDE)
    for quality in (75, 50, 25):
        if len(jpeg) < MAX_JPEG:
            break
        with Image.open(io.BytesIO(jpeg)) as picture:
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality)
        jpeg = out.getvalue()
    return jpeg


def _format_report(report: RunReport) -> str:
    reason = report.stop_reason or report.status
    after = f"after {pluralize(report.rounds, 'round')} ({reason})"
    lines = [
        f"{_met(report.requirements)} {after}, score {report.score:.2f}",
        *([f"image: {report.path}"] if report.path else []),
        f"run: {report.run_id}",
        f"seed: {report.seed}",
    ]
    return "\n".join([*lines, *_checklist(report.requirements), *_notes(report.warnings)])


def _checks(requirements: list[CheckedRequirement]) -> list[Check]:
    return [
        Check(question=item.question, answer=item.answer, evidence=item.evidence) for item in requirements
    ]


def _met(checks: list[Check]) -> str:
    return f"{sum(check.answer == 'yes' for check in checks)} of {pluralize(len(checks), 'requirement')} met"


def _checklist(checks: list[Check]) -> list[str]:
    return [f"{_TICKS[check.answer]} {check.question} {check.evidence}".rstrip() for check in checks]


def _warnings(result: RunResult) -> list[str]:
    failure = [result.failure["message"]] if result.failure is not None else []
    return [*result.warnings, *failure]


def _notes(warnings: list[str]) -> list[str]:
    return [f"warning: {warning}" for warning in warnings]
