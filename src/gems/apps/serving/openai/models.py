"""`GET /v1/models`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import caller_of, service_of
from gems.apps.server.openai.errors import new_router
from gems.apps.server.openai.runs import check_model, model_names
from gems.apps.server.openai.schemas import Model, Models, now

models_router = new_router()
_STARTED = now()


@models_router.get("/v1/models")
async def models(request: Request, _caller: Annotated[Caller, Depends(caller_of)]) -> Models:
    """List `gems` and the name of the generator; both select the loop with that generator."""
    names = model_names(service_of(request))
    return Models(data=[Model(id=name, created=_STARTED) for name in names])


@models_router.get("/v1/models/{name:path}")
async def model(name: str, request: Request, _caller: Annotated[Caller, Depends(caller_of)]) -> Model:
    """Return a model."""
    return Model(id=check_model(service_of(request), name), created=_STARTED)
