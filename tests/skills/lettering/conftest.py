"""One reader for all tests, and pictures to read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gems.skills.lettering import RapidReader
from tests.support.text_images import drawn

Draw = Callable[..., bytes]


@pytest.fixture(scope="session")
def reader() -> RapidReader:
    pytest.importorskip("rapidocr")
    return RapidReader()


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draws lines of text and gives the PNG."""
    return drawn
