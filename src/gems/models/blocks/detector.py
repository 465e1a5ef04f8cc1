"""The built-in detector of objects."""

from __future__ import annotations

import asyncio
import hashlib

from gems.models.blocks import vocabulary as words
from gems.models.blocks.detection import Detector
from gems.models.blocks.error_model import DETECTOR_ERROR, seeded_random
from gems.models.blocks.judge import match_things
from gems.models.blocks.parser import parse_text
from gems.models.blocks.scene import Box, Scene
from gems.models.detectors.base import DEFAULT_THRESHOLD, DetectionRequest, Detections, select_objects

_SURE, _SIDE = 0.9, 0.15


class BlocksDetector:
    """Finds the shapes of the built-in world, and errs at a rate that can be set.

    Its errors depend on the image and the phrase alone: who looks again sees the same.

    Args:
        error_rate: How often it errs about a phrase in an image, in [0, 1]: it overlooks a thing, or, in the other
            half of these cases, sees one that is not there.
    """

    def __init__(self, error_rate: float = DETECTOR_ERROR) -> None:
        self._error_rate = error_rate
        self._scenes = Detector()

    @property
    def name(self) -> str:
        """`blocks`."""
        return "blocks"

    @property
    def threshold(self) -> float:
        """Score from which an object counts as found."""
        return DEFAULT_THRESHOLD

    async def detect(self, request: DetectionRequest) -> Detections:
        """Look at an image; raises InvalidImageError. What is no shape of this world is undecided."""
        return await asyncio.to_thread(self._detect, request)

    async def aclose(self) -> None:
        """Do nothing: there are no resources to release."""

    def _detect(self, request: DetectionRequest) -> Detections:
        scene, found, undecided = self._scenes.detect(request.image), list[tuple[str, float, Box]](), set[str]()
        image = hashlib.sha256(request.image).hexdigest()
        for phrase in request.phrases:
            boxes = _find_boxes(scene, phrase)
            if boxes is None:
                undecided.add(phrase)
            else:
                found += [(phrase, _SURE, box) for box in self._err(boxes, scene, image, phrase)]
        size = (scene.width, scene.height)
        chosen = select_objects(found, request, size, threshold=self.threshold, detector="The built-in detector")
        return Detections(objects=chosen.objects, undecided=chosen.undecided | undecided)

    def _err(self, boxes: list[Box], scene: Scene, *key: str) -> list[Box]:
        chance = seeded_random("detector", *key)
        if chance.random() >= self._error_rate:
            return boxes
        if boxes and chance.random() < 0.5:
            return boxes[1:]
        side = _SIDE * scene.unit
        left, top = chance.uniform(0, scene.width - side), chance.uniform(0, scene.height - side)
        return [*boxes, (left, top, left + side, top + side)]


def _find_boxes(scene: Scene, phrase: str) -> list[Box] | None:
    """Return the boxes of the things that a phrase names; None if it names no shape."""
    reading = parse_text(phrase)
    if reading.unknown or reading.links or len(reading.mentions) != 1:
        return None
    mention = reading.mentions[0]
    if mention.noun in (words.TEXT, words.BACKGROUND):
        return None
    return [thing.box for thing in match_things(scene, mention)]
