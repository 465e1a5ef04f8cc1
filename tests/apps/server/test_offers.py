"""A server that offers several generators and judges: HTTP, LangServe, OpenAI's API and the limits of keys."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai as sdk
import pytest
from langserve import RemoteRunnable
from openai import OpenAI

from gems.apps.server.app import create_app
from gems.apps.server.auth import KeyFile
from gems.settings import GeneratorSettings, ServeSettings, Settings
from tests.support.http_server import bearer, begun, result, serving
from tests.support.offers import ASKED, PROMPT, kinds, offering
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub import StubServer

SERVE = ServeSettings(web=False, deadline_s=900, drain_s=1, queue=0)


@pytest.fixture
def settings(tmp_path: Path, stub: StubServer, far: StubServer) -> Settings:
    return offering(tmp_path / "home", stub, far, serve=SERVE)


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with serving(create_app(settings)) as url:
        yield url


def drawn(client: httpx.Client, **options: Any) -> dict[str, Any]:
    return result(client, begun(client, **ASKED | options))


def test_a_request_names_its_models(client: httpx.Client, stub: StubServer, far: StubServer) -> None:
    found = drawn(client, generator="near", judge="strict")
    assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
    assert (found["options"]["generator"], found["options"]["judge"]) == ("near", "strict")
    (entry,) = client.get("/runs").json()["runs"]
    assert entry["models"]["generator"] == f"http:{stub.generate_url}"
    forked = client.post(
        f"/runs/{found['run_id']}/fork", json={"round": 1, "prompt": "three green stars", "generator": "far.2"}
    ).json()["run_id"]
    assert result(client, forked)["models"]["generator"] == "openai:pictures"
    assert kinds(far) == {"chat", "images"}


def test_repairing_names_its_models(client: httpx.Client, stub: StubServer, far: StubServer) -> None:
    png = client.get(drawn(client)["image_url"]).content
    body = {"image": base64.b64encode(png).decode(), "prompt": "four red hearts", "max_rounds": 2}
    answer = client.post("/runs/repair", json=body | {"generator": "far.2", "judge": "kind"})
    assert answer.status_code == 202, answer.text
    found = result(client, answer.json()["run_id"])
    assert found["models"]["generator"] == "openai:pictures"
    assert (kinds(stub), kinds(far)) == ({"chat"}, {"images"})


@pytest.mark.parametrize(("kind", "told"), [("generator", "'far.2', 'near'"), ("judge", "'kind', 'strict'")])
def test_an_unknown_name_is_refused(client: httpx.Client, kind: str, told: str) -> None:
    answer = client.post("/runs", json={"prompt": PROMPT, kind: "nobody"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["fault"]) == (400, "NotOfferedError", "request")
    assert "'nobody'" in error["message"]
    assert told in error["hint"]
    assert client.get("/runs").json()["runs"] == []


def test_langserve_takes_names(url: str, stub: StubServer, far: StubServer) -> None:
    answer = RemoteRunnable(f"{url}/gems/").invoke({**ASKED, "generator": "near"})
    assert answer["options"]["generator"] == "near"
    assert (kinds(stub), kinds(far)) == ({"generate"}, set())


@pytest.fixture
def openai(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=PATIENCE_S) as client:
        yield client


IMAGE: dict[str, Any] = {"prompt": PROMPT, "quality": "low", "size": "256x256"}


def test_model_names_a_generator(openai: OpenAI, stub: StubServer, far: StubServer) -> None:
    assert [model.id for model in openai.models.list()] == ["gems", "blocks", "near", "far.2"]
    assert openai.models.retrieve("far.2").id == "far.2"
    assert openai.images.generate(**IMAGE, model="gems").data
    assert (kinds(stub), kinds(far)) == (set(), set())
    assert openai.images.generate(**IMAGE, model="near", extra_body={"judge": "strict"}).data
    assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
    # Names of OpenAI's own models still stand for the default.
    assert openai.images.generate(**IMAGE, model="gpt-image-1").data
    assert len(stub.calls("generate")) == 1
    said = openai.chat.completions.create(
        model="far.2", messages=[{"role": "user", "content": PROMPT}], extra_body={"max_rounds": 1}
    )
    assert said.model == "far.2"
    assert kinds(far) == {"chat", "images"}
    answer = openai.responses.create(
        model="near", input=PROMPT, tools=[{"type": "image_generation", "quality": "low", "size": "256x256"}]
    )
    assert answer.model == "near"
    assert len(stub.calls("generate")) == 2


def test_unknown_models_are_told_with_those_that_there_are(openai: OpenAI) -> None:
    with pytest.raises(sdk.NotFoundError, match=r"'nobody'. Available models: 'gems', 'blocks', 'near', 'far\.2'"):
        openai.images.generate(**IMAGE, model="nobody")
    with pytest.raises(sdk.BadRequestError, match="'nobody' is not on offer"):
        openai.images.generate(**IMAGE, extra_body={"judge": "nobody"})


def test_editing_is_a_matter_of_the_chosen_generator(openai: OpenAI, client: httpx.Client, far: StubServer) -> None:
    png = client.get(drawn(client)["image_url"]).content
    edited = openai.images.edit(image=("a.png", png), prompt="make the stars red", model="far.2", quality="low")
    assert edited.data
    assert {recorded.path for recorded in far.requests} == {"/v1/images/edits"}
    with pytest.raises(sdk.BadRequestError, match="cannot edit"):
        openai.images.edit(image=("a.png", png), prompt="make the stars red", model="near", quality="low")
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}}
    message: Any = {"role": "user", "content": [{"type": "text", "text": "make the stars red"}, picture]}
    with pytest.raises(sdk.BadRequestError, match="cannot edit"):
        openai.chat.completions.create(model="near", messages=[message])


def test_dollars_of_a_key_are_counted_by_the_run_s_own_prices(settings: Settings, stub: StubServer) -> None:
    unpriced = {"new": GeneratorSettings(model=f"http:{stub.generate_url}")}
    settings = settings.model_copy(update={"offered_generators": settings.offered_generators | unpriced})
    key = KeyFile(settings.home / "keys.json").add("ann", usd_per_day=0.4)
    with (
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, headers=bearer(key), timeout=PATIENCE_S) as client,
    ):
        answer = client.post("/runs", json={**ASKED, "generator": "new"})
        assert answer.status_code == 500, answer.text
        assert "the price of an image is not known" in answer.json()["error"]["message"]
        for _ in range(2):
            # The default costs nothing.
            drawn(client)
        drawn(client, generator="near")
        drawn(client, generator="near")
        answer = client.post("/runs", json=ASKED)
        assert answer.status_code == 429
        assert "0.5 US dollars were spent" in answer.json()["error"]["message"]


def test_a_stopped_run_goes_on_with_its_models(settings: Settings, stub: StubServer, far: StubServer) -> None:
    stub.behaviour.image_s = PATIENCE_S
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        run_id = begun(client, **ASKED, generator="near", judge="strict")
        while not stub.calls("generate"):
            time.sleep(0.01)
    stub.behaviour.image_s = 0.0
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        client.post(f"/runs/{run_id}/resume")
        found = result(client, run_id)
    assert found["image_url"]
    assert found["options"]["judge"] == "strict"
    assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})


def test_a_server_starts_although_a_drained_run_has_lost_its_model(
    settings: Settings, stub: StubServer, caplog: pytest.LogCaptureFixture
) -> None:
    stub.behaviour.image_s = PATIENCE_S
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        run_id = begun(client, **ASKED, generator="near")
        while not stub.calls("generate"):
            time.sleep(0.01)
    left = settings.model_copy(update={"offered_generators": {}})
    with serving(create_app(left)) as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        answer = client.post(f"/runs/{run_id}/resume")
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "NotOfferedError")
        assert client.get(f"/runs/{run_id}").json()["status"] == "interrupted"
