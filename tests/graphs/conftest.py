"""A desk for whole runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.scripted import Desk, opened_desk


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Scripted models, a real ledger and a real image store."""
    async with opened_desk(tmp_path / "home") as desk:
        yield desk
