"""Every pipeline class that is built: what it draws, edits and inpaints, and what its call was really given."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gems.errors import EditingUnsupportedError, OptionError, SizeError
from gems.generation import GeneratedImage
from gems.models import masks
from gems.models.generators.diffusers.classes import find_tasks
from gems.models.generators.diffusers.presets import find_recipe
from gems.models.registration import Aligned
from tests.support import tiny_editors, tiny_pipelines
from tests.support.diffusers_generators import ask, behind, drawing, pixels, wrap_call

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

# Of the scheduler that Stable Diffusion XL comes with.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALL = {**tiny_pipelines.BUILDERS, **tiny_editors.BUILDERS}
STEPS = 3


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    torch.set_num_threads(1)  # With more, toy models on a busy machine take ten times as long.
    # Random weights keep nothing of an image, so that what is outside of a mask cannot be compared with it.
    monkeypatch.setattr(masks, "align", lambda edited, *_: Aligned(edited, (0, 0), recoloured=False))
    with tiny_editors.loadable(monkeypatch):
        yield tmp_path_factory.getbasetemp()


def as_png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def photo(width: int = 64, height: int = 64) -> bytes:
    """A picture in which every pixel differs from its neighbours."""
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return as_png(Image.fromarray(noise))


def mask(width: int = 64, height: int = 64, box: tuple[int, int, int, int] = (16, 16, 47, 47)) -> bytes:
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).rectangle(box, fill=255)
    return as_png(picture)


def spy(monkeypatch: pytest.MonkeyPatch, name: str) -> list[dict[str, Any]]:
    """What the calls of a model's pipeline classes are given, with the class's name as `class`."""
    given: list[dict[str, Any]] = []

    def record(original: Any, pipe: Any, **arguments: Any) -> Any:
        guiders = {"guider": pipe.guider.guidance_scale} if getattr(pipe, "guider", None) is not None else {}
        given.append({**arguments, **guiders, "class": type(pipe).__name__})
        return original(pipe, **arguments)

    for known in {each.name for each in find_tasks(name).values()}:
        wrap_call(monkeypatch, known, record)
    return given


def check_record(image: GeneratedImage, given: dict[str, Any], folder: Path) -> None:
    """The record of an image holds what its call was given, and nothing else."""
    argument = find_recipe(str(folder)).guidance_argument
    told = image.parameters
    assert told["pipeline"] == given["class"]
    for name, key in (("steps", "num_inference_steps"), ("guidance", argument), ("strength", "strength")):
        assert (name in told) == (key in given), (name, sorted(given))
        assert name not in told or told[name] == given[key]
    negative = any("negative" in key for key in given)
    assert told["classifier_free_guidance"] == negative or argument == "guider"
    if "negative_prompt" in told:
        assert negative
        assert not told["negative_prompt_ignored"]


@pytest.mark.parametrize("name", ALL)
async def test_each_class_does_what_it_says(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_editors.saved(name, root)
    recipe = find_recipe(str(folder))
    given = spy(monkeypatch, recipe.pipeline)
    source, selected = photo(), mask()
    asked = {"guidance": 3.0, "negative_prompt": "yellow", "steps": STEPS}
    async with drawing(folder) as generator:
        able = generator.capabilities
        if "draw" in recipe.tasks:
            image = await generator.generate(ask(**asked))
            check_record(image, given[-1], folder)
            assert pixels(image).shape[:2] == (64, 64)
        else:
            with pytest.raises(OptionError, match="draws none from a prompt alone"):
                await generator.generate(ask())
        if "edit" in recipe.tasks:
            edited = await generator.generate(ask(source=source, **asked))
            check_record(edited, given[-1], folder)
            assert given[-1]["class"] == recipe.tasks["edit"].name
            assert pixels(edited).shape[:2] == (64, 64)
            other = await generator.generate(ask(source=as_png(Image.new("RGB", (64, 64), "red")), **asked))
            assert other.data != edited.data
        assert able.editing == bool({"edit", "inpaint"} & recipe.tasks.keys())
        if able.editing:
            filled = await generator.generate(ask(source=source, mask=selected, **asked))
            check_record(filled, given[-1], folder)
            task = "inpaint" if able.inpainting else "edit"
            assert given[-1]["class"] == recipe.tasks[task].name
            check_outside(filled, source)
        else:
            with pytest.raises(EditingUnsupportedError):
                await generator.generate(ask(source=source))
        assert able.interruptible == all("callback_on_step_end" in each for each in given)


def check_outside(image: GeneratedImage, source: bytes) -> None:
    before, after = np.asarray(Image.open(io.BytesIO(source))).astype(int), pixels(image)
    inside = np.zeros((64, 64), dtype=bool)
    inside[16:48, 16:48] = True
    assert np.array_equal(before[~inside], after[~inside][:, :3])
    assert np.abs(before[inside] - after[inside][:, :3]).mean() > 5


async def test_guidance_of_qwen_image_edit_is_classifier_free(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = spy(monkeypatch, "QwenImageEditPipeline")
    async with drawing(tiny_editors.saved("qwen_image_edit", root)) as generator:
        image = await generator.generate(ask(source=photo(), guidance=2.5))
    assert (given[0]["true_cfg_scale"], given[0]["negative_prompt"]) == (2.5, [" "])
    assert "guidance_scale" not in given[0]
    assert image.parameters["guidance"] == 2.5


async def test_a_size_that_the_class_would_round_is_refused_with_the_nearest(root: Path) -> None:
    async with drawing(tiny_editors.saved("qwen_image_21", root)) as generator:
        with pytest.raises(SizeError, match="multiples of 32") as raised:
            await generator.generate(ask(width=1360, height=752))
        assert "1344x768" in raised.value.hint
        image = await generator.generate(ask(width=96, height=64))
        assert generator.capabilities.size_multiple == 32
    assert pixels(image).shape[:2] == (64, 96)


async def test_guidance_that_a_class_does_not_take_is_told(root: Path) -> None:
    async with drawing(tiny_editors.saved("flux2_klein_kv", root)) as generator:
        plain = await generator.generate(ask())
        image = await generator.generate(ask(guidance=6.0, negative_prompt="blurry"))
    assert plain.warnings == ()
    assert "takes no guidance scale: 6 was not used" in image.warnings[0]
    assert not {"guidance", "negative_prompt"} & image.parameters.keys()
    assert image.parameters["negative_prompt_ignored"]
    assert image.data == plain.data


async def test_references_follow_the_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = spy(monkeypatch, "Flux2KleinPipeline")
    red, blue = (as_png(Image.new("RGB", (64, 80), colour)) for colour in ("red", "blue"))
    async with drawing(tiny_editors.saved("flux2_klein", root)) as generator:
        most = generator.capabilities.references
        first = await generator.generate(ask(source=photo(), references=(red,)))
        other = await generator.generate(ask(source=photo(), references=(blue,)))
        alone = await generator.generate(ask(references=(red, blue)))
        inpainted = await generator.generate(ask(source=photo(), mask=mask(), references=(red,)))
        many = await generator.generate(ask(source=photo(), mask=mask(), references=(red, blue)))
        with pytest.raises(EditingUnsupportedError, match=f"at most {most} references"):
            await generator.generate(ask(source=photo(), references=(red,) * (most + 1)))
    assert len({image.data for image in (first, other, alone)}) == 3
    assert [each["image"].__class__.__name__ for each in given] == ["list", "list", "list", "Image", "list"]
    assert [len(each["image"]) for each in given if isinstance(each["image"], list)] == [2, 2, 2, 3]
    assert given[3]["image_reference"].size == (64, 80)
    # Its inpainting class takes a single one, so that the whole image is edited.
    assert [image.parameters["pipeline"] for image in (inpainted, many)] == [
        "Flux2KleinInpaintPipeline",
        "Flux2KleinPipeline",
    ]
    check_outside(many, photo())


async def test_strength_goes_to_classes_that_have_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = spy(monkeypatch, "ZImagePipeline")
    async with drawing(tiny_editors.saved("z_image", root), steps=4) as generator:
        assert generator.capabilities.strengths
        images = [await generator.generate(ask(source=photo(), strength=each)) for each in (0.5, 1.0)]
        with pytest.raises(OptionError, match="needs an image to edit"):
            await generator.generate(ask(strength=0.5))
    assert [each["strength"] for each in given] == [0.5, 1.0] == [image.parameters["strength"] for image in images]
    async with drawing(tiny_editors.saved("flux2", root)) as generator:
        with pytest.raises(OptionError, match="has no strength"):
            await generator.generate(ask(source=photo(), strength=0.5))
    async with drawing(tiny_editors.saved("stable_diffusion", root), steps=4) as generator:
        with pytest.raises(OptionError, match="leaves none of 4 steps"):
            await generator.generate(ask(source=photo(), strength=0.2))


async def test_few_steps_edit_although_the_usual_strength_would_leave_none(root: Path) -> None:
    async with drawing(tiny_editors.saved("stable_diffusion_xl", root), steps=1) as generator:
        image = await generator.generate(ask(source=photo()))
    assert (image.parameters["steps"], image.parameters["strength"]) == (1, 1.0)


async def test_a_class_that_chooses_the_size_is_scaled_and_told(root: Path) -> None:
    async with drawing(tiny_editors.saved("longcat_edit", root)) as generator:
        assert not generator.capabilities.interruptible
        image = await generator.generate(ask(source=photo(128, 64), width=128, height=64))
    drawn = image.parameters["drawn_size"]
    assert pixels(image).shape[:2] == (64, 128)
    assert f"generated {drawn} pixels instead of 128x64; the image was scaled" in image.warnings[-1]


async def test_a_class_that_only_inpaints_needs_a_mask(root: Path) -> None:
    async with drawing(tiny_editors.saved("flux_fill", root)) as generator:
        with pytest.raises(OptionError, match="changes only what a mask selects"):
            await generator.generate(ask(source=photo()))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"mask": mask(32, 32)}, "The mask has 32x32 pixels"),
        ({"mask": mask(box=(-2, -2, -1, -1))}, "selects nothing"),
        ({"mask": mask(), "source": photo(80, 64)}, "image to edit has 80x64 pixels, not 64x64"),
        ({"mask": b"no image"}, "not a complete image"),
        ({"source": b"no image"}, "image to edit cannot be read"),
    ],
)
async def test_images_that_do_not_fit_are_refused_before_drawing(
    root: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], message: str
) -> None:
    given = spy(monkeypatch, "ZImagePipeline")
    async with drawing(tiny_editors.saved("z_image", root)) as generator:
        with pytest.raises(OptionError, match=message):
            await generator.generate(ask(**{"source": photo(), **other}))
    assert given == []


async def test_classes_of_a_family_share_their_weights(root: Path) -> None:
    async with drawing(tiny_editors.saved("z_image", root)) as generator:
        for request in (ask(), ask(source=photo()), ask(source=photo(), mask=mask())):
            await generator.generate(request)
        loaded = generator._loaded
    assert loaded is not None
    pipes = [loaded.pipeline_for(task)[0] for task in ("draw", "edit", "inpaint")]
    assert len({type(pipe).__name__ for pipe in pipes}) == 3
    assert len({id(pipe.transformer) for pipe in pipes}) == len({id(pipe.vae) for pipe in pipes}) == 1
    assert len({id(pipe.scheduler) for pipe in pipes}) == 3


async def test_edits_wait_apart_from_each_other(root: Path) -> None:
    async with drawing(tiny_editors.saved("z_image", root)) as generator:
        requests = [ask(seed=n, source=photo()) for n in range(2)]
        images = await behind(generator, *requests)
    assert [image.parameters["batch"] for image in images] == [1, 1]
