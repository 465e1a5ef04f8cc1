"""Every pipeline class of Diffusers is either used for what its signature says, or refused with a reason."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from gems.models.generators.diffusers.classes import REQUIRED, PipelineClass, find_class, find_tasks, list_classes

diffusers = pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")

DOCS = Path(__file__).parents[4] / "docs" / "generators.md"
# They choose among classes, or are the base of all.
NO_PIPELINES = {"DiffusionPipeline", "ModularPipeline", "ModularPipelineBlocks"}


@pytest.fixture(scope="module")
def classes() -> dict[str, PipelineClass]:
    return {each.name: each for each in list_classes()}


def public_names() -> list[str]:
    names = [name for module in diffusers._import_structure.values() for name in module]
    return [name for name in dict.fromkeys(names) if "Pipeline" in name and not name.endswith("Output")]


def test_every_public_class_is_used_or_refused_with_a_reason(classes: dict[str, PipelineClass]) -> None:
    others = ("AutoPipeline", "Modular", "Flax", "Blocks")
    public = [name for name in public_names() if name not in NO_PIPELINES and not any(part in name for part in others)]
    assert len(public) > 200
    unseen = [name for name in public if name not in classes]
    # Names of deprecated classes without a call of their own.
    assert all(find_class(name) is None for name in unseen)
    assert len(unseen) < 10, unseen
    for name in set(public) & classes.keys():
        assert bool(classes[name].tasks) != bool(classes[name].refusal), name


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("ZImagePipeline", {"draw": "", "edit": "ZImageImg2ImgPipeline", "inpaint": "ZImageInpaintPipeline"}),
        ("ZImageInpaintPipeline", {"inpaint": ""}),
        ("QwenImagePipeline", {"draw": "", "edit": "QwenImageImg2ImgPipeline", "inpaint": "QwenImageInpaintPipeline"}),
        ("QwenImageEditPipeline", {"edit": "", "inpaint": "QwenImageEditInpaintPipeline"}),
        ("QwenImageEditPlusPipeline", {"edit": ""}),
        ("QwenImage21Pipeline", {"draw": "", "edit": ""}),
        ("FluxKontextPipeline", {"draw": "", "edit": "", "inpaint": "FluxKontextInpaintPipeline"}),
        ("FluxFillPipeline", {"inpaint": ""}),
        ("Flux2Pipeline", {"draw": "", "edit": ""}),
        ("Flux2KleinPipeline", {"draw": "", "edit": "", "inpaint": "Flux2KleinInpaintPipeline"}),
        ("Flux2KleinKVPipeline", {"draw": "", "edit": ""}),
        ("LongCatImageEditPipeline", {"edit": ""}),
        ("HunyuanImagePipeline", {"draw": ""}),
        ("WanPipeline", {}),
        ("NoSuchPipeline", {}),
    ],
)
def test_what_a_class_and_its_family_do(name: str, tasks: dict[str, str]) -> None:
    assert {task: each.name for task, each in find_tasks(name).items()} == {
        task: other or name for task, other in tasks.items()
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("WanPipeline", "makes videos"),
        ("StableAudioPipeline", "makes audio"),
        ("ShapEPipeline", "makes 3D objects"),
        ("LLaDA2Pipeline", "writes text"),
        ("QwenImageLayeredPipeline", "makes layers"),
        ("FluxControlNetPipeline", "needs a control image or an adapter"),
        ("StableDiffusionUpscalePipeline", "varies or enlarges images"),
        ("FluxPriorReduxPipeline", "makes embeddings for another pipeline"),
        ("MarigoldDepthPipeline", "takes no prompt"),
        ("KandinskyPipeline", "needs image_embeds, negative_image_embeds"),
        ("WuerstchenCombinedPipeline", "is deprecated by Diffusers"),
    ],
)
def test_the_reason_of_a_refusal(name: str, reason: str) -> None:
    known = find_class(name)
    assert known is not None
    assert known.refusal == reason


@pytest.mark.parametrize(
    ("name", "guidance"),
    [
        ("QwenImageEditPipeline", ("true_cfg_scale", True)),
        ("QwenImage21Pipeline", ("true_cfg_scale", True)),
        ("FluxPipeline", ("guidance_scale", False)),
        ("Flux2Pipeline", ("guidance_scale", False)),
        ("StableDiffusionXLPipeline", ("guidance_scale", True)),
        ("ChromaPipeline", ("guidance_scale", True)),
        ("HunyuanImagePipeline", ("guider", True)),
        ("Flux2KleinKVPipeline", ("", False)),
    ],
)
def test_the_parameter_that_guides(name: str, guidance: tuple[str, bool]) -> None:
    known = find_class(name)
    assert known is not None
    assert known.guidance == guidance


def test_families_are_those_of_diffusers_own_auto_pipelines(classes: dict[str, PipelineClass]) -> None:
    from diffusers.pipelines import auto_pipeline

    checked = 0
    for task, mapping in (
        ("edit", auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING),
        ("inpaint", auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING),
    ):
        for family, base in auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.items():
            known, other = classes.get(base.__name__), mapping.get(family)
            if known is None or known.refusal or other is None:
                continue
            assert find_tasks(known.name)[task].name == other.__name__
            checked += 1
    assert checked > 15


@pytest.mark.parametrize("name", ["ZImageInpaintPipeline", "Flux2KleinPipeline", "StableDiffusionXLPipeline"])
def test_the_signature_is_the_one_that_python_sees(name: str) -> None:
    pytest.importorskip("torch")
    known = find_class(name)
    assert known is not None
    signature = inspect.signature(getattr(diffusers, name).__call__).parameters
    seen = {key: each for key, each in signature.items() if key != "self" and each.kind is not each.VAR_KEYWORD}
    assert list(known.parameters) == list(seen)
    for parameter, value in known.parameters.items():
        default = seen[parameter].default
        assert (value is REQUIRED) == (default is inspect.Parameter.empty)
        assert value in (REQUIRED, ...) or value == default


def documented(classes: dict[str, PipelineClass]) -> str:
    """The tables of docs/generators.md."""
    shared = {each.name for name in classes for each in find_tasks(name).values() if each.name != name}
    lines = ["| Class | Draws | Edits | Inpaints |", "| --- | --- | --- | --- |"]
    for name in sorted(classes.keys() - shared):
        if tasks := find_tasks(name):
            cells = [_cell(tasks[task].name, name) if task in tasks else "no" for task in ("draw", "edit", "inpaint")]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    reasons: dict[str, list[str]] = {}
    for name, each in sorted(classes.items()):
        if each.refusal:
            reasons.setdefault(each.refusal, []).append(name)
    lines += ["", "| Refused, since such a class | Classes |", "| --- | --- |"]
    for reason, names in sorted(reasons.items()):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"| {reason} | {', '.join(f'`{name}`' for name in names[:3])}{more} |")
    return "\n".join(lines)


def _cell(used: str, name: str) -> str:
    return "yes" if used == name else f"as `{used}`"


def test_the_documentation_lists_them(classes: dict[str, PipelineClass]) -> None:
    text = DOCS.read_text(encoding="utf-8")
    if f"Diffusers {diffusers.__version__}" not in text:
        pytest.skip("the table is of another version of Diffusers")
    assert documented(classes) in text
