"""Further Diffusers pipelines at toy sizes, made as in `tiny_pipelines`: those that see images, and those not batched.

Processors of images and text cannot be loaded without torchvision, which comes with another torch. `PictureProcessor`
stands in for them, with transformers' own processor of images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_pipelines
from tests.support.tiny_pipelines import make_autoencoder, make_qwen_encoder, qwen_tokenizer, settle

_PAD = "<|image_pad|>"


class PictureProcessor:
    """What `Qwen2VLProcessor` and `Qwen3VLProcessor` do with images and text, without videos."""

    def __init__(self, tokenizer: Any, patch_size: int = 14) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self.tokenizer = tokenizer
        self.image_processor = Qwen2VLImageProcessorPil(
            patch_size=patch_size, size={"shortest_edge": 28 * 28, "longest_edge": 64 * 64}
        )

    def __call__(self, text: list[str], images: Any = None, **options: Any) -> Any:
        from transformers import BatchFeature

        seen: dict[str, Any] = {}
        if images is not None:
            seen = dict(self.image_processor(images=images, return_tensors="pt"))
            merged = self.image_processor.merge_size**2
            counts = iter(int(grid.prod()) // merged for grid in seen["image_grid_thw"])
            text = [self._expand(each, counts) for each in text]
        options.pop("padding_side", None)
        read = self.tokenizer(text, **options)
        pad = self.tokenizer.convert_tokens_to_ids(_PAD)
        return BatchFeature({**read, **seen, "mm_token_type_ids": (read["input_ids"] == pad).long()})

    @staticmethod
    def _expand(text: str, counts: Iterator[int]) -> str:
        first, *rest = text.split(_PAD)
        return first + "".join(_PAD * next(counts) + part for part in rest)

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        plain = [{**each, "content": "".join(part["text"] for part in each["content"])} for each in messages]
        return [self.tokenizer.apply_chat_template(plain, **options)]

    def save_pretrained(self, folder: str, **_options: Any) -> None:
        self.tokenizer.save_pretrained(folder)
        (Path(folder) / "patch.json").write_text(str(self.image_processor.patch_size))

    @classmethod
    def from_pretrained(cls, folder: str, **_options: Any) -> PictureProcessor:
        from transformers import Qwen2Tokenizer

        return cls(Qwen2Tokenizer.from_pretrained(folder), int((Path(folder) / "patch.json").read_text()))


@contextmanager
def loadable(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load `PictureProcessor` in place of transformers' processors, and see images at 64x64 pixels."""
    import transformers
    from diffusers.pipelines.flux import pipeline_flux_kontext, pipeline_flux_kontext_inpaint
    from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit
    from diffusers.pipelines.qwenimage import (
        pipeline_qwenimage_edit,
        pipeline_qwenimage_edit_inpaint,
        pipeline_qwenimage_edit_plus,
    )
    from diffusers.pipelines.qwenimage21 import pipeline_qwenimage21

    for name in ("Qwen2VLProcessor", "Qwen3VLProcessor"):
        patch.setattr(getattr(transformers, name), "from_pretrained", PictureProcessor.from_pretrained)
    for module in (
        pipeline_longcat_image_edit,
        pipeline_qwenimage_edit,
        pipeline_qwenimage_edit_inpaint,
        pipeline_qwenimage_edit_plus,
        pipeline_qwenimage21,
    ):
        patch.setattr(module, "calculate_dimensions", _shrunk(module.calculate_dimensions))
    for module in (pipeline_flux_kontext, pipeline_flux_kontext_inpaint):
        patch.setattr(module, "PREFERRED_KONTEXT_RESOLUTIONS", [(64, 64)])
    yield


def _shrunk(original: Callable[[int, float], Any]) -> Callable[[int, float], Any]:
    """Models see images at about a megapixel, which is slow on a CPU at any width of layers."""
    return lambda _area, ratio: original(64 * 64, ratio)


def _edit(name: str) -> Any:
    import diffusers

    base = tiny_pipelines.qwen_image()
    parts = {**base.components, "processor": PictureProcessor(base.tokenizer)}
    return getattr(diffusers, name)(**parts)


def qwen_image_edit() -> Any:
    """`QwenImageEditPipeline`."""
    return _edit("QwenImageEditPipeline")


def qwen_image_edit_plus() -> Any:
    """`QwenImageEditPlusPipeline`."""
    return _edit("QwenImageEditPlusPipeline")


def qwen_image_21() -> Any:
    """`QwenImage21Pipeline`: its VAE scales by 16, so that sizes are multiples of 32."""
    import torch
    from diffusers import (
        AutoencoderKLQwenImage21,
        FlowMatchEulerDiscreteScheduler,
        QwenImage21Pipeline,
        QwenImage21Transformer2DModel,
    )
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    text = {
        "hidden_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 272,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 32,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    }
    marks = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{mark}|>")
        for name, mark in (
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
            ("image", "image_pad"),
            ("video", "video_pad"),
        )
    }
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **marks)
    transformer = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    vae = AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return QwenImage21Pipeline(
        transformer=settle(transformer),
        vae=settle(vae),
        text_encoder=settle(Qwen3VLForConditionalGeneration(config)),
        processor=PictureProcessor(tokenizer, patch_size=16),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def flux_kontext() -> Any:
    """`FluxKontextPipeline`."""
    from diffusers import FluxKontextPipeline

    return FluxKontextPipeline(**tiny_pipelines.flux().components)


def flux_fill() -> Any:
    """`FluxFillPipeline`: its transformer reads the mask and the masked image, too."""
    from diffusers import FluxFillPipeline, FluxTransformer2DModel

    base = tiny_pipelines.flux()
    config = {name: value for name, value in base.transformer.config.items() if not name.startswith("_")}
    config |= {"in_channels": 2 * 16 + 4 * 64, "out_channels": 16}
    parts = {name: part for name, part in base.components.items() if name not in ("image_encoder", "feature_extractor")}
    parts["transformer"] = settle(FluxTransformer2DModel(**config))
    return FluxFillPipeline(**parts)


def flux2() -> Any:
    """`Flux2Pipeline`."""
    import torch
    from diffusers import Flux2Pipeline, Flux2Transformer2DModel
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    base = tiny_pipelines.flux2_klein()
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{% for part in message['content'] %}{{ part['text'] }}{% endfor %}"
        "<|im_end|>\n{% endfor %}"
    )
    text = {
        "model_type": "mistral",
        "vocab_size": 272,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_hidden_layers": 31,  # The pipeline reads the 10th, 20th and 30th.
        "head_dim": 8,
        "max_position_embeddings": 1024,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "image_size": 32,
        "patch_size": 8,
        "head_dim": 8,
    }
    torch.manual_seed(0)
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=1)
    transformer = Flux2Transformer2DModel.from_config({**base.transformer.config, "guidance_embeds": True})
    return Flux2Pipeline(
        transformer=settle(transformer),
        vae=base.vae,
        text_encoder=settle(Mistral3ForConditionalGeneration(config)),
        tokenizer=tokenizer,
        scheduler=base.scheduler,
    )


def flux2_klein_kv() -> Any:
    """`Flux2KleinKVPipeline`, which takes no guidance."""
    from diffusers import Flux2KleinKVPipeline

    return Flux2KleinKVPipeline(**tiny_pipelines.flux2_klein().components)


def sana() -> Any:
    """`SanaPipeline`: it draws at 512x512 pixels and scales to the size that was asked for."""
    import torch
    from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=16,
    )
    stages = 6
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * stages,
        decoder_block_types=("ResBlock",) * stages,
        encoder_block_out_channels=(8,) * stages,
        decoder_block_out_channels=(8,) * stages,
        encoder_qkv_multiscales=((),) * stages,
        decoder_qkv_multiscales=((),) * stages,
        encoder_layers_per_block=(1,) * stages,
        decoder_layers_per_block=(1,) * stages,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    reader = Gemma2Config(
        vocab_size=272,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=2048,
    )
    return SanaPipeline(
        tokenizer=qwen_tokenizer(),
        text_encoder=settle(Gemma2Model(reader)),
        vae=settle(vae),
        transformer=settle(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _longcat(name: str) -> Any:
    import diffusers
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, LongCatImageTransformer2DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = LongCatImageTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 6, 6],
    )
    return getattr(diffusers, name)(
        transformer=settle(transformer),
        vae=make_autoencoder(16, (8, 8, 8, 8), use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=make_qwen_encoder(tokenizer),
        tokenizer=tokenizer,
        text_processor=PictureProcessor(tokenizer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def longcat() -> Any:
    """`LongCatImagePipeline`, which reports no steps."""
    return _longcat("LongCatImagePipeline")


def longcat_edit() -> Any:
    """`LongCatImageEditPipeline`, which reports no steps and chooses the size itself."""
    return _longcat("LongCatImageEditPipeline")


def hunyuan_image(*, distilled: bool = False) -> Any:
    """`HunyuanImagePipeline`, whose guidance is a component."""
    import torch
    from diffusers import (
        AdaptiveProjectedMixGuidance,
        AutoencoderKLHunyuanImage,
        FlowMatchEulerDiscreteScheduler,
        HunyuanImagePipeline,
        HunyuanImageTransformer2DModel,
    )
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=16,
        rope_axes_dim=(4, 4),
        guidance_embeds=distilled,
    )
    vae = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        scaling_factor=0.5,
        spatial_compression_ratio=8,
        sample_size=64,
    )
    config = T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, is_encoder_decoder=False)
    return HunyuanImagePipeline(
        transformer=settle(transformer),
        vae=settle(vae),
        text_encoder=make_qwen_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=settle(T5EncoderModel(config)),
        tokenizer_2=ByT5Tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        guider=None if distilled else AdaptiveProjectedMixGuidance(guidance_scale=3.5),
    )


def hunyuan_image_distilled() -> Any:
    """`HunyuanImagePipeline` of a distilled model, which is given its guidance."""
    return hunyuan_image(distilled=True)


BUILDERS: dict[str, Callable[[], Any]] = {
    "qwen_image_edit": qwen_image_edit,
    "qwen_image_edit_plus": qwen_image_edit_plus,
    "qwen_image_21": qwen_image_21,
    "flux_kontext": flux_kontext,
    "flux_fill": flux_fill,
    "flux2": flux2,
    "flux2_klein_kv": flux2_klein_kv,
    "sana": sana,
    "longcat": longcat,
    "longcat_edit": longcat_edit,
    "hunyuan_image": hunyuan_image,
    "hunyuan_image_distilled": hunyuan_image_distilled,
}
_PROCESSORS = {"QwenImage21Pipeline": "Qwen3VLProcessor"}


def saved(name: str, root: Path) -> Path:
    """The pipeline called `name` below `root`, of these or of `tiny_pipelines`, built at the first call only."""
    if name in tiny_pipelines.BUILDERS:
        return tiny_pipelines.saved(name, root)
    folder = root / "tinypipes" / name
    if not folder.is_dir():
        pipe = BUILDERS[name]()
        pipe.save_pretrained(folder)
        path = folder / "model_index.json"
        index = json.loads(path.read_text())
        for part, made in pipe.components.items():
            if isinstance(made, PictureProcessor):
                made.save_pretrained(str(folder / part))
                index[part] = ["transformers", _PROCESSORS.get(index["_class_name"], "Qwen2VLProcessor")]
        path.write_text(json.dumps(index))
    return folder
