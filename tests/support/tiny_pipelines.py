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


def settle(model: Any) -> Any:
    """`model` ready to draw: some layers are born with uninitialised memory, which is often NaN."""
    import torch

    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            if not bool(torch.isfinite(weights).all()) or float(weights.abs().max()) > 1e3:
                weights.normal_(0, 0.02, generator=source)
    return model.eval()


def make_autoencoder(latent_channels: int, widths: tuple[int, ...], **config: Any) -> Any:
    """An `AutoencoderKL` of toy size."""
    from diffusers import AutoencoderKL

    return settle(
        AutoencoderKL(
            latent_channels=latent_channels,
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=1,
            sample_size=64,
            **{"norm_num_groups": 2, **config},
        )
    )


def make_faithful_autoencoder(latent_channels: int, **config: Any) -> Any:
    """An `AutoencoderKL` that returns an image with the mean colour of each 8x8 pixels, so that edits keep its parts.

    Each colour x goes through the network as (x, -x, c, -c), a group of its own, in which a large constant c makes
    the normalisation linear, as is silu(x) - silu(-x) = x. All residual branches are zero.
    """
    import torch

    vae = make_autoencoder(latent_channels, (12,) * 4, **config, norm_num_groups=3)
    constant = 64.0
    pairs = [(4 * colour, colour) for colour in range(3)]
    with torch.no_grad():
        for name, part in vae.named_modules():
            if name.endswith(("conv2", "to_out.0", "conv_in", "conv_out", "downsamplers.0.conv", "upsamplers.0.conv")):
                part.weight.zero_()
                part.bias.zero_()
            if name.endswith("downsamplers.0.conv"):
                part.weight[range(12), range(12), :2, :2] = 0.25
            if name.endswith("upsamplers.0.conv"):
                part.weight[range(12), range(12), 1, 1] = 1.0
        for half in (vae.encoder, vae.decoder):
            for plus, colour in pairs:
                half.conv_in.weight[plus, colour, 1, 1] = 1.0
                half.conv_in.weight[plus + 1, colour, 1, 1] = -1.0
                half.conv_in.bias[plus + 2], half.conv_in.bias[plus + 3] = constant, -constant
                half.conv_out.weight[colour, plus, 1, 1] = constant / 2**0.5
                half.conv_out.weight[colour, plus + 1, 1, 1] = -constant / 2**0.5
        vae.encoder.conv_out.bias[latent_channels:] = -30.0
    return vae


def faithful_z_image() -> Any:
    """`ZImagePipeline` whose edits keep what they are not asked to change."""
    config = {"scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False}
    pipe = z_image()
    pipe.register_modules(vae=make_faithful_autoencoder(16, **config))
    return pipe


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
        transformer=settle(transformer),
        vae=make_autoencoder(16, (8, 8, 8, 8), scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=settle(Qwen3Model(reader)),
        tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def make_qwen_encoder(tokenizer: Any) -> Any:
    """The text encoder of Qwen-Image, which sees images, too."""
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
    return settle(Qwen2_5_VLForConditionalGeneration(config))


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
    with torch.no_grad():
        # As they are born, blocks of this size hardly let the prompt through.
        for block in transformer.transformer_blocks:
            block.img_mod[1].weight.mul_(10)
            block.img_mod[1].bias.fill_(1.0)
            block.attn.add_v_proj.weight.mul_(10)
            block.attn.to_out[0].weight.mul_(5)
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    return QwenImagePipeline(
        transformer=settle(transformer),
        vae=settle(vae),
        text_encoder=make_qwen_encoder(tokenizer),
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
        unet=settle(unet),
        vae=make_autoencoder(4, (4, 4, 4, 4), scaling_factor=0.18215),
        text_encoder=settle(CLIPTextModel(reader)),
        tokenizer=clip_tokenizer(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def make_clip_encoder(name: str = "CLIPTextModel") -> Any:
    """A text encoder of CLIP."""
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=514,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        projection_dim=16,
    )
    return settle(getattr(transformers, name)(config))


def make_t5(width: int) -> tuple[Any, Any]:
    """A T5 encoder and its tokenizer, which knows single characters."""
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("\u2581", -1.0)]
    tokenizer = T5TokenizerFast(vocab=[*marks, *((chr(code), -2.0) for code in range(33, 127))], extra_ids=0)
    config = T5Config(vocab_size=128, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return settle(T5EncoderModel(config)), tokenizer


def flux() -> Any:
    """`FluxPipeline`."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
    )
    reader, tokenizer = make_t5(16)
    return FluxPipeline(
        transformer=settle(transformer),
        vae=make_autoencoder(4, (8, 8, 8, 8), use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=make_clip_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=reader,
        tokenizer_2=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def flux2_klein(*, distilled: bool = True) -> Any:
    """`Flux2KleinPipeline`."""
    import torch
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=256,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    with torch.no_grad():
        # As it is born, a model of this size hardly lets the prompt through.
        transformer.double_stream_modulation_img.linear.weight.mul_(10)
        transformer.transformer_blocks[0].attn.add_v_proj.weight.mul_(10)
    widths = (8,) * 4
    vae = AutoencoderKLFlux2(
        sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    reader = Qwen3Config(
        vocab_size=272,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=28,  # The pipeline reads the 9th, 18th and 27th.
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
    )
    return Flux2KleinPipeline(
        transformer=settle(transformer),
        vae=settle(vae),
        text_encoder=settle(Qwen3ForCausalLM(reader)),
        tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        is_distilled=distilled,
    )


def flux2_klein_base() -> Any:
    """`Flux2KleinPipeline` of a model that is not distilled, and so heeds guidance."""
    return flux2_klein(distilled=False)


def stable_diffusion_xl() -> Any:
    """`StableDiffusionXLPipeline`; its own size is 16x16 pixels."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 16,
        cross_attention_dim=32,
        norm_num_groups=2,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading"
    )
    return StableDiffusionXLPipeline(
        unet=settle(unet),
        vae=make_autoencoder(4, (4, 4, 4, 4), scaling_factor=0.13025),
        text_encoder=make_clip_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=make_clip_encoder("CLIPTextModelWithProjection"),
        tokenizer_2=clip_tokenizer(),
        scheduler=scheduler,
        feature_extractor=None,
        image_encoder=None,
        add_watermarker=False,
    )


def stable_diffusion_3() -> Any:
    """`StableDiffusion3Pipeline`."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=32,
    )
    reader, tokenizer = make_t5(32)
    return StableDiffusion3Pipeline(
        transformer=settle(transformer),
        vae=make_autoencoder(16, (8, 8, 8, 8), use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=make_clip_encoder("CLIPTextModelWithProjection"),
        tokenizer=clip_tokenizer(),
        text_encoder_2=make_clip_encoder("CLIPTextModelWithProjection"),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=reader,
        tokenizer_3=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "z_image": z_image,
    "qwen_image": qwen_image,
    "stable_diffusion": stable_diffusion,
    "stable_diffusion_xl": stable_diffusion_xl,
    "stable_diffusion_3": stable_diffusion_3,
    "flux": flux,
    "flux2_klein": flux2_klein,
    "flux2_klein_base": flux2_klein_base,
}


def save(name: str, folder: Path, **options: Any) -> Path:
    """Build the pipeline called `name` and write it to `folder` in Diffusers' layout."""
    BUILDERS[name]().save_pretrained(folder, **options)
    return folder


def saved(name: str, root: Path) -> Path:
    """The pipeline called `name` below `root`, built at the first call only."""
    folder = root / "tinypipes" / name
    return folder if folder.is_dir() else save(name, folder)
