"""`gems eval data`: where data come from, and what of them is in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gems.apps.cli.schemas import DataReport
from gems.evals.data import check_data
from gems.evals.registry import TASKS, load_task
from tests.support.benchmark_samples import placed
from tests.support.terminal import here

GENEVAL = Path("prompts") / "evaluation_metadata.jsonl"


def test_everything_is_told_of_every_benchmark() -> None:
    done = here("eval", "data", "--json")
    assert done.exit_code == 3
    report = DataReport.model_validate_json(done.stdout)
    assert [check.task for check in report.benchmarks] == list(TASKS)
    for check in report.benchmarks:
        known = load_task(check.task)
        assert check.url.startswith("https://") or not known.source.files
        assert check.licence
        assert [each.expected for each in check.prompts] == [known.size[code] for code in known.languages]
        assert check.folder.endswith(f"/gems/benchmarks/{check.task}")
    states = {check.task: check.ok for check in report.benchmarks}
    # The prompts of CREA are built in.
    assert states["crea"]
    assert not states["geneval"]


def test_a_part_is_told_as_one() -> None:
    placed(Path("own"), "geneval")
    done = here("eval", "data", "geneval", "--data", "own")
    assert done.exit_code == 3
    lines = done.stdout.splitlines()
    assert lines[0] == "geneval: GenEval, not in place"
    assert "  licence: MIT" in lines
    size = (Path("own") / GENEVAL).stat().st_size
    assert f"  partial   prompts/evaluation_metadata.jsonl: 3 of 553 records, {size} of 85,209 bytes" in lines
    assert lines[-1] == "  prompts   en: 3 of 553"


def test_damage_is_told_with_its_line() -> None:
    path = placed(Path("own"), "geneval") / GENEVAL
    path.write_text(path.read_text()[:-20])
    done = here("eval", "data", "geneval", "--data", "own")
    assert done.exit_code == 3
    assert "0 of 553; own/prompts/evaluation_metadata.jsonl line 3 is not valid JSON" in done.stdout
    # The hint would send people to the command they have just given.
    assert "gems eval data" not in done.stdout


def test_all_records_with_another_size_are_another_edition() -> None:
    path = placed(Path("own"), "geneval") / GENEVAL
    path.write_text((path.read_text() * 185)[: -len(path.read_text().splitlines()[-1]) - 1])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:553]) + "\n")
    check = check_data(load_task("geneval"), Path("own"))
    assert [(file.status, file.records) for file in check.files] == [("differs", 553)]
    assert not check.ok


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_line_ends_do_not_matter(tmp_path: Path, ends: bytes) -> None:
    """A table of the size of the whole one, with either kind of line ends."""
    path = tmp_path / "OneIG-Bench.csv"
    lines = [b"category,id,prompt_en,type,prompt_length,class"]
    lines += [b"General_Object,%03d,x,NP,short," % number for number in range(1, 1121)]
    room = 378_082 - len(b"\r\n".join(lines) + b"\r\n")
    lines[1:] = [line + b"x" * (room // 1120) for line in lines[1:]]
    lines[-1] += b"x" * (room % 1120)
    path.write_bytes(ends.join(lines) + ends)
    check = check_data(load_task("oneig"), tmp_path)
    assert (check.files[0].status, check.files[0].records) == ("ok", 1120)
    assert check.files[2].status == "missing"


def test_the_whole_is_in_place(tmp_path: Path) -> None:
    """A file of the size and count of the real one, of invented records."""
    record = {"tag": "counting", "prompt": "", "include": [{"class": "kite", "count": 1}]}
    bare = len(json.dumps(record)) + 1
    room = 85_209 - 553 * bare
    path = tmp_path / GENEVAL.name
    lines = [json.dumps(record | {"prompt": "x" * (room // 553)}) for _ in range(552)]
    lines.append(json.dumps(record | {"prompt": "x" * (room - 552 * (room // 553))}))
    path.write_text("\n".join(lines) + "\n")
    done = here("eval", "data", "geneval", "--data", str(tmp_path))
    assert done.exit_code == 0, done.stdout
    assert "  ok        evaluation_metadata.jsonl: 553 records, 85,209 bytes" in done.stdout


def test_bad_usage() -> None:
    done = here("eval", "data", "nonsense")
    assert done.exit_code == 2
    assert "Unknown benchmark: 'nonsense'" in done.stderr
    done = here("eval", "data", "--data", "own")
    assert done.exit_code == 2
    assert "--data needs a benchmark" in done.stderr
    done = here("eval", "data", "wise-verified")
    assert done.exit_code == 2
    assert "is not supported" in done.stderr
