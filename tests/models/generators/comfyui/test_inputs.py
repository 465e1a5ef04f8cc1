"""Workflows in API format: what is read, and which node gets which part of a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gems.errors import ConfigurationError, ModelFilesError
from gems.models.generators.comfyui.inputs import Binding, bind
from gems.models.generators.comfyui.workflow import Workflow
from tests.support.comfyui_workflows import (
    Nodes,
    flux,
    inpainting,
    inpainting_with_mask,
    node,
    save,
    text_to_image,
    with_references,
)


def bound(nodes: Nodes) -> Binding:
    return bind(Workflow("w.json", nodes))


def targets(binding: Binding) -> dict[str, list[str]]:
    return {part: [f"{each.node}.{each.name}" for each in found] for part, found in binding.inputs.items()}


def test_the_default_workflow() -> None:
    binding = bound(text_to_image())
    assert targets(binding) == {
        "prompt": ["6.text"],
        "negative": ["7.text"],
        "seed": ["3.seed"],
        "width": ["5.width"],
        "height": ["5.height"],
        "batch": ["5.batch_size"],
        "steps": ["3.steps"],
        "guidance": ["3.cfg"],
        "strength": ["3.denoise"],
    }
    assert (binding.output, binding.image, binding.mask, binding.references) == ("9", None, None, ())


def test_a_guider_noise_and_sigmas_are_followed() -> None:
    binding = bound(flux())
    assert targets(binding) == {
        "prompt": ["2.text"],
        "seed": ["5.noise_seed"],
        "width": ["20.value"],
        "height": ["8.height"],
        "batch": ["8.batch_size"],
        "steps": ["6.steps"],
        "guidance": ["3.guidance"],
        "strength": ["6.denoise"],
    }
    assert binding.output == "11"


def test_a_guider_with_a_negative_text() -> None:
    nodes = flux()
    nodes["12"] = node("CLIPTextEncode", text="blur", clip=["1", 1])
    nodes["4"] = node("CFGGuider", model=["1", 0], positive=["2", 0], negative=["12", 0], cfg=4.0)
    found = targets(bound(nodes))
    assert (found["prompt"], found["negative"], found["guidance"]) == (["2.text"], ["12.text"], ["4.cfg"])


def test_encoders_of_several_texts_get_the_prompt_in_each() -> None:
    nodes = flux()
    nodes["2"] = node("CLIPTextEncodeFlux", clip=["1", 1], clip_l="a", t5xxl="b", guidance=3.5)
    nodes["4"]["inputs"]["conditioning"] = ["2", 0]
    found = targets(bound(nodes))
    assert found["prompt"] == ["2.clip_l", "2.t5xxl"]
    assert found["guidance"] == ["2.guidance"]


def test_a_negative_made_of_the_positive_is_none() -> None:
    nodes = text_to_image()
    nodes["7"] = node("ConditioningZeroOut", conditioning=["6", 0])
    assert "negative" not in bound(nodes).inputs
    nodes["3"]["inputs"]["negative"] = ["6", 0]
    assert "negative" not in bound(nodes).inputs


def test_advanced_sampler_and_values_in_nodes_of_their_own() -> None:
    nodes = text_to_image()
    sampler = nodes["3"]
    sampler["class_type"] = "KSamplerAdvanced"
    sampler["inputs"]["noise_seed"] = ["21", 0]
    del sampler["inputs"]["seed"], sampler["inputs"]["denoise"]
    nodes["21"] = node("PrimitiveInt", value=5)
    nodes["6"]["inputs"]["text"] = ["22", 0]
    nodes["22"] = node("PrimitiveString", value="a bottle")
    found = targets(bound(nodes))
    assert (found["seed"], found["prompt"]) == (["21.value"], ["22.value"])
    assert "strength" not in found


def test_nodes_of_the_same_size_follow_the_size() -> None:
    nodes = text_to_image()
    nodes["30"] = node("ModelSamplingFlux", model=["4", 0], max_shift=1.15, width=1024, height=768)
    nodes["3"]["inputs"]["model"] = ["30", 0]
    assert targets(bound(nodes))["width"] == ["5.width", "30.width"]


def test_an_image_that_the_sampler_begins_with() -> None:
    binding = bound(inpainting())
    assert (binding.image, binding.mask, binding.begins_with_image) == ("10", "10", True)
    assert "width" not in binding.inputs
    other = bound(inpainting_with_mask())
    assert (other.image, other.mask, other.begins_with_image) == ("10", "12", True)
    assert targets(other)["prompt"] == ["6.text"]
    assert targets(other)["negative"] == ["7.text"]


def test_images_beside_the_text() -> None:
    binding = bound(with_references())
    assert {binding.image, *binding.references} == {"11", "12"}
    assert not binding.begins_with_image
    titled = with_references()
    titled["12"]["_meta"]["title"] = "gems Image"
    titled["11"]["_meta"]["title"] = "GEMS reference 1"
    assert (bound(titled).image, bound(titled).references) == ("12", ("11",))


def test_the_image_of_a_control_net_stays_as_it_is() -> None:
    nodes = text_to_image()
    nodes["10"] = node("LoadImage", image="pose.png")
    nodes["11"] = node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["12", 0],
                       image=["10", 0], strength=1.0)  # fmt: skip
    nodes["12"] = node("ControlNetLoader", control_net_name="pose.safetensors")
    nodes["3"]["inputs"] |= {"positive": ["11", 0], "negative": ["11", 1]}
    binding = bound(nodes)
    assert binding.image is None
    assert (targets(binding)["prompt"], targets(binding)["negative"]) == (["6.text"], ["7.text"])


def test_titles_come_before_what_nodes_are() -> None:
    nodes = text_to_image()
    nodes["6"]["inputs"]["text"] = ["40", 0]
    nodes["40"] = node("StringConcatenate", string_a=["41", 0], string_b="masterpiece", delimiter=", ")
    nodes["41"] = node("PrimitiveString", "GEMS prompt", value="a bottle")
    nodes["42"] = node("PrimitiveInt", "gems_Seed", value=3)
    nodes["3"]["inputs"]["seed"] = ["42", 0]
    nodes["5"]["_meta"]["title"] = "GEMS size"
    nodes["3"]["_meta"]["title"] = "GEMS sampler"
    found = targets(bound(nodes))
    assert (found["prompt"], found["seed"], found["width"]) == (["41.value"], ["42.value"], ["5.width"])
    assert found["batch"] == ["5.batch_size"]


def test_a_workflow_without_a_sampler_needs_titles_only() -> None:
    nodes = {
        "1": node("SomeProviderNode", "GEMS prompt", prompt="x", negative_prompt="", seed=1, aspect="1:1"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    assert targets(bound(nodes)) == {"prompt": ["1.prompt"], "negative": ["1.negative_prompt"]}


def _two_samplers(nodes: Nodes) -> None:
    nodes["13"] = node("KSampler", **{**nodes["3"]["inputs"], "latent_image": ["3", 0]})
    nodes["8"]["inputs"]["samples"] = ["13", 0]


def _two_outputs(nodes: Nodes) -> None:
    nodes["19"] = node("SaveImage", "second", images=["8", 0], filename_prefix="x")


def _combined(nodes: Nodes) -> None:
    nodes["16"] = node("CLIPTextEncode", text="masterpiece", clip=["4", 1])
    nodes["17"] = node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["16", 0])
    nodes["3"]["inputs"]["positive"] = ["17", 0]


def _made_text(nodes: Nodes) -> None:
    nodes["40"] = node("StringConcatenate", string_a="a", string_b="b", delimiter=", ")
    nodes["6"]["inputs"]["text"] = ["40", 0]


def _loose_title(nodes: Nodes) -> None:
    nodes["40"] = node("PrimitiveString", "GEMS prompt", value="a bottle")


def _title(key: str, title: str) -> Callable[[Nodes], None]:
    return lambda nodes: nodes[key]["_meta"].update(title=title)


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (_two_samplers, r"2 samplers: KSampler \(node 3\), KSampler \(node 13\)", "`GEMS sampler`"),
        (_two_outputs, r'2 outputs: SaveImage \(node 9\), SaveImage "second" \(node 19\)', "`GEMS output`"),
        (_combined, "several texts", "`GEMS prompt`"),
        (_made_text, "a text that other nodes make", "`GEMS prompt`"),
        (_loose_title, "does not lead to SaveImage", "Connect it"),
        (_title("6", "GEMS promt"), "'GEMS promt', which means nothing", "`GEMS prompt`, `GEMS negative`"),
        (_title("4", "GEMS prompt"), "has no input for the prompt", "text, prompt"),
        (_title("8", "GEMS seed"), "has no input for the seed", "seed, noise_seed"),
        (_title("8", "GEMS image"), "loads no image", "Load Image"),
        (lambda nodes: nodes.pop("9"), "no node that saves or previews an image", "Save Image"),
        (lambda nodes: nodes["9"]["inputs"].update(images=["4", 0]), "no sampler before SaveImage", "`GEMS prompt`"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_asked_for(change: Callable[[Nodes], Any], message: str, hint: str) -> None:
    nodes = text_to_image()
    change(nodes)
    with pytest.raises(ConfigurationError, match=message) as caught:
        bound(nodes)
    assert hint in caught.value.hint


def test_our_own_nodes_keep_their_names() -> None:
    nodes = text_to_image()
    nodes["20"] = node("GemsVerify", "GEMS Verify", image=["8", 0], prompt="a bottle")
    assert bound(nodes) == bound(text_to_image())
    nodes["20"]["_meta"]["title"] = "GEMS check"
    with pytest.raises(ConfigurationError, match="'GEMS check', which means nothing"):
        bound(nodes)


def test_a_title_chooses_among_samplers() -> None:
    nodes = text_to_image()
    _two_samplers(nodes)
    nodes["3"]["_meta"]["title"] = "GEMS sampler"
    assert targets(bound(nodes))["seed"] == ["3.seed"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"nodes": [], "links": [], "version": 0.4}, "format of ComfyUI's editor"),
        ([], "no object of nodes"),
        ({}, "no object of nodes"),
        ({"3": {"class_type": "KSampler"}}, "'3' is no node"),
        ({"3": "KSampler"}, "'3' is no node"),
        ({"3": {"class_type": 1, "inputs": {}}}, "'3' is no node"),
    ],
)
def test_files_in_other_formats(tmp_path: Path, written: Any, message: str) -> None:
    with pytest.raises(ModelFilesError, match=message) as caught:
        Workflow.read(save(tmp_path, written))
    assert "Export (API)" in caught.value.hint


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match="cannot be read: No such file"):
        Workflow.read(tmp_path / "absent.json")
    with pytest.raises(ModelFilesError, match="cannot be read: Is a directory"):
        Workflow.read(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ModelFilesError, match="not valid JSON"):
        Workflow.read(tmp_path / "picture.png")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ModelFilesError, match="not valid JSON"):
        Workflow.read(tmp_path / "deep.json")


def test_the_body_of_a_request_is_a_workflow_too(tmp_path: Path) -> None:
    path = save(tmp_path, {"prompt": text_to_image(), "client_id": "x"})
    assert Workflow.read(path).nodes == text_to_image()


def test_titles_do_not_make_another_workflow_of_it() -> None:
    titled = text_to_image()
    titled["3"]["_meta"]["title"] = "GEMS sampler"
    assert Workflow("w", titled).digest == Workflow("w", text_to_image()).digest
    titled["3"]["inputs"]["sampler_name"] = "dpmpp_2m"
    assert Workflow("w", titled).digest != Workflow("w", text_to_image()).digest
