"""Whatever fits the OpenAPI document, or does not, is answered without a fault of the server's."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.internal.conjecture.utils import many
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.support.scripted_service import PATIENCE_S

ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/images/edits"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
]
_CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]
_MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.fixture(autouse=True)
def objects_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """hypothesis-jsonschema 0.23 makes objects by a method that newer versions of Hypothesis lack."""
    if not hasattr(many, "more"):
        monkeypatch.setattr(many, "more", _more, raising=False)


def test_these_are_all_routes(base: str) -> None:
    ours = ("POST", "/v1/rewards")
    assert sorted(operations(base)) == sorted([*ROUTES, ours])


@pytest.mark.parametrize("mode", _MODES, ids=lambda mode: mode.value)
# The first two routes take next to nothing that could be varied.
@pytest.mark.parametrize("route", ROUTES[2:], ids=" ".join)
def test_no_request_breaks_a_route(base: str, route: tuple[str, str], mode: schemathesis.GenerationMode) -> None:
    operation = operations(base)[route]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def ask(case: schemathesis.Case) -> None:
        case.validate_response(case.call(base_url=base, timeout=PATIENCE_S), checks=_CHECKS)

    ask()


def operations(base: str) -> dict[tuple[str, str], Any]:
    """The operations below /v1, by method and path."""
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json", timeout=PATIENCE_S).include(path_regex="^/v1/")
    found = [result.ok() for result in schema.get_all_operations()]
    return {(operation.method.upper(), operation.path): operation for operation in found}


def _more(elements: Any) -> bool:
    if not hasattr(elements, "steps"):
        elements.steps = iter(elements.__enter__())
    return next(elements.steps, elements) is None
