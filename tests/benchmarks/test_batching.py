"""The parts of the batching benchmark that need no GPU."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


@pytest.fixture
def benchmark() -> Any:
    torch.set_num_threads(1)
    from benchmarks import diffusers_batching

    return diffusers_batching


@pytest.fixture
def zimage_random() -> Any:
    from benchmarks import zimage_random

    return zimage_random


def test_figures_of_a_toy_model(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benchmark.MATRIX_SIDES, "cpu", 64)
    out = tmp_path / "new" / "figures.json"
    benchmark.main(
        argparse.Namespace(
            full=False, scale="tiny", device="cpu", batches="1,2", steps=2, runs=1, threads=1, compile=False, out=out
        )
    )
    figures = json.loads(out.read_text())["tables"]
    assert [each["batch"] for each in figures["batches"]] == [1, 2]
    for each in figures["batches"]:
        assert each["images_per_s"] == pytest.approx(each["batch"] / each["latency_s"])
        assert each["peak_gib"] > 0
        assert each["share_of_matmul_limit"] == pytest.approx(
            each["images_per_s"] * figures["tflop_per_image"] / figures["matmul_tflops"]
        )
    assert figures["hardware"]["cpu"]
    if platform.node():
        assert platform.node() not in out.read_text()
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 5
    assert "64x64, 2 steps" in told[0]


def test_matrices_are_counted_and_a_prompts_encoding_is_not(benchmark: Any) -> None:
    left = torch.ones(3, 5)
    assert benchmark.flops(lambda: left @ torch.ones(5, 7)) == 2 * 3 * 5 * 7
    loaded = benchmark.random_model("tiny", torch.device("cpu"))
    one, two = (benchmark.flops(lambda steps=steps: benchmark.images(loaded, 1, 64, steps)) for steps in (1, 2))
    length = len(loaded.prompts.encode("a red fox, number 0", None)["prompt_embeds"][0])
    assert two - one == benchmark.transformer_flops(loaded.pipe.transformer, 64, length)


def test_the_full_size_is_that_of_z_image_turbo(benchmark: Any, zimage_random: Any) -> None:
    models = zimage_random.components("full", device="meta", dtype=torch.bfloat16)
    sizes = [sum(weights.numel() for weights in model.parameters()) * 2 / 2**30 for model in models]
    assert sizes == pytest.approx([11.46, 7.49, 0.16], abs=0.01)
    # By hand: 30 layers and 2 refiners of 177 million weights see 4288 and 4096 tokens; and the attention.
    layer = 4 * 3840**2 + 3 * 3840 * 10240
    by_hand = 2 * layer * (30 * 4288 + 2 * 4096 + 2 * 192) + 4 * 3840 * (30 * 4288**2 + 2 * 4096**2)
    assert benchmark.transformer_flops(models[0], 1024, 192) == pytest.approx(by_hand, rel=0.01)


def test_weights_are_numbers_of_the_format_asked_for(zimage_random: Any) -> None:
    for model in zimage_random.components("tiny", device="cpu", dtype=torch.bfloat16):
        for name, weights in model.named_parameters():
            assert weights.dtype == torch.bfloat16, name
            assert bool(torch.isfinite(weights).all()), name


def test_without_a_gpu_the_full_size_is_refused(benchmark: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="no CUDA device"):
        benchmark.main(argparse.Namespace(full=True, device="cpu"))
