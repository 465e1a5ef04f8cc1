"""Lay out a scene: groups become blocks, and blocks are placed so that all relations hold."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from gems.models.blocks import vocabulary as words
from gems.models.blocks.blocks import Block, assemble_blocks
from gems.models.blocks.error_model import Sketch
from gems.models.blocks.prompt_spec import Relation
from gems.models.blocks.scene import Box, Scene, Thing

_SCALES = (1.0, 0.88, 0.72, 0.6, 0.46, 0.36, 0.28)
_TRIES_PER_SCALE = 40
_GOOD_LAYOUTS = 6
_SPOTS = 24
_MARGIN = 0.04
_GAP = 0.028
_CENTRING = 0.4
"""0.5 would centre exactly; a little less looks more natural."""


def place_groups(sketch: Sketch, rng: random.Random, width: int, height: int) -> Scene:
    """Place all groups in an image of `width` x `height` pixels.

    Crowded images get smaller things. If no layout is found, relations are dropped, the last one first, and
    then groups.
    """
    relations = list(sketch.relations)
    while True:
        for scale in _SCALES:
            blocks, roots = assemble_blocks(
                replace(sketch, relations=relations), min(width, height), scale, rng
            )
            table = _Canvas(blocks, _block_relations(relations, roots), rng, width, height)
            boxes = table.best()
            if boxes is not None:
                boxes = _centre(boxes, width, height)
                return Scene(width, height, sketch.background, _make_things(sketch, blocks, boxes))
        if relations:
            relations.pop()
        else:
            sketch = replace(sketch, groups=sketch.groups[:-1])


def _block_relations(relations: list[Relation], roots: list[int]) -> list[Relation]:
    """Return relations between blocks; those within a block hold by construction."""
    outer = [Relation(roots[r.subject], r.name, roots[r.target]) for r in relations]
    return [r for r in outer if r.subject != r.target and r.name in words.INVERSE]


def _centre(boxes: list[Box], width: int, height: int) -> list[Box]:
    """Move all boxes towards the middle, keeping distances and relations."""
    if not boxes:
        return boxes
    x = (width - min(box[0] for box in boxes) - max(box[2] for box in boxes)) * _CENTRING
    y = (height - min(box[1] for box in boxes) - max(box[3] for box in boxes)) * _CENTRING
    return [(left + x, top + y, right + x, bottom + y) for left, top, right, bottom in boxes]


def _make_things(sketch: Sketch, blocks: list[Block], boxes: list[Box]) -> tuple[Thing, ...]:
    things = []
    for block, (left, top, _, _) in zip(blocks, boxes, strict=True):
        for item in block.items:
            group = sketch.groups[item.group]
            x, y = left + item.x, top + item.y
            box = (x - item.width / 2, y - item.height / 2, x + item.width / 2, y + item.height / 2)
            colour, texture = group.attributes.get("colour", ""), group.attributes.get("texture", "")
            things.append(Thing(group.noun, colour, texture, box, group.word))
    return tuple(things)


@dataclass
class _Canvas:
    """The canvas while blocks are being placed on it."""

    blocks: list[Block]
    relations: list[Relation]
    rng: random.Random
    width: int
    height: int
    _boxes: dict[int, Box] = field(default_factory=dict)

    def best(self) -> list[Box] | None:
        """Return the most even of several layouts; None if none was found."""
        found: list[tuple[float, list[Box]]] = []
        for _ in range(_TRIES_PER_SCALE):
            boxes = self._attempt()
            if boxes is not None:
                found.append((self._evenness(boxes), boxes))
                if len(found) == _GOOD_LAYOUTS:
                    break
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def _attempt(self) -> list[Box] | None:
        self._boxes = {}
        order = sorted(range(len(self.blocks)), key=lambda i: (-self._degree(i), self.rng.random()))
        for index in order:
            box = self._spot(index)
            if box is None:
                return None
            self._boxes[index] = box
        return [self._boxes[index] for index in range(len(self.blocks))]

    def _degree(self, index: int) -> int:
        return sum(index in (r.subject, r.target) for r in self.relations)

    def _spot(self, index: int) -> Box | None:
        block, window = self.blocks[index], self._window(index)
        left, top, right, bottom = window
        right, bottom = right - block.width, bottom - block.height
        if left > right or top > bottom:
            return None
        for _ in range(_SPOTS):
            x, y = self.rng.uniform(left, right), self.rng.uniform(top, bottom)
            box = (x, y, x + block.width, y + block.height)
            if all(_distance(box, other) >= self._gap for other in self._boxes.values()):
                return box
        return None

    @property
    def _gap(self) -> float:
        return _GAP * min(self.width, self.height)

    def _window(self, index: int) -> Box:
        """Return the area where a block may lie, given its relations to placed blocks."""
        margin = _MARGIN * min(self.width, self.height)
        left, top, right, bottom = margin, margin, self.width - margin, self.height - margin
        for relation in self.relations:
            if relation.subject == index and relation.target in self._boxes:
                name, other = relation.name, self._boxes[relation.target]
            elif relation.target == index and relation.subject in self._boxes:
                name, other = words.INVERSE[relation.name], self._boxes[relation.subject]
            else:
                continue
            if name == "left of":
                right = min(right, other[0] - self._gap)
            elif name == "right of":
                left = max(left, other[2] + self._gap)
            elif name == "above":
                bottom = min(bottom, other[1] - self._gap)
            else:
                top = max(top, other[3] + self._gap)
        return left, top, right, bottom

    def _evenness(self, boxes: list[Box]) -> float:
        """Score a layout, higher is better: space around everything, and related blocks aligned."""
        edges = [min(b[0], b[1], self.width - b[2], self.height - b[3]) for b in boxes]
        gaps = [_distance(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        middle = sum(abs((b[0] + b[2]) - self.width) + abs((b[1] + b[3]) - self.height) for b in boxes) / len(
            boxes
        )
        return min([*edges, *gaps], default=0.0) - 0.1 * middle - 0.25 * self._skew(boxes)

    def _skew(self, boxes: list[Box]) -> float:
        offsets = []
        for relation in self.relations:
            axis = 0 if relation.name in ("above", "below") else 1
            a, b = boxes[relation.subject], boxes[relation.target]
            offsets.append(abs((a[axis] + a[axis + 2]) - (b[axis] + b[axis + 2])) / 2)
        return sum(offsets) / len(offsets) if offsets else 0.0


def _distance(a: Box, b: Box) -> float:
    """Return the larger of the two axes' distances between boxes; negative if they overlap."""
    return max(max(a[0], b[0]) - min(a[2], b[2]), max(a[1], b[1]) - min(a[3], b[3]))
