"""The built-in detector: what it finds, and how often it errs."""

from gems.models.blocks import BlocksDetector, Rendering, render
from gems.models.blocks import vocabulary as words
from gems.models.blocks.error_model import DETECTOR_ERROR
from gems.models.detectors.base import DetectedObject, DetectionRequest, Detections, ObjectDetector
from gems.models.images import encode_png

PROMPT = "two red circles left of a blue square"


def drawn(seed: int = 2) -> tuple[Rendering, bytes]:
    made = render(PROMPT, seed, 512, 512)
    return made, encode_png(made.image)


async def look(image: bytes, *phrases: str, error_rate: float = 0.0) -> Detections:
    detector = BlocksDetector(error_rate)
    assert isinstance(detector, ObjectDetector)
    return await detector.detect(DetectionRequest(image=image, phrases=phrases))


async def test_finds_each_thing_at_its_place() -> None:
    made, image = drawn()
    found = await look(image, "blue square", "circle", "green star")
    (square,) = [thing for thing in made.scene.things if thing.noun == "square"]
    (seen,) = found.of("blue square")
    assert all(abs(edge - 1000 * at / 512) < 6 for edge, at in zip(seen.box, square.box, strict=True))
    assert len(found.of("circle")) == sum(thing.noun == "circle" for thing in made.scene.things)
    assert not found.of("green star")
    assert not found.undecided


async def test_what_is_no_shape_is_undecided() -> None:
    found = await look(drawn()[1], "dog", "text", "background", "circle left of a square")
    assert found.undecided == {"dog", "text", "background", "circle left of a square"}


async def test_errs_as_often_as_it_is_told_and_the_same_way_again() -> None:
    phrases = tuple(f"{colour} {shape}" for shape in ("circle", "square", "star") for colour in words.COLOURS)
    images = [drawn(seed)[1] for seed in range(4)]

    async def look_at_all(rate: float) -> list[list[DetectedObject]]:
        detector = BlocksDetector(rate)
        found = [await detector.detect(DetectionRequest(image=image, phrases=phrases)) for image in images]
        assert await detector.detect(DetectionRequest(image=images[0], phrases=phrases)) == found[0]
        return [each.of(phrase) for each in found for phrase in phrases]

    right = await look_at_all(0.0)
    assert len(right) == 144
    for rate, least, most in ((1.0, 144, 144), (0.3, 28, 58), (DETECTOR_ERROR, 1, 15)):
        assert least <= sum(one != other for one, other in zip(right, await look_at_all(rate), strict=True)) <= most
