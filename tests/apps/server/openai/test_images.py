"""Images through OpenAI's own client, whole and streamed."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from openai import APIError, BadRequestError, OpenAI
from PIL import ExifTags, Image

from gems.apps.server.app import create_app
from gems.apps.server.openai.images import Partials
from gems.errors import RefusedError
from gems.events import Judged
from gems.generation import ImageRequest
from gems.results import RunResult
from gems.service import Gems
from gems.settings import GeneratorSettings, ServeSettings, Settings
from tests.apps.server.openai.conftest import Client, Serve
from tests.support.http_server import serving
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import PATIENCE_S, House

ASKED: dict[str, Any] = {"model": "gems", "prompt": "a red cat"}
EXIFTOOL = shutil.which("exiftool")


def picture(data: str | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data)))


def shown(house: House, run_id: str) -> RunResult:
    """A run as another process sees it."""

    async def show() -> RunResult:
        async with house.gems() as gems:
            return await gems.show(run_id)

    return asyncio.run(show())


def test_an_image_comes_as_png_without_an_address(openai: OpenAI, house: House) -> None:
    raw = openai.images.with_raw_response.generate(**ASKED, response_format="url")
    answer = raw.parse()
    assert answer.data is not None
    (only,) = answer.data
    assert picture(only.b64_json).format == "PNG"
    assert only.url is None
    assert "url" not in raw.http_response.json()["data"][0]
    assert only.revised_prompt == house.drawn()[-1][0]
    assert (answer.size, answer.output_format, answer.quality) == ("64x64", "png", "high")
    assert answer.usage is not None
    asked = len(house.chat.asked)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10 * asked, 5 * asked)
    assert answer.usage.total_tokens == 15 * asked
    assert raw.headers["x-gems-run-id"]


@pytest.mark.parametrize("seed", [-1, 3484050600])
def test_seeds_of_other_programs(openai: OpenAI, house: House, seed: int) -> None:
    openai.images.generate(**ASKED, n=2, extra_body={"seed": seed})
    seeds = {drawn for _, drawn in house.drawn()}
    assert len(seeds) == 2
    assert min(seeds) >= 0
    assert seed in {-1, *seeds}


def test_images_side_by_side_have_seeds_of_their_own(openai: OpenAI, house: House) -> None:
    raw = openai.images.with_raw_response.generate(**ASKED, n=3, extra_body={"seed": 7})
    data = raw.parse().data
    assert data is not None
    assert len({one.b64_json for one in data}) == 3
    seeds = {seed for _, seed in house.drawn()}
    assert len(seeds) == 3
    assert 7 in seeds
    assert len(raw.headers["x-gems-run-id"].split(",")) == 3


@pytest.mark.parametrize(
    ("given", "rounds"),
    [
        ({"quality": "low"}, 1),
        ({"quality": "medium"}, 3),
        # The run gives up before its eighth round.
        ({"quality": "high"}, 6),
        ({"quality": "auto"}, 6),
        ({}, 6),
        ({"quality": "low", "extra_body": {"max_rounds": 2}}, 2),
    ],
)
def test_quality_decides_the_rounds(openai: OpenAI, house: House, given: dict[str, Any], rounds: int) -> None:
    house.never_pass()
    openai.images.generate(**ASKED, **given)
    assert len(house.generator.requests) == rounds


def test_further_fields_reach_the_run(openai: OpenAI, house: House) -> None:
    extra = {
        "seed": 3,
        "negative_prompt": "dogs",
        "max_rounds": 1,
        "budget_usd": 1.5,
        "deadline_s": 50,
        "skills": "none",
        "profile": "paper",
        "candidates": 2,
        "num_inference_steps": 9,
        "guidance_scale": 4,
    }
    raw = openai.images.with_raw_response.generate(**ASKED, extra_body=extra)

    kept: Any = shown(house, raw.headers["x-gems-run-id"]).options
    for name in ("seed", "negative_prompt", "max_rounds", "budget_usd", "skills", "profile", "candidates"):
        assert kept[name] == extra[name]
    assert 45 < kept["deadline_s"] < 50


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({"output_format": "jpeg", "output_compression": 40}, "JPEG"),
        ({"output_format": "webp"}, "WEBP"),
        ({"output_format": "webp", "output_compression": 0}, "WEBP"),
    ],
)
def test_other_formats(openai: OpenAI, given: dict[str, Any], form: str) -> None:
    answer = openai.images.generate(**ASKED, **given)
    assert answer.data is not None
    assert picture(answer.data[0].b64_json).format == form
    assert answer.output_format == given["output_format"]


@pytest.mark.parametrize(("size", "drawn"), [("auto", "64x64"), ("100x50", "100x50"), ("4096x2048", "2048x1024")])
def test_any_size_is_taken(openai: OpenAI, size: str, drawn: str) -> None:
    answer = openai.images.generate(**ASKED, size=size)  # type: ignore[call-overload]
    assert answer.size == drawn
    assert picture(answer.data[0].b64_json).size == tuple(int(side) for side in drawn.split("x"))


def test_the_best_image_so_far_comes_in_time(serve: Serve, client: Client, house: House) -> None:
    house.never_pass()
    house.on_drawing(2, lambda: asyncio.sleep(60))
    answer = client(serve(deadline_s=3)).images.generate(**ASKED)
    assert answer.data is not None
    assert answer.data[0].revised_prompt == house.drawn()[0][0]


def test_a_run_that_is_held_up_is_not_waited_for(
    serve: Serve, client: Client, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no deadline of the run's own could interrupt."""
    monkeypatch.setattr("gems.apps.server.openai.runs._SHARE", 100)
    house.never_pass()
    house.on_drawing(2, lambda: asyncio.sleep(60))
    answer = client(serve(deadline_s=3, drain_s=0)).images.generate(**ASKED)
    assert answer.data is not None
    assert answer.data[0].revised_prompt == house.drawn()[0][0]


def test_the_built_in_world(tmp_path: Path, client: Client) -> None:
    settings = Settings(home=tmp_path / "home", experience="off", serve=ServeSettings(web=False))
    with serving(create_app(settings)) as base:
        answer = client(base).images.generate(prompt="two green stars", size="256x256", extra_body={"seed": 1}, n=2)
        assert httpx.get(f"{base}/v1/models").json()["data"][1]["id"] == "blocks"
    assert answer.data is not None
    assert [picture(one.b64_json).size for one in answer.data] == [(256, 256)] * 2
    assert b"parameters" in base64.b64decode(answer.data[0].b64_json or "")


def streamed(openai: OpenAI, **given: Any) -> list[Any]:
    with openai.images.generate(**ASKED, stream=True, **given) as events:
        return list(events)


def test_images_on_the_way_and_then_the_result(openai: OpenAI, house: House) -> None:
    house.never_pass()
    *partials, last = streamed(openai, quality="medium", partial_images=2)
    assert [event.type for event in partials] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partials] == [0, 1]
    assert all(picture(event.b64_json).size == (64, 64) for event in partials)
    assert last.type == "image_generation.completed"
    assert (last.size, last.quality, last.output_format) == ("64x64", "medium", "png")
    assert picture(last.b64_json).format == "PNG"
    assert last.usage.total_tokens == 15 * len(house.chat.asked)
    assert last.revised_prompt == house.drawn()[0][0]


def test_the_best_image_so_far_is_sent(openai: OpenAI, house: House) -> None:
    """All rounds are alike here, so that the first image stays the best."""
    house.never_pass()
    *partials, last = streamed(openai, quality="medium", partial_images=3)
    assert len(partials) == 3
    assert len({event.b64_json for event in partials}) == 1
    assert picture(last.b64_json).tobytes() == picture(partials[0].b64_json).tobytes()


def test_none_is_sent_on_the_way_where_none_is_wanted(openai: OpenAI, house: House) -> None:
    house.never_pass()
    (last,) = streamed(openai, output_format="webp")
    assert picture(last.b64_json).format == "WEBP"


@pytest.mark.parametrize(
    ("wanted", "rounds", "sent"),
    [(3, 5, [1, 4, 5]), (2, 5, [1, 5]), (1, 5, [5]), (3, 3, [1, 2, 3]), (3, 2, [1, 2]), (0, 5, [])],
)
def test_the_newest_rounds_are_shown(wanted: int, rounds: int, sent: list[int]) -> None:
    partials = Partials(wanted, rounds)
    assert [number for number in range(1, rounds + 1) if partials.select_image(judged(number, 0.5))] == sent


def test_the_round_that_passes_is_shown() -> None:
    partials = Partials(1, 5)
    assert partials.select_image(judged(1, 0.5)) is None
    assert partials.select_image(judged(2, 1.0)) == "2"


def judged(number: int, score: float) -> Judged:
    verdicts: Any = [{"image": str(number), "answers": [], "score": score}]
    return Judged(round=number, verdicts=verdicts, best=0, score=score)


def test_a_fault_in_the_middle_is_an_event(openai: OpenAI, house: House) -> None:
    async def refuse(_request: ImageRequest) -> None:
        raise RefusedError("The filter refuses it.")

    house.generator.before = refuse
    with pytest.raises(APIError, match="The filter refuses it") as caught:
        streamed(openai)
    assert caught.value.code == "content_policy_violation"


def test_silence_is_broken(serve: Serve, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gems.apps.server.openai.images.PING_S", 0.001)
    base = serve()
    with httpx.stream("POST", f"{base}/v1/images/generations", json=ASKED | {"stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-gems-run-id"]
        text = answer.read().decode()
    assert ": keep-alive\n\n" in text
    assert text.count("event: image_generation.completed\n") == 1


def ended(house: House, run_id: str) -> RunResult:
    """A run once it has come to its end."""
    limit = time.monotonic() + PATIENCE_S
    while (result := shown(house, run_id)).status == "running":
        assert time.monotonic() < limit
    return result


def test_a_client_that_leaves_may_ask_to_go_on(openai: OpenAI, house: House) -> None:
    house.never_pass()
    more = {"keep_running": True}
    with openai.images.generate(**ASKED, stream=True, partial_images=3, extra_body=more) as events:
        assert next(iter(events)).type == "image_generation.partial_image"
        run_id = events.response.headers["x-gems-run-id"]
    assert len(ended(house, run_id).rounds) == 6


def cut_out(request: ImageRequest) -> bytes:
    """A picture with a transparent corner."""
    drawn = Image.new("RGBA", (request.width, request.height), "red")
    drawn.paste((0, 0, 0, 0), (0, 0, 8, 8))
    out = io.BytesIO()
    drawn.save(out, "PNG")
    return out.getvalue()


def test_transparent_background_where_the_generator_draws_it(house: House, client: Client) -> None:
    house.generator.paint = cut_out
    settings = settings_at(house.home, serve=ServeSettings(web=False))
    settings = settings.model_copy(update={"generator": GeneratorSettings(background="transparent")})
    gems = Gems(settings, chat=house.chat, generator=house.generator, skills=())
    with serving(create_app(settings, gems)) as base:
        answer = client(base).images.generate(**ASKED, background="transparent")
        assert answer.background == "transparent"
        assert answer.data is not None
        assert picture(answer.data[0].b64_json).getpixel((2, 2)) == (0, 0, 0, 0)
        opaque = client(base).images.generate(**ASKED, output_format="jpeg")
        assert opaque.background == "opaque"
        with pytest.raises(BadRequestError, match="JPEG has no transparency"):
            client(base).images.generate(**ASKED, background="transparent", output_format="jpeg")


def test_transparent_background_elsewhere_is_refused_before_anything_is_drawn(openai: OpenAI, house: House) -> None:
    with pytest.raises(BadRequestError, match="GEMS_GENERATOR__BACKGROUND=transparent"):
        openai.images.generate(**ASKED, background="transparent")
    assert house.drawn() == []
    assert openai.images.generate(**ASKED, background="opaque").background == "opaque"


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats_say_too_how_the_image_was_made(openai: OpenAI, kind: Any) -> None:
    prompt = "a red cat & <dog> \u732b"
    raw = openai.images.generate(model="gems", prompt=prompt, output_format=kind, extra_body={"seed": 7})
    assert raw.data is not None
    with picture(raw.data[0].b64_json) as seen:
        comment = seen.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        xmp = ElementTree.fromstring(seen.info["xmp"])
    assert comment.startswith(b"UNICODE\0")
    text = comment[8:].decode("utf-16-be")
    assert text.startswith(prompt)
    assert "Seed: 7" in text
    assert text in [element.text for element in xmp.iter()]
    (record,) = [element.text for element in xmp.iter() if element.tag == "{urn:gems:provenance}record"]
    assert record is not None
    assert json.loads(record)["run_id"]


@pytest.mark.skipif(EXIFTOOL is None, reason="no exiftool: apt-get install libimage-exiftool-perl")
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("png", ("PNG:Parameters", "PNG:Gems")),
        ("jpeg", ("EXIF:UserComment", "XMP:Record")),
        ("webp", ("EXIF:UserComment", "XMP:Record")),
    ],
)
def test_exiftool_reads_how_the_image_was_made(
    openai: OpenAI, kind: Any, names: tuple[str, str], tmp_path: Path
) -> None:
    prompt = "a red cat & <dog> \u732b"
    raw = openai.images.generate(model="gems", prompt=prompt, output_format=kind, extra_body={"seed": 7})
    assert raw.data is not None
    file = tmp_path / f"cat.{kind}"
    file.write_bytes(base64.b64decode(raw.data[0].b64_json or ""))
    command = [str(EXIFTOOL), "-json", "-G", "-charset", "utf8", str(file)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
    (found,) = json.loads(done.stdout)
    text, record = (found[name] for name in names)
    assert text.startswith(f"{prompt}\nSteps: 4, ")
    assert json.loads(record)["prompt"] == prompt
