"""Nodes of the ComfyUI server for tests: inputs and types as ComfyUI declares them, with pictures by simple rules."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image, ImageChops

from tests.support.stub.models import flat_picture

Steps = Callable[[int, int], None]


class Text(NamedTuple):
    """Conditioning: what a text encoder says, and the pictures that it was shown."""

    words: str
    pictures: tuple[Image.Image, ...] = ()


class Latent(NamedTuple):
    """A latent image: its size, and the picture and the mask that it was made from."""

    size: tuple[int, int]
    picture: Image.Image | None = None
    mask: Image.Image | None = None


@dataclass(frozen=True)
class NodeClass:
    """A class of nodes: its inputs by name, the types of its outputs, and what it does with its inputs."""

    required: Mapping[str, Any]
    outputs: tuple[str, ...]
    run: Callable[..., Any]
    optional: Mapping[str, Any]
    is_output: bool = False

    def declared(self) -> dict[str, Any]:
        return {**self.required, **self.optional}


def paint(what: str, size: tuple[int, int]) -> Image.Image:
    """A picture of one colour that `what` decides."""
    from gems.generation import ImageRequest

    data = flat_picture(ImageRequest(prompt=what, seed=0, width=size[0], height=size[1]))
    return Image.open(io.BytesIO(data)).convert("RGB")


def _sample(positive: Text, negative: Text, latent: Latent, settings: dict[str, Any], denoise: float) -> Latent:
    negative_words = negative.words if settings.get("cfg", 7) != 1 else ""
    said = json.dumps([positive.words, negative_words, settings], sort_keys=True)
    for picture in positive.pictures[1:]:
        said += hashlib.sha256(picture.tobytes()).hexdigest()
    drawn = paint(said, latent.size)
    if positive.pictures:
        below = positive.pictures[0].resize(drawn.size)
        half = (0, 0, drawn.width, drawn.height // 2)
        below.paste(drawn.crop(half), half)
        drawn = below
    if latent.picture is not None:
        drawn = Image.blend(latent.picture, drawn, denoise)
        if latent.mask is not None:
            drawn = Image.composite(drawn, latent.picture, latent.mask)
    return Latent(latent.size, drawn)


def _ksampler(**i: Any) -> Latent:
    settings = {name: i[name] for name in ("model", "seed", "steps", "cfg", "sampler_name", "scheduler")}
    return _sample(i["positive"], i["negative"], i["latent_image"], settings, i["denoise"])


def _sampler_custom(**i: Any) -> Latent:
    guider, sigmas = i["guider"], i["sigmas"]
    settings = {"noise": i["noise"], "guider": guider["settings"], "steps": sigmas["steps"]}
    return _sample(guider["positive"], guider["negative"], i["latent_image"], settings, sigmas["denoise"])


def _latent_of(picture: Image.Image) -> Latent:
    size = (picture.width // 8 * 8, picture.height // 8 * 8)
    return Latent(size, picture.crop((0, 0, *size)))


def _kind(required: Mapping[str, Any], outputs: str, run: Callable[..., Any], **optional: Any) -> NodeClass:
    return NodeClass(required, tuple(outputs.split()), run, optional)


INT, FLOAT, STRING = ["INT", {"min": 0, "max": 2**64 - 1}], ["FLOAT", {"min": 0.0, "max": 100.0}], ["STRING", {}]
SIDE, BATCH = ["INT", {"min": 16, "max": 16384, "step": 8}], ["INT", {"min": 1, "max": 4096}]
STEPS, DENOISE = ["INT", {"min": 1, "max": 10000}], ["FLOAT", {"min": 0.0, "max": 1.0}]
FILE = [["example.png"], {"image_upload": True}]
SAMPLERS, SCHEDULERS = ["euler", "dpmpp_2m"], ["normal", "karras"]
CHECKPOINTS = ["sdxl.safetensors", "z_image_turbo.safetensors"]
_LATENT = {"width": SIDE, "height": SIDE, "batch_size": BATCH}

CLASSES: dict[str, NodeClass] = {
    "CheckpointLoaderSimple": _kind(
        {"ckpt_name": [CHECKPOINTS, {}]}, "MODEL CLIP VAE", lambda ckpt_name: (ckpt_name, ckpt_name, ckpt_name)
    ),
    "CLIPTextEncode": _kind({"text": STRING, "clip": ["CLIP"]}, "CONDITIONING", lambda text, clip: (Text(text),)),
    "CLIPTextEncodeFlux": _kind(
        {"clip": ["CLIP"], "clip_l": STRING, "t5xxl": STRING, "guidance": FLOAT},
        "CONDITIONING",
        lambda clip, clip_l, t5xxl, guidance: (Text(f"{clip_l}|{t5xxl}|{guidance}"),),
    ),
    "FluxGuidance": _kind(
        {"conditioning": ["CONDITIONING"], "guidance": FLOAT},
        "CONDITIONING",
        lambda conditioning, guidance: (conditioning._replace(words=f"{conditioning.words} @{guidance}"),),
    ),
    "ConditioningZeroOut": _kind({"conditioning": ["CONDITIONING"]}, "CONDITIONING", lambda conditioning: (Text(""),)),
    "ConditioningCombine": _kind(
        {"conditioning_1": ["CONDITIONING"], "conditioning_2": ["CONDITIONING"]},
        "CONDITIONING",
        lambda conditioning_1, conditioning_2: (Text(f"{conditioning_1.words}&{conditioning_2.words}"),),
    ),
    "ReferenceLatent": _kind(
        {"conditioning": ["CONDITIONING"]},
        "CONDITIONING",
        lambda conditioning, latent=None: (
            conditioning if latent is None else Text(conditioning.words, (*conditioning.pictures, latent.picture)),
        ),
        latent=["LATENT"],
    ),
    "InpaintModelConditioning": _kind(
        {"positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "vae": ["VAE"], "pixels": ["IMAGE"],
         "mask": ["MASK"], "noise_mask": ["BOOLEAN", {}]},
        "CONDITIONING CONDITIONING LATENT",
        lambda positive, negative, vae, pixels, mask, noise_mask: (
            positive, negative, _latent_of(pixels)._replace(mask=mask.resize(pixels.size))
        ),
    ),
    "EmptyLatentImage": _kind(
        _LATENT, "LATENT", lambda width, height, batch_size: (Latent((width // 8 * 8, height // 8 * 8)),)
    ),
    "VAEEncode": _kind({"pixels": ["IMAGE"], "vae": ["VAE"]}, "LATENT", lambda pixels, vae: (_latent_of(pixels),)),
    "SetLatentNoiseMask": _kind(
        {"samples": ["LATENT"], "mask": ["MASK"]},
        "LATENT",
        lambda samples, mask: (samples._replace(mask=mask.resize(samples.size)),),
    ),
    "VAEDecode": _kind({"samples": ["LATENT"], "vae": ["VAE"]}, "IMAGE", lambda samples, vae: (samples.picture,)),
    "ImageScale": _kind(
        {"image": ["IMAGE"], "upscale_method": [["lanczos"], {}], "width": SIDE, "height": SIDE,
         "crop": [["disabled", "center"], {}]},
        "IMAGE",
        lambda image, upscale_method, width, height, crop: (image.resize((width, height)),),
    ),
    "KSampler": _kind(
        {"model": ["MODEL"], "seed": INT, "steps": STEPS, "cfg": FLOAT, "sampler_name": [SAMPLERS, {}],
         "scheduler": [SCHEDULERS, {}], "positive": ["CONDITIONING"], "negative": ["CONDITIONING"],
         "latent_image": ["LATENT"], "denoise": DENOISE},
        "LATENT",
        lambda **inputs: (_ksampler(**inputs),),
    ),
    "KSamplerSelect": _kind({"sampler_name": [SAMPLERS, {}]}, "SAMPLER", lambda sampler_name: (sampler_name,)),
    "RandomNoise": _kind({"noise_seed": INT}, "NOISE", lambda noise_seed: (noise_seed,)),
    "BasicScheduler": _kind(
        {"model": ["MODEL"], "scheduler": ["COMBO", {"options": SCHEDULERS}], "steps": STEPS, "denoise": DENOISE},
        "SIGMAS",
        lambda model, scheduler, steps, denoise: ({"steps": steps, "denoise": denoise},),
    ),
    "BasicGuider": _kind(
        {"model": ["MODEL"], "conditioning": ["CONDITIONING"]},
        "GUIDER",
        lambda model, conditioning: ({"positive": conditioning, "negative": Text(""), "settings": {"model": model}},),
    ),
    "CFGGuider": _kind(
        {"model": ["MODEL"], "positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "cfg": FLOAT},
        "GUIDER",
        lambda model, positive, negative, cfg: (
            {"positive": positive, "negative": negative, "settings": {"model": model, "cfg": cfg}},
        ),
    ),
    "SamplerCustomAdvanced": _kind(
        {"noise": ["NOISE"], "guider": ["GUIDER"], "sampler": ["SAMPLER"], "sigmas": ["SIGMAS"],
         "latent_image": ["LATENT"]},
        "LATENT LATENT",
        lambda **inputs: (_sampler_custom(**inputs),) * 2,
    ),
    "PrimitiveString": _kind({"value": STRING}, "STRING", lambda value: (value,)),
    "StringConcatenate": _kind(
        {"string_a": STRING, "string_b": STRING, "delimiter": STRING},
        "STRING",
        lambda string_a, string_b, delimiter: (f"{string_a}{delimiter}{string_b}",),
    ),
    "PrimitiveInt": _kind({"value": INT}, "INT", lambda value: (value,)),
    "LoadImage": _kind({"image": FILE}, "IMAGE MASK", lambda image: (image.convert("RGB"), mask_of(image, "alpha"))),
    "LoadImageMask": _kind(
        {"image": FILE, "channel": [["alpha", "red", "green", "blue"], {}]},
        "MASK",
        lambda image, channel: (mask_of(image, channel),),
    ),
    "SaveImage": NodeClass({"images": ["IMAGE"], "filename_prefix": STRING}, (), lambda **inputs: (), {}, True),
    "PreviewImage": NodeClass({"images": ["IMAGE"]}, (), lambda **inputs: (), {}, True),
}  # fmt: skip


def mask_of(image: Image.Image, channel: str) -> Image.Image:
    """What is transparent, or a channel; a small black mask for images without transparency."""
    if channel != "alpha":
        return image.convert("RGB").getchannel(channel[0].upper())
    return ImageChops.invert(image.getchannel("A")) if "A" in image.getbands() else Image.new("L", (64, 64), 0)
