"""Who deletes a run over HTTP can have it forget what it taught."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from gems.apps.server.app import create_app
from gems.apps.server.dependencies import Service
from gems.service import Gems
from gems.settings import ServeSettings
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path / "home")
    house.never_pass()
    return house


def app_with_memory(house: House) -> FastAPI:
    settings = settings_at(house.home, serve=ServeSettings(web=False), experience="", embedder="lexical")
    return create_app(settings, Gems(settings, chat=house.chat, generator=house.generator, skills=()))


async def learned(service: Service, run_id: str) -> int:
    return sum(key.key.startswith(f"{run_id}:") for key in await service.gems.memory.listed(kind="experience"))


@pytest.mark.parametrize("forget", [False, True])
async def test_what_a_run_taught_is_forgotten_on_request(house: House, forget: bool) -> None:
    app = app_with_memory(house)
    async with app.router.lifespan_context(app):
        service: Service = app.state.service
        async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client:
            ids = [await service.manager.start(f"a red cat {n}", seed=n, max_rounds=2) for n in (1, 2)]
            await asyncio.gather(*(service.manager.result(run_id) for run_id in ids))
            await service.gems.memory.flush()
            before = await learned(service, ids[0])
            assert before > 0
            url = f"/runs/{ids[0]}?forget={str(forget).lower()}"
            looked = (await client.delete(f"{url}&dry_run=true")).json()
            assert await learned(service, ids[0]) == before
            done = (await client.delete(url)).json()
            assert looked["forgotten"] == (done["forgotten"] and done["forgotten"] | {"done": False})
            assert (done["forgotten"] or {}).get("experiences") == (before if forget else None)
            assert await learned(service, ids[0]) == (0 if forget else before)
            assert await learned(service, ids[1]) > 0
