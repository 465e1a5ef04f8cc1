"""The built-in image model."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from PIL import Image

from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.models.blocks import rendering
from gems.models.blocks.detection import Detector
from gems.models.blocks.editor import Edit, edit_picture
from gems.models.blocks.error_model import DEFAULT_EDITOR, EDITORS, EditorRates, make_sketch, seeded_random
from gems.models.blocks.layout import place_groups
from gems.models.blocks.prompt_spec import explain_limits, parse_prompt
from gems.models.blocks.scene import Scene
from gems.models.images import encode_png
from gems.models.masks import check_edit, keep_outside


@dataclass(frozen=True, slots=True)
class Rendering:
    """An `RGB` image, the scene drawn in it, and its faults, e.g. `relation 0`."""

    scene: Scene
    image: Image.Image
    faults: tuple[str, ...]


def compose_scene(prompt: str, seed: int, width: int, height: int) -> tuple[Scene, tuple[str, ...]]:
    """Return the scene that `render` would draw, and its faults."""
    sketch = make_sketch(parse_prompt(prompt), prompt, seed)
    for group in sketch.groups:
        group.word = rendering.keep_writable(group.word)
    return place_groups(sketch, seeded_random(prompt, seed, "layout"), width, height), tuple(sketch.faults)


def render(prompt: str, seed: int, width: int, height: int) -> Rendering:
    """Draw a prompt; the same arguments always give the same pixels. Blocking.

    Parts of the prompt that are not understood are not drawn; the seed decides layout and faults.
    """
    if parse_prompt(prompt).empty:
        rng = seeded_random(prompt, seed, "abstract")
        colour = rng.choice(("cyan", "blue", "purple", "pink", "orange", "green"))
        return Rendering(Scene(width, height, colour, ()), rendering.paint_abstract(width, height, colour, rng), ())
    scene, faults = compose_scene(prompt, seed, width, height)
    return Rendering(scene, rendering.paint_scene(scene), faults)


class BlocksGenerator:
    """The built-in `ImageGenerator`, which draws and edits shapes without a key, GPU or download.

    `editor` names one of `error_model.EDITORS`: how well it edits.
    """

    def __init__(self, editor: str = DEFAULT_EDITOR, rates: EditorRates | None = None) -> None:
        self._editor = editor
        self._rates = rates or EDITORS[editor]
        self._detector = Detector()
        self._capabilities = GeneratorCapabilities(
            model="blocks" if editor == DEFAULT_EDITOR else f"blocks:{editor}",
            default_size=(512, 512),
            min_side=128,
            max_side=2048,
            negative_prompts=False,
            editing=True,
            inpainting=True,
            max_batch=1,
            price_usd=0.0,
        )

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """Capabilities of this generator."""
        return self._capabilities

    def explain_limits(self, prompt: str) -> str:
        """Say what of a prompt is not drawn; empty for nothing."""
        return explain_limits(prompt)

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Draw or edit one image with sides of 128 to 2048 pixels."""
        self._capabilities.check_size(request.width, request.height)
        await asyncio.to_thread(check_edit, request, self._capabilities)
        image = await asyncio.to_thread(self._draw, request)
        if request.on_progress is not None:
            request.on_progress(1, 1)
        return image

    async def aclose(self) -> None:
        """Do nothing: there are no resources to release."""

    def _draw(self, request: ImageRequest) -> GeneratedImage:
        started = time.perf_counter()
        if request.source is None:
            made = Edit(render(request.prompt, request.seed, request.width, request.height).image)
        else:
            made = edit_picture(request, self._rates, self._detector)
        image = GeneratedImage(
            data=encode_png(made.image),
            width=request.width,
            height=request.height,
            seed=request.seed,
            model=self._capabilities.model,
            parameters={} if request.source is None else {"editor": self._editor},
            seconds=time.perf_counter() - started,
            warnings=made.warnings,
            pixels=made.image,
        )
        return keep_outside(image, request)
