"""A world whose endpoints can be held, and the server that it stands behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.pausable_models import World
from tests.support.stub import StubServer


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.release()


@pytest.fixture
def stub(world: World) -> Iterator[StubServer]:
    with StubServer(chat=world.chat, images=world.draw) as stub:
        yield stub
