"""The true scene of an image of the built-in world.

The image's metadata name its prompt, seed and model. The scene is rendered again from them, and accepted only
if the pixels are those of the image.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from gems.errors import InvalidImageError
from gems.models.blocks import Scene, Thing, render

FactKind = Literal["object", "count", "colour", "size", "texture", "relation", "text", "background"]
METADATA_CHUNK = "gems"
"""The PNG text chunk with prompt, seed and model, see `gems.runs.output`."""
BLOCKS_MODEL = "blocks"


class Fact(BaseModel):
    """One requirement; each shape belongs to one group of a prompt only.

    Attributes:
        kind: The kind of requirement.
        shape: The shape, or `text`; empty for a background.
        value: A count, colour, size, texture, relation, or the letters of a text; empty for an object.
        target: The other shape of a relation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FactKind
    shape: str = ""
    value: str = ""
    target: str = ""


def read_scene(png: bytes) -> Scene:
    """Return the scene of an image of the built-in world. Blocking.

    Raises `InvalidImageError` if its metadata are missing or wrong, or another model generated it.
    """
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
            picture = opened.convert("RGB")
            made = _read_record(opened.info[METADATA_CHUNK])
    except (KeyError, ValueError, OSError, SyntaxError) as error:
        raise InvalidImageError(
            "The picture does not say what made it, so its scene is not known."
        ) from error
    if made["model"] != BLOCKS_MODEL:
        raise InvalidImageError(f"The picture was made by {made['model']}, whose scenes are not known.")
    drawn = render(made["final_prompt"], made["seed"], picture.width, picture.height)
    if not np.array_equal(np.asarray(drawn.image), np.asarray(picture)):
        raise InvalidImageError(
            "The picture is not what its prompt and seed draw, so its scene is not known."
        )
    return drawn.scene


def _read_record(text: str) -> Mapping[str, Any]:
    made = json.loads(text)
    if not isinstance(made["final_prompt"], str) or not isinstance(made["seed"], int):
        raise ValueError("prompt or seed is of another type")  # noqa: TRY004 - as any other unreadable chunk
    return {name: made[name] for name in ("final_prompt", "seed", "model")}


def shows_fact(scene: Scene, fact: Fact) -> bool:
    """Check by geometry and counting whether a scene meets a requirement."""
    return _FACT_CHECKS[fact.kind](scene, fact)


def _things_of(scene: Scene, shape: str) -> list[Thing]:
    return [thing for thing in scene.things if thing.noun == shape]


def _has_object(scene: Scene, fact: Fact) -> bool:
    return bool(_things_of(scene, fact.shape))


def _has_count(scene: Scene, fact: Fact) -> bool:
    return len(_things_of(scene, fact.shape)) == int(fact.value)


def _has_attribute(scene: Scene, fact: Fact) -> bool:
    """Whether there are such things and all of them have the attribute."""
    return _all_hold(
        [scene.attribute(thing, fact.kind) == fact.value for thing in _things_of(scene, fact.shape)]
    )


def _has_relation(scene: Scene, fact: Fact) -> bool:
    """Whether all subjects have the relation to all targets."""
    subjects, targets = _things_of(scene, fact.shape), _things_of(scene, fact.target)
    return _all_hold([scene.holds(subject, fact.value, target) for subject in subjects for target in targets])


def _has_text(scene: Scene, fact: Fact) -> bool:
    return any(thing.word == fact.value for thing in _things_of(scene, "text"))


def _has_background(scene: Scene, fact: Fact) -> bool:
    return scene.background == fact.value


def _all_hold(found: Sequence[bool]) -> bool:
    return bool(found) and all(found)


_FACT_CHECKS: Mapping[FactKind, Callable[[Scene, Fact], bool]] = {
    "object": _has_object,
    "count": _has_count,
    "colour": _has_attribute,
    "size": _has_attribute,
    "texture": _has_attribute,
    "relation": _has_relation,
    "text": _has_text,
    "background": _has_background,
}
