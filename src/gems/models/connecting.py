"""Connection settings of HTTP clients."""

from __future__ import annotations

from typing import Any

_KEEP_ALIVE_S = 30.0


def make_client_options(limits: Any) -> dict[str, Any]:
    """Return arguments of an `httpx.AsyncClient` that keeps connections alive, with HTTP/2 where offered.

    `limits` is the library's class `Limits`: openai ships an httpx of its own under another name.
    `gems.models.concurrency` limits requests: waiting for a free connection would count as the model's time.
    httpx closes idle connections after 5 s, which is less than the time to generate an image.
    """
    kept = limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_ALIVE_S)
    return {"http2": True, "limits": kept}
