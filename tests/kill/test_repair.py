"""A repair that is killed at any moment goes on in another process and pays for nothing twice."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gems.generation import ImageRequest
from gems.models.masks import read_mask
from tests.kill.test_kill import asked, asking_again, assert_once_but_for_the_held, drawn_for, listed
from tests.support.pausable_models import PATIENCE_S, Holds, World, images_asked_for, wait_for_rows
from tests.support.result_invariants import unchanging
from tests.support.run_processes import finished, worker
from tests.support.stub import StubServer

_STEP = 60
_BOX = [250, 250, 750, 750]


class Editor(World):
    """A world whose judge says where faults are, and whose image model mends one at each edit.

    Attributes:
        strays: Whether the first edit is another picture, which cannot be used.
    """

    strays = False

    def checklist(self, content: Any) -> Any:
        told = super().checklist(content)
        for answer in told["answers"]:
            if answer["answer"] == "no":
                answer["box"] = _BOX
        return told

    def mend(self, content: Any) -> Any:
        return self.reflect(content) | {"instruction": "Mend the cat."}

    def draw(self, request: ImageRequest) -> bytes:
        if request.source is None:
            return super().draw(request)
        self._pass("image", request)
        with Image.open(io.BytesIO(request.source)) as opened:
            source = opened.convert("RGB")
        grey = source.getpixel((64, 64))[0] + _STEP  # type: ignore[index]
        mended = Image.new("RGB", source.size, (grey, grey, grey))
        mended.putpixel((40, 40), tuple(request.seed.to_bytes(4)[1:]))
        if self.strays:
            mended = Image.linear_gradient("L").resize(source.size).convert("RGB")
        elif request.mask is not None:
            mended = Image.composite(mended, source, read_mask(request.mask, source.size))
        out = io.BytesIO()
        mended.save(out, "PNG")
        return out.getvalue()


@dataclass(frozen=True)
class Moment:
    """When to kill: which request is without an answer then, and how many rows the ledger has by then."""

    name: str
    holds: Holds
    drawings: int = 0
    answers: int = 0


def edit(number: int) -> Holds:
    """The edit of so many."""
    count = 0

    def holds(found: str, request: Any) -> bool:
        nonlocal count
        count += found == "image" and request.source is not None
        return found == "image" and request.source is not None and count == number

    return holds


def redrawing(found: str, request: Any) -> bool:
    """The first image that changes no other."""
    return found == "image" and request.source is None


MOMENTS = [
    Moment("before the first answer", asked("decompose")),
    Moment("judging the given image", asked("checklist", 1), answers=2),
    Moment("writing the instruction", asked("mend", 1), answers=3),
    Moment("first edit under way", edit(1), answers=4),
    Moment("judging the first edit", asked("checklist", 2), drawings=1, answers=4),
    Moment("asking again about what is missing", asking_again("asleep", 2), drawings=1, answers=5),
    Moment("second edit under way", edit(2), drawings=1, answers=7),
    Moment("judging the second edit", asked("checklist", 3), drawings=2, answers=7),
]


def killed(home: Path, stub: StubServer, world: World, moment: Moment) -> None:
    """Begin a repair and kill it at a moment."""
    world.hold(moment.holds)
    with worker(home, stub, task="repair") as process:
        assert world.held.wait(PATIENCE_S), "The request to hold never came."
        wait_for_rows(home, "drawings", moment.drawings)
        wait_for_rows(home, "answers", moment.answers)
        process.kill()
        assert process.wait(PATIENCE_S) < 0
    world.release()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result and the requests of a repair that nothing happens to."""
    world = Editor()
    with StubServer(chat=world.chat, images=world.draw) as stub:
        result = finished(tmp_path_factory.mktemp("undisturbed"), stub, task="repair")
        return result, list(stub.requests)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name.replace(" ", "-"))
async def test_killed_repair_goes_on_and_pays_for_nothing_twice(
    tmp_path: Path, moment: Moment, undisturbed: Any
) -> None:
    world, home = Editor(), tmp_path / "home"
    with StubServer(chat=world.chat, images=world.draw) as stub:
        killed(home, stub, world, moment)
        ((run_id, status),) = await listed(home)
        assert status == "interrupted"
        resumed = finished(home, stub, run_id)
        expected, requests = undisturbed
        assert [turn["action"] for turn in resumed["rounds"]][:2] == ["given", "inpaint"]
        assert (resumed["run_id"], resumed["stop_reason"], len(resumed["rounds"])) == (run_id, "passed", 3)
        assert unchanging(resumed) == unchanging(expected)
        assert_once_but_for_the_held(stub.requests, requests)
    images = [item["image"] for turn in resumed["rounds"][1:] for item in turn["candidates"]]
    assert await drawn_for(home, run_id) == images
    assert await listed(home) == [(run_id, "done")]


async def test_edit_that_was_refused_is_not_asked_for_again(tmp_path: Path) -> None:
    world, home = Editor(), tmp_path / "home"
    world.strays = True
    with StubServer(chat=world.chat, images=world.draw) as stub:
        killed(home, stub, world, Moment("drawing anew after an edit", redrawing, answers=5))
        ((run_id, _status),) = await listed(home)
        resumed = finished(home, stub, run_id)
        assert resumed["rounds"][1]["abandoned"] == "inpaint"
        # Only the image whose request was held is asked for twice.
        asked_for = images_asked_for(stub.requests)
        first = next(count for (prompt, _), count in asked_for.items() if re.match("Mend", prompt))
        assert first == 1
        again = sum(count - 1 for count in asked_for.values())
        assert again == 1
        assert resumed["usage"]["generator"]["calls"] == asked_for.total() - again
