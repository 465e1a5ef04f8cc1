"""The built-in image model."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass

from PIL import Image

from gems.errors import EditingUnsupportedError
from gems.models.blocks import drawing, lettering
from gems.models.blocks.error_model import dice, sketched
from gems.models.blocks.layout import placed
from gems.models.blocks.prompt_spec import understand
from gems.models.blocks.scene import Scene
from gems.types import GeneratedImage, GeneratorCapabilities, ImageRequest


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture and the truth about it.

    Attributes:
        scene: What was really drawn, faults included.
        image: The pixels, `RGB`.
        faults: What went wrong, for example `relation 0`.
    """

    scene: Scene
    image: Image.Image
    faults: tuple[str, ...]


def imagine(prompt: str, seed: int, width: int, height: int) -> tuple[Scene, tuple[str, ...]]:
    """The scene that `render` draws, without drawing it."""
    sketch = sketched(understand(prompt), prompt, seed)
    for group in sketch.groups:
        group.word = lettering.writable(group.word)
    return placed(sketch, dice(prompt, seed, "layout"), width, height), tuple(sketch.faults)


def render(prompt: str, seed: int, width: int, height: int) -> Rendering:
    """Draw a prompt; the same four arguments always give the same pixels. Blocking.

    Args:
        prompt: Anything; what is not understood is not drawn.
        seed: Decides layout and faults.
        width: Pixels.
        height: Pixels.
    """
    if understand(prompt).empty:
        rng = dice(prompt, seed, "abstract")
        colour = rng.choice(("cyan", "blue", "purple", "pink", "orange", "green"))
        return Rendering(Scene(width, height, colour, ()), drawing.abstract(width, height, colour, rng), ())
    scene, faults = imagine(prompt, seed, width, height)
    return Rendering(scene, drawing.paint(scene), faults)


class BlocksGenerator:
    """Draws shapes as `gems.models.base.ImageGenerator`; needs no key, no GPU and no download."""

    def __init__(self) -> None:
        self._capabilities = GeneratorCapabilities(
            model="blocks",
            default_size=(512, 512),
            min_side=128,
            max_side=2048,
            negative_prompts=False,
            max_batch=1,
            price_usd=0.0,
        )

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """What it can do."""
        return self._capabilities

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Draw one image.

        Raises:
            SizeError: a side is not within 128 to 2048 pixels.
            EditingUnsupportedError: the request carries a source image.
        """
        self._capabilities.check_size(request.width, request.height)
        if request.source is not None:
            raise EditingUnsupportedError("The built-in world draws from nothing and cannot edit an image.")
        started = time.perf_counter()
        data = await asyncio.to_thread(_png, request)
        if request.on_progress is not None:
            request.on_progress(1, 1)
        return GeneratedImage(
            data=data,
            width=request.width,
            height=request.height,
            seed=request.seed,
            model=self._capabilities.model,
            parameters={},
            seconds=time.perf_counter() - started,
        )

    async def aclose(self) -> None:
        """Nothing is held, so nothing is let go."""


def _png(request: ImageRequest) -> bytes:
    drawn = render(request.prompt, request.seed, request.width, request.height)
    buffer = io.BytesIO()
    drawn.image.save(buffer, "PNG")
    return buffer.getvalue()
