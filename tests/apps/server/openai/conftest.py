"""A server with scripted models, and OpenAI's client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openai import OpenAI

from gems.apps.server.app import create_app
from gems.apps.server.auth import KeyFile
from gems.service import Gems
from gems.settings import ChatSettings, ServeSettings
from tests.support.http_server import serving
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import House

# With prices, so that there can be budgets.
CHAT = ChatSettings(attempts=1, first_wait_s=0, input_usd_per_million=1, output_usd_per_million=1)
Serve = Callable[..., str]
Client = Callable[..., OpenAI]


def app_with(house: House, **given: Any) -> FastAPI:
    # However slow the machine is, no answer is late unless a test wants it to be.
    served = ServeSettings(**{"drain_s": 1, "web": False, "deadline_s": 900} | given)
    settings = settings_at(house.home, chat=CHAT, serve=served)
    gems = Gems(settings, chat=house.chat, generator=house.generator, skills=())
    return create_app(settings, gems)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.fixture
def keys(house: House) -> KeyFile:
    return KeyFile(house.home / "keys.json")


@pytest.fixture
def serve(house: House) -> Iterator[Serve]:
    """Starts a server with the house's models; its settings are given, and its address is handed back."""
    with ExitStack() as stack:

        def start(**given: Any) -> str:
            return stack.enter_context(serving(app_with(house, **given)))

        yield start


@pytest.fixture
def base(serve: Serve) -> str:
    """The address of a server without keys."""
    return serve()


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Models of a server that tests of a module share, for requests that are refused before any is asked."""
    house = House(tmp_path_factory.mktemp("home"))
    house.edits()
    return house


@pytest.fixture(scope="module")
def shared_base(shared_house: House) -> Iterator[str]:
    with serving(app_with(shared_house)) as base:
        yield base


@pytest.fixture
def client() -> Iterator[Client]:
    """Makes OpenAI's client for a server; it tries nothing twice."""
    with ExitStack() as stack:

        def make(base: str, key: str = "unused") -> OpenAI:
            return stack.enter_context(OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0))

        yield make


@pytest.fixture
def openai(base: str, client: Client) -> OpenAI:
    return client(base)
