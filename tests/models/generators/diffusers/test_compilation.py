"""`torch.compile`, with the part that needs a compiler left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gems.errors import ConfigurationError
from gems.models.generators.diffusers.loading import compile_pipeline
from tests.support import tiny_pipelines
from tests.support.diffusers_generators import ask, drawing, pixels

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # With more, toy models on a busy machine take ten times as long.
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What stands in for the compiler; holds the limit of recompilations under which it was called."""
    limits: list[Any] = []
    original = torch.nn.Module.compile

    def keep(graph: Any, _examples: Any) -> Any:
        limits.append(torch._dynamo.config.recompile_limit)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: original(module, backend=keep))
    yield limits
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["z_image", "stable_diffusion_3"])
async def test_compiled_steps_draw_the_same(name: str, root: Path, backend: list[Any]) -> None:
    folder = tiny_pipelines.saved(name, root)
    async with drawing(folder) as generator:
        plain = await generator.generate(ask(steps=1))
    assert not backend
    async with drawing(folder, compiled=True) as generator:
        compiled = await generator.generate(ask(steps=1))
    assert set(backend) == {64}
    assert (plain.parameters["compiled"], compiled.parameters["compiled"]) == (False, True)
    assert np.abs(pixels(compiled) - pixels(plain)).max() <= 1


async def test_a_compiler_that_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.nn.Module.compile

    def broken(graph: Any, _examples: Any) -> Any:
        raise FileNotFoundError("g++")

    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: original(module, backend=broken))
    async with drawing(tiny_pipelines.saved("z_image", root), compiled=True) as generator:
        with pytest.raises(ConfigurationError, match=r"cannot be compiled.*g\+\+") as raised:
            await generator.generate(ask())
    assert "GEMS_GENERATOR__COMPILE=false" in raised.value.hint
    torch._dynamo.reset()


async def test_a_python_that_cannot_compile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(module: Any) -> None:
        raise RuntimeError("Dynamo is not supported on Python 4.0+")

    monkeypatch.setattr(torch.nn.Module, "compile", refused)
    async with drawing(tiny_pipelines.saved("z_image", root), compiled=True) as generator:
        with pytest.raises(ConfigurationError, match="cannot be used here: Dynamo"):
            await generator.generate(ask())


def test_layers_that_come_and_go_cannot_be_compiled() -> None:
    with pytest.raises(ConfigurationError, match="Sequential offloading"):
        compile_pipeline(object(), "sequential")
