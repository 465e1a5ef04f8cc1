"""Edits: what is told is mended or broken as often as the table says, and all else stays as it is."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from PIL import Image
from scipy import ndimage

from gems.generation import ImageRequest
from gems.models.blocks import BlocksChat, BlocksGenerator, Scene, Thing, truth
from gems.models.blocks.detection import Detector, detect_scene
from gems.models.blocks.error_model import EDITORS, EditorRates
from gems.models.blocks.prompt_spec import decompose_prompt
from gems.models.blocks.reflector import write_instruction
from gems.models.blocks.rendering import paint_scene
from gems.models.blocks.retouch import locate_fault
from gems.models.blocks.scene import describe_scene
from gems.models.chat.schemas import ChecklistReply, MendingReply, wrap_in_tag
from gems.models.images import encode_png
from gems.models.masks import make_mask

ALWAYS, NEVER = EditorRates(1.0, 0.0), EditorRates(0.0, 0.0)
BREAKS = EditorRates(0.0, 1.0)
SCENE = Scene(
    512,
    512,
    "",
    (
        Thing("circle", "red", "plain", (60, 60, 140, 140)),
        Thing("circle", "red", "plain", (180, 60, 260, 140)),
        Thing("square", "blue", "plain", (120, 220, 200, 300)),
        Thing("heart", "pink", "plain", (330, 60, 410, 132)),
        Thing("text", "", "", (300, 380, 440, 456), "STOP"),
    ),
)
PNG = encode_png(paint_scene(SCENE))
FAULTS = {
    "object": ("two red circles, a blue square and a green star", "Is there a green star?"),
    "objects": ("two red circles and three small green stars", "Are there exactly three green stars?"),
    "too few": ("three red circles above a blue square", "Are there exactly three red circles?"),
    "too many": ("exactly one red circle and a blue square", "Is there exactly one red circle?"),
    "none": ("two red circles without hearts", "Is the image free of hearts?"),
    "colour": ("two green circles and a blue square", "Are there exactly two green circles?"),
    "size": ("two large red circles and a blue square", "Are the red circles large?"),
    "texture": ("two red circles and a striped blue square", "Is the blue square striped?"),
    "relation": ("a blue square above two red circles", "Is the blue square above the red circles?"),
    "sideways": ("a pink heart left of a blue square", "Is the pink heart left of the blue square?"),
    "inside": ("a pink heart inside a blue square", "Is the pink heart inside the blue square?"),
    "on": ("a pink heart on a blue square, two red circles", "Is the pink heart on the blue square?"),
    "below what is missing": ("two red circles below a green star", "Are all red circles below the green star?"),
    "missing itself": ("a green star left of a blue square", "Is the green star left of the blue square?"),
    "text": ('two red circles and the word "SHOP"', 'Does the image show the text "SHOP"?'),
    "background": ("two red circles on a yellow background", "Is the background yellow?"),
}
kinds = pytest.mark.parametrize("kind", FAULTS)


def describe(prompt, question):
    """Return a prompt as the loop writes it."""
    told = f"Change the picture so that the answer is yes: {question} Everything else stays as it is."
    return f"{told}\nThe whole picture shows: {prompt}"


async def edit(prompt, source=PNG, rates=ALWAYS, seed=3, size=(512, 512), **more):
    width, height = size
    request = ImageRequest(prompt=prompt, seed=seed, width=width, height=height, source=source, **more)
    return await BlocksGenerator(rates=rates).generate(request)


def seen(image):
    return detect_scene(Image.open(io.BytesIO(image.data)).convert("RGB"))


def array(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def questions_of(prompt):
    return [item.question for item in decompose_prompt(prompt)]


def met(prompt, scene):
    return {question for question in questions_of(prompt) if truth(scene, question) == "yes"}


@kinds
async def test_each_kind_of_fault_is_mended_and_nothing_else_touched(kind):
    prompt, question = FAULTS[kind]
    before = met(prompt, SCENE)
    assert question in questions_of(prompt)
    assert question not in before
    image = await edit(describe(prompt, question))
    scene = seen(image)
    assert met(prompt, scene) >= before | {question}, describe_scene(scene)
    assert not image.warnings
    # What nobody spoke of keeps its pixels.
    named = {word.rstrip("s") for asked in questions_of(prompt) for word in re.findall(r"\w+", asked)}
    for thing in SCENE.things:
        if thing.noun not in named:
            alone = np.asarray(paint_scene(replace(SCENE, things=(thing,))), dtype=int)
            own = np.abs(alone - np.asarray(paint_scene(replace(SCENE, things=())), dtype=int)).max(axis=2) > 60
            # At its very edge it may be painted again, where what is next to it changes.
            own = ndimage.binary_erosion(ndimage.binary_fill_holes(own), iterations=4)
            assert own.any()
            assert (array(image.data)[own] == array(PNG)[own]).all(), thing


@kinds
async def test_what_breaks_is_something_else(kind):
    prompt, question = FAULTS[kind]
    scene = seen(await edit(describe(prompt, question), rates=BREAKS))
    before, after = met(prompt, SCENE), met(prompt, scene)
    assert question not in after
    assert not before or before - after


@kinds
async def test_the_judges_box_lets_the_editor_mend(kind):
    prompt, question = FAULTS[kind]
    parts = [
        {"type": "text", "text": wrap_in_tag("questions", f"1. {question}")},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}},
    ]
    reply = BlocksChat().invoke([SystemMessage("Task: checklist\nLook."), HumanMessage(parts)])
    (answer,) = ChecklistReply.model_validate_json(reply.content).answers
    assert answer.answer == "no"
    if kind == "background":
        assert answer.box == []
        return
    mask = make_mask([answer.box], (512, 512))
    image = await edit(describe(prompt, question), mask=mask)
    assert question in met(prompt, seen(image))
    outside = array(mask)[..., 0] == 0
    assert (array(image.data)[outside] == array(PNG)[outside]).all()


def test_a_missing_thing_has_its_place_where_the_other_questions_want_it():
    prompt = "a pink heart, a green star below the heart, and a white cross right of the text"
    box = locate_fault(SCENE, "Is there a green star?", questions_of(prompt))
    assert box[1] >= 132 / 512 * 1000
    assert locate_fault(SCENE, "Is there a pink heart?", questions_of(prompt)) == []
    assert locate_fault(SCENE, "Is there a cat?", questions_of(prompt)) == []


@kinds
async def test_a_mask_elsewhere_lets_nothing_be_mended(kind):
    prompt, question = FAULTS[kind]
    mask = make_mask([(960, 20, 980, 40)], (512, 512))
    image = await edit(describe(prompt, question), mask=mask)
    assert question not in met(prompt, seen(image))
    outside = array(mask)[..., 0] == 0
    assert (array(image.data)[outside] == array(PNG)[outside]).all()


async def test_a_missing_thing_is_added_in_the_free_room_of_a_mask():
    box = (650, 400, 950, 700)
    image = await edit(describe(*FAULTS["object"]), mask=make_mask([box], (512, 512)))
    (star,) = (thing for thing in seen(image).things if thing.noun == "star")
    assert (star.colour, seen(image).size(star)) == ("green", "medium")
    assert 600 <= star.centre[0] / 0.512 <= 1000
    assert 350 <= star.centre[1] / 0.512 <= 750


COMMANDS = {
    "make the circles green": "two green circles, a blue square, a pink heart",
    "Remove the square.": "two red circles and a pink heart",
    "add a red star at the top left": "a red star, two red circles, a blue square and a pink heart",
    "add another red circle": "three red circles, a blue square, a pink heart",
    "change the word to GO": 'two red circles, a blue square, a pink heart and the text "GO"',
    'Change "STOP" to "GO"': 'the text "GO"',
    "turn the square yellow": "two red circles, a yellow square, a pink heart",
    "make the background pink, everything else stays as it is": "two red circles, a blue square on a pink background",
    "replace the square with a green heart": "two red circles, a green heart, a pink heart",
    "turn the heart into a star": "two red circles, a blue square, a star",
    "move the square above the circles": "a blue square above two red circles, a pink heart",
    "make the square striped and the heart large": "a striped blue square, a large pink heart, two red circles",
    "please make the two circles small": "two small red circles, a blue square",
    "erase the text": "two red circles, a blue square, a pink heart, no text",
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_users_own_instructions(command):
    scene = seen(await edit(command))
    wanted = COMMANDS[command]
    assert met(wanted, scene) == {*questions_of(wanted)}, describe_scene(scene)


async def test_what_is_added_stands_where_it_was_told_to():
    (star,) = (t for t in seen(await edit("add a red star at the bottom right")).things if t.noun == "star")
    assert min(star.centre) > 256


@pytest.mark.parametrize(
    "prompt",
    [
        "remove the dog",
        "make it prettier",
        "",
        describe("two red circles", "Is the dog's tail longer?"),
        describe("two red circles", "Are there exactly two red circles?"),
    ],
)
async def test_what_is_not_understood_changes_nothing_and_is_told(prompt):
    image = await edit(prompt)
    assert (array(image.data) == array(PNG)).all()
    assert len(image.warnings) == 1


async def test_what_is_so_already_is_told():
    image = await edit("two red circles")
    assert (array(image.data) == array(PNG)).all()
    assert "already" in image.warnings[0]


async def test_what_is_understood_in_part_is_done_and_told():
    image = await edit("make the circles green and add a dog")
    assert met("two green circles", seen(image))
    assert "a dog" in image.warnings[0]


def strange_pictures():
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3)).astype(np.uint8))
    return [
        Image.fromarray(rng.integers(0, 255, (512, 512, 3)).astype(np.uint8)),
        Image.effect_mandelbrot((512, 512), (-2.0, -1.5, 1.0, 1.5), 100).convert("RGB"),
        coarse.resize((512, 512), Image.Resampling.BICUBIC),
    ]


@pytest.mark.parametrize("picture", strange_pictures())
async def test_a_photograph_is_not_edited_except_in_a_mask(picture):
    source = encode_png(picture)
    image = await edit("add a red star", source)
    assert (array(image.data) == array(source)).all()
    assert "recognises nothing" in image.warnings[0]
    mask = make_mask([(400, 400, 600, 600)], (512, 512))
    image = await edit("add a red star", source, mask=mask)
    assert (array(image.data) != array(source)).any()


async def test_transparency_outside_of_the_change_stays():
    source = Image.open(io.BytesIO(PNG)).convert("RGBA")
    source.putalpha(Image.fromarray(np.repeat(np.linspace(255, 0, 512), 512).reshape(512, 512).astype(np.uint8)))
    png = encode_png(source)
    image = await edit("turn the square yellow", png)
    assert "A" in Image.open(io.BytesIO(image.data)).mode
    before, after = array(png), array(image.data)
    assert (before[:200] == after[:200]).all()
    assert (before[320:] == after[320:]).all()
    assert tuple(after[260, 160]) != tuple(before[260, 160])
    assert after[260, 160, 3] == 255


@pytest.mark.parametrize("size", [(128, 128), (640, 256), (256, 1024), (1024, 1024)])
async def test_sizes(size):
    prompt = "two red circles above a blue square, and a pink heart"
    drawn = await BlocksGenerator().generate(ImageRequest(prompt=prompt, seed=11, width=size[0], height=size[1]))
    image = await edit("turn the square yellow", drawn.data, size=size)
    assert (image.width, image.height) == size
    assert met("a yellow square", seen(image))
    assert (array(image.data) == array(drawn.data)).mean() > 0.9


async def test_a_source_of_another_size_is_scaled():
    image = await edit("turn the square yellow", size=(256, 256))
    assert (image.width, image.height) == (256, 256)
    assert met("two red circles and a yellow square", seen(image)) == {
        *questions_of("two red circles and a yellow square")
    }


async def test_prompt_seed_and_source_decide():
    prompt, rates = describe(*FAULTS["object"]), EditorRates(0.5, 0.5)
    results = {seed: (await edit(prompt, rates=rates, seed=seed)).data for seed in range(6)}
    assert results[0] == (await edit(prompt, rates=rates, seed=0)).data
    assert len({*results.values()}) > 2
    assert (array((await edit(prompt, rates=NEVER)).data) == array(PNG)).all()


@pytest.mark.parametrize("editor", EDITORS)
async def test_rates_are_those_of_the_table(editor):
    generator, detector = BlocksGenerator(editor), Detector()
    small = encode_png(Image.open(io.BytesIO(PNG)).resize((256, 256), Image.Resampling.LANCZOS))
    before, faults = (
        {prompt: met(prompt, SCENE) for prompt, _ in FAULTS.values()},
        [FAULTS[k] for k in ("texture", "too few", "text")],
    )
    fixed = broken = 0
    draws = 150
    for seed in range(draws):
        prompt, question = faults[seed % len(faults)]
        request = ImageRequest(prompt=describe(prompt, question), seed=seed, width=256, height=256, source=small)
        after = met(prompt, detector.detect((await generator.generate(request)).data))
        fixed += question in after
        broken += bool(before[prompt] - after)
    rates = EDITORS[editor]
    # Four standard deviations of so many draws.
    assert abs(fixed / draws - rates.fixes) < 4 * (rates.fixes * (1 - rates.fixes) / draws) ** 0.5
    assert abs(broken / draws - rates.breaks) < 4 * (rates.breaks * (1 - rates.breaks) / draws) ** 0.5


async def test_damage_lies_inside_and_outside_of_the_region():
    prompt, question = "two red circles, a striped blue square and a pink heart", "Is the blue square striped?"
    places = set()
    for seed in range(24):
        changed = (array((await edit(describe(prompt, question), rates=BREAKS, seed=seed)).data) != array(PNG)).any(
            axis=2
        )
        region = np.zeros_like(changed)
        region[200:320, 100:220] = True
        places.add("inside" if changed[region].any() and not changed[~region].any() else "outside")
    assert places == {"inside", "outside"}


@kinds
def test_the_reflectors_instruction_names_the_fault(kind):
    prompt, question = FAULTS[kind]
    tags = {
        "user_prompt": prompt,
        "drawn_prompt": prompt,
        "failed": f"1. {question} - Not so.",
        "fault": f"{question} - Not so. (at [1, 2, 3, 4], in thousandths from the upper left)",
    }
    parts = [{"type": "text", "text": wrap_in_tag(name, text)} for name, text in tags.items()]
    reply = BlocksChat().invoke([SystemMessage("Task: mend\nMend it."), HumanMessage(parts)])
    mending = MendingReply.model_validate_json(reply.content)
    assert mending.instruction == write_instruction(prompt, tags["fault"])
    assert mending.prompt.startswith(prompt)
    assert mending.experience


@kinds
async def test_the_editor_understands_the_reflectors_instruction(kind):
    prompt, question = FAULTS[kind]
    told = write_instruction(prompt, f"{question} - Not so.")
    image = await edit(f"{told}\nThe whole picture shows: {prompt}")
    assert question in met(prompt, seen(image)), told
