"""A house, its server and a client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import tests.support.hypothesis_profile  # noqa: F401 - registers the profile
from tests.support.http_server import app_of, serving
from tests.support.scripted_service import PATIENCE_S, House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.fixture
def url(house: House) -> Iterator[str]:
    with serving(app_of(house)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        yield client
