"""Life, readiness and figures."""

from __future__ import annotations

import shutil
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gems.apps.run_manager import RunManager
from gems.apps.server.metrics import Metrics
from gems.apps.server.queue import RunQueue
from gems.errors import UnreachableError
from tests.support.http_server import app_of, bearer, begun, gated, heard, keys_of, result, serving
from tests.support.scripted_service import House


def figures(client: httpx.Client) -> dict[str, float]:
    """The samples by name and labels."""
    page = client.get("/metrics")
    assert page.status_code == 200
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


def test_figures_of_runs(client: httpx.Client, house: House) -> None:
    assert figures(client)["gems_runs_going_on[]"] == 0
    gate = gated(house, 1)
    run_id = begun(client, "a secret cat", max_rounds=2)
    gate.wait()
    assert figures(client)["gems_runs_going_on[]"] == 1
    gate.open()
    result(client, run_id)
    found = figures(client)
    assert found["gems_runs_going_on[]"] == 0
    assert found["gems_runs_total['passed']"] == 1
    assert found["gems_rounds_total[]"] == found["gems_images_total[]"] == 1
    assert found["gems_run_seconds_count[]"] == 1
    usage = result(client, run_id)["usage"]["judge"]
    assert found["gems_tokens_total['input', 'judge']"] == usage["input_tokens"] > 0
    assert found["gems_tokens_total['judge', 'output']"] == usage["output_tokens"] > 0
    assert "secret" not in client.get("/metrics").text
    # Handed back once more, it counts nothing.
    client.post(f"/runs/{run_id}/resume")
    result(client, run_id)
    assert figures(client) == found


def test_figures_of_errors(client: httpx.Client, house: House) -> None:
    async def broken(_request: object) -> None:
        raise UnreachableError("Nothing answers.")

    house.generator.before = broken
    assert heard(client, begun(client))[-1]["event"] == "error"
    assert figures(client)["gems_errors_total['UnreachableError']"] == 1


async def test_what_a_resumed_run_consumed_before_counts_once(house: House) -> None:
    metrics = Metrics()

    def sample(name: str, **labels: Any) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    house.never_pass()
    async with house.gems() as gems:
        manager = RunManager(gems)
        metrics.listen(manager, RunQueue(1))

        async def cancelling() -> None:
            await manager.cancel(manager.working()[0])

        house.on_drawing(2, cancelling)
        run_id = await manager.start("a red cat", max_rounds=3)
        assert (await manager.result(run_id)).stop_reason == "cancelled"
        house.on_drawing(1, None)
        await manager.resume(run_id)
        result = await manager.result(run_id)
    tokens = result.usage["judge"]["input_tokens"]
    assert sample("gems_tokens_total", role="judge", direction="input") == tokens
    assert sample("gems_runs_total", stop_reason="cancelled") == 1
    assert sample("gems_runs_total", stop_reason="max_rounds") == 1


def test_each_app_has_figures_of_its_own(house: House) -> None:
    with serving(app_of(house)) as one, serving(app_of(house)) as other:
        with httpx.Client(base_url=one) as client:
            result(client, begun(client))
            assert figures(client)["gems_rounds_total[]"] == 1
        with httpx.Client(base_url=other) as client:
            assert figures(client)["gems_rounds_total[]"] == 0


def test_figures_need_a_key_from_elsewhere(house: House) -> None:
    ann = keys_of(house).add("ann")
    with serving(app_of(house)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/metrics").status_code == 200
        client.headers["x-forwarded-for"] = "203.0.113.7"
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer(ann)).status_code == 200
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"is_ready": True, "problems": []}


def test_not_ready_without_its_home_or_while_stopping(house: House) -> None:
    app = app_of(house)
    with serving(app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/readyz").status_code == 200
        kept = house.home.rename(house.home.with_name("moved"))
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "home: PermissionError" in answer.json()["problems"]
        assert str(house.home) not in answer.text
        shutil.move(kept, house.home)
        app.state.service.manager.is_draining = True
        assert client.get("/readyz").json() == {"is_ready": False, "problems": ["stopping"]}
        assert client.post("/runs", json={"prompt": "x"}).status_code == 503
        assert client.get("/healthz").status_code == 200
