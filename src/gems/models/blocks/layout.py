"""Place groups of things so that their relations hold."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gems.models.blocks import rendering
from gems.models.blocks import vocabulary as words
from gems.models.blocks.error_model import Sketch
from gems.models.blocks.prompt_spec import Relation
from gems.models.blocks.scene import LARGE_FROM, SMALL_BELOW, Box, Scene, Thing

_DIAMETERS = {"small": 0.095, "medium": 0.155, "large": 0.25}
_TEXT_SIZE = 0.088
_ITEM_GAP = 0.028
_SIZE_MARGIN = 0.007
_SMALLEST = 0.062
_SMALLEST_TEXT = 0.06
_SCALES = (1.0, 0.88, 0.72, 0.6, 0.46, 0.36, 0.28)
_TRIES_PER_SCALE = 40
_GOOD_LAYOUTS = 6
_SPOTS = 24
_MARGIN = 0.04
_GAP = 0.028
_CENTRING = 0.4
"""0.5 would centre exactly; a little less looks more natural."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a block: its group, centre and size in pixels."""

    group: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Block:
    """Things that are placed together; positions are relative to the upper left corner."""

    width: float
    height: float
    items: tuple[Item, ...]

    def moved(self, x: float, y: float) -> tuple[Item, ...]:
        """Return its items, moved."""
        return tuple(replace(item, x=item.x + x, y=item.y + y) for item in self.items)


@dataclass
class _BlockBuilder:
    """Builds blocks for an image with a shorter side of `unit` pixels; `scale` is a factor on all sizes."""

    sketch: Sketch
    unit: int
    scale: float
    rng: random.Random
    _hosts: dict[int, tuple[int, str]] = field(default_factory=dict)

    def blocks(self) -> tuple[list[Block], list[int]]:
        """Return blocks that can be placed independently, and for each group the index of its block."""
        groups = range(len(self.sketch.groups))
        tops = [index for index in groups if index not in self._hosts]
        return [self.group(index) for index in tops], [tops.index(self.root(index)) for index in groups]

    def __post_init__(self) -> None:
        for relation in self.sketch.relations:
            carries = relation.name in ("inside", "on")
            can_host = carries and self.sketch.groups[relation.target].noun != words.TEXT
            free = relation.subject not in self._hosts and self.root(relation.target) != relation.subject
            if can_host and free:
                self._hosts[relation.subject] = (relation.target, relation.name)

    def root(self, index: int) -> int:
        return self.root(self._hosts[index][0]) if index in self._hosts else index

    def group(self, index: int) -> Block:
        """Return all things of a group with the things they hold, in one block."""
        group = self.sketch.groups[index]
        if group.noun == words.TEXT:
            return self._text(index)
        count = group.count or 0
        guests: list[dict[str, list[Block]]] = [{"inside": [], "on": []} for _ in range(count)]
        turn = 0
        for other, (host, name) in self._hosts.items():
            if host == index:
                for single in self._singles(other):
                    guests[turn % count][name].append(single)
                    turn += 1
        return self._packed([self._thing(index, held) for held in guests])

    def _singles(self, index: int) -> list[Block]:
        """Return the things of a guest group one by one, with the things each holds."""
        group = self.sketch.groups[index]
        if group.noun == words.TEXT:
            return [self._text(index)]
        block = self.group(index)
        own = [item for item in block.items if item.group == index]
        if len(own) == len(block.items):
            return [Block(i.width, i.height, (replace(i, x=i.width / 2, y=i.height / 2),)) for i in own]
        return [block]

    def _thing(self, index: int, guests: dict[str, list[Block]]) -> Block:
        group = self.sketch.groups[index]
        outline = rendering.outline_width(self.unit)
        share = max(_SMALLEST, _DIAMETERS[group.attributes["size"]] * self.scale)
        diameter = share * self.unit
        inner, riders = self._packed(guests["inside"]), self._packed(guests["on"], row=True)
        cx, cy, room = rendering.ROOM[group.noun]
        across, down = rendering.extent(group.noun)
        if inner.items:
            diameter = max(diameter, (max(inner.width, inner.height) + 2 * outline) / room + outline)
        diameter = max(diameter, riders.width * 0.9 / across)
        diameter = self._clear(diameter)
        width = across * (diameter - outline) + outline
        height = down * (diameter - outline) + outline
        whole = max(width, riders.width)
        # Riders stand on the upper edge: the two outlines overlap.
        rise = max(0.0, riders.height - outline)
        x, y = whole / 2, rise + height / 2
        items = (
            Item(index, x, y, width, height),
            *inner.moved(x + cx * diameter - inner.width / 2, y + cy * diameter - inner.height / 2),
            *riders.moved((whole - riders.width) / 2, 0),
        )
        return Block(whole, rise + height, items)

    def _clear(self, diameter: float) -> float:
        """Enlarge a diameter close to the limit between two sizes, so that its size is unambiguous."""
        for limit in (SMALL_BELOW, LARGE_FROM):
            if abs(diameter / self.unit - limit) < _SIZE_MARGIN:
                return (limit + _SIZE_MARGIN) * self.unit
        return diameter

    def _text(self, index: int) -> Block:
        word = rendering.keep_writable(self.sketch.groups[index].word)
        size = max(8, round(max(_SMALLEST_TEXT, _TEXT_SIZE * self.scale) * self.unit))
        outline = 2 * rendering.outline_width(self.unit)
        width, height = rendering.plate_extent(word, size)
        while width + outline > 0.9 * self.unit and size > 8:
            size -= 1
            width, height = rendering.plate_extent(word, size)
        width, height = round(width + outline), round(height + outline)
        return Block(width, height, (Item(index, width / 2, height / 2, width, height),))

    def _packed(self, parts: Sequence[Block], *, row: bool = False) -> Block:
        """Arrange parts in one row or in a grid; parts of a row share a base line."""
        if not parts:
            return Block(0, 0, ())
        few = len(parts) <= 3 and self.rng.random() < 0.8
        columns = len(parts) if row or few else math.ceil(math.sqrt(len(parts)))
        gap = _ITEM_GAP * self.unit * (0.6 + 0.4 * self.scale)
        wide, high = max(p.width for p in parts), max(p.height for p in parts)
        items: list[Item] = []
        for number, part in enumerate(parts):
            line, column = divmod(number, columns)
            in_line = min(columns, len(parts) - line * columns)
            # An incomplete last line is centred.
            shift = (columns - in_line) * (wide + gap) / 2
            x = shift + column * (wide + gap) + (wide - part.width) / 2
            items.extend(part.moved(x, line * (high + gap) + high - part.height))
        rows = math.ceil(len(parts) / columns)
        return Block(columns * (wide + gap) - gap, rows * (high + gap) - gap, tuple(items))


def build_blocks(sketch: Sketch, unit: int, rng: random.Random) -> Iterator[Block]:
    """Yield all groups of a sketch in one block, ever smaller, in images whose shorter side is `unit` pixels.

    Yields nothing if the groups do not hold each other.
    """
    for scale in _SCALES:
        blocks, _ = _BlockBuilder(sketch, unit, scale, rng).blocks()
        if len(blocks) == 1:
            yield blocks[0]


def place_block(sketch: Sketch, block: Block, x: float, y: float) -> tuple[Thing, ...]:
    """Return the things of a block whose upper left corner lies at `x`, `y`."""
    return _make_things(sketch, [block], [(x, y, x + block.width, y + block.height)])


def place_groups(sketch: Sketch, rng: random.Random, width: int, height: int) -> Scene:
    """Place all groups in an image of `width` x `height` pixels.

    Crowded images get smaller things. If no layout is found, relations are dropped, the last one first, and
    then groups.
    """
    relations = list(sketch.relations)
    while True:
        for scale in _SCALES:
            related = replace(sketch, relations=relations)
            blocks, roots = _BlockBuilder(related, min(width, height), scale, rng).blocks()
            # Relations within a block hold by construction.
            outer = [Relation(roots[r.subject], r.name, roots[r.target]) for r in relations]
            outer = [r for r in outer if r.subject != r.target and r.name in words.INVERSE]
            boxes = _Canvas(blocks, outer, rng, width, height).best()
            if boxes is not None:
                boxes = _centre(boxes, width, height)
                return Scene(width, height, sketch.background, _make_things(sketch, blocks, boxes))
        if relations:
            relations.pop()
        else:
            sketch = replace(sketch, groups=sketch.groups[:-1])


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
        degrees = Counter(index for r in self.relations for index in (r.subject, r.target))
        order = sorted(range(len(self.blocks)), key=lambda i: (-degrees[i], self.rng.random()))
        for index in order:
            box = self._spot(index)
            if box is None:
                return None
            self._boxes[index] = box
        return [self._boxes[index] for index in range(len(self.blocks))]

    def _spot(self, index: int) -> Box | None:
        block = self.blocks[index]
        left, top, right, bottom = self._window(index)
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
        shifts = [abs((b[0] + b[2]) - self.width) + abs((b[1] + b[3]) - self.height) for b in boxes]
        offsets = []
        for relation in self.relations:
            axis = 0 if relation.name in ("above", "below") else 1
            a, b = boxes[relation.subject], boxes[relation.target]
            offsets.append(abs((a[axis] + a[axis + 2]) - (b[axis] + b[axis + 2])) / 2)
        skew = sum(offsets) / len(offsets) if offsets else 0.0
        return min([*edges, *gaps], default=0.0) - 0.1 * sum(shifts) / max(1, len(boxes)) - 0.25 * skew


def _distance(a: Box, b: Box) -> float:
    """Return the larger of the two axes' distances between boxes; negative if they overlap."""
    return max(max(a[0], b[0]) - min(a[2], b[2]), max(a[1], b[1]) - min(a[3], b[3]))
