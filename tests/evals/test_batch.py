"""`gems batch`: lists of prompts, good and bad, drawn once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gems.evals.batch import BatchLine
from tests.support.generator_gate import Gate
from tests.support.pausable_models import PATIENCE_S, wait_for_rows
from tests.support.stub import StubServer
from tests.support.terminal import here, started, wait_until


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.give_up()


@pytest.fixture
def stub(gate: Gate) -> Iterator[StubServer]:
    with StubServer(images=gate.draw) as stub:
        yield stub


def listed(folder: Path, *rows: Any, name: str = "prompts.jsonl") -> Path:
    file = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def batch(file: Path, *more: str) -> Any:
    return here("batch", str(file), "--out", str(file.parent / "out"), *more)


def manifest(folder: Path) -> list[BatchLine]:
    lines = (folder / "out" / "manifest.jsonl").read_text().splitlines()
    return [BatchLine.model_validate_json(line) for line in lines]


def test_each_prompt_has_its_image_and_its_line(tmp_path: Path) -> None:
    file = listed(
        tmp_path,
        {"id": "stars", "prompt": "two green stars", "seed": 7, "size": "128x128"},
        "",
        {"prompt": "a red circle", "size": "128x128", "max_rounds": 1, "profile": "paper", "skills": "none"},
    )
    done = batch(file)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("2 of 2 prompts done, ")
    lines = {line.id: line for line in manifest(tmp_path)}
    assert {name: (line.line, line.file) for name, line in lines.items()} == {
        "stars": (1, "stars.png"),
        "000003": (3, "000003.png"),
    }
    assert lines["stars"].options == {"seed": 7, "size": "128x128"}
    assert lines["000003"].options["profile"] == "paper"
    assert all((tmp_path / "out" / line.file).read_bytes().startswith(b"\x89PNG") for line in lines.values())


def test_a_seed_at_random_is_recorded(tmp_path: Path) -> None:
    small = {"prompt": "two green stars", "size": "128x128", "max_rounds": 1}
    rows = [{**small, "id": name, "seed": seed} for name, seed in (("any", -1), ("large", 3484050600))]
    assert batch(listed(tmp_path, *rows)).exit_code == 0
    lines = {line.id: line for line in manifest(tmp_path)}
    assert lines["large"].options["seed"] == 3484050600
    shown = json.loads(here("show", lines["any"].run_id, "--json").stdout)
    assert lines["any"].options["seed"] == shown["options"]["seed"] >= 0


def test_again_draws_what_was_changed_alone(tmp_path: Path, stub: StubServer, gate: Gate) -> None:
    gate.allow(1000)
    spec = ("--generator", f"openai:stub@{stub.base_url}")
    row = {"prompt": "a cat", "max_rounds": 1, "size": "64x64"}
    assert batch(listed(tmp_path, {**row, "id": "one"}, {**row, "id": "two"}), *spec).exit_code == 0
    assert batch(listed(tmp_path, {**row, "id": "one"}, {**row, "id": "two"}), *spec).exit_code == 0
    assert gate.drawn.total() == 2
    changed = listed(tmp_path, {**row, "id": "one"}, {**row, "id": "two", "prompt": "a dog"}, {**row, "id": "3"})
    assert batch(changed, *spec).exit_code == 0
    assert gate.drawn.total() == 4
    assert {line.id: line.prompt for line in manifest(tmp_path)} == {"one": "a cat", "two": "a dog", "3": "a cat"}


def test_csv_says_the_same(tmp_path: Path) -> None:
    file = listed(
        tmp_path,
        "\ufeffid,prompt,seed,size,max_rounds",
        'a,"two green stars, and a ""red"" circle",7,128x128,1',
        "b,a red circle,,128x128,",
        name="prompts.csv",
    )
    done = batch(file)
    assert done.exit_code == 0, done.stderr
    lines = {line.id: line for line in manifest(tmp_path)}
    assert lines["a"].prompt == 'two green stars, and a "red" circle'
    assert lines["a"].options == {"seed": 7, "size": "128x128", "max_rounds": 1}
    assert set(lines["b"].options) == {"seed", "size"}


def test_bad_lines_are_told_together_before_anything_is_drawn(tmp_path: Path) -> None:
    file = listed(
        tmp_path,
        {"prompt": "a good one"},
        {"prompt": "a cat", "sed": 7},
        "not JSON",
        ["a list"],
        {"prompt": ""},
        {"prompt": "a cat", "max_rounds": 99},
        {"prompt": "a cat", "seed": "soon"},
        {"prompt": "a cat", "size": "7x7"},
        {"prompt": "a cat", "skills": "cooking"},
        {"id": "000001", "prompt": "a cat"},
        {"seed": 1},
    )
    done = batch(file)
    assert done.exit_code == 2
    assert "contains 10 invalid lines" in done.stderr
    for number, said in {
        2: "unknown option 'sed'", 3: "Expecting value", 4: "not a JSON object", 5: "The prompt is empty",
        6: "max_rounds is 99", 7: "seed is 'soon'; it must be a whole number", 8: "does not support 7x7",
        9: "cooking", 10: "the id '000001' is already used in line 1", 11: "prompt: Field required",
    }.items():  # fmt: skip
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"  line {number}:")]
        assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "contains no prompts"), (b"\xff\xfe", "not UTF-8 text"), (None, "cannot be read")]
)
def test_file_that_is_no_list(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    if content is not None:
        file.write_bytes(content)
    done = batch(file)
    assert done.exit_code == 2
    assert said in done.stderr


def test_csv_with_cells_too_many_or_too_few(tmp_path: Path) -> None:
    done = batch(listed(tmp_path, "prompt,seed", "a cat,1,2", "a dog", "a bird,3", name="prompts.csv"))
    assert done.exit_code == 2
    assert done.stderr.count("the number of cells differs from the first line") == 2


def test_ids_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    file = listed(tmp_path, {"id": "../../evil", "prompt": "a red circle", "size": "128x128", "max_rounds": 1})
    assert batch(file).exit_code == 0
    assert not list(tmp_path.rglob("evil.png"))
    assert [path.parent for path in (tmp_path / "out").rglob("*.png")] == [tmp_path / "out"]


def test_folder_of_something_else(tmp_path: Path) -> None:
    file = listed(tmp_path, {"prompt": "a red circle", "size": "128x128", "max_rounds": 1})
    assert batch(file).exit_code == 0
    other = batch(file, "--seed", "3")
    assert other.exit_code == 2
    assert "seed is 0 in the folder, 3 now" in other.stderr
    (tmp_path / "out" / "eval.json").write_text("{}")
    assert "holds samples of a benchmark" in batch(file).stderr


@contextmanager
def held(file: Path, stub: StubServer, gate: Gate, allowed: int) -> Iterator[subprocess.Popen[str]]:
    gate.allow(allowed)
    wanted = gate.drawn.total() + allowed
    spec = f"openai:stub@{stub.base_url}"
    with started("batch", str(file), "--out", str(file.parent / "out"), "--generator", spec) as process:
        try:
            wait_until(lambda: gate.drawn.total() == wanted, process)
            wait_for_rows(Path(os.environ["GEMS_HOME"]), "drawings", wanted)
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE_S)
            gate.give_up_all(stub)


def test_killed_it_goes_on_and_draws_nothing_twice(tmp_path: Path, stub: StubServer, gate: Gate) -> None:
    rows = [{"prompt": f"cat {n}", "max_rounds": 2, "size": "64x64", "profile": "paper"} for n in range(6)]
    file, spec = listed(tmp_path, *rows), f"openai:stub@{stub.base_url}"
    with held(file, stub, gate, 5) as process:
        process.kill()
        process.communicate(timeout=PATIENCE_S)
    gate.allow(1000)
    assert batch(file, "--generator", spec).exit_code == 0
    assert set(gate.drawn.values()) == {1}
    assert gate.drawn.total() == 12
    assert len({line.id for line in manifest(tmp_path)}) == 6
