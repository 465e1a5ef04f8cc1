"""`gems eval run` as a command: killed, interrupted, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gems.evals.generator_profiles import apply_profile
from gems.evals.records import SampleRow
from gems.evals.runner import WorkReport
from gems.settings import GeneratorSettings, Settings
from tests.support.benchmark_samples import placed
from tests.support.generator_gate import Gate
from tests.support.pausable_models import PATIENCE_S, wait_for_rows
from tests.support.stub import StubServer
from tests.support.terminal import here, started, wait_until

TOTAL = 12
"""Samples of three prompts, four each."""


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.give_up()


@pytest.fixture
def stub(gate: Gate) -> Iterator[StubServer]:
    with StubServer(images=gate.draw) as stub:
        yield stub


def command(tmp_path: Path, *more: str) -> list[str]:
    data = placed(tmp_path / "data", "geneval")
    usual = ["--limit", "3", "--samples", "4", "--size", "128x128", "--images", "2", "--harness", "paper-loop"]
    return ["eval", "run", "geneval", "--data", str(data), "--out", str(tmp_path / "out"), *usual, *more]


@contextmanager
def held(arguments: list[str], stub: StubServer, gate: Gate, allowed: int) -> Iterator[subprocess.Popen[str]]:
    """The command at work, so many images more in the ledger and the next ones held; killed in the end."""
    gate.allow(allowed)
    wanted = gate.drawn.total() + allowed
    with started(*arguments) as process:
        try:
            wait_until(lambda: gate.drawn.total() == wanted, process)
            wait_for_rows(Path(os.environ["GEMS_HOME"]), "drawings", wanted)
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE_S)
            gate.give_up_all(stub)


def manifest(out: Path) -> list[SampleRow]:
    lines = (out / "manifest.jsonl").read_text().splitlines()
    return [SampleRow.model_validate_json(line) for line in lines]


def test_killed_again_and_again_every_sample_is_drawn_once(tmp_path: Path, stub: StubServer, gate: Gate) -> None:
    arguments = command(tmp_path, "--generator", f"openai:stub@{stub.base_url}", "-j", "3")
    for allowed in (1, 4, 6):
        with held(arguments, stub, gate, allowed) as process:
            process.kill()
            process.communicate(timeout=PATIENCE_S)
    gate.allow(1000)
    with started(*arguments) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert out.splitlines()[0] == f"{TOTAL} of {TOTAL} samples done, 2.00 images each"
    assert set(gate.drawn.values()) == {1}
    rows = manifest(tmp_path / "out")
    assert len(rows) == len({row.key for row in rows}) == TOTAL
    assert sum(row.images for row in rows) == gate.drawn.total() == 2 * TOTAL
    assert all((tmp_path / "out" / row.file).is_file() for row in rows)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_says_how_to_go_on(how: int, tmp_path: Path, stub: StubServer, gate: Gate) -> None:
    arguments = command(tmp_path, "--generator", f"openai:stub@{stub.base_url}")
    with held(arguments, stub, gate, 3) as process:
        process.send_signal(how)
        _out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Interrupted; progress is saved." in err
    assert "gems eval run geneval --data" in err
    gate.allow(1000)
    assert here(*arguments).exit_code == 0
    assert set(gate.drawn.values()) == {1}


def test_json_is_the_report(tmp_path: Path) -> None:
    done = here(*command(tmp_path, "--harness", "single", "--json"))
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert WorkReport.model_validate(report).model_dump(mode="json") == report
    assert (report["done"], report["total"], report["images"], report["usd"]) == (TOTAL, TOTAL, TOTAL, 0.0)
    quiet = here(*command(tmp_path, "--harness", "single", "--quiet"))
    assert quiet.stdout == f"{tmp_path / 'out'}\n"


def test_failures_are_listed_and_make_the_exit_code_3(tmp_path: Path, stub: StubServer, gate: Gate) -> None:
    gate.allow(1000)

    def is_second(body: dict[str, Any]) -> bool:
        return "bench" in str(body["prompt"])

    from tests.support.stub.faults import Fault

    stub.fault(Fault("moderated"), "images", when=is_second)
    arguments = command(
        tmp_path, "--harness", "single", "--generator", f"openai:stub@{stub.base_url}", "--retries", "0"
    )
    done = here(*arguments)
    assert done.exit_code == 3, done.stderr
    assert "8 of 12 samples done" in done.stdout
    assert done.stdout.count("failed: geneval/en/00001 sample") == 4
    assert "retry what failed" in done.stderr
    stub.behave()
    assert here(*arguments).exit_code == 0


def test_budget_needs_prices_and_ends_it(
    tmp_path: Path, stub: StubServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.allow(1000)
    spec = f"openai:stub@{stub.base_url}"
    arguments = command(tmp_path, "--harness", "single", "--generator", spec, "-j", "1", "--budget-usd", "0.2")
    unpriced = here(*arguments)
    assert unpriced.exit_code == 2
    assert "GEMS_GENERATOR__USD_PER_IMAGE" in unpriced.stderr
    monkeypatch.setenv("GEMS_GENERATOR__USD_PER_IMAGE", "0.1")
    done = here(*arguments)
    assert done.exit_code == 3
    assert "2 of 12 samples done, 1.00 images each, $0.20" in done.stdout
    assert "The budget is spent" in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--harness", "best"], "Unknown harness: 'best'."),
        (["--engine", "slurm"], "Unknown engine: 'slurm'."),
        (["--languages", "zh"], "geneval has no prompts in zh."),
        (["--harness", "best-of-n", "--images", "17"], "best-of-n generates at most 16 images"),
        (["--harness", "paper", "--learn"], "cannot learn from each other"),
        (["--out", "nonsense://x"], "its protocol is not among those that store files"),
        (["--data", "nowhere"], "nowhere"),
        (["--generator-profile", "best"], "Unknown generator profile: 'best'"),
        (["--generator-profile", "paper"], "has no settings for blocks"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_drawn(more: list[str], said: str, tmp_path: Path) -> None:
    done = here(*command(tmp_path, *more))
    assert done.exit_code == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_folder_of_another_task_or_setting(tmp_path: Path) -> None:
    assert here(*command(tmp_path, "--harness", "single")).exit_code == 0
    other = here(*command(tmp_path, "--harness", "single", "--seed", "9"))
    assert other.exit_code == 2
    assert "seed is 0 in the folder, 9 now" in other.stderr


def test_no_chat_model_is_needed_where_none_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_CHAT__MODEL", "openai:gpt-5")
    assert here(*command(tmp_path, "--harness", "single")).exit_code == 0
    assert here(*command(tmp_path, "--harness", "rewrite", "--out", str(tmp_path / "b"))).exit_code == 2


def test_profile_of_the_generator_decides_how_it_draws(tmp_path: Path, gate: Gate, stub: StubServer) -> None:
    gate.allow(1000)
    spec = f"openai:qwen-image@{stub.base_url}"
    arguments = command(tmp_path, "--harness", "single", "--generator", spec, "--limit", "1", "--samples", "1")
    arguments = [word for word in arguments if word not in ("--size", "128x128")]
    done = here(*arguments, "--generator-profile", "recommended")
    assert done.exit_code == 0, done.stdout
    (request,) = stub.calls("images")
    assert (request.body["size"], request.body["negative_prompt"]) == ("1328x1328", " ")
    assert (request.body["num_inference_steps"], request.body["guidance_scale"]) == (50, 4.0)
    settings = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert (settings["generator_profile"], settings["size"]) == ("recommended", "1328x1328")


def test_preset_takes_the_place_of_a_name_and_not_of_a_folder(tmp_path: Path) -> None:
    named = Settings(generator=GeneratorSettings(model="diffusers:Qwen/Qwen-Image", steps=3))
    settings, options = apply_profile(named, "paper")
    assert (settings.generator.model, settings.generator.steps) == ("diffusers:qwen-image-paper", 50)
    assert options == {"size": "1328x1328"}
    own = tmp_path / "qwen-image"
    own.mkdir()
    kept, _ = apply_profile(Settings(generator=GeneratorSettings(model=f"diffusers:{own}")), "paper")
    assert kept.generator.model == f"diffusers:{own}"
    assert apply_profile(named, "") == (named, {})
