"""Z-Image pipelines with random weights, built from configuration alone: nothing is downloaded.

The images are noise; only shapes, times and memory mean anything.

Sources of the full size: the transformer has the defaults of Diffusers' `ZImageTransformer2DModel`, the text
encoder is Qwen3-4B, the VAE that of FLUX.1. In bfloat16 they take 11.46, 7.49 and 0.16 GiB, as the table of
components in Diffusers' documentation says of Z-Image-Turbo.
"""

from __future__ import annotations

from typing import Any

TRANSFORMER: dict[str, Any] = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": 16,
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "norm_eps": 1e-5,
    "qk_norm": True,
    "cap_feat_dim": 2560,
    "rope_theta": 256.0,
    "t_scale": 1000.0,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1024, 512, 512],
}
TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 1024,
}

_SMALL_READER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 272,
    "max_position_embeddings": 1024,
}

SCALES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # What a call costs besides arithmetic, which is next to nothing here.
    "tiny": (
        TRANSFORMER
        | {"dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 64}
        | {"axes_dims": [8, 4, 4]},
        TEXT_ENCODER | _SMALL_READER,
        VAE | {"block_out_channels": [8] * 4, "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 64},
    ),
    # Arithmetic enough to keep a CPU busy.
    "small": (
        TRANSFORMER
        | {"dim": 640, "n_layers": 8, "n_refiner_layers": 1, "n_heads": 5, "n_kv_heads": 5, "cap_feat_dim": 64},
        TEXT_ENCODER | _SMALL_READER,
        VAE | {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1, "sample_size": 256},
    ),
    "full": (TRANSFORMER, TEXT_ENCODER, VAE),
}
"""Configurations of transformer, text encoder and VAE."""


def components(scale: str, *, device: Any, dtype: Any) -> tuple[Any, Any, Any]:
    """Transformer, text encoder and VAE of that scale, with random weights unless the device is `meta`.

    They are born on the device in their number format, so that nothing passes through CPU memory.
    """
    import torch  # noqa: PLC0415 - seconds long
    from diffusers import AutoencoderKL, ZImageTransformer2DModel  # noqa: PLC0415
    from transformers import Qwen3Config, Qwen3Model  # noqa: PLC0415

    of_transformer, of_reader, of_vae = SCALES[scale]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            models = (
                ZImageTransformer2DModel(**of_transformer),
                Qwen3Model(Qwen3Config(**of_reader, rope_parameters={"rope_type": "default", "rope_theta": 1e6})),
                AutoencoderKL(**of_vae),
            )
    finally:
        torch.set_default_dtype(before)
    for model in models:
        model.eval().requires_grad_(False)
        if torch.device(device).type != "meta":
            _randomise(model)
    return models


def pipeline(scale: str, *, device: Any, dtype: Any) -> Any:
    """A `ZImagePipeline` of that scale with random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline  # noqa: PLC0415

    transformer, reader, vae = components(scale, device=device, dtype=dtype)
    made = ZImagePipeline(
        transformer=transformer,
        vae=vae,
        text_encoder=reader,
        tokenizer=tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
    )
    made.set_progress_bar_config(disable=True)
    made.vae.enable_slicing()
    return made


def tokenizer() -> Any:
    """A tokenizer of single bytes, with Qwen's marks and a chat template."""
    from tokenizers.pre_tokenizers import ByteLevel  # noqa: PLC0415
    from transformers import Qwen2Tokenizer  # noqa: PLC0415

    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    symbols = [*sorted(ByteLevel.alphabet()), *marks]
    made = Qwen2Tokenizer(
        vocab={symbol: number for number, symbol in enumerate(symbols)},
        merges=[],
        additional_special_tokens=marks[1:],
        model_max_length=1024,
    )
    made.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return made


def _randomise(model: Any) -> None:
    """Fill matrices with small random numbers; some are born as uninitialised memory, which may be NaN."""
    import torch  # noqa: PLC0415

    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.02)
