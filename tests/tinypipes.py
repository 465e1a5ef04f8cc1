"""Real Diffusers pipelines at toy sizes with random weights, made from configuration alone.

Nothing is downloaded: tokenizers get a vocabulary of the 256 byte symbols. The images are noise, but they do
depend on prompt, seed and size, and loading, batching and stepping run the same code as the full models.
torch, transformers and diffusers are imported inside the functions, since that takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_QWEN_MARKS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<think>",
    "</think>",
]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _numbered(symbols: list[str]) -> dict[str, int]:
    return {symbol: number for number, symbol in enumerate(symbols)}


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def qwen_tokenizer() -> Any:
    """A byte-level tokenizer with Qwen's marks and a chat template."""
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(
        vocab=_numbered(_bytes() + _QWEN_MARKS),
        merges=[],
        additional_special_tokens=_QWEN_MARKS[1:],
        model_max_length=1024,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def clip_tokenizer() -> Any:
    """A byte-level tokenizer in CLIP's manner, 77 tokens long."""
    from transformers import CLIPTokenizer

    symbols = _bytes()
    ends = [f"{symbol}</w>" for symbol in symbols]
    vocab = _numbered([*symbols, *ends, "<|startoftext|>", "<|endoftext|>"])
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def _settled(model: Any) -> Any:
    """`model` ready to draw: some layers are born with uninitialised memory, which is often NaN."""
    import torch

    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            if not bool(torch.isfinite(weights).all()) or float(weights.abs().max()) > 1e3:
                weights.normal_(0, 0.02, generator=source)
    return model.eval()


def _autoencoder(latent_channels: int, widths: tuple[int, ...], **config: Any) -> Any:
    from diffusers import AutoencoderKL

    return _settled(
        AutoencoderKL(
            latent_channels=latent_channels,
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=1,
            norm_num_groups=2,
            sample_size=64,
            **config,
        )
    )


def z_image() -> Any:
    """`ZImagePipeline`, 1.7 MB on disk."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    reader = Qwen3Config(
        vocab_size=272,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
    )
    return ZImagePipeline(
        transformer=_settled(transformer),
        vae=_autoencoder(16, (8, 8, 8, 8), scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=_settled(Qwen3Model(reader)),
        tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _qwen_reader(tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    small = {"hidden_size": 16, "intermediate_size": 16}
    config = Qwen2_5_VLConfig(
        text_config={
            **small,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 272,
            "max_position_embeddings": 2048,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
        },
        vision_config={**small, "depth": 1, "num_heads": 2, "out_hidden_size": 16},
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    return _settled(Qwen2_5_VLForConditionalGeneration(config))


def qwen_image() -> Any:
    """`QwenImagePipeline`."""
    import torch
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    return QwenImagePipeline(
        transformer=_settled(transformer),
        vae=_settled(vae),
        text_encoder=_qwen_reader(tokenizer),
        tokenizer=tokenizer,
        scheduler=scheduler,
    )


def stable_diffusion() -> Any:
    """`StableDiffusionPipeline` in the form of version 1.5; its own size is 64x64 pixels."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    reader = CLIPTextConfig(
        vocab_size=514,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    return StableDiffusionPipeline(
        unet=_settled(unet),
        vae=_autoencoder(4, (4, 4, 4, 4), scaling_factor=0.18215),
        text_encoder=_settled(CLIPTextModel(reader)),
        tokenizer=clip_tokenizer(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "z_image": z_image,
    "qwen_image": qwen_image,
    "stable_diffusion": stable_diffusion,
}


def save(name: str, folder: Path, **options: Any) -> Path:
    """Build the pipeline called `name` and write it to `folder` in Diffusers' layout."""
    BUILDERS[name]().save_pretrained(folder, **options)
    return folder


def saved(name: str, root: Path) -> Path:
    """The pipeline called `name` below `root`, built at the first call only."""
    folder = root / "tinypipes" / name
    return folder if folder.is_dir() else save(name, folder)
