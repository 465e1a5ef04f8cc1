"""Images as ComfyUI's tensors: `[B, H, W, C]` floats in 0 to 1; masks `[B, H, W]`, 1 where something is selected."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image


def encode_png(image: torch.Tensor) -> bytes:
    """Return one image `[H, W, C]` as PNG."""
    levels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    out = io.BytesIO()
    Image.fromarray(levels if levels.shape[-1] > 1 else levels[..., 0]).save(out, "PNG")
    return out.getvalue()


def decode_image(png: bytes) -> torch.Tensor:
    """Return a PNG as a batch of one image `[1, H, W, 3]`."""
    with Image.open(io.BytesIO(png)) as opened:
        levels = np.asarray(opened.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(levels / 255.0)[None]


def encode_mask(mask: torch.Tensor, size: tuple[int, int]) -> bytes | None:
    """Return the first mask of a batch `[B, H, W]` as PNG of `size`, height and width; None if it selects nothing.

    Nodes that load images without transparency put out an empty mask of another size.
    """
    first = mask[:1] if mask.ndim == 3 else mask[None]
    if not bool((first >= 0.5).any()):
        return None
    scaled = torch.nn.functional.interpolate(first[None].float(), size=size, mode="nearest")
    return encode_png((scaled[0, 0] >= 0.5).float()[..., None])


def draw_boxes(size: tuple[int, int], requirements: Iterable[Mapping[str, Any]]) -> torch.Tensor:
    """Return a mask `[H, W]` of what failed: the boxes of the answers "no", where the judge gave one.

    `size` is height and width in pixels; boxes are x1, y1, x2, y2 in thousandths.
    """
    height, width = size
    mask = torch.zeros(size, dtype=torch.float32)
    for item in requirements:
        if item["answer"] == "no" and item.get("box"):
            x1, y1, x2, y2 = item["box"]
            left, right = x1 * width // 1000, -(-x2 * width // 1000)
            top, bottom = y1 * height // 1000, -(-y2 * height // 1000)
            mask[top:bottom, left:right] = 1.0
    return mask
