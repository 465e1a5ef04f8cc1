"""Benchmarks on a real Ray cluster of two nodes that share no home."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gems.evals.records import SampleRow
from gems.models.chat.schemas import find_task
from tests.support.benchmark_samples import placed
from tests.support.generator_gate import Gate
from tests.support.pausable_models import PATIENCE_S, wait_for_rows
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.stub import StubServer
from tests.support.terminal import gems, here, started, wait_until

# In one process, so that the cluster is started once.
pytestmark = pytest.mark.xdist_group("ray")
TOTAL = 6
"""Samples of three prompts, two each."""


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.give_up()


@pytest.fixture
def stub(gate: Gate) -> Iterator[StubServer]:
    with StubServer(chat=never_met, images=gate.draw) as stub:
        yield stub


def never_met(messages: list[dict[str, Any]]) -> str:
    """Answers of the roles in which no image meets the only requirement."""
    answers: dict[str, Any] = {
        "route": {"why": "It is plain.", "skills": []},
        "decompose": {"requirements": [{"question": "Is there a cat?"}]},
        "summarise": {"experience": "There is none."},
        "refine": {"prompt": "a cat, more clearly"},
    }
    task = find_task(message["content"] for message in messages)
    return "No. There is none." if task == "verify" else json.dumps(answers[task])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """For all tests; the first one, while nothing has run there yet, kills a node.

    Without an address Ray would choose it too, so tests that start a cluster of their own stand before.
    """
    with ray_cluster(tmp_path_factory.mktemp("cluster"), 2) as cluster:
        yield cluster


def command(tmp_path: Path, stub: StubServer, *more: str) -> list[str]:
    return [
        "eval", "run", "geneval", "--data", str(placed(tmp_path / "data", "geneval")), "--limit", "3",
        "--samples", "2", "--size", "64x64", "--images", "2", "--harness", "paper-loop", "--engine", "ray",
        "--out", str(tmp_path / "out"), "--chat", f"openai:stub@{stub.base_url}",
        "--generator", f"openai:stub@{stub.base_url}", "-j", "2", *more,
    ]  # fmt: skip


def manifest(out: Path) -> list[SampleRow]:
    lines = (out / "manifest.jsonl").read_text().splitlines()
    return [SampleRow.model_validate_json(line) for line in lines]


def stored(home: Path) -> int:
    """How many images are in a home."""
    return len(list((home / "images").rglob("*.png")))


def test_absent_extra_is_named(tmp_path: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gems.evals.ray_engine", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = here(*command(tmp_path, stub))
    assert done.exit_code == 2
    assert "gems-agent[ray]" in done.stderr
    assert not os.path.exists(tmp_path / "out" / "manifest.jsonl")


def test_asked_to_stop_it_does_so_in_order_and_goes_on(tmp_path: Path, stub: StubServer, gate: Gate) -> None:
    arguments = command(tmp_path, stub, "--workers", "1")
    gate.allow(3)
    with started(*arguments) as process:
        try:
            wait_until(lambda: gate.drawn.total() == 3 and gate.waiting == 2, process)
            process.send_signal(signal.SIGTERM)
            _out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert err.startswith("Interrupted; progress is saved.")
    gate.give_up()
    gate.allow(1000)
    done = gems(*arguments)
    assert done.returncode == 0, done.stderr
    assert set(gate.drawn.values()) == {1}
    assert gate.drawn.total() == 2 * TOTAL


def test_errors_of_workers_are_those_of_a_local_run(tmp_path: Path, stub: StubServer) -> None:
    arguments = command(tmp_path, stub)
    arguments[arguments.index(f"openai:stub@{stub.base_url}")] = "diffusers:nowhere-to-be-found/at-all/x"
    done = gems(*arguments, "--generator-actors", "0")
    local = gems(*[word if word != "ray" else "local" for word in arguments])
    assert (done.returncode, local.returncode) == (2, 2), done.stderr
    assert done.stderr == local.stderr


def test_node_that_dies_in_the_middle_costs_nothing(
    tmp_path: Path, stub: StubServer, gate: Gate, cluster: RayCluster, database: str
) -> None:
    environment = {"RAY_ADDRESS": cluster.address, "GEMS_CHECKPOINT": database}
    with started(*command(tmp_path, stub, "--workers", "2"), **environment) as process:
        try:
            # Both nodes ask for the first image of a sample, get it, and ask for the second.
            for drawn in (0, 2):
                wait_until(lambda: gate.waiting == 2, process)
                wait_for_rows(Path(), "drawings", drawn, database)
                if drawn == 0:
                    gate.allow(2)
                    wait_until(lambda: gate.drawn.total() == 2, process)
            first, second = cluster.nodes
            assert (stored(first.home), stored(second.home)) == (1, 1)
            second.kill()
            gate.give_up()
            gate.allow(1000)
            out, err = process.communicate(timeout=2 * PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert out.splitlines()[0] == f"{TOTAL} of {TOTAL} samples done, 2.00 images each"
    rows = manifest(tmp_path / "out")
    assert len(rows) == len({row.key for row in rows}) == TOTAL
    assert all(row.images == 2 and not row.error for row in rows)
    assert set(gate.drawn.values()) == {1}, "no image was drawn twice"
    assert gate.drawn.total() == 2 * TOTAL
    assert stored(first.home) >= 2 * TOTAL - 1, "what the dead node had drawn was fetched, not drawn again"
    with psycopg.connect(database) as connection:
        (found,) = connection.execute("SELECT count(*) FROM runs WHERE status='done'").fetchone() or (0,)
    assert found == TOTAL
    cluster.replace(1)


def test_machines_that_would_not_find_each_others_runs_are_refused_and_drawers_draw(
    tmp_path: Path, stub: StubServer, gate: Gate, cluster: RayCluster, database: str
) -> None:
    gate.allow(1000)
    arguments = command(tmp_path, stub, "--generator-actors", "1", "--json")
    with started(*arguments, RAY_ADDRESS=cluster.address) as process:
        _out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "could not resume each other's runs" in err
    assert "GEMS_CHECKPOINT" in err
    done = gems(*arguments, RAY_ADDRESS=cluster.address, GEMS_CHECKPOINT=database)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["done"], report["images"]) == (TOTAL, 2 * TOTAL)
    assert set(gate.drawn.values()) == {1}
