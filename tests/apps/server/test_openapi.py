"""Whatever the OpenAPI document allows, and what it forbids, is answered without a fault of the server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.internal.conjecture.utils import many
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from tests.support.http_server import app_of, serving
from tests.support.scripted_service import PATIENCE_S, House

pytestmark = pytest.mark.filterwarnings("ignore")
bounded = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PATHS = {
    *(
        "/verify",
        "/decompose",
        "/v1/rewards",
        "/v1/models",
        "/healthz",
        "/readyz",
        "/metrics",
        "/images/{name}",
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/events",
    ),
    *("/runs/{run_id}/cancel", "/runs/{run_id}/resume", "/runs/{run_id}/fork", "/runs/{run_id}/report"),
    *("/gems/invoke", "/gems/batch", "/gems/stream", "/gems/stream_log", "/gems/stream_events"),
    *("/gems/input_schema", "/gems/output_schema", "/gems/config_schema"),
}


CHECKS = [
    not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]


@pytest.fixture(autouse=True)
def hypothesis_as_its_extension_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """hypothesis-jsonschema 0.23 asks `many` for more; newer versions of Hypothesis iterate over it."""

    def more(self: Any) -> bool:
        if not hasattr(self, "_steps"):
            self._steps = iter(self.__enter__())
        is_over = next(self._steps, 0) == 0
        if is_over:
            self.__exit__(None)
        return not is_over

    if not hasattr(many, "more"):
        monkeypatch.setattr(many, "more", more, raising=False)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_a_fault_of_the_server(tmp_path: Path, mode: GenerationMode) -> None:
    tried = set()
    with serving(app_of(House(tmp_path / "home"))) as url:
        document = schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=PATIENCE_S)
        # These have examples of their own, beside their errors.
        document = document.exclude(path_regex="^/v1/(images|chat|responses)")
        for found in document.get_all_operations():
            operation = found.ok()
            tried.add(operation.path)
            parts = {}
            if mode is GenerationMode.NEGATIVE:
                if not (operation.query or operation.body):
                    # Nothing can be wrong with it.
                    continue
                if operation.path_parameters:
                    # Any text is a valid id, so that one that is not would be looked for in vain.
                    parts["path_parameters"] = {parameter.name: "unknown" for parameter in operation.path_parameters}

            # Those of LangServe share one check of their bodies, and wrong ones take long to find.
            is_long = mode is GenerationMode.NEGATIVE and operation.path.startswith("/gems/")

            @settings(bounded, max_examples=2 if is_long else 6)
            @given(case=operation.as_strategy(generation_mode=mode, **parts))
            def answered(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=CHECKS, timeout=PATIENCE_S)

            answered()
    assert tried >= PATHS


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return app_of(House(tmp_path_factory.mktemp("home")))


def test_every_operation_is_described(app: FastAPI) -> None:
    document = app.openapi()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    known = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert len(operation["tags"]) == 1, operation
        assert known.issuperset(operation["tags"])
        assert operation["description"]
        answers = set(operation["responses"])
        if operation["tags"] != ["health"]:
            assert operation["security"] == [{"bearer": []}, {"apiKey": []}]
            assert answers >= {"400", "401", "403", "500", "503"}, operation["operationId"]
        if "requestBody" in operation:
            assert answers >= {"413", "429", "502"}, operation["operationId"]


def test_a_linter_finds_nothing(app: FastAPI, tmp_path: Path) -> None:
    linter = shutil.which("redocly")
    if linter is None:
        pytest.skip("Needs `npm install --global @redocly/cli`.")
    (tmp_path / "openapi.json").write_text(json.dumps(app.openapi()))
    command = [linter, "lint", "--format=json", "openapi.json"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert json.loads(said.stdout[said.stdout.index("{") :])["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}


def test_pages_of_the_document_load_nothing_from_elsewhere(app: FastAPI) -> None:
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for path in ("/docs", "/redoc"):
            page = client.get(path)
            assert page.status_code == 200
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "http" not in policy
            loaded = re.findall(r"""<(?:script|link|img)[^>]*(?:src|href)=["']([^"']+)""", page.text)
            for address in loaded:
                assert address.startswith("/"), address
                assert client.get(address).status_code == 200
            assert bool(loaded) == (find_spec("fastapi_offline") is not None)
