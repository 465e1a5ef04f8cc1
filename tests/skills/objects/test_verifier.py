"""What a detector's boxes say about questions."""

import pytest

from gems.errors import GemsError, UnreachableError
from gems.models.detectors.base import DetectedObject, Detections
from gems.skills.authoring import Verifier, VerifierAnswer, VerifierRequest
from gems.skills.objects import ObjectVerifier
from gems.types import Requirement, RequirementKind
from tests.support.detectors import FixedDetector

LEFT, RIGHT, LOW = [100, 100, 300, 300], [600, 120, 800, 300], [120, 700, 280, 900]


def requirement(question: str, kind: RequirementKind = "object") -> Requirement:
    return {"id": "r1", "question": question, "kind": kind, "parents": []}


async def answered(question: str, *objects: tuple[str, float, list[int]], undecided: str = "") -> VerifierAnswer | None:
    seen = Detections(
        objects=tuple(DetectedObject(*each) for each in objects), undecided=frozenset([undecided] if undecided else [])
    )
    verifier: Verifier = ObjectVerifier()
    asked = requirement(question)
    assert verifier.takes(asked)
    request = VerifierRequest(image=b"", user_prompt="", requirements=[asked], detector=FixedDetector(lambda _: seen))
    return (await verifier.verify(request)).get("r1")


CAT, OTHER_CAT, DOG = ("cat", 0.9, LEFT), ("cat", 0.8, RIGHT), ("dog", 0.7, RIGHT)
MAYBE = ("cat", 0.2, LOW)


@pytest.mark.parametrize(
    ("question", "objects", "answer", "box"),
    [
        ("Is there a cat?", [CAT], "yes", []),
        ("Is there a cat?", [], "no", []),
        ("Is there a cat?", [MAYBE], "unknown", []),
        ("Is the image free of cats?", [], "yes", []),
        ("Is the image free of cats?", [CAT, OTHER_CAT], "no", [100, 100, 800, 300]),
        ("Are there exactly two cats?", [CAT, OTHER_CAT], "yes", []),
        ("Are there exactly two cats?", [CAT, MAYBE], "unknown", []),
        ("Are there exactly two cats?", [CAT], "no", []),
        ("Is there exactly one cat?", [CAT, OTHER_CAT], "no", RIGHT),
        ("Are there exactly five cats?", [CAT, OTHER_CAT, MAYBE], "no", []),
        ("Are there at least two cats?", [CAT, OTHER_CAT, MAYBE], "yes", []),
        ("Is the cat left of the dog?", [CAT, DOG], "yes", []),
        ("Is the cat right of the dog?", [CAT, DOG], "no", [100, 100, 800, 300]),
        ("Is the cat above the dog?", [CAT, DOG], "unknown", []),
        ("Is the cat left of the dog?", [CAT], "no", []),
        ("Is the cat left of the dog?", [DOG, MAYBE], "unknown", []),
        ("Is the cat left of the dog?", [CAT, ("cat", 0.9, [850, 100, 990, 300]), DOG], "unknown", []),
        ("Are all cats left of the dog?", [CAT, ("cat", 0.9, [850, 100, 990, 300]), DOG], "no", [100, 100, 990, 300]),
        ("Is the cat in the upper left corner of the image?", [CAT], "yes", []),
        ("Is the cat on the right side of the image?", [CAT], "no", LEFT),
        ("Is the cat in the centre?", [("cat", 0.9, [400, 400, 600, 600])], "yes", []),
        ("Is the cat in the centre?", [CAT], "no", LEFT),
        ("Is the cat in the centre?", [("cat", 0.9, [250, 300, 450, 700])], "unknown", []),
        ("Is the cat on the left?", [("cat", 0.9, [390, 300, 590, 700])], "unknown", []),
    ],
)
async def test_answers(question: str, objects: list[tuple[str, float, list[int]]], answer: str, box: list[int]) -> None:
    found = await answered(question, *objects)
    assert found is not None
    assert (found.answer, list(found.box), found.instrument) == (answer, box, "fixed")


async def test_evidence_says_how_many_and_where() -> None:
    found = await answered("Is the cat left of the dog?", CAT, DOG)
    assert found is not None
    assert found.evidence == f"Found 1 'cat' at {LEFT}, 1 'dog' at {RIGHT}."
    many = [("cat", 0.9, [n * 60, 0, n * 60 + 50, 50]) for n in range(12)]
    told = await answered("Are there exactly two cats?", *many)
    assert told is not None
    assert told.evidence.startswith("Found 12 'cat' at [0, 0, 50, 50]")
    assert len(told.evidence) < 200
    assert (await answered("Is there a cat?")) == VerifierAnswer(
        answer="no", evidence="Found no 'cat'.", box=[], instrument="fixed"
    )


async def test_what_the_detector_cannot_look_for_is_not_answered() -> None:
    assert await answered("Is the cat left of the dog?", CAT, undecided="dog") is None


async def test_all_is_asked_at_once_and_nothing_without_a_detector() -> None:
    detector = FixedDetector(lambda _: Detections(objects=()))
    listed = [
        requirement("Is there a cat?") | {"id": "r1"},
        requirement("Is the cat left of the dog?", "relation") | {"id": "r2"},
        requirement("Is it red?", "attribute") | {"id": "r3"},
    ]
    request = VerifierRequest(image=b"", user_prompt="", requirements=listed, detector=detector)
    assert sorted(await ObjectVerifier().verify(request)) == ["r1", "r2"]
    assert detector.asked == [("cat", "dog")]
    alone = VerifierRequest(image=b"", user_prompt="", requirements=listed)
    assert await ObjectVerifier().verify(alone) == {}


def test_other_kinds_are_not_taken() -> None:
    assert not ObjectVerifier().takes(requirement("Is there a cat?", "style"))
    assert not ObjectVerifier().takes(requirement("Is there a cat?", "text"))


async def test_a_detector_that_fails_is_told() -> None:
    detector = FixedDetector(lambda _: UnreachableError("The detector is down."))
    request = VerifierRequest(
        image=b"", user_prompt="", requirements=[requirement("Is there a cat?")], detector=detector
    )
    with pytest.raises(GemsError, match="down"):
        await ObjectVerifier().verify(request)
