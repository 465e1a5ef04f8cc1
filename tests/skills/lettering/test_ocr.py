"""Real reading of pictures that are drawn here."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
import threading
from importlib.machinery import ModuleSpec

import pytest
from PIL import Image

from gems.errors import InvalidImageError, MissingExtraError
from gems.models.blocks.generator import render
from gems.skills.lettering import RapidReader, TextLine, compare
from gems.skills.lettering.ocr import sort_lines
from tests.skills.lettering.conftest import Draw
from tests.support.text_images import as_png, chinese_font

_WITHOUT = """
import sys
sys.modules["rapidocr"] = None
from gems.skills.lettering import RapidReader, compare, wanted_texts
print(RapidReader.is_installed())
print(wanted_texts('the word "GO"'))
print(compare(["GO"], ["NO"])[0].wrong)
"""
ENGLISH = ["GRAND OPENING", "Fresh Bread daily", "Room 42 & 50% off"]


async def texts(reader: RapidReader, png: bytes) -> list[str]:
    return [line.text for line in await reader.read(png)]


async def test_lines_are_read_from_top_to_bottom(reader: RapidReader, draw: Draw) -> None:
    found = await reader.read(draw(ENGLISH))
    assert all(comparison.is_met for comparison in compare(ENGLISH, [line.text for line in found]))
    assert [line.top for line in found] == sorted(line.top for line in found)
    assert all(0.5 < line.confidence <= 1 for line in found)
    assert all(0 <= line.left < line.right <= 640 and 0 <= line.top < line.bottom <= 480 for line in found)


async def test_faults_are_read_as_they_are(reader: RapidReader, draw: Draw) -> None:
    read = await texts(reader, draw(["GRAND OPENNING", "Fresh daily", "Room Room 42"]))
    grand, fresh, room = compare(["GRAND OPENING", "Fresh Bread daily", "Room 42"], read)
    assert grand.wrong == (("OPENING", "OPENNING"),)
    assert fresh.missing == ("Bread",)
    assert room.doubled == ("Room",)


async def test_a_picture_without_text_has_no_lines(reader: RapidReader, draw: Draw) -> None:
    assert await reader.read(draw([])) == []


async def test_white_on_dark(reader: RapidReader, draw: Draw) -> None:
    assert await texts(reader, draw(["NIGHT MARKET"], ink="white", ground="#101030")) == ["NIGHT MARKET"]


async def test_black_on_transparent_is_put_on_white(reader: RapidReader, draw: Draw) -> None:
    assert await texts(reader, draw(["OPEN LATE"], ground=(0, 0, 0, 0))) == ["OPEN LATE"]


async def test_small_pictures_are_enlarged_and_boxes_are_not(reader: RapidReader, draw: Draw) -> None:
    (line,) = await reader.read(draw(["HELLO"], size=12, width=128, height=64))
    assert line.text == "HELLO"
    assert line.right <= 128
    assert line.bottom <= 64


async def test_chinese(reader: RapidReader, draw: Draw) -> None:
    font = chinese_font()
    if font is None:
        pytest.skip("there is no font with Chinese characters")
    wanted = ["新年快乐", "港口步道三公里"]
    read = await texts(reader, draw(["新年快乐", "港口步道三公里"], font=font))
    assert all(comparison.is_met for comparison in compare(wanted, read))
    wrong = await texts(reader, draw(["新年快东"], font=font))
    assert compare(["新年快乐"], wrong)[0].wrong == (("乐", "东"),)


async def test_many_at_once_are_read_one_by_one_on_a_thread_of_its_own(draw: Draw, reader: RapidReader) -> None:
    words = ["NORTH", "SOUTH", "EAST", "WEST"]
    read = await asyncio.gather(*(RapidReader().read(draw([word], width=256, height=128)) for word in words))
    assert [[line.text for line in lines] for lines in read] == [[word] for word in words]
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("gems-ocr")]) == 1


async def test_reading_says_nothing(
    reader: RapidReader, draw: Draw, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await reader.read(draw([]))
        await reader.read(draw(["GO"]))
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if "rapid" in record.name.lower()]


@pytest.mark.parametrize("png", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut off"])
async def test_what_is_no_picture_is_refused(reader: RapidReader, png: bytes) -> None:
    with pytest.raises(InvalidImageError):
        await reader.read(png)


async def test_grey_and_palette_pictures(reader: RapidReader, draw: Draw) -> None:
    picture = Image.open(io.BytesIO(draw(["HELLO"])))
    for mode in ("L", "LA", "P", "1"):
        assert await texts(reader, as_png(picture.convert(mode))) == ["HELLO"]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, package: str | None = None) -> ModuleSpec | None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", none)
    assert not RapidReader.is_installed()
    with pytest.raises(MissingExtraError, match="text in pictures") as caught:
        RapidReader()
    assert caught.value.extra == "ocr"


def test_the_package_is_imported_without_the_extra() -> None:
    told = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, timeout=300, check=True)
    assert told.stdout.splitlines() == ["False", "['GO']", "(('GO', 'NO'),)"]


def test_importing_the_package_loads_nothing_heavy() -> None:
    asked = """
import sys
from gems.skills.lettering import RapidReader
RapidReader.is_installed()
print({"rapidocr", "cv2", "onnxruntime"} & set(sys.modules))
"""
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=300, check=True)
    assert told.stdout.strip() == "set()"


async def test_large_letters_in_a_large_picture(reader: RapidReader) -> None:
    drawn = render('three red circles and the word "NO 7"', 0, 1024, 1024)
    assert "NO 7" in await texts(reader, as_png(drawn.image))


@pytest.mark.parametrize("word", ["GO", "HELLO", "CAFE"])
async def test_what_the_built_in_world_writes(reader: RapidReader, word: str) -> None:
    drawn = render(f'three red circles and the word "{word}"', 0, 512, 512)
    (written,) = (thing.word for thing in drawn.scene.things if thing.word)
    assert compare([written], await texts(reader, as_png(drawn.image)))[0].is_met


def box(text: str, left: int, top: int, height: int = 20) -> TextLine:
    return TextLine(text=text, confidence=1, left=left, top=top, right=left + 50, bottom=top + height)


def test_lines_at_about_the_same_height_form_a_row() -> None:
    lines = [box("d", 200, 63), box("b", 200, 2), box("a", 10, 8), box("c", 10, 60)]
    assert [line.text for line in sort_lines(lines)] == ["a", "b", "c", "d"]


def test_a_slanting_column_is_no_row() -> None:
    lines = [box("c", 0, 24), box("b", 60, 12), box("a", 120, 0)]
    assert sort_lines(lines)[0].text == "a"
