"""No key is in anything that is written or shown, by whatever way in, also where endpoints repeat it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gems.apps.server.app import create_app
from gems.errors import GemsError, ModelSpecError
from gems.memory.embeddings import open_embedder
from gems.models.specs import parse_generator_spec
from gems.observability.logging import JsonLines, configure_logging
from gems.observability.redaction import hide, known_secrets, redact, secrets_in, secrets_of_address
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.chat_script import PROMPT, Script, settings_for
from tests.support.home_contents import places_of
from tests.support.http_server import begun, serving
from tests.support.log_state import logging_as_before
from tests.support.stub import StubServer
from tests.support.stub.models import flat_picture
from tests.support.stub.responses import Answer
from tests.support.terminal import here

# Of no shape by which a key could be told: each has to be known for what it is.
CHAT, IMAGE, BODY, QUERY = (f"{name}/planted+3f9c2a71d0be" for name in ("chat", "image", "body", "query"))
PLANTED = (CHAT, IMAGE, BODY, QUERY)


class Repeating(Script):
    """A chat model that answers as it should, with the keys in every text that it writes."""

    def __init__(self) -> None:
        super().__init__(1)

    def __call__(self, messages: list[dict[str, Any]]) -> Answer:
        answer = super().__call__(messages)
        text = (answer.content or "").replace("circles", f"circles {CHAT} {BODY}")
        text = text.replace("a square or none", f"none of {CHAT} and {BODY}").replace("missing", CHAT)
        return Answer(text, reasoning=f"I was sent {CHAT} and {BODY}.")


def chat_fails(_messages: Any) -> Any:
    raise LookupError(f"You sent {CHAT} and {BODY}.")


class ImageServer:
    """An image server that fails, and says which keys it was sent."""

    sent: tuple[str, ...] = (IMAGE, BODY)

    def __call__(self, _request: Any) -> Any:
        # The error that is told of is cut in the middle of the last key.
        raise LookupError(f"You sent {' and '.join(self.sent)}. {'x ' * 50}{IMAGE * 20}")


WORLDS: dict[str, dict[str, Any]] = {
    "answers": {"chat": Repeating(), "images": flat_picture},
    "chat errors": {"chat": chat_fails, "images": flat_picture},
    "image errors": {"chat": Script(), "images": ImageServer()},
    # What is quoted of it ends in the middle of the key.
    "pictures": {"chat": Script(), "images": lambda _request: f"{'.' * 25}{IMAGE}".encode()},
}


@pytest.fixture(params=WORLDS)
def stub(request: pytest.FixtureRequest) -> Iterator[StubServer]:
    world = WORLDS[request.param]
    with StubServer(**world, revised_prompt=f"three red circles for {IMAGE}") as server:
        yield server


def planted(stub: StubServer, home: Path, **more: Any) -> Settings:
    """Settings with a key in every place that takes one."""
    quick: dict[str, Any] = {"attempts": 1, "first_wait_s": 0.01, "timeout_s": 20.0}
    return Settings(
        home=home,
        chat=ChatSettings(
            model=f"openai:stub@{stub.base_url}",
            api_key=SecretStr(CHAT),
            extra_body={"metadata": {"user_token": BODY}},
            **quick,
        ),
        generator=GeneratorSettings(
            model=f"openai:painter@{stub.base_url}", api_key=SecretStr(IMAGE), extra_body={"user_key": BODY}, **quick
        ),
        **{"embedder": "lexical"} | more,
    )


def assert_silent(*texts: str) -> None:
    for text in texts:
        assert text
        for secret in PLANTED:
            # The beginning too: what is quoted may be cut within it.
            assert secret[:16] not in text, text[max(0, text.find(secret[:16]) - 300) :][:600]


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    with logging_as_before():
        yield


@pytest.mark.usefixtures("logs_as_before")
def test_by_the_server(stub: StubServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = planted(stub, home)
    log, as_json = io.StringIO(), logging.StreamHandler(io.StringIO())
    configure_logging(settings, log, debug=True)
    as_json.setFormatter(JsonLines(known_secrets(settings)))
    logging.getLogger().addHandler(as_json)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=300) as client:
        run_id = begun(client, PROMPT, size="64x64")
        with client.stream("GET", f"/runs/{run_id}/events") as stream:
            told = "".join(stream.iter_text())
        shown = [client.get(path).text for path in (f"/runs/{run_id}", f"/runs/{run_id}/report", "/runs")]
        bodies = {
            "/v1/images/generations": {"prompt": PROMPT, "size": "64x64", "quality": "low"},
            "/v1/chat/completions": {"messages": [{"role": "user", "content": PROMPT}], "quality": "low"},
            "/gems/invoke": {"input": {"prompt": PROMPT, "size": "64x64", "max_rounds": 1}},
        }
        shown += [client.post(path, json=body).text for path, body in bodies.items()]
        shown.append(client.get("/metrics").text)
    said = " ".join([CHAT, IMAGE, BODY])
    logging.getLogger("library").error("It said %s", said, exc_info=LookupError(said))
    logs = (log.getvalue(), as_json.stream.getvalue())
    assert all("It said [secret] [secret] [secret]" in text for text in logs)
    assert_silent(told, *shown, *logs)
    assert "[secret]" in told
    assert [place for secret in PLANTED for place in places_of(secret, home)] == []


async def test_in_a_notebook(stub: StubServer, tmp_path: Path) -> None:
    settings = planted(stub, tmp_path / "home")
    async with Gems(settings) as gems:
        shown = [repr(settings), str(settings), repr(gems.settings), repr(gems.resources.generator)]
        events = [repr(event) async for event in _told(gems)]
        row = (await gems.runs())[0]
        result = await gems.show(row["run_id"])
        shown += [repr(row), repr(result), result.model_dump_json(), *events]
        shown += [line async for line in gems.memory.export()] or ["nothing was learnt"]
        if result.image_id is not None:
            shown += [str(result._repr_png_()), await gems.report(row["run_id"])]
    assert_silent(*shown)


async def _told(gems: Gems) -> Any:
    try:
        async for event in gems.stream(PROMPT, size="64x64"):
            yield event
    except GemsError as error:
        # What a notebook would show.
        yield error


def test_by_the_command_line(stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageServer, "sent", (IMAGE, QUERY))
    settings = planted(stub, tmp_path / "home")
    for name, value in {
        "HOME": str(settings.home),
        "EMBEDDER": "lexical",
        "CHAT__MODEL": settings.chat.model,
        "CHAT__API_KEY": CHAT,
        "CHAT__EXTRA_BODY": json.dumps(settings.chat.extra_body),
        "CHAT__ATTEMPTS": "1",
        "GENERATOR__MODEL": f"http:{stub.generate_url}?user_key={QUERY.replace('+', '%2B')}",
        "GENERATOR__API_KEY": IMAGE,
        "GENERATOR__ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(f"GEMS_{name}", value)
    out = settings.home / "drawn.png"
    done = [
        here("run", PROMPT, "--size", "64x64", "--out", str(out), "--debug"),
        here("show", "last", "--json"),
        here("memory", "export"),
        here("report", "last", "--out", "-"),
        here("doctor"),
    ]
    assert_silent(*(f"{each.exit_code} {each.stdout} {each.stderr}" for each in done))
    assert (done[0].exit_code in (0, 3)) == out.exists()
    assert [place for secret in PLANTED for place in places_of(secret, settings.home)] == []
    for call in stub.calls("generate"):
        assert (call.body["user_key"], call.headers["authorization"]) == (QUERY, f"Bearer {IMAGE}")


@pytest.mark.parametrize("user", ["tok-en", "anna:hunter2", ":hunter2", "anna:"])
def test_no_spec_holds_a_user(user: str) -> None:
    for spec in (f"openai:m@http://{user}@host/v1", f"http:http://{user}@host/draw"):
        with pytest.raises(ModelSpecError, match="contains a user or a password") as caught:
            parse_generator_spec(spec)
        assert user.strip(":") not in str(caught.value)
    with pytest.raises(ModelSpecError) as caught:
        open_embedder(f"openai:m@http://{user}@host/v1")
    assert user.strip(":") not in str(caught.value)


def test_what_looks_like_a_secret_among_further_fields() -> None:
    fields = {
        "quality": "high",
        "user": "ann",
        "auth": {"value": "short"},
        "list": [{"api-key": "k1"}, "b2f7c1d09e8a4c55a1f0"],
        "number": 5,
        "tokens": 7,
    }
    assert list(secrets_in(fields)) == ["short", "k1", "b2f7c1d09e8a4c55a1f0"]


def test_what_looks_like_a_secret_in_an_address() -> None:
    found = list(secrets_of_address("http://an%40na:hun%2Fter2@host/x?model=z&token=a%2Bb1&size=64"))
    assert found == ["an%40na", "an@na", "hun%2Fter2", "hun/ter2", "a%2Bb1", "a+b1"]


def test_a_secret_is_hidden_where_it_is_cut() -> None:
    secret = "0123456789abcdefghij"
    assert hide(f"it ends in {secret[:13]}", secret) == "it ends in [secret]"
    assert hide(f"{secret}, {secret[:-1]}!", secret) == "[secret], [secret]!"
    assert hide("0123456 and cdefghij", secret) == "0123456 and cdefghij"
    odd = "[secret][secret][secret]"
    assert hide(f"say {odd}", odd) == "say [secret]"
    assert redact("http://tok-en@host/x") == "http://[secret]@host/x"


def test_every_setting_that_takes_a_key_is_known(stub: StubServer, tmp_path: Path) -> None:
    database = SecretStr("postgresql://gems:hunter22@host/db")
    settings = planted(stub, tmp_path, checkpoint=database, embedder_api_key=SecretStr("emb"))
    known = known_secrets(settings.model_copy(update={"detector_api_key": SecretStr("det")}))
    assert {CHAT, IMAGE, BODY, "hunter22", "emb", "det", database.get_secret_value()} <= set(known)
    keys = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert keys == ["checkpoint", "embedder_api_key", "detector_api_key"], "a new one belongs into known_secrets"
    assert known_secrets(None) == ()


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY"])
def test_keys_of_the_environment_are_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "environment-tops3cret")
    assert known_secrets(None) == ("environment-tops3cret",)


def test_settings_for_tests_have_no_key_of_their_own(stub: StubServer, tmp_path: Path) -> None:
    assert known_secrets(settings_for(stub, tmp_path)) == ()
