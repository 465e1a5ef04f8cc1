"""How connections to endpoints are held, the same for every HTTP client."""

from __future__ import annotations

from typing import Any

_IDLE_S = 30.0


def held_open(limits: Any) -> dict[str, Any]:
    """Arguments of an `httpx.AsyncClient` that keeps its connections, over HTTP/2 where the server offers it.

    How many requests are under way is for `gems.models.concurrency`: waiting for a free connection would
    count as the model's time. A connection is kept while a picture is drawn, which takes longer than the 5 s
    after
    which httpx would close it and the next question would shake hands anew.

    Args:
        limits: The library's class `Limits`; openai brings a httpx of its own under another name.
    """
    kept = limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_IDLE_S)
    return {"http2": True, "limits": kept}
