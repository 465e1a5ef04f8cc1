"""Whatever the OpenAPI document allows, and what it forbids, is answered without a fault of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.internal.conjecture.utils import many
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode

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
        document = schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=PATIENCE_S).exclude(path_regex="^/v1")
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

            @bounded
            @given(case=operation.as_strategy(generation_mode=mode, **parts))
            def answered(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=[not_a_server_error], timeout=PATIENCE_S)

            answered()
    assert tried >= PATHS
