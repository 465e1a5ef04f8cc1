"""Detectors of tests, and a server with one."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response

from gems.models.detectors.base import DEFAULT_THRESHOLD, DetectionRequest, Detections
from tests.support.http_server import serving


class FixedDetector:
    """A detector that finds what it was told to, or raises the error that it was given."""

    name = "fixed"
    threshold = DEFAULT_THRESHOLD

    def __init__(self, found: Callable[[DetectionRequest], Detections | Exception]) -> None:
        self._found = found
        self.asked: list[tuple[str, ...]] = []

    async def detect(self, request: DetectionRequest) -> Detections:
        self.asked.append(request.phrases)
        found = self._found(request)
        if isinstance(found, Exception):
            raise found
        return found

    async def aclose(self) -> None:
        """Nothing to release."""


@dataclass
class DetectorServer:
    """A server of the task `zero-shot-object-detection`, and what it was sent."""

    url: str = ""
    answers: list[Any] = field(default_factory=list)
    """What it answers, in order, the last one for ever: a list of objects, raw bytes, a status, or seconds to wait."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        body = await request.json()
        self.asked.append(body | {"image": base64.b64decode(body["inputs"])})
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, float):
            await asyncio.sleep(given)
            given = []
        if isinstance(given, int):
            return Response(json.dumps({"error": f"failed with {given}"}), given)
        return Response(given if isinstance(given, bytes) else json.dumps(given), media_type="application/json")


def found(label: str, score: Any, *box: Any) -> dict[str, Any]:
    """An object as such a server answers it."""
    return {"label": label, "score": score, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))}


@contextmanager
def serving_detector(*answers: Any) -> Iterator[DetectorServer]:
    """Serve answers of a detector on this machine."""
    server, app = DetectorServer(answers=list(answers)), FastAPI()
    app.post("/detect")(server.answer)
    with serving(app) as address:
        server.url = f"{address}/detect"
        yield server
