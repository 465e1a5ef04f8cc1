"""Editing through OpenAI's own client, with a generator that is a server too."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai as sdk
import pytest
from openai import OpenAI
from PIL import Image

from gems.apps.server.app import create_app
from gems.apps.server.auth import KeyFile
from gems.models.images import encode_png
from gems.service import Gems
from gems.settings import GeneratorSettings, ServeSettings
from tests.apps.server.openai.conftest import CHAT, Client
from tests.apps.server.openai.test_images import picture, shown
from tests.support.http_server import serving
from tests.support.repairs import is_kept_outside
from tests.support.repairs import photo as sample
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import PATIENCE_S, House
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import edited_picture

SIZE = (96, 48)


def photo() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", SIZE, "blue").save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def editor() -> Iterator[StubServer]:
    with StubServer(images=edited_picture) as stub:
        yield stub


@pytest.fixture
def base(house: House, editor: StubServer) -> Iterator[str]:
    generator = GeneratorSettings(model=f"openai:painter@{editor.base_url}")
    settings = settings_at(house.home, chat=CHAT, generator=generator, serve=ServeSettings(web=False))
    with serving(create_app(settings, Gems(settings, chat=house.chat, skills=()))) as address:
        yield address


def edited(openai: OpenAI, **given: Any) -> Any:
    return openai.images.edit(**{"model": "gems", "image": photo(), "prompt": "make the top red"} | given)


def is_edited(data: str | None) -> bool:
    """Whether a picture is the photo, but for its upper half."""
    with picture(data) as seen:
        above, below = seen.getpixel((0, 0)), seen.getpixel((0, seen.height - 1))
    return above != below == (0, 0, 255)


@pytest.mark.parametrize("several", [False, True], ids=["image", "image[]"])
def test_an_image_is_edited(openai: OpenAI, house: House, editor: StubServer, several: bool) -> None:
    house.never_pass()
    image = [("photo.png", photo(), "image/png")] if several else ("photo.png", photo(), "image/png")
    answer = edited(openai, image=image, quality="medium", input_fidelity="high")
    assert is_edited(answer.data[0].b64_json)
    assert (answer.size, answer.quality) == ("96x48", "medium")
    calls = editor.calls("images")
    assert [call.path for call in calls] == ["/v1/images/edits"] * 3
    assert len({call.files["image"] for call in calls}) == 1
    assert len({call.body["prompt"] for call in calls}) == 3


SENT = base64.b64encode(photo()).decode()
AS_URL = f"data:image/png;base64,{SENT}"


@pytest.mark.parametrize(
    "image",
    [
        {"images": [{"image_url": AS_URL}]},
        {"images": [{"image_url": {"url": AS_URL}}]},
        {"image": AS_URL},
        {"image": SENT},
        {"image": [AS_URL]},
        {"image": {"image_url": SENT}, "mask": None},
        {"images": [{"b64_json": SENT}]},
    ],
)
def test_an_image_is_sent_as_json(base: str, house: House, editor: StubServer, image: dict[str, Any]) -> None:
    house.never_pass()
    body = {"prompt": "make the top red", "n": 1, "stream": False, "max_rounds": 2, "skills": []} | image
    answer = httpx.post(f"{base}/v1/images/edits", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    assert is_edited(answer.json()["data"][0]["b64_json"])
    assert len(editor.calls("images")) == 2


@pytest.mark.parametrize("sent", [SENT, AS_URL], ids=["base64", "data URL"])
@pytest.mark.parametrize("field", ["image", "image[]"])
def test_an_image_is_sent_as_text_of_a_form(base: str, house: House, editor: StubServer, field: str, sent: str) -> None:
    fields = {field: (None, sent), "prompt": (None, "make the top red"), "max_rounds": (None, "1")}
    answer = httpx.post(f"{base}/v1/images/edits", files=fields, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    assert is_edited(answer.json()["data"][0]["b64_json"])


def clear(size: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    """A mask as OpenAI has them: what may change is transparent."""
    whole = Image.new("RGBA", size, (0, 0, 0, 255))
    whole.paste((0, 0, 0, 0), box)
    return encode_png(whole)


@pytest.mark.parametrize("size", [SIZE, (100, 50)], ids=["a size of the generator", "another size"])
def test_nothing_changes_outside_of_a_mask(openai: OpenAI, editor: StubServer, size: tuple[int, int]) -> None:
    before, box = sample(size), (10, 10, 60, 40)
    mask = ("mask.png", clear(size, box), "image/png")
    answer = edited(openai, image=("photo.png", before, "image/png"), mask=mask, size=f"{SIZE[0]}x{SIZE[1]}")
    assert is_kept_outside(before, base64.b64decode(answer.data[0].b64_json), box)
    assert editor.calls("images")[0].files["mask"]


def test_mask_is_sent_as_json(base: str, house: House) -> None:
    image, mask = (base64.b64encode(data).decode() for data in (sample(SIZE), clear(SIZE, (10, 10, 60, 40))))
    body = {"prompt": "it", "image": image, "mask": {"image_url": mask}, "max_rounds": 1}
    answer = httpx.post(f"{base}/v1/images/edits", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    after = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert is_kept_outside(sample(SIZE), after, (10, 10, 60, 40))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (clear((50, 50), (0, 0, 9, 9)), "50x50"),
        (clear(SIZE, (0, 0, 0, 0)), "selects nothing"),
        (b"no image", "not a complete image"),
    ],
)
def test_masks_that_are_refused(openai: OpenAI, house: House, mask: bytes, said: str) -> None:
    with pytest.raises(sdk.BadRequestError, match=said) as caught:
        edited(openai, mask=("mask.png", mask, "image/png"))
    assert (caught.value.code, caught.value.param) == ("invalid_mask", "mask")
    assert house.chat.asked == []


def test_several_results(openai: OpenAI, editor: StubServer) -> None:
    answer = edited(openai, n=3, size="64x32", output_format="webp")
    assert [picture(one.b64_json).size for one in answer.data] == [(64, 32)] * 3
    assert len({call.body["seed"] for call in editor.calls("images")}) == 3


def test_an_edit_is_streamed(openai: OpenAI, house: House) -> None:
    house.never_pass()
    with edited(openai, stream=True, partial_images=2, quality="medium") as events:
        *partials, last = list(events)
    assert [event.type for event in partials] == ["image_edit.partial_image"] * 2
    assert last.type == "image_edit.completed"
    assert all(is_edited(event.b64_json) for event in (*partials, last))


def test_a_server_that_cannot_edit_after_all(openai: OpenAI, editor: StubServer) -> None:
    editor.fault(Fault("404"), "images")
    with pytest.raises(sdk.APIStatusError) as caught:
        edited(openai)
    assert caught.value.status_code == 500
    assert caught.value.type == "server_error"


def test_the_source_is_its_owners(base: str, keys: KeyFile, client: Client, house: House, tmp_path: Path) -> None:
    tokens = {name: keys.add(name) for name in ("ann", "bob")}
    raw = client(base, tokens["ann"]).images.with_raw_response.edit(
        model="gems", image=photo(), prompt="make the top red"
    )
    run_id = raw.headers["x-gems-run-id"]
    address = f"{base}/images/{shown(house, run_id).options['source']}.png"
    seen = {
        name: httpx.get(address, headers={"authorization": f"Bearer {token}"}).status_code
        for name, token in tokens.items()
    }
    assert seen == {"ann": 200, "bob": 404}
    told = httpx.get(f"{base}/runs/{run_id}", headers={"authorization": f"Bearer {tokens['ann']}"}).json()
    assert base + told["source_url"] == address
    assert str(tmp_path) not in str(told)
