"""What image generators are asked for and what they return."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gems.errors import SizeError

if TYPE_CHECKING:
    from PIL.Image import Image

SEEDS = 2**32
"""Seeds of images are below this; those that are drawn or derived are below `COMMON_SEEDS`."""
COMMON_SEEDS = 2**31
"""Some servers accept no larger seeds."""

Progress = Callable[[int, int], None]
"""Called with (inference steps done, total steps)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One image to generate.

    Attributes:
        prompt: What to generate.
        seed: In [0, SEEDS); there is no default, since an image must be reproducible.
        width: Pixels.
        height: Pixels.
        negative_prompt: What to avoid; empty for nothing.
        steps: Inference steps; None for the generator's default.
        guidance: Guidance scale; None for the generator's default.
        source: PNG bytes of an image to edit, if any.
        mask: PNG bytes of the size of the image; only where it is white is the source changed. None: everywhere.
        references: PNG bytes of further images that the prompt refers to.
        strength: How much of the source is drawn anew, above 0 to 1; None for the generator's default.
        alone: Generate it in a batch of its own. Not part of the request's identity: a batch only changes
            floating-point noise.
        on_progress: Called after inference steps, on any thread. Not part of the request's identity.
    """

    prompt: str
    seed: int
    width: int
    height: int
    negative_prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    source: bytes | None = None
    mask: bytes | None = None
    references: tuple[bytes, ...] = ()
    strength: float | None = None
    alone: bool = field(default=False, compare=False)
    on_progress: Progress | None = field(default=None, compare=False, repr=False)

    def fingerprint(self, model: str) -> str:
        """Return the SHA-256 of everything that decides the pixels, including the model."""
        identity = [
            model,
            self.prompt,
            self.seed,
            self.width,
            self.height,
            self.negative_prompt,
            self.steps,
            self.guidance,
            hashlib.sha256(self.source).hexdigest() if self.source is not None else None,
        ]
        if self.mask is not None or self.references or self.strength is not None:
            images = (self.mask or b"", *self.references)
            identity += [[hashlib.sha256(image).hexdigest() for image in images], self.strength]
        return hashlib.sha256(json.dumps(identity, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedImage:
    """One generated image and what was used to generate it.

    Attributes:
        data: PNG bytes, opened and verified.
        width: Pixels.
        height: Pixels.
        seed: The seed that was used; None if the generator takes none.
        model: The model that generated it.
        parameters: JSON-native; steps, guidance, revised prompt and whatever else decided the pixels.
        seconds: Wall time of the generation.
        warnings: What the user should know about it, as sentences.
        pixels: The image as it was opened for verification, if it was, so that it need not be opened again.
    """

    data: bytes = field(repr=False)
    width: int
    height: int
    seed: int | None
    model: str
    parameters: dict[str, Any]
    seconds: float
    warnings: tuple[str, ...] = ()
    pixels: Image | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorCapabilities:
    """Capabilities of an image generator.

    Attributes:
        model: Name for records, for example `diffusers:z-image-turbo`.
        default_size: Width and height in pixels if the user sets no size.
        sizes: The only supported sizes; None for any within the limits below.
        size_multiple: Width and height must be multiples of this.
        min_side: Smallest width or height in pixels.
        max_side: Largest width or height in pixels.
        min_pixels: Fewest pixels of an image, width times height.
        max_pixels: Most pixels of an image.
        seeds: Whether a seed decides the pixels.
        negative_prompts: Whether negative prompts are supported.
        editing: Whether a request may have a source image.
        inpainting: Whether it draws with a mask; else the whole source is edited, and the mask applied afterwards.
        references: How many further images a request may have.
        strengths: Whether a request may say how much of the source is drawn anew.
        interruptible: Whether steps are reported and a cancelled generation stops at the next one.
        max_batch: How many waiting requests it may generate in one batch.
        price_usd: US dollars per image; None if not known.
        prompt_tokens: How many tokens of a prompt its text encoder reads, without marks of beginning and end; it
            ignores the rest. None if not known.
    """

    model: str
    default_size: tuple[int, int]
    sizes: tuple[tuple[int, int], ...] | None = None
    size_multiple: int = 1
    min_side: int = 1
    max_side: int = 8192
    min_pixels: int = 1
    max_pixels: int = 8192 * 8192
    seeds: bool = True
    negative_prompts: bool = True
    editing: bool = False
    inpainting: bool = False
    references: int = 0
    strengths: bool = False
    interruptible: bool = False
    max_batch: int = 1
    price_usd: float | None = None
    prompt_tokens: int | None = None

    def check_size(self, width: int, height: int) -> None:
        """Raise SizeError if the generator does not support `width` x `height` pixels."""
        message = f"{self.model} does not support {width}x{height}"
        if self.sizes is not None and (width, height) not in self.sizes:
            known = ", ".join(f"{w}x{h}" for w, h in self.sizes)
            raise SizeError(f"{message}.", hint=f"Choose one of: {known}.")
        for side in (width, height):
            if not self.min_side <= side <= self.max_side:
                raise SizeError(
                    f"{message}: each side must be {self.min_side} to {self.max_side} pixels.",
                    hint=f"The default is {self.default_size[0]}x{self.default_size[1]}.",
                )
        if not self.min_pixels <= width * height <= self.max_pixels:
            raise SizeError(
                f"{message}: an image has {self.min_pixels:,} to {self.max_pixels:,} pixels in all.",
                hint=f"The default is {self.default_size[0]}x{self.default_size[1]}.",
            )
        if width % self.size_multiple or height % self.size_multiple:
            raise SizeError(
                f"{message}: width and height must be multiples of {self.size_multiple}.",
                hint=f"The nearest size is {self._nearest(width)}x{self._nearest(height)}.",
            )

    def _nearest(self, side: int) -> int:
        """Return the nearest multiple within the limits."""
        least, most = -(-self.min_side // self.size_multiple), self.max_side // self.size_multiple
        return min(max(round(side / self.size_multiple), least), most) * self.size_multiple


def editing_size(width: int, height: int, generator: GeneratorCapabilities) -> str | None:
    """Return the default size for editing an image: its own, or None if the generator does not support it."""
    try:
        generator.check_size(width, height)
    except SizeError:
        return None
    return f"{width}x{height}"


def nearest_size(width: int, height: int, generator: GeneratorCapabilities) -> tuple[int, int]:
    """Return the size in pixels that the generator supports and that is most like the given one."""
    width, height = max(width, 1), max(height, 1)
    if generator.sizes is not None:
        return min(generator.sizes, key=lambda other: _size_distance(other, (width, height)))
    return _scale_into_limits(width, height, generator)


def _scale_into_limits(width: int, height: int, generator: GeneratorCapabilities) -> tuple[int, int]:
    """Scale a size into the limits, keeping its aspect ratio if possible, and round it."""
    fewest, most_pixels = (
        math.sqrt(limit / (width * height)) for limit in (generator.min_pixels, generator.max_pixels)
    )
    scale = min(1.0, generator.max_side / max(width, height), most_pixels)
    scale = max(scale, generator.min_side / min(width, height), fewest)
    step = generator.size_multiple
    least, most = -(-generator.min_side // step), generator.max_side // step

    def scaled(rounded: Callable[[float], int]) -> tuple[int, int]:
        sides = (min(max(rounded(side * scale / step), least), most) * step for side in (width, height))
        return next(sides), next(sides)

    # Rounded to the nearest multiple, an image could have too few or too many pixels.
    sizes = (scaled(rounded) for rounded in (round, math.ceil, math.floor))
    fitting = (size for size in sizes if generator.min_pixels <= size[0] * size[1] <= generator.max_pixels)
    # Very wide and very high images have none.
    return next(fitting, generator.default_size)


def _size_distance(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """Return the distance of two sizes: first by aspect ratio, then by area."""
    shape = abs(math.log(one[0] / one[1]) - math.log(other[0] / other[1]))
    area = abs(math.log(one[0] * one[1]) - math.log(other[0] * other[1]))
    return round(shape, 3), area
