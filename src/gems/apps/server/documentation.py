"""/openapi.json, /docs and /redoc."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from gems._version import __version__

PAGES = ("/docs", "/redoc")
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)
"""Content security policy of the pages, whose scripts come from this server; they are started by inline ones."""
_FILES = "/static-offline-docs"
_TAGS = [
    {"name": "health", "description": "State of the server."},
    {"name": "images", "description": "Images of runs."},
    {"name": "runs", "description": "Runs in the background."},
    {"name": "checks", "description": "Checklists without a run."},
    {"name": "OpenAI", "description": "The part of OpenAI's API that is about images."},
    {"name": "gems", "description": "LangServe."},
]
_MISSING = """<!DOCTYPE html>
<html lang="en"><title>GEMS</title>
<p>This page needs the package <code>fastapi-offline</code>: <code>pip install 'gems-agent[serve]'</code>.</p>
<p><a href="openapi.json">The OpenAPI document</a> describes the same.</p></html>
"""


def create_documented_app(**options: Any) -> FastAPI:
    """Create an app with an OpenAPI document and pages for it, which load nothing from other servers."""
    options |= {
        "title": "GEMS",
        "version": __version__,
        "description": "Generate images that match their prompts: an agent loop around an image generator.",
        "license_info": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        "servers": [{"url": "/"}],
        "openapi_tags": _TAGS,
        "generate_unique_id_function": _operation_id,
    }
    app: FastAPI
    try:
        # An installation from before it was needed lacks it.
        offline = import_module("fastapi_offline")
    except ModuleNotFoundError:
        app = FastAPI(docs_url=None, redoc_url=None, **options)
        for path in PAGES:
            app.add_api_route(path, _missing_page, include_in_schema=False, response_class=HTMLResponse)
        return app
    app = offline.FastAPIOffline(static_url=_FILES, **options)
    return app


async def _missing_page() -> HTMLResponse:
    return HTMLResponse(_MISSING)


def _operation_id(route: APIRoute) -> str:
    """Return the name of a route, from which clients are generated."""
    return re.sub(r"\W+", "_", route.name)
