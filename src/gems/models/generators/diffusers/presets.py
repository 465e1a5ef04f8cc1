"""How to call the pipeline of a model, read without torch.

A recipe is what the pipeline's class says of itself (`classes`), what the model's files say, and, for what neither
tells, a table with its source. Presets are recipes with the name of a model on the Hugging Face Hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gems.errors import ModelFilesError, ModelSpecError
from gems.generation import GeneratorCapabilities
from gems.models.generators.diffusers.classes import PipelineClass, Task, find_class, find_tasks

DOWNLOAD_AGAIN = "Download the model again."
_LAYOUT = "Use a directory in Diffusers layout."
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
CLIP_TOKENS = 75
"""What CLIP reads: 77 tokens with its marks of beginning and end."""
_POOLED = ("prompt_embeds", "", "pooled_prompt_embeds")
_FAMILY = re.compile(r"Img2Img|Inpaint")
_FEW_STEPS = re.compile(r"turbo", re.IGNORECASE)
_MOST_REFERENCES = 9
_QWEN_SIDES = ((1664, 928), (1472, 1104), (1584, 1056))
_QWEN_SIZES = ((1328, 1328), *_QWEN_SIDES, *((height, width) for width, height in _QWEN_SIDES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to call a pipeline; steps and guidance are None for the pipeline's own default.

    Attributes:
        source: Directory or name on the Hub.
        pipeline: Class name of the pipeline; empty if unknown before loading.
        size: Default width and height in pixels.
        sizes: The only supported sizes; None for any multiple of `multiple` pixels.
        guidance_argument: The call's argument for the guidance scale; `guider` for the attribute of a component,
            empty for none.
        cfg_above: Negative prompts take effect if the guidance is above this; None for never.
        empty_negative: Replaces an empty negative prompt.
        embeddings: Names of the call's arguments for the results of `encode_prompt`, in order, empty for
            unused ones; those of a negative prompt have the prefix `negative_`. Empty if unknown: such a
            pipeline generates one image at a time and encodes every prompt itself.
        prompt_tokens: How many tokens of a prompt are read, as in `GeneratorCapabilities`.
        references: How many images it takes beside the one to edit.
        fixed: Further arguments of the call, where the class takes them.
        tasks: The class for each task; empty if unknown before loading.
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
    references: int = 0
    fixed: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[Task, PipelineClass] = field(default_factory=dict, repr=False)

    def heeds_negative(self, guidance: float | None) -> bool:
        """Whether a negative prompt takes effect at this guidance scale (None if unknown)."""
        return self.cfg_above is not None and (guidance is None or guidance > self.cfg_above)

    def capabilities(self, model: str, max_batch: int, price_usd: float | None) -> GeneratorCapabilities:
        """Convert to capabilities; `max_batch` is ignored if the pipeline cannot batch."""
        unknown, classes = not self.pipeline, self.tasks.values()
        return GeneratorCapabilities(
            model=model,
            default_size=self.size,
            sizes=self.sizes,
            size_multiple=self.multiple,
            min_side=self.multiple,
            negative_prompts=self.heeds_negative(self.guidance),
            # Requests are checked again once the class is known.
            editing=unknown or bool({"edit", "inpaint"} & self.tasks.keys()),
            inpainting=unknown or "inpaint" in self.tasks,
            references=_MOST_REFERENCES if unknown else self.references,
            strengths=unknown or any("strength" in each.parameters for each in classes),
            interruptible=bool(classes) and all(each.interruptible for each in classes),
            # Images of a batch are known to be independent if each prompt is encoded by itself.
            max_batch=max_batch if self.embeddings or unknown else 1,
            price_usd=price_usd,
            prompt_tokens=self.prompt_tokens,
        )


# Entries also hold for the Img2Img and Inpaint classes of their families.
# What neither signatures nor files tell: sizes, guidance that is not the signature's default, the order in which
# `encode_prompt` returns its results, how many references a model was trained for. Sources: Diffusers' documentation
# of each class and the model cards. Flux.1, Flux.2-dev and Kontext are distilled and know no negative prompt.
# Qwen-Image's schedule divides by zero with a single step.
_KLEIN: dict[str, Any] = {"embeddings": ("prompt_embeds",), "prompt_tokens": 512, "references": 3}
_QWEN: dict[str, Any] = {"min_steps": 2, "empty_negative": " ", "prompt_tokens": 512}
_FLUX: dict[str, Any] = {"embeddings": ("prompt_embeds", "pooled_prompt_embeds"), "prompt_tokens": 512}
_CLIP: dict[str, Any] = {"multiple": 8, "prompt_tokens": CLIP_TOKENS}
KNOWN: dict[str, dict[str, Any]] = {
    # A directory is treated as the Turbo model: the undistilled one has the same class and scheduler. The class
    # applies guidance above 0, all others above 1.
    "ZImagePipeline": {
        "steps": 8,
        "guidance": 0.0,
        "cfg_above": 0.0,
        "embeddings": ("prompt_embeds",),
        "prompt_tokens": 512,
    },
    "ZImageOmniPipeline": {"cfg_above": 0.0, "prompt_tokens": 512, "references": 3},
    "QwenImagePipeline": {**_QWEN, "size": (1328, 1328), "embeddings": ("prompt_embeds", "prompt_embeds_mask")},
    "QwenImageEditPipeline": {**_QWEN, "steps": 50},
    "QwenImageEditPlusPipeline": {**_QWEN, "steps": 40, "references": 2},
    "QwenImage21Pipeline": {"multiple": 32, "empty_negative": " ", "references": 9},
    "FluxPipeline": _FLUX,
    "FluxKontextPipeline": _FLUX,
    "FluxFillPipeline": _FLUX,
    "Flux2Pipeline": {"embeddings": ("prompt_embeds",), "prompt_tokens": 512, "references": 9},
    "Flux2KleinPipeline": _KLEIN,
    "Flux2KleinInpaintPipeline": {**_KLEIN, "guidance": 4.0, "references": 1},
    "Flux2KleinKVPipeline": _KLEIN,
    "StableDiffusionPipeline": {**_CLIP, "size": (512, 512), "embeddings": ("prompt_embeds",)},
    "StableDiffusionXLPipeline": {**_CLIP, "embeddings": _POOLED},
    "StableDiffusion3Pipeline": {"embeddings": _POOLED, "prompt_tokens": 256},
    "SanaPipeline": {"multiple": 32},
    "SanaSprintPipeline": {"multiple": 32},
    "HunyuanImagePipeline": {"size": (2048, 2048), "multiple": 64},
    # Its schedule of guidance has the default's number of steps: a constant fits any.
    "Ideogram4Pipeline": {"guidance": 7.0, "fixed": {"guidance_schedule": None}},
    # The prompt that is judged and remembered is the one that is drawn.
    "LongCatImagePipeline": {"fixed": {"enable_prompt_rewrite": False}},
    "ErnieImagePipeline": {"fixed": {"use_pe": False}},
}

# Steps and guidance of distilled models: those with `is_distilled` in model_index.json, and those called Turbo.
_DISTILLED: dict[str, dict[str, Any]] = {
    "Flux2KleinPipeline": {"steps": 4, "guidance_argument": "", "guidance": None, "cfg_above": None},
    "Krea2Pipeline": {"steps": 8, "guidance": 0.0},
}
_TURBO: dict[str, dict[str, Any]] = {
    "ZImagePipeline": {"steps": 8, "guidance": 0.0},
    "StableDiffusionPipeline": {"steps": 1, "guidance": 0.0},
    "StableDiffusionXLPipeline": {"steps": 1, "guidance": 0.0, "size": (512, 512)},
    "StableDiffusion3Pipeline": {"steps": 4, "guidance": 0.0},
    "Krea2Pipeline": _DISTILLED["Krea2Pipeline"],
    "ErnieImagePipeline": {"steps": 8, "guidance": 1.0},
}
_UNDISTILLED: dict[str, dict[str, Any]] = {
    # Z-Image, whose class is treated as Z-Image-Turbo unless the name on the Hub says otherwise.
    "tongyi-mai/z-image": {"steps": 50, "guidance": 4.0}
}

PRESETS: dict[str, dict[str, Any]] = {
    "z-image-turbo": {"pipeline": "ZImagePipeline", "source": "Tongyi-MAI/Z-Image-Turbo"},
    "z-image": {"pipeline": "ZImagePipeline", "source": "Tongyi-MAI/Z-Image"},
    "qwen-image": {"pipeline": "QwenImagePipeline", "source": "Qwen/Qwen-Image-2512", "sizes": _QWEN_SIZES},
    # The paper's call passes the guidance to an argument that this model ignores, and no negative prompt, so
    # that there is no classifier-free guidance.
    "qwen-image-paper": {
        "pipeline": "QwenImagePipeline",
        "source": "Qwen/Qwen-Image-2512",
        "sizes": _QWEN_SIZES,
        "guidance": 4.0,
        "guidance_argument": "guidance_scale",
        "cfg_above": None,
    },
    "qwen-image-edit": {"pipeline": "QwenImageEditPlusPipeline", "source": "Qwen/Qwen-Image-Edit-2511"},
    "qwen-image-2.1": {"pipeline": "QwenImage21Pipeline", "source": "Qwen/Qwen-Image-2.1"},
    "flux2-klein": {
        "pipeline": "Flux2KleinPipeline",
        "source": "black-forest-labs/FLUX.2-klein-4B",
        **_DISTILLED["Flux2KleinPipeline"],
    },
}


def recipe_for_class(pipeline: str, *, source: str = "", **other: Any) -> Recipe:
    """Return how to call a class: what `other` says, else the table, else the class's own signature."""
    known = find_class(pipeline)
    told: dict[str, Any] = {}
    if known is not None:
        argument, negative = known.guidance
        told |= {"guidance_argument": argument, "cfg_above": 1.0 if negative else None}
        told |= {"steps": known.default("num_inference_steps", int), "guidance": known.default(argument, float)}
        width, height = known.default("width", int), known.default("height", int)
        told |= {"size": (width, height)} if width and height else {}
        told |= {"prompt_tokens": known.default("max_sequence_length", int), "tasks": find_tasks(pipeline)}
    family = _FAMILY.sub("", pipeline)
    turbo = _TURBO.get(family, {}) if _FEW_STEPS.search(source.rpartition("/")[2]) else {}
    turbo = turbo or _UNDISTILLED.get(source.lower(), {})
    told |= KNOWN.get(pipeline, KNOWN.get(family, {})) | turbo | other
    return Recipe(**told, pipeline=pipeline, source=source)


def find_recipe(model: str) -> Recipe:
    """Return the recipe of a preset, a directory, or a name on the Hub (read from the local cache, if there).

    Raises `ModelFilesError` for a directory without a valid pipeline or of a class that cannot be used, and
    `ModelSpecError` for other names.
    """
    if model in PRESETS:
        return recipe_for_class(**PRESETS[model])
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
    return recipe_of_folder(Path(index).parent, source=model) if isinstance(index, str) else Recipe(source=model)


def recipe_of_folder(folder: Path, *, source: str = "") -> Recipe:
    """Return the recipe of a pipeline's directory, with `source` as the model's name.

    Raises `ModelFilesError` for custom code, and for a class that cannot be used, with the reason.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str):
        hint = "Models with custom code are not supported."
        raise ModelFilesError(f"The model in {folder} is not a pipeline of Diffusers.", hint=hint)
    known = find_class(name)
    if known is not None and known.refusal:
        hint = "Use a model that draws or edits images from a prompt."
        raise ModelFilesError(f"The model in {folder} cannot be used: {name} {known.refusal}.", hint=hint)
    family = _FAMILY.sub("", name)
    told = _DISTILLED.get(family, {}) if index.get("is_distilled") else {}
    told = {**told, **_read_guidance(folder, family)}
    size = _read_native_size(folder)
    recipe = recipe_for_class(name, source=source or str(folder), **told)
    return recipe if size is None else replace(recipe, size=size)


def _read_guidance(folder: Path, pipeline: str) -> dict[str, Any]:
    """Return what the configurations of the components say of steps and guidance."""
    path = folder / "transformer" / "config.json"
    transformer = read_json(path) if path.is_file() else {}
    if pipeline == "FluxPipeline":
        # FLUX.1-schnell: https://huggingface.co/black-forest-labs/FLUX.1-schnell
        schnell = {"steps": 4, "guidance_argument": "", "guidance": None}
        return schnell if transformer.get("guidance_embeds") is False else {}
    if pipeline == "HunyuanImagePipeline":
        if transformer.get("guidance_embeds"):
            known = find_class(pipeline)
            own = known.default("distilled_guidance_scale", float) if known is not None else None
            return {"steps": 8, "guidance_argument": "distilled_guidance_scale", "guidance": own, "cfg_above": None}
        path = folder / "guider" / "guider_config.json"
        guider = read_json(path) if path.is_file() else {}
        return {"guidance": guider.get("guidance_scale"), **({} if guider else {"guidance_argument": ""})}
    return {}


def component_folders(folder: Path) -> list[str]:
    """List the components that a pipeline's directory must contain."""
    index = read_json(folder / "model_index.json")
    return [
        name
        for name, origin in index.items()
        if isinstance(origin, list) and origin and all(isinstance(part, str) for part in origin)
    ]


def _read_native_size(folder: Path) -> tuple[int, int] | None:
    """Return width and height in pixels that the model was trained for, if its files say so."""
    paths = [folder / part / "config.json" for part in ("vae", "unet")]
    vae, unet = (read_json(path) if path.is_file() else {} for path in paths)
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


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a model's file; raises `ModelFilesError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFilesError(f"{path.parent} contains no {path.name}.", hint=_LAYOUT) from error
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{path} cannot be read: {error}.", hint=DOWNLOAD_AGAIN) from error
    if not isinstance(content, dict):
        raise ModelFilesError(f"{path} contains no JSON object.", hint=DOWNLOAD_AGAIN)
    return content
