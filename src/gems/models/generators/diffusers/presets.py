"""Known Diffusers models and their defaults, read without torch.

A recipe describes how to call a pipeline class. Presets are recipes with the name of a model on the Hugging
Face Hub; for directories the recipe is found by the class name in `model_index.json`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gems.errors import ModelFilesError, ModelSpecError
from gems.types import GeneratorCapabilities

DOWNLOAD_AGAIN = "Download the model again."
_LAYOUT = "Use a directory in Diffusers layout."
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
CLIP_TOKENS = 75
"""What CLIP reads: 77 tokens with its marks of beginning and end."""
_POOLED = ("prompt_embeds", "", "pooled_prompt_embeds")
_QWEN_SIDES = ((1664, 928), (1472, 1104), (1584, 1056))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to call a pipeline; steps and guidance are None for the pipeline's own default.

    Attributes:
        source: Directory or name on the Hub.
        pipeline: Class name of the pipeline; empty if unknown before loading.
        size: Default width and height in pixels.
        sizes: The only supported sizes; None for any multiple of `multiple` pixels.
        cfg_above: Negative prompts take effect if the guidance is above this; None for never.
        empty_negative: Replaces an empty negative prompt.
        embeddings: Names of the call's arguments for the results of `encode_prompt`, in order, empty for
            unused ones; those of a negative prompt have the prefix `negative_`. Empty if unknown: such a
            pipeline generates one image at a time and encodes every prompt itself.
        prompt_tokens: How many tokens of a prompt are read, as in `GeneratorCapabilities`.
    """

    source: str = ""
    pipeline: str = ""
    size: tuple[int, int] = (1024, 1024)
    sizes: tuple[tuple[int, int], ...] | None = None
    multiple: int = 16
    steps: int | None = None
    min_steps: int = 1
    guidance: float | None = None
    guidance_argument: str = "guidance_scale"
    cfg_above: float | None = 1.0
    empty_negative: str = ""
    embeddings: tuple[str, ...] = ()
    prompt_tokens: int | None = None

    def heeds_negative(self, guidance: float | None) -> bool:
        """Whether a negative prompt takes effect at this guidance scale (None if unknown)."""
        return self.cfg_above is not None and (guidance is None or guidance > self.cfg_above)

    def capabilities(self, model: str, max_batch: int, price_usd: float | None) -> GeneratorCapabilities:
        """Convert to capabilities; `max_batch` is ignored if the pipeline cannot batch."""
        return GeneratorCapabilities(
            model=model,
            default_size=self.size,
            sizes=self.sizes,
            size_multiple=self.multiple,
            min_side=self.multiple,
            negative_prompts=self.heeds_negative(self.guidance),
            # Images of a batch are known to be independent if each prompt is encoded by itself.
            max_batch=max_batch if self.embeddings or not self.pipeline else 1,
            price_usd=price_usd,
            prompt_tokens=self.prompt_tokens,
        )


# Z-Image applies guidance above 0, all others above 1; Flux models are distilled and ignore negative prompts.
# Qwen-Image's schedule divides by zero with a single step. A directory with Z-Image's class is treated as the
# Turbo model: the undistilled model has the same class and needs explicit steps and guidance.
FAMILIES: dict[str, Recipe] = {
    recipe.pipeline: recipe
    for recipe in (
        Recipe(
            pipeline="ZImagePipeline",
            steps=8,
            guidance=0.0,
            cfg_above=0.0,
            embeddings=("prompt_embeds",),
            prompt_tokens=512,
        ),
        Recipe(
            pipeline="QwenImagePipeline",
            size=(1328, 1328),
            steps=50,
            min_steps=2,
            guidance=4.0,
            guidance_argument="true_cfg_scale",
            empty_negative=" ",
            embeddings=("prompt_embeds", "prompt_embeds_mask"),
            prompt_tokens=512,
        ),
        Recipe(
            pipeline="FluxPipeline",
            steps=28,
            guidance=3.5,
            cfg_above=None,
            embeddings=("prompt_embeds", "pooled_prompt_embeds"),
            prompt_tokens=512,
        ),
        Recipe(pipeline="Flux2KleinPipeline", cfg_above=None, embeddings=("prompt_embeds",), prompt_tokens=512),
        Recipe(
            pipeline="StableDiffusionPipeline",
            size=(512, 512),
            multiple=8,
            steps=50,
            guidance=7.5,
            embeddings=("prompt_embeds",),
            prompt_tokens=CLIP_TOKENS,
        ),
        Recipe(
            pipeline="StableDiffusionXLPipeline",
            multiple=8,
            steps=50,
            guidance=5.0,
            embeddings=_POOLED,
            prompt_tokens=CLIP_TOKENS,
        ),
        Recipe(pipeline="StableDiffusion3Pipeline", steps=28, guidance=7.0, embeddings=_POOLED, prompt_tokens=256),
    )
}

_QWEN_IMAGE = replace(
    FAMILIES["QwenImagePipeline"],
    source="Qwen/Qwen-Image-2512",
    sizes=((1328, 1328), *_QWEN_SIDES, *((height, width) for width, height in _QWEN_SIDES)),
)

PRESETS: dict[str, Recipe] = {
    "z-image-turbo": replace(FAMILIES["ZImagePipeline"], source="Tongyi-MAI/Z-Image-Turbo"),
    "qwen-image": _QWEN_IMAGE,
    # The paper's call passes the guidance to an argument that this model ignores, and no negative prompt, so
    # that there is no classifier-free guidance.
    "qwen-image-paper": replace(_QWEN_IMAGE, guidance_argument="guidance_scale", cfg_above=None),
}


def find_recipe(model: str) -> Recipe:
    """Return the recipe of a preset, a directory, or a name on the Hub (read from the local cache, if there).

    Raises `ModelFilesError` for a directory without a valid pipeline, and `ModelSpecError` for other names.
    """
    if model in PRESETS:
        return PRESETS[model]
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        return recipe_of_folder(folder)
    if folder.is_absolute() or model[:1] in (".", "~") or model.count("/") > 1 or "\\" in model:
        what = "is a file, not a directory" if folder.is_file() else "does not exist"
        raise ModelFilesError(f"The model directory {model} {what}.", hint=_LAYOUT)
    if not _HUB_NAME.fullmatch(model):
        hint = f"Use one of {', '.join(PRESETS)}, a directory, or a Hub name such as OWNER/MODEL."
        raise ModelSpecError(f"Unknown Diffusers model: {model!r}.", hint=hint)
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - comes with the extra only

    index = try_to_load_from_cache(model, "model_index.json")
    known = recipe_of_folder(Path(index).parent) if isinstance(index, str) else Recipe()
    return replace(known, source=model)


def recipe_of_folder(folder: Path) -> Recipe:
    """Return the recipe of a pipeline's directory; raises `ModelFilesError`, also for custom code."""
    index = _read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str):
        hint = "Models with custom code are not supported."
        raise ModelFilesError(f"The model in {folder} is not a pipeline of Diffusers.", hint=hint)
    recipe = FAMILIES.get(name, Recipe(pipeline=name))
    if name == "Flux2KleinPipeline" and index.get("is_distilled") is False:
        recipe = replace(recipe, cfg_above=1.0)
    return replace(recipe, source=str(folder), size=_read_native_size(folder) or recipe.size)


def component_folders(folder: Path) -> list[str]:
    """List the components that a pipeline's directory must contain."""
    index = _read_json(folder / "model_index.json")
    return [
        name
        for name, origin in index.items()
        if isinstance(origin, list) and origin and all(isinstance(part, str) for part in origin)
    ]


def _read_native_size(folder: Path) -> tuple[int, int] | None:
    """Return width and height in pixels that the model was trained for, if its files say so."""
    paths = [folder / part / "config.json" for part in ("vae", "unet")]
    vae, unet = (_read_json(path) if path.is_file() else {} for path in paths)
    side: Any = vae.get("sample_size")
    if unet.get("sample_size"):
        # A UNet's size is in latents; the VAE scales it to pixels.
        per_latent = 2 ** (len(vae.get("block_out_channels", ())) - 1) if vae else 8
        side = unet["sample_size"]
        side = [each * per_latent for each in side] if isinstance(side, list) else side * per_latent
    if isinstance(side, list) and len(side) == 2:
        height, width = side
        return int(width), int(height)
    return (side, side) if isinstance(side, int) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFilesError(f"{path.parent} contains no {path.name}.", hint=_LAYOUT) from error
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{path} cannot be read: {error}.", hint=DOWNLOAD_AGAIN) from error
    if not isinstance(content, dict):
        raise ModelFilesError(f"{path} contains no JSON object.", hint=DOWNLOAD_AGAIN)
    return content
