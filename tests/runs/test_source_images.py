"""Runs that edit a picture: every round the same one, and nobody loses or sees it who should not."""

from __future__ import annotations

import io
import os
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gems.errors import (
    DiskFullError,
    EditingUnsupportedError,
    ImageMissingError,
    OptionError,
    RequestError,
    RunDrainedError,
)
from gems.events import ImageDrawn
from gems.generation import ImageRequest
from gems.memory.source_images import MAX_BYTES, read_source_image
from gems.nodes.prompts import EDITED, ORIGINAL
from gems.results import RunResult
from gems.service import Gems
from tests.support.scripted_service import FILES_ONLY, House, told
from tests.support.stub.faults import bomb

SIZE = (96, 48)
OLD_S = 3 * 3600.0


def photo(colour: str = "blue", form: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", SIZE, colour).save(out, form, **more)
    return out.getvalue()


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A home whose generator edits."""
    house = House(tmp_path / "home")
    house.edits()
    return house


@pytest.fixture
def stored_house(house: House, backend: str | None) -> House:
    """The same with each kind of store, and a judge that is never content."""
    house.never_pass()
    return house


async def edited(gems: Gems, source: bytes | None = None, **more: Any) -> RunResult:
    given: dict[str, Any] = {"seed": 7, "max_rounds": 2, "source": source or photo()} | more
    return await gems.run("make the top red", **given)


def stored(gems: Gems) -> set[str]:
    return {path.stem for path in gems.resources.images.folder.rglob("*.png")}


def images_of(*results: RunResult) -> set[str]:
    drawn = {c["image"] for result in results for turn in result.rounds for c in turn["candidates"]}
    return drawn | {result.options["source"] for result in results}


def aged(gems: Gems) -> None:
    for path in gems.resources.images.folder.rglob("*.png"):
        os.utime(path, (time.time() - OLD_S,) * 2)


async def test_each_round_edits_the_source(house: House) -> None:
    house.never_pass()
    async with house.gems() as gems:
        result = await edited(gems, max_rounds=3)
        assert [turn["number"] for turn in result.rounds] == [1, 2, 3]
        requests = house.generator.requests
        assert len({request.prompt for request in requests}) == 3
        source = await gems.resources.images.load(result.options["source"])
        assert {request.source for request in requests} == {source}
        assert {(request.width, request.height) for request in requests} == {SIZE}
        assert result.image.getpixel((0, SIZE[1] - 1)) == (0, 0, 255)
        shown = await gems.show(result.run_id)
        assert (shown.options, shown.options["sized"]) == (result.options, True)


async def test_the_judge_compares_with_the_original(house: House) -> None:
    house.chat.script["checklist"] = [
        {"answers": [{"number": n, "answer": said} for n in (1, 2)]} for said in ("no", *["yes"] * 4)
    ]
    async with house.gems() as gems:
        result = await edited(gems)
    assert result.stop_reason == "passed"
    first, second, again, *_ = house.chat.about("checklist")
    for asked in (first, second, again):
        assert len(asked.pictures) == 2
        assert asked.text.index(ORIGINAL) < asked.text.index(EDITED)
    assert first.pictures[0] == second.pictures[0]
    assert first.pictures[1] != second.pictures[1]
    assert second.pictures == again.pictures
    (reflected,) = house.chat.about("reflect")
    assert reflected.pictures == first.pictures
    assert reflected.text.startswith(ORIGINAL)


async def test_the_papers_calls_stay_as_they_are(house: House) -> None:
    house.chat.script["verify"] = "No."
    async with house.gems() as gems:
        await edited(gems, profile="paper")
    assert all(request.source for request in house.generator.requests)
    assert {len(asked.pictures) for asked in house.chat.about("verify")} == {1}
    assert ORIGINAL not in "".join(asked.text for asked in house.chat.asked)


async def test_a_run_without_a_source_knows_of_none(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat")
        (row,) = await gems.runs()
    assert "source" not in result.options
    assert "source" not in row["options"]
    assert house.generator.requests[0].source is None


async def test_a_generator_that_cannot_edit_costs_nothing(house: House) -> None:
    house.generator.capabilities = replace(house.generator.capabilities, editing=False)
    async with house.gems() as gems:
        with pytest.raises(EditingUnsupportedError, match="flat cannot edit images"):
            await edited(gems)
        assert await gems.runs() == []
        assert not gems.resources.images.folder.exists()
    assert house.chat.asked == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "not a valid image"),
        (b"sesame=secret", "not a valid image"),
        (photo()[:60], "not a valid image"),
        (bomb(), "more than 64,000,000 pixels"),
        (b"\0" * (MAX_BYTES + 1), "more than 50,000,000 bytes"),
        (Path("missing.png"), "There is no file"),
        (Path(), "There is no file"),
        ("photo.png", "The source is not an image"),
    ],
    ids=["empty", "text", "cut", "bomb", "huge", "missing", "folder", "a text"],
)
async def test_what_is_no_picture_costs_nothing(house: House, source: Any, message: str) -> None:
    async with house.gems() as gems:
        with pytest.raises(RequestError, match=message) as caught:
            await gems.run("make it red", source=source)
        assert "sesame" not in str(caught.value)
        assert await gems.runs() == []
    assert house.chat.asked == []


async def test_other_faults_leave_no_picture_behind(house: House) -> None:
    async with house.gems() as gems:
        for fault in ({"max_rounds": 99}, {"skills": "nonesuch"}, {"out": "x.jpg"}):
            with pytest.raises(OptionError):
                await edited(gems, **fault)
        assert not gems.resources.images.folder.exists()


async def test_a_full_disk_is_told_before_anything_is_paid_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gems.memory.images.write_atomically", full)
    async with house.gems() as gems:
        with pytest.raises(DiskFullError):
            await edited(gems)
        assert await gems.runs() == []
    assert house.chat.asked == []


@pytest.mark.parametrize(("asked", "drawn"), [(None, SIZE), ("64x32", (64, 32))], ids=["its own", "another"])
async def test_size(house: House, asked: str | None, drawn: tuple[int, int]) -> None:
    async with house.gems() as gems:
        result = await edited(gems, size=asked)
    assert (result.options["width"], result.options["height"]) == drawn


async def test_a_size_that_cannot_be_drawn_makes_way_for_the_generators_own(house: House) -> None:
    house.generator.capabilities = replace(house.generator.capabilities, size_multiple=64)
    async with house.gems() as gems:
        result = await edited(gems)
    assert (result.options["width"], result.options["height"], result.options["sized"]) == (64, 64, False)


def secretive() -> bytes:
    chunks = PngInfo()
    chunks.add_text("parameters", "sesame")
    return photo(pnginfo=chunks)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "sesame"
    return photo(form="JPEG", exif=exif)


@pytest.mark.parametrize(
    ("given", "size"),
    [(secretive(), SIZE), (turned(), SIZE[::-1]), (photo(form="WEBP"), SIZE)],
    ids=["PNG", "JPEG", "WebP"],
)
def test_only_the_pixels_are_kept(given: bytes, size: tuple[int, int]) -> None:
    source = read_source_image(given)
    assert b"sesame" not in source.png
    with Image.open(io.BytesIO(source.png)) as picture:
        assert (picture.format, picture.size, picture.info) == ("PNG", size, {})
    assert (source.width, source.height) == size


def test_what_is_transparent_stays_so() -> None:
    out = io.BytesIO()
    Image.new("RGBA", SIZE, (255, 0, 0, 0)).save(out, "PNG")
    with Image.open(io.BytesIO(read_source_image(out.getvalue()).png)) as picture:
        assert (picture.mode, picture.getpixel((0, 0))) == ("RGBA", (255, 0, 0, 0))


def test_sixteen_bits_are_scaled() -> None:
    out = io.BytesIO()
    Image.new("I;16", SIZE, 0x8000).save(out, "PNG")
    with Image.open(io.BytesIO(read_source_image(out.getvalue()).png)) as picture:
        assert picture.getpixel((0, 0)) == (128, 128, 128)


def test_damaged_words_beside_whole_pixels_do_no_harm() -> None:
    for form in ("JPEG", "PNG"):
        assert read_source_image(photo(form=form, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).width == SIZE[0]


async def drained(gems: Gems) -> None:
    async with aclosing(gems.stream("make the top red", seed=7, source=photo())) as events:
        async for event in events:
            if isinstance(event, ImageDrawn):
                gems.drain()


async def test_a_drained_run_goes_on_with_its_source(stored_house: House) -> None:
    house = stored_house
    async with house.gems() as gems:
        with pytest.raises(RunDrainedError) as caught:
            await drained(gems)
    async with house.gems() as gems:
        result = await gems.resume(caught.value.run_id)
        source = await gems.resources.images.load(result.options["source"])
    assert len(result.rounds) == len(house.drawn()) == len(set(house.drawn())) > 1
    assert {request.source for request in house.generator.requests} == {source}


async def test_a_run_that_was_killed_before_its_first_checkpoint(stored_house: House) -> None:
    async with stored_house.gems() as gems:
        row = await gems.resources.ledger.run((await edited(gems)).run_id)
        assert row is not None
        models = gems.resources.models()
        await gems.resources.ledger.begin("killed", row["prompt"], row["options"], models)
        result = await gems.resume("killed")
        assert result.options == row["options"]
    assert len({request.source for request in stored_house.generator.requests}) == 1


async def test_a_source_that_is_gone_is_told(house: House) -> None:
    house.never_pass()
    async with house.gems() as gems:
        result = await edited(gems)
        row = await gems.resources.ledger.run(result.run_id)
        assert row is not None
        await gems.resources.ledger.begin("killed", row["prompt"], row["options"], gems.resources.models())
        gems.resources.images.path(result.options["source"]).unlink()
        with pytest.raises(ImageMissingError):
            await gems.resume("killed")


async def test_a_fork_edits_the_same_picture(stored_house: House) -> None:
    house = stored_house
    async with house.gems() as gems:
        run = await edited(gems)
        house.generator.requests.clear()
        fork = await gems.fork(run.run_id, 1, "make the top green")
        assert fork.options["source"] == run.options["source"]
        source = await gems.resources.images.load(run.options["source"])
        assert [request.source for request in house.generator.requests] == [source]
        house.generator.capabilities = replace(house.generator.capabilities, editing=False)
        with pytest.raises(EditingUnsupportedError):
            await gems.fork(run.run_id, 1, "make the top green")


async def test_a_source_goes_with_the_last_run_that_edits_it(stored_house: House) -> None:
    async with stored_house.gems() as gems:
        first, second = await edited(gems), await edited(gems, seed=8)
        other = await edited(gems, photo("green"))
        fork = await gems.fork(second.run_id, 1, "make the top green")
        assert (await gems.delete(first.run_id)).images == 2
        assert stored(gems) == images_of(second, other, fork)
        looked = await gems.delete(second.run_id, dry_run=True)
        assert (await gems.delete(second.run_id)).images == looked.images == 1
        assert stored(gems) == images_of(other, fork)
        await gems.delete(fork.run_id)
        assert stored(gems) == images_of(other)
        await gems.delete(other.run_id)
        assert stored(gems) == set()


async def test_what_a_run_edits_is_no_garbage(stored_house: House) -> None:
    async with stored_house.gems() as gems:
        run = await edited(gems)
        row = await gems.resources.ledger.run(run.run_id)
        assert row is not None
        fresh = read_source_image(photo("green"))
        await gems.resources.images.put(fresh.png)
        # Of this one, nothing but its row is there yet.
        options = row["options"] | {"source": fresh.id}
        await gems.resources.ledger.begin("fresh", "make it red", options, {})
        await gems.resources.images.put(photo("yellow"))
        aged(gems)
        assert (await gems.gc(unlisted=True)).images == 1
        assert stored(gems) == images_of(run) | {fresh.id}


@FILES_ONLY
async def test_a_source_that_is_given_while_another_run_is_deleted(
    stored_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run was the last one to use it when the deletion looked."""
    async with stored_house.gems() as gems:
        first = await edited(gems)
        begin = gems.resources.ledger.begin

        async def begin_late(*arguments: Any) -> Any:
            await gems.delete(first.run_id)
            assert first.options["source"] not in stored(gems)
            return await begin(*arguments)

        # As if the clock had not moved since: what was just put looks as old as the deletion.
        monkeypatch.setattr("gems.runs.cleanup._cutoff_time", _in_an_hour)
        monkeypatch.setattr(gems.resources.ledger, "begin", begin_late)
        second = await edited(gems)
        assert second.options["source"] in stored(gems)


async def _in_an_hour(*_: object) -> float:
    return time.time() + 3600


async def test_owners_see_what_their_runs_edit(stored_house: House) -> None:
    async with stored_house.gems() as gems:
        source = (await edited(gems, owner="ann", max_rounds=1)).options["source"]
        ledger = gems.resources.ledger
        assert await ledger.owns_image("ann", source)
        assert not await ledger.owns_image("bob", source)
        # Whoever knows an id cannot make it theirs by writing it somewhere.
        for words in (source, f'"source": "{source}"', f'source": "{source}'):
            await gems.run(words, negative_prompt=words, max_rounds=1, owner="bob")
        assert not await ledger.owns_image("bob", source)


async def test_what_an_owner_writes_makes_no_image_theirs(stored_house: House) -> None:
    """Generators tell what they were asked for as parameters, next to the image's id."""
    async with stored_house.gems() as gems:
        image = (await gems.run("a red cat", owner="ann", max_rounds=1)).image_id or ""
        generate = stored_house.generator.generate

        async def telling(request: ImageRequest) -> Any:
            return replace(await generate(request), parameters={"negative_prompt": request.negative_prompt})

        stored_house.generator.generate = telling  # type: ignore[method-assign]
        await gems.run("a dog", negative_prompt=image, max_rounds=1, owner="bob")
        assert await gems.resources.ledger.owns_image("ann", image)
        assert not await gems.resources.ledger.owns_image("bob", image)


async def test_the_page_of_a_run_shows_the_original(house: House) -> None:
    async with house.gems() as gems:
        page = await gems.report((await edited(gems)).run_id)
        plain = await gems.report((await gems.run("a red cat")).run_id)
    assert "The original, which each round edits" in page
    assert "The original" not in plain


async def test_the_picture_says_what_it_was_made_from(house: House) -> None:
    async with house.gems() as gems:
        result = await edited(gems)
    assert f'"source": "{result.options["source"]}"' in result.image.info["gems"]


async def test_events_hold_no_picture(house: House) -> None:
    async with house.gems() as gems:
        events = await told(gems.stream("make the top red", source=photo()))
        (row,) = await gems.runs()
        state = (await gems._snapshot(row["run_id"])).values
    assert not any(isinstance(value, bytes) for value in state.values())
    assert all(len(event.model_dump_json()) < 20_000 for event in events)
