"""Real zero-shot detectors of transformers at toy sizes with random weights, made from configuration alone."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tests.support.tiny_pipelines import clip_tokenizer, settle

_SIDE = 64


def save_owlv2(folder: Path) -> Path:
    """An OWLv2 that reads at most 16 tokens, of which each letter is one."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 16
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    config = Owlv2Config(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 16} | layers | ends,
        vision_config={"image_size": _SIDE, "patch_size": 16} | layers,
        projection_dim=16,
    )
    images = Owlv2ImageProcessorPil(size={"height": _SIDE, "width": _SIDE})
    return _save(Owlv2ForObjectDetection, config, Owlv2Processor(image_processor=images, tokenizer=tokenizer), folder)


def save_grounding_dino(folder: Path) -> Path:
    """A Grounding DINO, whose words are spelled letter by letter."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    letters = string.ascii_lowercase
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.model_max_length = 256
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=_SIDE,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=256,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=12,
        encoder_n_points=2,
        decoder_n_points=2,
    )
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 160})
    processor = GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer)
    return _save(GroundingDinoForObjectDetection, config, processor, folder)


def _save(model_class: Any, config: Any, processor: Any, folder: Path) -> Path:
    import torch

    torch.manual_seed(3)
    settle(model_class(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
