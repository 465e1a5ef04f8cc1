"""`gems eval score`, `export`, `import-scores`, `compare` and `table` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gems.apps.cli.schemas import EvalComparison, EvalTables
from gems.evals.official import EvalExport, EvalImport
from gems.evals.scoring import ScoreReport
from tests.support.benchmark_samples import DATA, placed, said
from tests.support.stub import StubServer
from tests.support.terminal import here


def drawn(out: str, harness: str = "single", *more: str, task: str = "blocks-bench") -> str:
    done = here("eval", "run", task, "--harness", harness, "--out", out, *more)
    assert done.exit_code == 0, done.stderr
    return out


def eyes(messages: Any) -> str:
    """Sees three of everything, and whatever else is asked for."""
    return "three" if "How many" in said(messages) else "Yes"


@pytest.fixture
def geneval2(tmp_path: Path) -> str:
    """A folder with the invented prompt of GenEval2, drawn by the built-in world."""
    data = tmp_path / "data" / "geneval2_data.jsonl"
    data.parent.mkdir()
    shutil.copy(DATA / "geneval2" / "invented.jsonl", data)
    return drawn("out/geneval2", "single", "--data", str(data.parent), task="geneval2")


def test_blocks_bench_from_drawing_to_files() -> None:
    drawn("out/single", "single", "--limit", "6")
    drawn("out/rewrite", "rewrite", "--limit", "6")
    single = here("eval", "score", "out/single", "--json")
    assert single.exit_code == 0, single.stderr
    report = ScoreReport.model_validate_json(single.stdout)
    assert (report.judge, report.scored, report.unscored, report.missing) == ("truth", 6, [], [])
    assert report.figures[0].is_partial
    shown = here("eval", "score", "out/rewrite")
    assert "blocks-bench/atomicity/3" in shown.stdout
    assert "6 of 200, partial" in shown.stdout
    again = here("eval", "score", "out/rewrite")
    assert "0 prompts scored by truth, 6 prompts scored earlier." in again.stdout
    compared = here("eval", "compare", "out/single", "out/rewrite", "--out", "cmp")
    assert compared.exit_code == 0, compared.stderr
    assert "rewrite against single" in compared.stdout
    assert "Scored by the true scenes, without a judge." in compared.stdout
    assert {path.name for path in Path("cmp").iterdir()} == {
        "compare.md",
        "compare.csv",
        "pairs.csv",
        "compare.html",
        "blocks-bench-en-truth.svg",
    }
    told = here("eval", "compare", "out/single", "out/rewrite", "--json")
    comparison = EvalComparison.model_validate_json(told.stdout)
    assert comparison.model_dump(mode="json") == json.loads(told.stdout)
    (section,) = comparison.sections
    values = {number.entry: number.mean for number in section.numbers if number.metric == "met"}
    assert values.keys() == {"single", "rewrite"}


def test_a_judge_scores_in_house(geneval2: str) -> None:
    unnamed = here("eval", "score", geneval2)
    assert unnamed.exit_code == 2
    assert "GEMS_EVAL_JUDGE__MODEL" in unnamed.stderr
    with StubServer(chat=eyes) as judge:
        spec = f"openai:eyes@{judge.base_url}"
        done = here("eval", "score", geneval2, "--judge", spec, "--json")
        asked = len(judge.calls("chat"))
        here("eval", "score", geneval2, "--judge", spec)
        assert len(judge.calls("chat")) == asked > 0
    assert done.exit_code == 0, done.stderr
    report = ScoreReport.model_validate_json(done.stdout)
    assert report.judge == f"{spec}-inhouse"
    assert all(figure.judge == report.judge for figure in report.figures)
    compared = here("eval", "compare", geneval2)
    assert f"Judged by {spec}-inhouse, which is not the loop's own judge in" in compared.stdout


def test_the_judge_may_be_named_in_the_environment(geneval2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with StubServer(chat=eyes) as judge:
        monkeypatch.setenv("GEMS_EVAL_JUDGE__MODEL", f"openai:other@{judge.base_url}")
        done = here("eval", "score", geneval2, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["judge"] == f"openai:other@{judge.base_url}-inhouse"


def test_nonsense_is_listed_and_never_zero(geneval2: str) -> None:
    with StubServer(chat=lambda messages: "") as judge:
        done = here("eval", "score", geneval2, "--judge", f"openai:eyes@{judge.base_url}")
    assert done.exit_code == 3
    assert "1 sample without a score, not counted as 0:" in done.stderr
    headline = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["geneval2"])
    assert headline.split()[2:6] == ["–", "0", "of", "800,"]  # noqa: RUF001


def test_a_judge_that_is_not_there(geneval2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_EVAL_JUDGE__ATTEMPTS", "1")
    done = here("eval", "score", geneval2, "--judge", "openai:eyes@http://127.0.0.1:9/v1")
    assert done.exit_code == 1
    assert "could not be reached" in done.stderr


def test_export_tells_coverage_and_what_to_run(geneval2: str) -> None:
    done = here("eval", "export", geneval2, "--official", "official", "--json")
    assert done.exit_code == 3, done.stderr
    export = EvalExport.model_validate_json(done.stdout)
    assert (export.samples, export.expected, export.missing) == (1, 800, [])
    assert any("evaluation.py" in command for command in export.commands)
    assert list(Path("official").rglob("*.png"))
    again = here("eval", "export", geneval2, "--official", "official")
    assert again.exit_code == 2
    assert "not an empty folder" in again.stderr


def test_export_with_an_image_gone(tmp_path: Path) -> None:
    data = placed(tmp_path / "data", "geneval")
    out = drawn("out/geneval", "single", "--data", str(data), "--samples", "4", task="geneval")
    next(Path(out).rglob("00001_2.png")).unlink()
    done = here("eval", "export", out, "--official", "official")
    assert done.exit_code == 3
    assert "1 sample without an image:" in done.stderr
    assert "en/00001 sample 2: The file is missing." in done.stderr
    assert "partial: 11 of 2,212 samples" in done.stderr


def test_official_scores_come_back(geneval2: str) -> None:
    questions = 7
    Path("scores.json").write_text(json.dumps([[0.5] * questions]))
    done = here("eval", "import-scores", geneval2, "scores.json", "--json")
    assert done.exit_code == 0, done.stderr
    taken = EvalImport.model_validate_json(done.stdout)
    assert taken.figures[0].value == pytest.approx(50.0)
    assert {figure.judge for figure in taken.figures} == {"official"}
    compared = here("eval", "compare", geneval2)
    assert "Scored by the official scorer." in compared.stdout
    tables = EvalTables.model_validate_json(here("eval", "table", geneval2, "--json").stdout)
    (mine,) = [row for row in tables.tables[0].rows if row[0] == "blocks"]
    assert "50.00*" in mine
    Path("scores.json").write_text("[[1, 2], [3]]")
    bad = here("eval", "import-scores", geneval2, "scores.json")
    assert bad.exit_code == 2
    assert "they differ from the benchmark's data" in bad.stderr


def test_tables_go_to_a_file() -> None:
    done = here("eval", "table", "--out", "tables.md")
    assert done.exit_code == 0
    assert "| Z-Image-Turbo | GEMS | 0.860 |  | 63.50 |" in Path("tables.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("score", "nowhere"), "is not an output folder"),
        (("compare", "nowhere"), "is not an output folder"),
        (("export", "nowhere", "--official", "x"), "is not an output folder"),
        (("import-scores", "nowhere", "x"), "is not an output folder"),
        (("table", "nowhere"), "is not an output folder"),
    ],
)
def test_what_is_no_folder(arguments: tuple[str, ...], told: str) -> None:
    done = here("eval", *arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_an_unscored_folder_cannot_be_compared() -> None:
    done = here("eval", "compare", drawn("out/single", "single", "--limit", "1"))
    assert done.exit_code == 2
    assert "`gems eval score DIR`" in done.stderr


def test_blocks_bench_has_no_official_scorer() -> None:
    done = here("eval", "export", drawn("out/single", "single", "--limit", "1"), "--official", "x")
    assert done.exit_code == 2
    assert "no official scorer" in done.stderr


def test_a_language_must_be_named_where_there_are_two(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "task": "longtext",
        "languages": ["en", "zh"],
        "harness": "single",
        "generator": "blocks",
        "images": 1,
        "samples": 1,
        "seed": 0,
    }
    Path("both").mkdir()
    Path("both/eval.json").write_text(json.dumps(settings))
    done = here("eval", "import-scores", "both", "scores.json")
    assert done.exit_code == 2
    assert "--language: en, zh" in done.stderr
