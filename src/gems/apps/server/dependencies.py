"""What all routes of the server share, opened once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from fastapi import Request
from starlette.requests import HTTPConnection

from gems.apps.run_manager import RunHub
from gems.apps.server.auth import Access, Caller, ForeignPageError, UnknownKeyError
from gems.apps.server.health import Metrics
from gems.apps.serving.keys import KeyFile
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
        metrics: Counts what the hub does.
    """

    settings: Settings
    gems: Gems
    hub: RunHub
    access: Access
    metrics: Metrics = field(default_factory=Metrics)


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
        service.metrics.listen(hub)
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
        UnknownKeyError: the server has keys, and none of them was sent; or it has none and serves only its
            own machine.
        ForeignPageError: there are no keys, and a page of another site sent it.
    """
    return caller_at(service_of(request), request)


def caller_at(service: Service, request: HTTPConnection) -> Caller:
    """The same for an app of another kind; raises the same."""
    if not service.access.needs_key:
        check_neighbour(request, service.settings)
    return service.access.caller(request.headers.get("authorization"), request.headers.get("api-key"))


def is_local(request: HTTPConnection) -> bool:
    """Whether a request comes from this machine."""
    if request.client is None:
        return True
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        # What came over a network has an address.
        return True


def is_loopback(host: str) -> bool:
    """Whether an address or a name can only mean this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_neighbour(request: HTTPConnection, settings: Settings) -> None:
    """Without keys, only this machine is served, and none of the web pages that its browser shows.

    Raises:
        UnknownKeyError: another machine asks.
        ForeignPageError: a page of another site does.
    """
    if not is_local(request):
        raise UnknownKeyError("Without keys, this server answers only its own machine.")
    host = request.headers.get("host", "")
    # A name of another site may have been made to mean this machine; such names have a dot.
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if "." in name and not is_loopback(name) and not _is_named(request, settings):
        raise _foreign()
    check_origin(request, settings)


def check_origin(request: HTTPConnection, settings: Settings) -> None:
    """See to it that no page of another site sent a request.

    Raises:
        ForeignPageError: one did.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is None or _is_named(request, settings):
        return
    if origin.partition("://")[2] != host:
        raise _foreign()


def _is_named(request: HTTPConnection, settings: Settings) -> bool:
    return request.headers.get("origin") in settings.serve.cors_origins


def _foreign() -> ForeignPageError:
    return ForeignPageError("A page of another site may not use this server.")
