"""Workflows in ComfyUI's API format, as people export them."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

Nodes = dict[str, dict[str, Any]]


def node(kind: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    """A node; links are lists of a node's id and the number of its output."""
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def text_to_image() -> Nodes:
    """ComfyUI's default workflow."""
    return {
        "3": node(
            "KSampler", model=["4", 0], seed=1, steps=4, cfg=7.0, sampler_name="euler", scheduler="normal",
            positive=["6", 0], negative=["7", 0], latent_image=["5", 0], denoise=1.0,
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="sdxl.safetensors"),
        "5": node("EmptyLatentImage", width=1024, height=768, batch_size=2),
        "6": node("CLIPTextEncode", text="a bottle", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="watermark", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    }  # fmt: skip


def flux() -> Nodes:
    """SamplerCustomAdvanced with a guider and the guidance of a distilled model."""
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="z_image_turbo.safetensors"),
        "2": node("CLIPTextEncode", text="a bottle", clip=["1", 1]),
        "3": node("FluxGuidance", conditioning=["2", 0], guidance=3.5),
        "4": node("BasicGuider", model=["1", 0], conditioning=["3", 0]),
        "5": node("RandomNoise", noise_seed=1),
        "6": node("BasicScheduler", model=["1", 0], scheduler="normal", steps=8, denoise=1.0),
        "7": node("KSamplerSelect", sampler_name="euler"),
        "8": node("EmptyLatentImage", width=["20", 0], height=512, batch_size=1),
        "9": node(
            "SamplerCustomAdvanced", noise=["5", 0], guider=["4", 0], sampler=["7", 0], sigmas=["6", 0],
            latent_image=["8", 0],
        ),
        "10": node("VAEDecode", samples=["9", 0], vae=["1", 2]),
        "11": node("PreviewImage", images=["10", 0]),
        "20": node("PrimitiveInt", value=768),
    }  # fmt: skip


def with_references() -> Nodes:
    """Draws from a text, and edits pictures that are shown to the text encoder (as FLUX.2 does)."""
    nodes = text_to_image()
    for number, below in (("1", "6"), ("2", "31")):
        nodes[f"1{number}"] = node("LoadImage", image="example.png")
        nodes[f"2{number}"] = node("VAEEncode", pixels=[f"1{number}", 0], vae=["4", 2])
        nodes[f"3{number}"] = node("ReferenceLatent", conditioning=[below, 0], latent=[f"2{number}", 0])
    nodes["3"]["inputs"]["positive"] = ["32", 0]
    return nodes


def inpainting() -> Nodes:
    """Draws the transparent part of a picture anew."""
    nodes = text_to_image()
    nodes["10"] = node("LoadImage", image="example.png")
    nodes["11"] = node("VAEEncode", pixels=["10", 0], vae=["4", 2])
    nodes["5"] = node("SetLatentNoiseMask", samples=["11", 0], mask=["10", 1])
    nodes["3"]["inputs"]["denoise"] = 0.8
    return nodes


def inpainting_with_mask() -> Nodes:
    """As `inpainting`, with a mask of its own and the conditioning of models for it."""
    nodes = inpainting()
    nodes["12"] = node("LoadImageMask", image="example.png", channel="red")
    nodes["5"] = node(
        "InpaintModelConditioning", positive=["6", 0], negative=["7", 0], vae=["4", 2], pixels=["10", 0],
        mask=["12", 0], noise_mask=True,
    )  # fmt: skip
    nodes["3"]["inputs"] |= {"positive": ["5", 0], "negative": ["5", 1], "latent_image": ["5", 2]}
    return nodes


def save(folder: Path, nodes: Any, name: str = "workflow.json") -> Path:
    """Write a workflow into a folder; its path."""
    path = folder / name
    path.write_text(json.dumps(deepcopy(nodes)))
    return path
