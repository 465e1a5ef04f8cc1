"""Model specs, addresses, sizes, moments, and other words of settings and requests."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gems.apps.server.dependencies import is_loopback
from gems.apps.server.images import parse_id
from gems.apps.server.openai.errors import AnswerError
from gems.apps.server.openai.runs import supported_size
from gems.apps.server.runs import _count_received
from gems.errors import GemsError
from gems.generation import GeneratorCapabilities
from gems.memory.chroma import ServerConnection
from gems.memory.embeddings import open_embedder
from gems.models.generators.http import HTTPGenerator
from gems.models.generators.openai import OpenAIImagesGenerator
from gems.models.specs import parse_chat_spec, parse_generator_spec, resolve_on_same_server
from gems.observability.redaction import display_url, known_secrets
from gems.options import check_prompt, parse_datetime, parse_duration, parse_size
from gems.settings import Settings, load_settings, with_models
from tests.support.text_strategies import odd_texts, texts, values

NOW = datetime(2026, 1, 31, tzinfo=UTC)
addresses = st.one_of(
    texts,
    st.tuples(st.sampled_from(["http://", "https://", "http:", "//", ""]), texts).map("".join),
    st.tuples(st.just("http://"), st.sampled_from(["h", "[::1]", "u:p@h", "h:1", "h:0"]), texts).map("".join),
)
specs = st.one_of(
    texts,
    st.tuples(st.sampled_from(["openai:", "http:", "diffusers:", "blocks:", "openai:m@"]), addresses).map("".join),
)
CAPABILITIES = [
    GeneratorCapabilities(model="m", default_size=(64, 64), min_side=64, max_side=2048, size_multiple=16),
    GeneratorCapabilities(model="m", default_size=(64, 64), sizes=((64, 64), (128, 64))),
]


@pytest.mark.parametrize("parse", [parse_chat_spec, parse_generator_spec])
def test_specs(parse: Any) -> None:
    @given(specs)
    @example("openai:" + "@" * 20_000)
    @example("http:http://[::1")
    @example("http:http://h:99999999999999999999")
    @example("http:http://\u2488.com/")
    def read(text: str) -> None:
        try:
            spec = parse(text)
        except GemsError:
            return
        assert parse(str(spec)) == spec
        assert "@" not in (spec.url or "").partition("//")[2].partition("/")[0].partition("?")[0]

    read()


@given(addresses)
@example("http://h:٣")
@example("http://a\nb")
def test_addresses(url: str) -> None:
    try:
        shown = display_url(url)
    except GemsError:
        return
    assert shown.startswith(("http://", "https://"))
    assert "@" not in shown.partition("//")[2].partition("/")[0]


@given(addresses, addresses)
def test_two_addresses(one: str, other: str) -> None:
    found = resolve_on_same_server(one, other)
    assert found is None or isinstance(found, str)


@given(addresses)
def test_whatever_takes_an_address(url: str) -> None:
    for opening in (
        HTTPGenerator,
        lambda url: OpenAIImagesGenerator("m", url),
        ServerConnection,
        lambda url: open_embedder(f"openai:m@{url}"),
        lambda url: known_secrets(Settings.model_construct(otel=url)),
    ):
        try:
            opening(url)
        except GemsError:
            continue


@given(texts, specs)
def test_settings(name: str, spec: str) -> None:
    for group in ("home", "otel", "experience", "checkpoint", "skills_path", "chat", "serve"):
        try:
            load_settings(**{group: name})
        except GemsError:
            continue
    settings = Settings()
    changed = with_models(settings, chat=spec, generator=spec)
    assert changed.chat.model == spec
    assert changed.identity() != settings.identity() or spec == "blocks"


@given(odd_texts | st.from_regex(r"\d{1,7}[xX\u00d7]\d{1,7}", fullmatch=True), st.sampled_from(CAPABILITIES))
@example("9" * 5_000 + "x9", CAPABILITIES[0])
@example(" " * 50_000, CAPABILITIES[0])
@example("0x0", CAPABILITIES[0])
@example("1x99999", CAPABILITIES[0])
@example("٣x٣", CAPABILITIES[1])
def test_sizes(text: str, capabilities: GeneratorCapabilities) -> None:
    try:
        width, height = parse_size(text)
    except GemsError:
        pass
    else:
        assert parse_size(f"{width}x{height}") == (width, height)
    try:
        fitting = supported_size(text, capabilities)
    except AnswerError:
        return
    if fitting is not None:
        capabilities.check_size(*parse_size(fitting))


@given(odd_texts | st.datetimes().map(str) | st.from_regex(r"\d{1,8}\s?[mhdw]", fullmatch=True), st.booleans())
@example("0001-01-01", False)
@example("9999-12-31", True)
@example("999999w", False)
def test_moments(text: str, end: bool) -> None:
    for reading in (lambda: parse_datetime(text, now=NOW, end=end), lambda: parse_duration(text)):
        try:
            reading()
        except GemsError:
            continue


@given(odd_texts, st.sampled_from([None, "1893b519", ""]))
@example("--" + "9" * 58, None)
@example("1893b519-" + "9" * 51, "1893b519")
@example("1893b519-²", "1893b519")
@example("1893b519-٣", "1893b519")
def test_last_event_ids(last: str, stretch: str | None) -> None:
    hub: Any = SimpleNamespace(stretch=lambda _run: stretch)
    # The header has at most so many characters; see `events`.
    assert _count_received(hub, "run", last[:60]) >= 0


@given(odd_texts)
def test_hosts_and_images(text: str) -> None:
    assert is_loopback(text) in (True, False)
    found = parse_id(text)
    assert found is None or len(found) == 64


@given(st.one_of(values, odd_texts))
def test_prompts(prompt: Any) -> None:
    try:
        assert check_prompt(prompt) == prompt
    except GemsError:
        return
    prompt.encode()
