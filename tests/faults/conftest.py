"""A stub that plays a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chat_script import Script
from tests.support.stub import StubServer
from tests.support.stub.models import flat_picture


@pytest.fixture
def script() -> Script:
    """What the stub's chat model says."""
    return Script()


@pytest.fixture
def stub(script: Script) -> Iterator[StubServer]:
    """A server that plays the script and draws pictures of one colour."""
    with StubServer(chat=script, images=flat_picture) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the runs of a test are kept."""
    return tmp_path / "home"
