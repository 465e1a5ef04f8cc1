"""Drawing: repeatable, of the right size, honest about what it is."""

import io

import numpy as np
import pytest
from PIL import Image

from gems.errors import EditingUnsupportedError, InvalidImageError, SizeError
from gems.generation import ImageRequest
from gems.models.base import ImageGenerator
from gems.models.blocks import BlocksGenerator, load_prompts, render
from gems.models.blocks.generator import compose_scene

EXAMPLE = 'three red circles above a blue striped square, and the word "GO"'


def pixels(prompt, seed, width=256, height=256):
    return np.asarray(render(prompt, seed, width, height).image)


def test_the_same_request_gives_the_same_pixels():
    assert (pixels(EXAMPLE, 1) == pixels(EXAMPLE, 1)).all()
    assert (pixels(EXAMPLE, 1) != pixels(EXAMPLE, 2)).any()
    assert (pixels(EXAMPLE, 1) != pixels(f"{EXAMPLE}.", 1)).any()
    assert (pixels("a cat", 1) == pixels("a cat", 1)).all()


def test_global_random_state_is_neither_used_nor_changed():
    import random

    random.seed(1)
    first = pixels(EXAMPLE, 3)
    following = random.random()
    random.seed(1)
    assert following == random.random()
    assert (first == pixels(EXAMPLE, 3)).all()


@pytest.mark.parametrize("size", [(128, 128), (640, 256), (256, 1024)])
def test_everything_lies_within_the_picture_and_apart(size):
    for seed in range(4):
        drawn = render(EXAMPLE, seed, *size)
        assert drawn.image.size == size
        boxes = [thing.box for thing in drawn.scene.things]
        for left, top, right, bottom in boxes:
            assert left >= 0
            assert top >= 0
            assert right <= size[0]
            assert bottom <= size[1]
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_crowded_and_contradictory_prompts_still_end():
    crowd = ", ".join(f"nine large {colour} stars" for colour in ("red", "blue", "green", "pink", "brown", "black"))
    assert compose_scene(crowd, 1, 512, 512)[0].things
    circle = (
        "a red circle above a blue square. The blue square above a green star. The green star above the red circle."
    )
    scene, _ = compose_scene(circle, 1, 512, 512)
    assert {thing.noun for thing in scene.things} == {"circle", "square", "star"}


def test_nothing_understood_is_drawn_abstract():
    drawn = render("a cat wearing a hat", 5, 128, 128)
    assert drawn.scene.things == ()
    assert drawn.image.size == (128, 128)


async def test_as_a_generator():
    generator = BlocksGenerator()
    assert isinstance(generator, ImageGenerator)
    seen = []
    request = ImageRequest(prompt=EXAMPLE, seed=9, width=256, height=192, on_progress=lambda *p: seen.append(p))
    image = await generator.generate(request)
    with Image.open(io.BytesIO(image.data)) as picture:
        assert picture.format == "PNG"
        assert picture.size == (image.width, image.height) == (256, 192)
    assert (image.seed, image.model) == (9, "blocks")
    assert seen == [(1, 1)]
    assert image.data == (await generator.generate(request)).data
    assert generator.capabilities.price_usd == 0.0
    await generator.aclose()
    await generator.aclose()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"width": 127}, SizeError),
        ({"height": 2049}, SizeError),
        ({"source": b"x"}, InvalidImageError),
        ({"references": (b"x",)}, EditingUnsupportedError),
    ],
)
async def test_what_it_cannot_do_it_refuses(change, error):
    request = ImageRequest(**{"prompt": "a star", "seed": 0, "width": 128, "height": 128, **change})
    with pytest.raises(error):
        await BlocksGenerator().generate(request)


def test_shipped_prompts():
    prompts = load_prompts()
    assert len(prompts) == len({p.id for p in prompts}) == len({p.prompt for p in prompts}) == 60
    assert {p.difficulty for p in prompts} == {"easy", "medium", "hard"}
    flawless = [not compose_scene(p.prompt, p.seed, 512, 512)[1] for p in prompts]
    assert 0.3 <= sum(flawless) / len(flawless) <= 0.4


def test_a_background_without_things_is_drawn():
    scene = render("a pink background", 1, 256, 256).scene
    assert (scene.background, scene.things) == ("pink", ())
