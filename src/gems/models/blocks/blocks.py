"""Arrange groups as blocks: things in rows, inside or on top of others."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gems.models.blocks import lettering, rendering
from gems.models.blocks import vocabulary as words
from gems.models.blocks.error_model import Sketch
from gems.models.blocks.scene import LARGE_FROM, SMALL_BELOW

_DIAMETERS = {"small": 0.095, "medium": 0.155, "large": 0.25}
_TEXT_SIZE = 0.088
_ITEM_GAP = 0.028
_SIZE_MARGIN = 0.007
_SMALLEST = 0.062
_SMALLEST_TEXT = 0.06


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


def assemble_blocks(
    sketch: Sketch, unit: int, scale: float, rng: random.Random
) -> tuple[list[Block], list[int]]:
    """Return blocks that can be placed independently, and for each group the index of its block.

    `unit` is the image's shorter side in pixels, `scale` a factor on all sizes; `rng` chooses rows or grids.
    """
    builder = _BlockBuilder(sketch, unit, scale, rng)
    tops = [index for index in range(len(sketch.groups)) if builder.host(index) is None]
    blocks = [builder.group(index) for index in tops]
    return blocks, [tops.index(builder.root(index)) for index in range(len(sketch.groups))]


@dataclass
class _BlockBuilder:
    sketch: Sketch
    unit: int
    scale: float
    rng: random.Random
    _hosts: dict[int, tuple[int, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._hosts = {}
        for relation in self.sketch.relations:
            carries = relation.name in ("inside", "on")
            can_host = carries and self.sketch.groups[relation.target].noun != words.TEXT
            free = relation.subject not in self._hosts and self.root(relation.target) != relation.subject
            if can_host and free:
                self._hosts[relation.subject] = (relation.target, relation.name)

    def host(self, index: int) -> int | None:
        return self._hosts[index][0] if index in self._hosts else None

    def root(self, index: int) -> int:
        host = self.host(index)
        return index if host is None else self.root(host)

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
        word = lettering.keep_writable(self.sketch.groups[index].word)
        size = max(8, round(max(_SMALLEST_TEXT, _TEXT_SIZE * self.scale) * self.unit))
        outline = 2 * rendering.outline_width(self.unit)
        width, height = lettering.plate_extent(word, size)
        while width + outline > 0.9 * self.unit and size > 8:
            size -= 1
            width, height = lettering.plate_extent(word, size)
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
