"""State shared by all routes, and its dependencies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

import anyio
from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from sse_starlette import EventSourceResponse
from starlette.requests import HTTPConnection
from starlette.types import Message

from gems.apps.run_manager import RunManager
from gems.apps.server.auth import Access, Caller, ForeignPageError, KeyFile, UnknownKeyError, open_keys
from gems.apps.server.home_lock import hold_home
from gems.apps.server.metrics import Metrics
from gems.service import Gems
from gems.settings import Settings

logger = logging.getLogger(__name__)

ANSWERS_S = 15
"""Seconds for open responses after all runs have stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Opened resources of a server; routes get it from `service_of`."""

    settings: Settings
    gems: Gems
    manager: RunManager
    access: Access
    metrics: Metrics = field(default_factory=Metrics)


@asynccontextmanager
async def open_service(settings: Settings, gems: Gems | None = None) -> AsyncIterator[Service]:
    """Open the service and resume drained runs; drain all runs at the end. `gems` must not be open."""
    keys = await asyncio.to_thread(open_keys, settings)
    # Not in a thread: the lock is taken at once unless a server of this home starts right now.
    with hold_home(settings.home):
        async with _opened_service(settings, keys, gems) as service:
            yield service


@asynccontextmanager
async def _opened_service(settings: Settings, keys: KeyFile, gems: Gems | None) -> AsyncIterator[Service]:
    async with gems or Gems(settings) as opened:
        if not keys.exists() and await opened.resources.ledger.has_owners():
            logger.warning(
                "%s is gone, though runs of this home belong to keys. Every program of this machine may use the "
                "server, and see these runs. Restore the file, or make keys with `gems keys add NAME`.",
                keys.path,
            )
        manager = RunManager(opened)
        service = Service(settings=settings, gems=opened, manager=manager, access=Access(keys, manager, settings.serve))
        service.metrics.listen(manager, service.access.queue)
        await manager.resume_drained()
        try:
            yield service
        finally:
            await manager.drain(settings.serve.drain_s)


def service_of(request: Request) -> Service:
    """Return the service of the app."""
    service: Service = request.app.state.service
    return service


_HELP = "A key of `gems keys add NAME`. A server without keys accepts its own machine without one."
_BEARER = HTTPBearer(scheme_name="bearer", description=_HELP, auto_error=False)
_API_KEY = APIKeyHeader(name="api-key", scheme_name="apiKey", description=_HELP, auto_error=False)


def caller_of(
    request: Request, _bearer: Annotated[Any, Depends(_BEARER)] = None, _key: Annotated[Any, Depends(_API_KEY)] = None
) -> Caller:
    """Authenticate the sender of a request, as a dependency; the schemes are only documented by it."""
    return caller_at(service_of(request), request)


def caller_at(service: Service, request: HTTPConnection) -> Caller:
    """Authenticate the sender of a connection; without keys, only this machine is accepted."""
    if not service.access.needs_key:
        check_neighbour(request, service.settings)
    return service.access.caller(request.headers.get("authorization"), request.headers.get("api-key"))


def with_body(request: Request, body: bytes, content_type: str) -> Request:
    """Return the request with another body."""
    new = {b"content-type": content_type.encode("latin-1"), b"content-length": str(len(body)).encode()}
    headers = [(name, value) for name, value in request.scope["headers"] if name not in new]
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return unread.pop() if unread else await request.receive()

    return Request({**request.scope, "headers": [*headers, *new.items()]}, receive)


def event_stream(service: Service, events: AsyncIterator[Any], **options: Any) -> EventSourceResponse:
    """Return a response of server-sent events; a stopping server still sends the last events of its runs."""
    grace_s = service.settings.serve.drain_s + ANSWERS_S
    options |= {"shutdown_event": anyio.Event(), "shutdown_grace_period": grace_s}
    return EventSourceResponse(events, **options)


def is_local(request: HTTPConnection) -> bool:
    """Return whether a request comes from this machine."""
    if request.client is None:
        return True
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        # Network clients always have an IP address.
        return True


def is_loopback(host: str) -> bool:
    """Return whether a host can only be this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_neighbour(request: HTTPConnection, settings: Settings) -> None:
    """Accept only this machine, and no web pages of other sites, on a server without keys."""
    if not is_local(request):
        raise UnknownKeyError("This server has no API keys and accepts requests from its own machine only.")
    host = request.headers.get("host", "")
    # DNS rebinding: any name, with or without a dot, may resolve to this machine. Without one it is no browser.
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name and not is_loopback(name) and not _is_listed(name, settings) and not _is_allowed_origin(request, settings):
        raise _foreign_page()
    check_origin(request, settings)


def check_origin(request: HTTPConnection, settings: Settings) -> None:
    """Raise ForeignPageError if a page of another site sent the request."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is None or _is_allowed_origin(request, settings):
        return
    if origin.partition("://")[2] != host:
        raise _foreign_page()


def _is_listed(name: str, settings: Settings) -> bool:
    """Return whether a host is the one that the server listens on, or that of a listed origin."""
    listed = (urlsplit(origin).hostname for origin in settings.serve.cors_origins)
    return name.lower() in (settings.serve.host.strip("[]").lower(), *listed)


def _is_allowed_origin(request: HTTPConnection, settings: Settings) -> bool:
    return request.headers.get("origin") in settings.serve.cors_origins


def _foreign_page() -> ForeignPageError:
    return ForeignPageError("Pages of other sites may not use this server.")
