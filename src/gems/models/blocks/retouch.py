"""Change as little of a scene as makes a question about it true, or another one false."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from gems.models.blocks import layout, rendering
from gems.models.blocks import vocabulary as words
from gems.models.blocks.error_model import Sketch, misspell
from gems.models.blocks.judge import judge_question, match_things
from gems.models.blocks.parser import Link, Mention, parse_text
from gems.models.blocks.prompt_spec import Group, PromptSpec, Relation, find_group, parse_prompt
from gems.models.blocks.scene import Box, Scene, Thing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGE = 0.02
"""Least distance of things from the image's edge, as a share of the shorter side, ..."""
_GAP = 0.018
"""... and from each other."""
_GRID = 18
"""Places that are tried along each side."""
_MOST_PLACES = 40
_MOST_CHOICES = 40
"""Choices of things to change, where some of several are to be changed."""
_MOST_CANDIDATES = 40
"""Changes that are compared."""
_MOST_SUPPLIES = 4
"""Ways to add what is missing for a relation."""
_DIAMETERS = {"small": (0.095, 0.075), "medium": (0.155, 0.135), "large": (0.25, 0.208)}
"""Diameters of each size as shares of the shorter side, best first."""
_NARROWER = (1.0, 0.8, 0.6)
_FONT = 0.088
_SMALLEST_FONT = 8
_AXES = {"left of": 0, "right of": 0, "above": 1, "below": 1}

Things = tuple[Thing, ...]


def find_change(before: Scene, after: Scene) -> list[Box]:
    """Return the boxes of all things that differ, as they were and as they are."""
    return [thing.box for thing in sorted({*before.things} ^ {*after.things}, key=lambda thing: thing.box)]


def join_boxes(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around all `boxes`, of which there is at least one."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def locate_fault(scene: Scene, question: str, questions: Sequence[str]) -> list[int]:
    """Return where a scene would have to change for `question` to be true; empty if that is no place.

    The box is x1, y1, x2, y2 in thousandths of width and height. Among the places where a missing thing could stand,
    those come first that the other `questions` ask for.
    """
    after = Retouch(scene, questions, random.Random(0)).mend(question)  # noqa: S311 - for pictures, not for secrets
    boxes = find_change(scene, after) if after is not None and after.background == scene.background else []
    if not boxes:
        return []
    left, top, right, bottom = join_boxes(boxes)
    sides = (scene.width, scene.height, scene.width, scene.height)
    scaled = [edge * 1000 / side for edge, side in zip((left, top, right, bottom), sides, strict=True)]
    return [min(1000, max(0, round(edge))) for edge in scaled]


def find_bounds(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box around what a mask of shape (height, width) selects, which is something."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def place_in(box: Box, mask: NDArray[np.bool_] | None) -> bool:
    """Whether all of a box lies within a mask; everything does where there is none."""
    left, top, right, bottom = (round(edge) for edge in box)
    return mask is None or bool(mask[max(0, top) : bottom, max(0, left) : right].all())


@dataclass(slots=True)
class Retouch:
    """Changes of one scene.

    Attributes:
        scene: The scene as it is.
        questions: What else counts about it: of several changes the one is chosen that keeps most of them true.
        rng: Chooses among places that are equally good.
        mask: Where it may change, of shape (height, width); None for everywhere.
    """

    scene: Scene
    questions: Sequence[str]
    rng: random.Random
    mask: NDArray[np.bool_] | None = None

    def mend(self, question: str, near: Box | None = None) -> Scene | None:
        """Return the scene with the least change after which `question` is true; None if none was found.

        A change that lies within the mask is preferred to any other; `near` is where a new thing should stand.
        """
        met = [self._is_met(asked, self.scene) for asked in self.questions]
        best: tuple[tuple[bool, int, int], Scene] | None = None
        fitting = (after for after in self._candidates(question, near) if self._is_met(question, after))
        for number, after in enumerate(islice(fitting, 4 * _MOST_CANDIDATES)):
            # Where other faults remain, there is no perfect change to wait for.
            if number >= _MOST_CANDIDATES and best is not None and best[0][:2] == (True, 0):
                break
            inside = all(place_in(box, self.mask) for box in find_change(self.scene, after))
            now = [self._is_met(asked, after) for asked in self.questions]
            worth = (inside, -sum(was and not still for was, still in zip(met, now, strict=True)), sum(now))
            if best is None or worth > best[0]:
                best = worth, after
            if worth == (True, 0, len(now)):
                break
        return None if best is None else best[1]

    def damage(self, question: str, inside: bool, region: Box) -> Scene | None:
        """Return the scene with one of the other questions no longer met; None if there is nothing to break.

        `question` stays as it is. Only things within `region` are changed, or only others.
        """
        met = [asked for asked in self.questions if asked != question and self._is_met(asked, self.scene)]
        stays = self._is_met(question, self.scene)
        for after in self._damages(inside, region):
            if inside and not all(place_in(box, self.mask) for box in find_change(self.scene, after)):
                continue
            if self._is_met(question, after) == stays and not all(self._is_met(asked, after) for asked in met):
                return after
        return None

    def _is_met(self, question: str, scene: Scene) -> bool:
        return judge_question(question, scene).answer == "yes"

    def _with(self, things: Iterable[Thing]) -> Scene:
        return replace(self.scene, things=tuple(things))

    # What makes a question true

    def _candidates(self, question: str, near: Box | None) -> Iterator[Scene]:
        reading = parse_text(question)
        linked = {index for link in reading.links for index in (link.subject, link.target)}
        for link in reading.links:
            subject, target = reading.mentions[link.subject], reading.mentions[link.target]
            for scene in self.complete(subject, target):
                yield scene
                for things in replace(self, scene=scene).relate(link, subject, target):
                    yield self._with(things)
        for index, mention in enumerate(reading.mentions):
            if mention.noun == words.BACKGROUND:
                colour = mention.predicate.get("colour") or mention.attributes.get("colour")
                if colour and mention.count != 0:
                    yield replace(self.scene, background=colour)
            elif index not in linked or mention.explicit:
                for things in self._supply(mention, near):
                    yield self._with(things)

    def complete(self, *mentions: Mention) -> Iterator[Scene]:
        """Yield the scene, or ways to show in it what of some mentions is missing: it has to be there to be related."""
        if not mentions:
            yield self.scene
            return
        first, *others = mentions
        if first.count == 0 or match_things(self.scene, first):
            yield from self.complete(*others)
            return
        for things in islice(self._supply(first, None), _MOST_SUPPLIES):
            yield from replace(self, scene=self._with(things)).complete(*others)

    def _supply(self, mention: Mention, near: Box | None) -> Iterator[Things]:
        """Yield ways to show as many things, of such looks, as a mention says."""
        things, asked = self.scene.things, {**mention.attributes, **mention.predicate}
        if mention.count == 0:
            gone = match_things(self.scene, replace(mention, attributes=asked))
            yield tuple(thing for thing in things if thing not in gone)
            return
        found = match_things(self.scene, mention)
        if mention.predicate and found:
            wrong = [
                thing
                for thing in found
                if any(self.scene.attribute(thing, name) != value for name, value in mention.predicate.items())
            ]
            yield from self._restyle(wrong, mention.predicate)
            return
        wanted = (mention.count or 1) if mention.explicit else 2 if mention.count is None else 1
        for extra in islice(combinations(found, max(0, len(found) - wanted)), _MOST_CHOICES):
            if extra:
                yield tuple(thing for thing in things if thing not in extra)
        others = [thing for thing in things if thing.noun == mention.noun and thing not in found]
        missing = max(0, wanted - len(found))
        if not mention.explicit and mention.count is None:
            # Of a plural without a number all are meant.
            yield from self._restyle(others, asked, mention.word)
        for changed in range(min(missing, len(others)), -1, -1):
            for chosen in islice(combinations(others, changed), _MOST_CHOICES):
                for restyled in self._restyle(chosen, asked, mention.word):
                    if changed == missing:
                        yield restyled
                    else:
                        yield from self._add(restyled, mention, asked, missing - changed, near)

    def _restyle(self, chosen: Sequence[Thing], asked: dict[str, str], word: str = "") -> Iterator[Things]:
        """Yield the things with those of `chosen` in another look, where they stand or, if too large there, moved."""
        if not chosen:
            yield self.scene.things
            return
        looks: dict[str, Any] = {name: value for name, value in asked.items() if name != "size"}
        for diameter in _DIAMETERS[asked["size"]] if "size" in asked else (0.0,):
            for moves in (False, True):
                things: Things | None = self.scene.things
                for thing in chosen:
                    look = replace(thing, **looks)
                    if diameter and self.scene.size(thing) != asked["size"]:
                        look = replace(look, box=_resize(look.box, diameter * self.scene.unit))
                    if word:
                        look = replace(look, word=rendering.keep_writable(word))
                        look = replace(look, box=self._plate(look.word, _height(thing.box), thing.centre))
                    things = self._put(things, thing, look, moves=moves) if things is not None else None
                if things is not None:
                    yield things

    def _put(self, things: Things, old: Thing, new: Thing, *, moves: bool) -> Things | None:
        """Return the things with one in place of another, moved if it needs more room; None if there is none.

        What is in or on it goes with it.
        """
        riders = [thing for thing in self._carried([old])[1:] if thing in things]
        rest = tuple(thing for thing in things if thing != old and thing not in riders)
        if old.box != new.box and not self._is_clear(new, [t for t in rest if not _touch(t.box, old.box)]):
            places = self._places(new, rest, old.centre) if moves else iter(())
            box = next(places, None)
            if box is None:
                return None
            new = replace(new, box=box)
        moved = {old: new}
        for thing in riders if old.box != new.box else ():
            base, to = (old.box[1], new.box[1]) if self._stands(thing, old) else (old.centre[1], new.centre[1])
            moved[thing] = _move(thing, new.centre[0] - old.centre[0], to - base)
        return tuple(moved.get(thing, thing) for thing in things)

    def _add(
        self, things: Things, mention: Mention, asked: dict[str, str], number: int, near: Box | None
    ) -> Iterator[Things]:
        """Yield the things with `number` more of what is mentioned."""
        alike = [thing for thing in things if thing.noun == mention.noun and mention.noun != words.TEXT]
        model = self._model(mention, asked, alike)
        centre = _centre(near) if near else _centre(join_boxes([thing.box for thing in alike])) if alike else None
        for narrower in _NARROWER:
            smaller = replace(model, box=self._narrow(model, narrower))
            if narrower < 1 and self.scene.size(smaller) != self.scene.size(model) and "size" in asked:
                return
            for box in self._places(smaller, things, centre):
                more: Things = (*things, replace(smaller, box=box))
                while len(more) < len(things) + number:
                    following = next(self._places(smaller, more, _centre(box)), None)
                    if following is None:
                        break
                    more = (*more, replace(smaller, box=following))
                else:
                    yield more

    def _narrow(self, thing: Thing, factor: float) -> Box:
        if thing.noun == words.TEXT:
            return self._plate(thing.word, factor * _height(thing.box), thing.centre)
        return _scale(thing.box, factor)

    def _model(self, mention: Mention, asked: dict[str, str], alike: Sequence[Thing]) -> Thing:
        """Return a new thing as it is mentioned, with a look that `questions` ask for; its box says only its size."""
        if mention.noun == words.TEXT:
            word = rendering.keep_writable(mention.word)
            height = rendering.PLATE_HEIGHT * _FONT * self.scene.unit
            return Thing(words.TEXT, "", "", self._plate(word, height, (0.0, 0.0)), word)
        spec = self._spec()
        index = find_group(spec, mention)
        look = {**(spec.groups[index].attributes if index is not None else {}), **asked}
        same = next(
            (t for t in alike if all(self.scene.attribute(t, name) == value for name, value in look.items())), None
        )
        if same is not None:
            return same
        free = [colour for colour in words.COLOURS if colour != self.scene.background]
        across, down = rendering.extent(mention.noun)
        diameter = _DIAMETERS[look.get("size", "medium")][0] * self.scene.unit
        box = (0.0, 0.0, across * diameter, down * diameter)
        return Thing(mention.noun, look.get("colour") or self.rng.choice(free), look.get("texture", "plain"), box)

    def _spec(self) -> PromptSpec:
        return parse_prompt("\n".join(self.questions))

    def _plate(self, word: str, height: float, centre: tuple[float, float]) -> Box:
        outline = 2 * rendering.outline_width(self.scene.unit)
        size = max(_SMALLEST_FONT, round((height - outline) / rendering.PLATE_HEIGHT))
        while size > _SMALLEST_FONT and rendering.plate_extent(word, size)[0] + outline > 0.9 * self.scene.width:
            size -= 1
        width, height = rendering.plate_extent(word, size)
        # Letters are placed by whole pixels.
        return _around(centre, round(width + outline), round(height + outline))

    # Places

    def _places(self, thing: Thing, things: Things, near: tuple[float, float] | None = None) -> Iterator[Box]:
        """Yield boxes where a thing of this size has room: the free ones, then those in and on other things."""
        width, height = thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]
        left, top, right, bottom = self._window()
        if right - left >= width and bottom - top >= height:
            spots = [
                (left + (right - left - width) * i / (_GRID - 1), top + (bottom - top - height) * j / (_GRID - 1))
                for i in range(_GRID)
                for j in range(_GRID)
            ]
            self.rng.shuffle(spots)
            free = ((x, y, x + width, y + height) for x, y in spots)
            # Clear of the edge of a mask as well, where results are blended.
            clear = [box for box in free if self._is_clear(replace(thing, box=box), things)]
            if near is not None:
                nearest = sorted(clear, key=lambda box: _distance(_centre(box), near))
                # Relations may ask for places further away.
                clear = [*nearest[: _MOST_PLACES // 2], *clear[: _MOST_PLACES // 2]]
            yield from clear[:_MOST_PLACES]
        for host in things:
            if host.noun != words.TEXT:
                yield from (box for box in self._hosted(thing, host) if self._is_clear(replace(thing, box=box), things))

    def _hosted(self, thing: Thing, host: Thing) -> Iterator[Box]:
        width, height = thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]
        outline = rendering.outline_width(self.scene.unit)
        yield _around((host.centre[0], host.box[1] + outline - height / 2), width, height)
        inner = _room(host, outline)
        fitting = min(1.0, (inner[2] - inner[0]) / max(width, height))
        yield _around(_centre(inner), width * fitting, height * fitting)

    def _window(self) -> Box:
        edge = _EDGE * self.scene.unit
        if self.mask is None:
            return edge, edge, self.scene.width - edge, self.scene.height - edge
        left, top, right, bottom = find_bounds(self.mask)
        return (
            max(edge, left),
            max(edge, top),
            min(self.scene.width - edge, right),
            min(self.scene.height - edge, bottom),
        )

    def _is_clear(self, new: Thing, things: Iterable[Thing]) -> bool:
        """Whether a thing lies within the image and touches others only as a thing in or on another one does."""
        edge, gap, outline = (
            0.5 * _EDGE * self.scene.unit,
            _GAP * self.scene.unit,
            rendering.outline_width(self.scene.unit),
        )
        left, top, right, bottom = new.box
        if left < edge or top < edge or right > self.scene.width - edge or bottom > self.scene.height - edge:
            return False
        return all(
            not _touch(new.box, other.box, gap)
            or _is_within(new.box, _room(other, outline), outline)
            or _is_within(other.box, _room(new, outline), outline)
            or self._stands(new, other)
            or self._stands(other, new)
            for other in things
        )

    def _stands(self, upper: Thing, lower: Thing) -> bool:
        overlap = upper.box[3] - lower.box[1]
        return 0 <= overlap <= 1.5 * rendering.outline_width(self.scene.unit) and self.scene.holds(upper, "on", lower)

    # Relations

    def relate(self, link: Link, subject: Mention, target: Mention) -> Iterator[Things]:
        """Yield ways to make a relation between two mentions hold."""
        things = self.scene.things
        subjects, targets = match_things(self.scene, subject), match_things(self.scene, target)
        holds = {s for s in subjects if any(self.scene.holds(s, link.relation, t) for t in targets if t != s)}
        if subject.count == 0:
            yield tuple(thing for thing in things if thing not in holds)
        elif not subjects or not targets or {*subjects} & {*targets}:
            return
        elif link.relation in _AXES:
            every = all if target.many else any
            wrong = [s for s in subjects if not every(self.scene.holds(s, link.relation, t) for t in targets)]
            yield from self._mirror(subjects, targets, _AXES[link.relation])
            for moved in (wrong, subjects, targets):
                yield from self._shift(self._carried(moved))
            yield from self._spread(link.relation, wrong, targets)
        else:
            yield from self._rebuild(link, subjects, targets)

    def _carried(self, things: Iterable[Thing]) -> list[Thing]:
        """Return things with all that is in or on them."""
        found = [*things]
        for base in found:
            riders = (t for t in self.scene.things if t not in found)
            found += [t for t in riders if self.scene.holds(t, "inside", base) or self._stands(t, base)]
        return found

    def _mirror(self, subjects: Sequence[Thing], targets: Sequence[Thing], axis: int) -> Iterator[Things]:
        """Yield the scene with subjects and targets mirrored within the box around all of them."""
        blocks = [self._carried(subjects), self._carried(targets)]
        if {*blocks[0]} & {*blocks[1]}:
            return
        around = join_boxes([thing.box for block in blocks for thing in block])
        moves: dict[Thing, Thing] = {}
        for block in blocks:
            box = join_boxes([thing.box for thing in block])
            shift = around[axis] + around[axis + 2] - box[axis] - box[axis + 2]
            moves |= {thing: _move(thing, shift * (1 - axis), shift * axis) for thing in block}
        yield from self._moved(moves)

    def _moved(self, moves: dict[Thing, Thing]) -> Iterator[Things]:
        rest = [thing for thing in self.scene.things if thing not in moves]
        if all(self._is_clear(thing, rest) for thing in moves.values()):
            yield tuple(moves.get(thing, thing) for thing in self.scene.things)

    def _shift(self, block: Sequence[Thing]) -> Iterator[Things]:
        """Yield the scene with a block of things elsewhere."""
        if not block:
            return
        box = join_boxes([thing.box for thing in block])
        left, top, right, bottom = self._window()
        room = right - left - box[2] + box[0], bottom - top - box[3] + box[1]
        if min(room) < 0:
            return
        steps = [(i, j) for i in range(_GRID) for j in range(_GRID)]
        self.rng.shuffle(steps)
        for i, j in steps:
            x, y = left + room[0] * i / (_GRID - 1) - box[0], top + room[1] * j / (_GRID - 1) - box[1]
            yield from self._moved({thing: _move(thing, x, y) for thing in block})

    def _spread(self, relation: str, moved: Sequence[Thing], targets: Sequence[Thing]) -> Iterator[Things]:
        """Yield the scene with each of some things elsewhere on its own, smaller where there is no room."""
        for narrower in _NARROWER:
            things = tuple(thing for thing in self.scene.things if thing not in moved)
            for thing in moved:
                smaller = replace(thing, box=self._narrow(thing, narrower))
                placed = (replace(smaller, box=box) for box in self._places(smaller, things))
                fitting = (new for new in placed if all(self.scene.holds(new, relation, one) for one in targets))
                things = (*things, *islice(fitting, 1))
            if len(things) == len(self.scene.things):
                yield things

    def _rebuild(self, link: Link, subjects: Sequence[Thing], targets: Sequence[Thing]) -> Iterator[Things]:
        """Yield the scene with subjects in or on targets, put together anew where they stood or elsewhere."""
        involved = [*subjects, *targets]
        box = join_boxes([thing.box for thing in involved])
        rest = tuple(thing for thing in self.scene.things if thing not in involved)
        groups = [_group(self.scene, things) for things in (subjects, targets)]
        sketch = Sketch(groups, [Relation(0, link.relation, 1)])
        for made in layout.build_blocks(sketch, self.scene.unit, self.rng):
            around = _around(_centre(box), made.width, made.height)
            block = Thing("", "", "", around)
            clear = around if self._is_clear(block, rest) else next(self._places(block, rest, _centre(box)), None)
            if clear is not None:
                yield (*rest, *layout.place_block(sketch, made, clear[0], clear[1]))

    # What makes a question false

    def _damages(self, inside: bool, region: Box) -> Iterator[Scene]:
        things = self.scene.things
        within = [thing for thing in things if _is_within(thing.centre * 2, region) == inside]
        found: list[Scene] = []
        for thing in within:
            rest = tuple(other for other in things if other != thing)
            elsewhere = [replace(thing, box=box) for box in islice(self._places(thing, rest), 1)]
            found += [self._with(rest), *(self._with((*rest, moved)) for moved in elsewhere)]
            looks: list[Thing] = []
            if thing.noun == words.TEXT:
                word = misspell(thing.word, self.rng)
                looks.append(replace(thing, word=word, box=self._plate(word, _height(thing.box), thing.centre)))
            else:
                colour = self.rng.choice([c for c in words.COLOURS if c not in (thing.colour, self.scene.background)])
                texture = self.rng.choice([known for known in words.TEXTURES if known != thing.texture])
                size = "small" if self.scene.size(thing) == "large" else "large"
                box = _resize(thing.box, _DIAMETERS[size][-1] * self.scene.unit)
                looks += [replace(thing, colour=colour), replace(thing, texture=texture), replace(thing, box=box)]
            changed = (self._put(things, thing, look, moves=False) for look in looks)
            found += [self._with(new) for new in changed if new is not None]
        for thing in things:
            free = self._places(thing, things, _centre(region) if inside else None)
            copy = next((box for box in free if _is_within(_centre(box) * 2, region) == inside), None)
            found += [self._with((*things, replace(thing, box=copy)))] if copy is not None else []
        if not inside:
            others = [colour for colour in words.COLOURS if colour != self.scene.background]
            found.append(replace(self.scene, background=self.rng.choice(others)))
        self.rng.shuffle(found)
        yield from found


def _group(scene: Scene, things: Sequence[Thing]) -> Group:
    first = things[0]
    attributes = {name: scene.attribute(first, name) for name in ("colour", "size", "texture")}
    return Group(first.noun, len(things), True, {} if first.word else attributes, first.word)


def _height(box: Box) -> float:
    return box[3] - box[1]


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _around(centre: tuple[float, float], width: float, height: float) -> Box:
    x, y = centre
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _scale(box: Box, factor: float) -> Box:
    return _around(_centre(box), factor * (box[2] - box[0]), factor * (box[3] - box[1]))


def _resize(box: Box, diameter: float) -> Box:
    return _scale(box, diameter / max(box[2] - box[0], box[3] - box[1]))


def _move(thing: Thing, x: float, y: float) -> Thing:
    left, top, right, bottom = thing.box
    return replace(thing, box=(left + x, top + y, right + x, bottom + y))


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))


def _touch(one: Box, other: Box, gap: float = 0.0) -> bool:
    return max(max(one[i], other[i]) - min(one[i + 2], other[i + 2]) for i in (0, 1)) < gap


def _is_within(inner: Box, outer: Box, slack: float = 0.0) -> bool:
    return all(inner[i] >= outer[i] - slack for i in (0, 1)) and all(inner[i] <= outer[i] + slack for i in (2, 3))


def _room(host: Thing, outline: float) -> Box:
    """Return the square in a thing that others may fill; nothing in a text."""
    if host.noun not in rendering.ROOM:
        return (*host.centre, *host.centre)
    x, y, side = rendering.ROOM[host.noun]
    diameter = max(host.box[2] - host.box[0], host.box[3] - host.box[1])
    room = max(0.0, side * (diameter - outline) - outline)
    return _around((host.centre[0] + x * diameter, host.centre[1] + y * diameter), room, room)
