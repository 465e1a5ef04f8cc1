"""Protocol of detectors, and the check of what they found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from gems.errors import UnreadableReplyError

DEFAULT_THRESHOLD = 0.3
"""Score from which an object counts as found, where neither settings nor detector say."""
MOST_OBJECTS = 50
"""Objects of one phrase beyond which a detector is not believed: it then finds the phrase everywhere."""
_MOST_COMPARED = 300
"""Objects of one phrase, the likeliest ones, that are compared with each other."""
_SAME_OBJECT = 0.5
"""Overlap of two boxes, as intersection over union, from which they are one object."""
_EDGES = 4
_THOUSAND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionRequest:
    """What to look for in an image.

    Attributes:
        image: PNG bytes.
        phrases: Noun phrases in the singular, without an article, such as `red apple`.
    """

    image: bytes = field(repr=False)
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """An object of a phrase, with a score in [0, 1].

    The box is x1, y1, x2, y2 in thousandths of width and height from the upper left corner.
    """

    phrase: str
    score: float
    box: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """The objects in an image, each once, the likeliest first.

    `undecided` are phrases about which the detector can say nothing; not to be found means not to be there.
    """

    objects: tuple[DetectedObject, ...]
    undecided: frozenset[str] = frozenset()

    def of(self, phrase: str) -> list[DetectedObject]:
        """Return the objects of a phrase."""
        return [each for each in self.objects if each.phrase == phrase]


@runtime_checkable
class ObjectDetector(Protocol):
    """Finds the objects that phrases name, in one image per request."""

    @property
    def name(self) -> str:
        """Name for records, for example `transformers:owlv2-base-patch16-ensemble`."""
        ...

    @property
    def threshold(self) -> float:
        """Score from which an object counts as found; those from half of it on are returned as well, as possible."""
        ...

    async def detect(self, request: DetectionRequest) -> Detections:
        """Return the objects whose score is at least half the threshold. Retries retryable errors.

        Raises:
            ConfigurationError: the key, the model or its files are invalid.
            ProviderError: the detector did not answer, or with nothing that can be read.
        """
        ...

    async def aclose(self) -> None:
        """Release connections, threads and memory. Idempotent."""
        ...


def select_objects(
    found: Iterable[tuple[str, Any, Sequence[Any]]],
    request: DetectionRequest,
    size: tuple[int, int],
    *,
    threshold: float,
    detector: str,
) -> Detections:
    """Return each object once, with its box in thousandths.

    A box in reversed order is turned, one that reaches outside is cut. Left out are boxes that are empty, outside or no
    numbers, scores that are none, phrases that were not asked for, what has less than half of `threshold`, and what
    overlaps a likelier object of its phrase. Of a phrase with more than `MOST_OBJECTS` objects nothing is known.

    Args:
        found: Phrase, score, and box as x1, y1, x2, y2 in pixels.
        request: What was asked for.
        size: Width and height of the image in pixels.
        threshold: Score from which an object counts as found.
        detector: Name of the detector in messages.

    Raises:
        UnreadableReplyError: the detector found something, and no part of it is usable.
    """
    kept: dict[str, list[DetectedObject]] = {phrase: [] for phrase in request.phrases}
    unusable = total = 0
    for phrase, score, box in found:
        total += 1
        scaled = _scale_box(box, size)
        if phrase not in kept or scaled is None or not (_is_number(score) and 0 <= score <= 1):
            unusable += 1
        elif score >= threshold / 2:
            kept[phrase].append(DetectedObject(phrase, float(score), scaled))
    if unusable and unusable == total:
        raise UnreadableReplyError(
            f"{detector} found {total} objects, of which none can be used: each has a phrase that was not asked for, "
            "or a box or a score that is outside the image, empty or no number."
        )
    distinct = {phrase: _drop_repeated(objects) for phrase, objects in kept.items()}
    undecided = frozenset(phrase for phrase, objects in distinct.items() if len(objects) > MOST_OBJECTS)
    objects = [each for phrase, each_of in distinct.items() if phrase not in undecided for each in each_of]
    return Detections(objects=tuple(sorted(objects, key=lambda each: -each.score)), undecided=undecided)


def share_covered(box: Sequence[int], other: Sequence[int]) -> float:
    """Return the share of the smaller of two boxes that the other one covers, in [0, 1]."""
    return _intersection(box, other) / max(1, min(_area(box), _area(other)))


def join_boxes(boxes: Iterable[Sequence[int]]) -> list[int]:
    """Return the smallest box around boxes, of which there is at least one."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return [min(left), min(top), max(right), max(bottom)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scale_box(box: Sequence[Any], size: tuple[int, int]) -> list[int] | None:
    """Return a box in thousandths, cut at the image's edges; None for what is no box, or outside."""
    if len(box) != _EDGES or not all(_is_number(edge) for edge in box):
        return None
    sides = (*size, *size)
    edges = [round(min(max(edge / side, 0.0), 1.0) * _THOUSAND) for edge, side in zip(box, sides, strict=True)]
    (left, right), (top, bottom) = sorted(edges[::2]), sorted(edges[1::2])
    return [left, top, right, bottom] if left < right and top < bottom else None


def _drop_repeated(objects: Iterable[DetectedObject]) -> list[DetectedObject]:
    kept: list[DetectedObject] = []
    for each in sorted(objects, key=lambda one: -one.score)[:_MOST_COMPARED]:
        if all(_overlap(each.box, other.box) < _SAME_OBJECT for other in kept):
            kept.append(each)
    return kept


def _overlap(box: Sequence[int], other: Sequence[int]) -> float:
    shared = _intersection(box, other)
    return shared / max(1, _area(box) + _area(other) - shared)


def _intersection(box: Sequence[int], other: Sequence[int]) -> int:
    across, down = (min(box[i + 2], other[i + 2]) - max(box[i], other[i]) for i in (0, 1))
    return max(0, across) * max(0, down)


def _area(box: Sequence[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
