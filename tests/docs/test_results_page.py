"""The settings of .env.example and the figures of docs/results.md are the real ones."""

from __future__ import annotations

import csv
import json
import os
import re
import statistics
from pathlib import Path
from typing import Any

from benchmarks.evolution import pages
from benchmarks.quality import rules_page
from benchmarks.soak import ROWS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def measured(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["tables"]


def test_the_table_of_harnesses_is_what_was_measured() -> None:
    """Rows of docs/results.md against the numbers that the comparison wrote."""
    with (ROOT / "benchmarks" / "results" / "blocks-bench.csv").open() as file:
        compared = {(line["entry"], line["part"], line["metric"]): line for line in csv.DictReader(file)}
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\d.]+) % \(([\d.]+) to ([\d.]+)\) \| ([\d.]+) \| ([\d.]+) \|", RESULTS, re.MULTILINE
    )
    assert len(rows) == 8
    for name, *told in rows:
        met, images, calls = (compared[name, "all", each] for each in ("met", "images", "calls"))
        shares = [f"{100 * float(met[each]):.1f}" for each in ("mean", "low", "high")]
        assert told == [*shares, f"{float(images['mean']):.2f}", f"{float(calls['mean']):.1f}"], name


def test_the_table_of_repair_is_what_was_measured() -> None:
    with (ROOT / "benchmarks" / "results" / "blocks-bench-repair.csv").open() as file:
        compared = {(line["entry"], line["metric"]): line for line in csv.DictReader(file) if line["part"] == "all"}
    table = RESULTS.partition("### Repair")[2].partition("\n- ")[0]
    rows = re.findall(r"^\| .+ \| ([\d.]+) % \(([\d.]+) to ([\d.]+)\) \| ([\d.]+) \| ([\d.]+) \|", table, re.MULTILINE)
    wanted = []
    for entry in ("balanced", "repair, blocks", "repair, blocks:poor", "repair-unlocked"):
        met, images, calls = (compared[entry, each] for each in ("met", "images", "calls"))
        shares = (f"{100 * float(met[each]):.1f}" for each in ("mean", "low", "high"))
        wanted.append((*shares, f"{float(images['mean']):.2f}", f"{float(calls['mean']):.1f}"))
    assert rows == wanted


def test_the_tables_of_patches_are_what_was_measured() -> None:
    for table in pages(measured("evolution")):
        assert table in RESULTS


def test_the_table_of_the_soak_is_what_was_measured() -> None:
    moments = measured("soak")["moments"]
    for name, title in ROWS.items():
        assert f"| {title} | {' | '.join(f'{moment[name]:,}' for moment in moments)} |" in RESULTS


def test_the_tables_of_rules_are_what_was_measured() -> None:
    """In docs/policy.md, of each world that is named there."""
    page, rows = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8"), measured("quality")["rules"]
    tables = {(row["world"], row["errs"]): rules_page(rows, row["world"], row["errs"]) for row in rows}
    told = {names for names, table in tables.items() if table in page}
    assert told >= {
        *(("usual", errs) for errs in ("never", "5 %", "5 %, half repeated")),
        ("wordings hardly help", "never"),
        *(("wordings help strongly", errs) for errs in ("never", "5 %")),
        ("easier", "never"),
    }
    assert page.count("| rules | fully met |") == len(told)


def test_the_table_of_costs_is_what_was_measured() -> None:
    """In docs/results.md and in docs/policy.md."""
    figures = measured("cost")["figures"]
    ways = ["the paper's pattern", "paper", "balanced", "balanced, 2 candidates"]
    assert set(ways) == set(figures)
    for page in (RESULTS, (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")):
        rows = re.findall(r"^\|[^|\n]+\| (\d+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| ([\d,]+) \|$", page, re.M)
        assert len(rows) == 4
        for way, row in zip(ways, rows, strict=True):
            found = figures[way]["5"]
            seconds, megabytes = f"{found['seconds']:.1f}", f"{found['image_bytes'] / 1e6:.1f}"
            assert list(row) == [
                str(found["drawings"]), seconds, str(found["calls"]), megabytes, f"{found['tokens']:,}"
            ]  # fmt: skip


def test_the_tables_of_memory_and_skills_are_what_was_measured() -> None:
    text = RESULTS.partition("## Memory and skills")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|[^|\n]+\| ([\d.]+) \| (\d+) % \| (\d+) % \|$", text, re.M)
    wanted = []
    for name, kinds in (("memory_helps", ("without", "with", "misled")), ("skills_help", ("none", "auto", "named"))):
        runs = measured(name)["runs"]
        for kind in kinds:
            images, met, first = (
                statistics.mean(run[kind][figure] for run in runs)
                for figure in ("images_per_success", "fully_met", "first_image")
            )
            wanted.append((f"{images:.2f}", f"{100 * met:.0f}", f"{100 * first:.0f}"))
    assert rows == wanted


def test_the_table_of_what_lessons_are_about_is_what_was_measured() -> None:
    rows = re.findall(r"^\|[^|\n]+\| (\d+) % \| (\d+) % \| ([\d.]+) \|$", RESULTS, re.M)
    wanted = []
    for ways in measured("lessons_fit")["embedders"].values():
        shares = [f"{100 * ways[way]['about_something_else']:.0f}" for way in ("without", "with")]
        wanted.append((*shares, f"{ways['with']['lessons_per_run_where_none_fits']:.1f}"))
    assert len(rows) == 3
    assert rows == wanted


def test_the_figures_of_the_loop_and_of_scale_are_what_was_measured() -> None:
    loop, scale = measured("blocks_world"), measured("memory_scale")["measured"]
    share = measured("concurrency")["share_of_throughput"]
    found = measured("skills_scale")["measured"]
    for figure in (
        f"| {100 * loop['single_shot']:.0f} % |",
        f"| {100 * loop['loop']:.0f} % ({loop['images_per_prompt']:.2f} images per prompt) |",
        f"| {100 * loop['judge_agreement']:.0f} % of {loop['judge_questions']} |",
        f"of {loop['called_passed']} |",
        f"| {found['first_scan_ms']:.0f} ms, {found['warm_scan_ms']:.0f} ms |",
        f"| {found['planner_tokens']:,} |",
        f"| {scale['retrieval_p50_ms']:.0f} ms (p95 {scale['retrieval_p95_ms']:.0f} ms) |",
        f"| {scale['memory_mb']:.0f} MB |",
        f"| {scale['insertions_per_s']:.0f} |",
        f"| {100 * share:.0f} % |",
        f"| {measured('concurrency')['rss_peak_mb']:.0f} MB |",
    ):
        assert figure in RESULTS


def test_the_table_of_models_and_servers_is_what_was_measured() -> None:
    found = measured("compatibility")
    before = {kind["kind"]: kind for kind in measured("compatibility-before")["kinds"]}
    rows = re.findall(
        r"^\| ([^|\n]+) \((\d+)\) \| [^|\n]+ \| (.+) / (.+) \| (.+) / (.+) \| (.+) / (.+) \|$", RESULTS, re.M
    )
    wanted = [
        (
            kind["kind"], kind["member"],
            *(f"{each[name]:,}" for name in ("wrong", "requests", "tokens") for each in (before[kind["kind"]], kind)),
        )
        for kind in found["kinds"]
    ]  # fmt: skip
    assert rows == wanted
    assert found["missed"] == []


def test_the_table_of_training_pairs_is_what_was_measured() -> None:
    text = RESULTS.partition("## Training pairs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) % \| (\w+) \| (\d+) \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", text, re.M)
    wanted = [
        (
            f"{100 * row['error']:.0f}",
            kind,
            str(row[kind]["pairs"]),
            *tuple(f"{100 * row[kind][order]:.1f}" for order in ("true", "tie", "false")),
        )
        for row in measured("training_pairs")["order"]
        for kind in ("confirmed", "all")
    ]
    assert rows == wanted


def test_the_figures_of_exports_and_rewards_are_what_was_measured() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d.]+) s \| (\d+) MB \|$", RESULTS, re.M)
    assert rows == [
        (f"{row['rows']:,}", f"{row['runs']:,}", f"{row['cpu_seconds']:.1f}", f"{row['rss_peak_mb']:.0f}")
        for row in measured("export_scale")["exports"]
    ]
    found = measured("rewards")
    ours, theirs = (statistics.median(found["per_second"][name]) for name in ("rewards", "endpoint"))
    assert f"it judges {ours:.1f} images of\nthe {theirs:.1f} per second that the endpoint allows" in RESULTS
    assert f"(median {100 * found['ratio']:.0f} %" in RESULTS
    assert found["ratio"] >= 0.9


def test_env_example_names_every_setting_and_no_other() -> None:
    from gems.settings import ChatSettings, GeneratorSettings, ServeSettings, Settings

    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#(GEMS_\w+)=", text, re.MULTILINE))
    wanted = {f"GEMS_CHAT__{name.upper()}" for name in ChatSettings.model_fields}
    wanted |= {f"GEMS_GENERATOR__{name.upper()}" for name in GeneratorSettings.model_fields}
    wanted |= {f"GEMS_SERVE__{name.upper()}" for name in ServeSettings.model_fields}
    nested = {"chat", "planner", "judge", "reflector", "eval_judge", "generator", "serve"}
    wanted |= {f"GEMS_{name.upper()}" for name in Settings.model_fields if name not in nested}
    judges = {name for name in named if name.startswith(("GEMS_JUDGE__", "GEMS_EVAL_JUDGE__"))}
    assert named - judges == wanted
    assert {re.sub("(EVAL_)?JUDGE", "CHAT", name) for name in judges} <= wanted


def test_the_example_environment_is_read(tmp_path: Path) -> None:
    """Uncommented as it stands, every line is understood."""
    from gems.files.trust import trust
    from gems.settings import load_settings

    text = (ROOT / ".env.example").read_text()
    lines = [line[1:] for line in text.splitlines() if re.match(r"#[A-Z_]+=", line)]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert Path.cwd() == tmp_path
    trust(tmp_path / "gems", tmp_path)
    settings = load_settings()
    assert settings.generator.model == "diffusers:z-image-turbo"
    assert settings.chat_for("judge").temperature == 0
    assert "GEMS_HOME" in os.environ
