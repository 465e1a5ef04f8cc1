"""Results of tools: text, a small image, and structured content."""

from __future__ import annotations

import asyncio
import base64
import io

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from PIL import Image
from pydantic import BaseModel, Field

from gems.apps.text import pluralize, verdict_line
from gems.errors import GemsError
from gems.memory.images import ImageStore
from gems.models.images import encode_image
from gems.results import RunResult
from gems.runs.verification import Verification

SIDE = 512
"""Side in pixels of the square with the largest area of an image in a result."""
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
        requirements=[Check.model_validate(item, from_attributes=True) for item in result.requirements],
        seed=result.options["seed"],
        rounds=len(result.rounds),
        warnings=result.warnings + ([result.failure["message"]] if result.failure else []),
    )
    image = [f"image: {report.path}"] if report.path else []
    going_on = [f"still running: call get_run with run_id {result.run_id} for the result"]
    image = [*(going_on if result.status == "running" else []), *image]
    lines = [verdict_line(result), *image, f"run: {report.run_id}", f"seed: {report.seed}", *_details(report)]
    content: list[ContentBlock] = [TextContent(text="\n".join(lines))]
    if result.image_id is not None:
        jpeg = await asyncio.to_thread(small_jpeg, await images.load(result.image_id))
        content.append(ImageContent(data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg"))
        if link:
            name = f"{result.run_id}.png"
            content.append(ResourceLink(name=name, uri=image_uri(result.run_id), mime_type="image/png"))
    return CallToolResult(content=content, structured_content=report.model_dump(mode="json"))


def check_answer(found: Verification) -> CallToolResult:
    """Format the verification of an image."""
    report = CheckReport.model_validate(found, from_attributes=True)
    met = sum(check.answer == "yes" for check in report.requirements)
    verdict = f"{met} of {pluralize(len(report.requirements), 'requirement')} met, score {found.score:.2f}"
    text = "\n".join([verdict, *_details(report)])
    return CallToolResult(content=[TextContent(text=text)], structured_content=report.model_dump(mode="json"))


def error_answer(error: GemsError) -> CallToolResult:
    """Format an error as a tool result."""
    text = str(error)
    if error.run_id:
        text += f" Resume run {error.run_id} with the tool resume_run."
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


def small_jpeg(png: bytes) -> bytes:
    """Return a JPEG of at most the area of 512x512 pixels and 200 kB. Blocking."""
    jpeg, _ = encode_image(png, SIDE)
    for quality in (75, 50, 25):
        if len(jpeg) < MAX_JPEG:
            break
        with Image.open(io.BytesIO(jpeg)) as picture:
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality)
        jpeg = out.getvalue()
    return jpeg


def _details(report: RunReport | CheckReport) -> list[str]:
    checks = [f"{_TICKS[check.answer]} {check.question} {check.evidence}" for check in report.requirements]
    return [*map(str.rstrip, checks), *(f"warning: {warning}" for warning in report.warnings)]
