"""Edit a picture as an instruction says, with the faults of real editors."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gems.generation import ImageRequest
from gems.models.blocks import rendering
from gems.models.blocks import vocabulary as words
from gems.models.blocks.detection import Detector
from gems.models.blocks.error_model import EditorRates, seeded_random
from gems.models.blocks.judge import judge_question, match_things
from gems.models.blocks.parser import Token, parse_text, tokenize
from gems.models.blocks.prompt_spec import decompose_prompt, explain_limits
from gems.models.blocks.retouch import Retouch, find_bounds, find_change, join_boxes
from gems.models.blocks.scene import Box, Scene, describe_scene
from gems.models.images import decode_image, flatten_image
from gems.models.masks import feather_mask, read_mask

DESCRIBED = "The whole picture shows:"
"""What follows it in the request of an edit is a description of the result."""
_OTHER_LEVELS = 60
"""A pixel that differs by more levels from what was recognised, ..."""
_MOST_UNLIKE = 0.05
"""... in more than this share of the image, says that the image is not of this world."""
_BLENDED = 0.006
"""Repainted around each change, as a share of the shorter side: boxes are found to about a pixel."""
_GROWN = 0.15
_WHITE = 255
_ADDING = re.compile(r"\b(?:add|insert|put|place)\b(?!\s+(?:it|them)\b)", re.IGNORECASE)
_SIDES = {"top": (1, 0), "upper": (1, 0), "bottom": (1, 1), "lower": (1, 1), "left": (0, 0), "right": (0, 1)}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Edit:
    """An edited picture of the size of its request, and what its user should know."""

    image: Image.Image
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Fault:
    """A question that is to become true, and where a new thing should stand for it."""

    question: str
    near: Box | None = None


def edit_picture(request: ImageRequest, rates: EditorRates, detector: Detector) -> Edit:
    """Edit the source of a request as its prompt says. Blocking.

    The prompt is an instruction, which may be followed by a line that begins with `DESCRIBED`. Each fault that the
    instruction is about is mended, or something else is broken, or nothing happens, by chance: it depends on prompt,
    seed and source alone. Pixels of what does not change are those of the source.
    """
    assert request.source is not None  # noqa: S101 - for type checkers
    source = decode_image(request.source, "The source")
    source = source.convert("RGBA" if source.has_transparency_data else "RGB")
    size = (request.width, request.height)
    if source.size != size:
        source = source.resize(size, Image.Resampling.LANCZOS)
    mask = solid = None
    if request.mask is not None:
        levels = read_mask(request.mask, size)
        # Towards its edge what is drawn fades into the source.
        mask, solid = np.asarray(levels) > 0, np.asarray(feather_mask(levels)) == _WHITE
    canvas = _Canvas.read(source, detector.detect(request.source))
    if not canvas.readable and mask is None:
        return Edit(source, ("The built-in editor recognises nothing in this picture, so it is unchanged.",))
    instruction, _, description = request.prompt.partition(DESCRIBED)
    faults, questions, warning = _list_faults(instruction, description, canvas.scene)
    rng = seeded_random(request.prompt, request.seed, hashlib.sha256(request.source).hexdigest(), "edit")
    scene = canvas.scene
    for fault in faults:
        chance, inside = rng.random(), rng.random() < 0.5
        retouch = Retouch(scene, questions, rng, solid)
        mended = retouch.mend(fault.question, fault.near)
        if chance < rates.fixes:
            scene = mended or scene
            if mended is None:
                warning = warning or f"The built-in editor finds no way to make this true here: {fault.question}"
        elif chance < rates.fixes + rates.breaks:
            region = _region(scene, mended, mask)
            broken = retouch.damage(fault.question, inside, region) or retouch.damage(
                fault.question, not inside, region
            )
            scene = broken or scene
    return Edit(canvas.repaint(scene, mask), (warning,) if warning else ())


def _region(scene: Scene, mended: Scene | None, mask: NDArray[np.bool_] | None) -> Box:
    """Return the box of a mask, or else of what an edit is about."""
    if mask is not None:
        return find_bounds(mask)
    boxes = find_change(scene, mended) if mended is not None else []
    if not boxes:
        return 0.0, 0.0, float(scene.width), float(scene.height)
    left, top, right, bottom = join_boxes(boxes)
    x, y = _GROWN * (right - left), _GROWN * (bottom - top)
    return left - x, top - y, right + x, bottom + y


# What an instruction is about


def _list_faults(instruction: str, description: str, scene: Scene) -> tuple[list[_Fault], list[str], str]:
    """Return the faults that an instruction is about, the questions that count beside them, and a warning."""
    if description.strip():
        questions = [item.question for item in decompose_prompt(description) if item.kind != "other"]
        unmet = [question for question in questions if _answer(question, scene) == "no"]
        quoted = [question for question in unmet if question in instruction]
        found = quoted or _most_alike(instruction, unmet)
        if not found:
            told = " ".join(instruction.split())
            return [], questions, f"The built-in editor finds no fault here that the instruction names: {told}"
        return [_Fault(question) for question in found], questions, ""
    return _read_command(instruction, scene)


def _answer(question: str, scene: Scene) -> str:
    return judge_question(question, scene).answer


def _most_alike(instruction: str, questions: list[str]) -> list[str]:
    """Return the question that shares most words with an instruction, if it names the same thing."""
    said = _key_words(instruction)
    shared = {question: said & _key_words(question) for question in questions}
    named = [question for question, common in shared.items() if any(kind in _NAMES for kind, _ in common)]
    return sorted(named, key=lambda question: (-len(shared[question]), len(_key_words(question))))[:1]


def _key_words(text: str) -> set[tuple[str, str]]:
    return {_key(token) for token in tokenize(text) if token.kind in _KEYS}


_NAMES = frozenset({"shape", "quoted", "background"})
_KEYS = frozenset({"shape", "adjective", "count", "relation", "quoted", "background"})


def _key(token: Token) -> tuple[str, str]:
    value = token.value.lower().rstrip("!")
    if token.kind == "shape":
        return token.kind, words.SHAPE_WORDS[value][0]
    if token.kind == "adjective":
        return token.kind, words.ADJECTIVES[value][1]
    return token.kind, str(words.COUNT_WORDS.get(value, value)) if token.kind == "count" else value


def _read_command(instruction: str, scene: Scene) -> tuple[list[_Fault], list[str], str]:
    """Read an instruction that stands alone, such as `make the circles green`; what else is there is to stay."""
    kept = [item.question for item in decompose_prompt(describe_scene(scene)) if item.kind != "other"]
    reading = parse_text(instruction)
    # What is said of the square may make another square of it.
    changed = {mention.noun for mention in reading.mentions if mention.definite}
    kept = [
        question
        for question in kept
        if _answer(question, scene) == "yes" and changed.isdisjoint(one.noun for one in parse_text(question).mentions)
    ]
    places = dict(reading.places)
    faults: list[_Fault] = []
    if _ADDING.search(instruction):
        related = {link.target for link in reading.links}
        for index, mention in enumerate(reading.mentions):
            if mention.noun in words.SHAPES and not mention.definite and index not in related:
                number = len(match_things(scene, mention)) + (mention.count or 1)
                looks = map({**mention.attributes, **mention.predicate}.get, ("size", "colour", "texture"))
                named = words.noun_phrase(mention.noun, *looks, many=number != 1)
                asked = f"{'Is' if number == 1 else 'Are'} there exactly {words.number_word(number)} {named}?"
                faults.append(_Fault(asked, _find_place(places.get(index, ""), scene)))
    known = {fault.question for fault in faults}
    asked_for = [item.question for item in decompose_prompt(instruction) if item.kind != "other"]
    unmet = [question for question in asked_for if _answer(question, scene) == "no" and question not in known]
    # What is added in place of something stands where that stood.
    gone = [mention for mention in reading.mentions if mention.count == 0]
    vacated = [thing.box for mention in gone for thing in match_things(scene, mention)][:1]
    if faults:
        faults += [_Fault(question) for question in unmet if not question.startswith(("Is there", "Are there"))]
    else:
        faults = [_Fault(question, *vacated) for question in unmet]
    if faults:
        limits = explain_limits(instruction) if reading.unknown else ""
        return faults, [*dict.fromkeys([*(fault.question for fault in faults), *asked_for, *kept])], limits
    if asked_for and not reading.unknown:
        return [], kept, "The picture shows already what the instruction asks for, so it is unchanged."
    limits = explain_limits(instruction)
    return [], kept, f"The built-in editor changes nothing. {limits}".strip()


def _find_place(said: str, scene: Scene) -> Box | None:
    """Return the middle, the corner or the edge that a text names, as a box without a size; None for none."""
    if not said:
        return None
    at = [scene.width / 2, scene.height / 2]
    for word in re.findall(r"[a-z]+", said.lower()):
        if word in _SIDES:
            axis, end = _SIDES[word]
            at[axis] = end * (scene.width, scene.height)[axis]
    return at[0], at[1], at[0], at[1]


# Pixels


@dataclass(frozen=True, slots=True)
class _Canvas:
    """A picture, the scene in it, and its background with nothing on it; `readable` if it is of this world."""

    source: Image.Image
    scene: Scene
    ground: Image.Image
    readable: bool

    @classmethod
    def read(cls, source: Image.Image, seen: Scene) -> _Canvas:
        """Compare a picture with what was `seen` in it, in whatever size."""
        x, y = source.width / seen.width, source.height / seen.height
        scaled = [
            replace(one, box=(one.box[0] * x, one.box[1] * y, one.box[2] * x, one.box[3] * y)) for one in seen.things
        ]
        scene = _stack(Scene(source.width, source.height, seen.background, tuple(scaled)))
        flat = flatten_image(source)
        ground = _find_ground(np.asarray(flat), scene)
        unlike = _differences(rendering.paint_scene(scene, ground), flat) > _OTHER_LEVELS
        if unlike.mean() <= _MOST_UNLIKE:
            return cls(source, scene, ground, True)
        return cls(source, replace(scene, things=()), flat, False)

    def repaint(self, scene: Scene, mask: NDArray[np.bool_] | None) -> Image.Image:
        """Return the picture with another scene: only pixels that this changes, within the mask."""
        if scene == self.scene:
            return self.source
        scene = _stack(scene)
        after = rendering.paint_scene(scene, self.ground if scene.background == self.scene.background else None)
        changed = _differences(rendering.paint_scene(self.scene, self.ground), after) > 0
        changed = ndimage.binary_dilation(changed, iterations=max(1, round(_BLENDED * scene.unit)))
        if mask is not None:
            changed &= mask
        result = self.source.copy()
        result.paste(after.convert(result.mode), mask=Image.fromarray(changed.astype(np.uint8) * 255))
        return result


def _stack(scene: Scene) -> Scene:
    """Return the scene with large things first, over which the things in them are drawn."""

    def area(box: Box) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    return replace(scene, things=tuple(sorted(scene.things, key=lambda thing: -area(thing.box))))


def _differences(one: Image.Image, other: Image.Image) -> NDArray[np.int16]:
    levels: NDArray[np.int16] = np.abs(np.asarray(one, dtype=np.int16) - np.asarray(other, dtype=np.int16)).max(axis=2)
    return levels


def _find_ground(pixels: Pixels, scene: Scene) -> Image.Image:
    """Return the background: in each row the median of the pixels beside the things."""
    height, width = pixels.shape[:2]
    free = np.ones((height, width), dtype=bool)
    margin = 0.03 * scene.unit
    for thing in scene.things:
        left, top, right, bottom = thing.box
        free[max(0, int(top - margin)) : int(bottom + margin), max(0, int(left - margin)) : int(right + margin)] = False
    rows = np.flatnonzero(free.any(axis=1))
    if not rows.size:
        return rendering.paint_scene(replace(scene, things=()))
    medians = np.array([np.median(pixels[row][free[row]], axis=0) for row in rows])
    every = [np.interp(np.arange(height), rows, medians[:, channel]) for channel in range(3)]
    column = np.stack(every, axis=1).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None], (height, width, 3))))
