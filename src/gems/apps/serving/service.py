"""What all routes of the server share, opened once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request

from gems.apps.serving.access import Access, Caller
from gems.apps.serving.keys import KeyFile
from gems.hub import RunHub
from gems.service import Gems
from gems.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Use `service_of` within a route.

    Attributes:
        settings: Of the server.
        gems: The opened models and stores.
        hub: The runs that go on.
        access: Who may do what.
    """

    settings: Settings
    gems: Gems
    hub: RunHub
    access: Access


@asynccontextmanager
async def open_service(settings: Settings, gems: Gems | None = None) -> AsyncIterator[Service]:
    """Open everything, go on with runs of a server that was stopped, and stop all runs at the end.

    Args:
        settings: What to open.
        gems: Not yet opened, in place of one made from the settings.

    Raises:
        GemsError: see `Gems`.
    """
    async with gems or Gems(settings) as opened:
        hub = RunHub(opened)
        keys = KeyFile(settings.serve.keys_path(settings))
        service = Service(settings=settings, gems=opened, hub=hub, access=Access(keys, hub))
        await hub.resume_drained()
        try:
            yield service
        finally:
            await hub.drain(settings.serve.drain_s)


def service_of(request: Request) -> Service:
    """The service of the app that a request came to."""
    service: Service = request.app.state.service
    return service


def caller_of(request: Request) -> Caller:
    """Who sent a request; use it as a dependency.

    Raises:
        UnknownKeyError: the server has keys, and none of them was sent.
    """
    headers = request.headers
    return service_of(request).access.caller(headers.get("authorization"), headers.get("api-key"))
