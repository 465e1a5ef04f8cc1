"""`gems eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.command import command, command_group
from gems.apps.cli.errors import BEST_EFFORT, MET
from gems.apps.cli.options import argument, flag, option, path_option
from gems.apps.text import clean_text, one_line
from gems.generation import SEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gems.apps.cli.runner import Runner
    from gems.evals.data import DataCheck, FileCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """Options of `gems eval run` that define the samples."""

    generator_profile: Annotated[str, option("NAME", "Named generator settings: paper or recommended.")] = ""
    size: Annotated[str, option("WxH", "Width and height in pixels. Default: the generator's own.")] = ""
    images: Annotated[int, option("N", "Maximum number of images per sample.", min=1, max=50)] = 5
    languages: Annotated[str, option("CODES", "en, zh or en,zh. Default: all of the benchmark's.")] = ""
    limit: Annotated[
        int | None, option("N", "Use only the first N prompts of each language.", "--limit", "-n", min=1)
    ] = None
    samples: Annotated[
        int | None, option("N", "Samples per prompt. Default: the benchmark's own number.", min=1, max=100)
    ] = None
    seed: Annotated[int, option("N", "Base seed; the seeds of samples are derived from it.", min=0, max=SEEDS - 1)] = 0
    data: Annotated[str, option("DIR", "Folder of the benchmark's data. Default: GEMS_HOME/benchmarks/TASK.")] = ""
    learn: Annotated[bool, flag("--learn", "Share memory between runs; samples then depend on their order.")] = False


@command(
    {
        0: "every sample has an image",
        3: "some samples failed, or the budget is spent",
        2: "bad usage or configuration, or the folder holds another benchmark run",
        130: "interrupted; run the same command again to resume",
    },
    quiet="Hide progress; print only the output folder.",
)
def run(
    runner: Runner,
    *,
    task: Annotated[str, argument("TASK", "Benchmark; `gems eval data` lists them.")],
    out: options.EvalOut,
    harness: Annotated[
        str,
        option(
            "NAME",
            "single, rewrite, best-of-n, paper, paper-no-memory, paper-no-skill, paper-loop, balanced, repair or "
            "repair-unlocked.",
        ),
    ] = "balanced",
    models: options.Models,
    sampling: SampleOptions,
    engine_options: options.EngineOptions,
) -> int:
    """Generate the samples of a benchmark with a harness.

    You can interrupt the command at any time; run it again to resume. Finished images and answers are not
    paid for again, and failed samples are retried. Every harness gets the same seeds.

    \b
    Examples:
      gems eval run blocks-bench --harness paper --limit 10 --out out/paper
      gems eval run geneval2 --harness balanced --images 5 --out s3://bucket/geneval2 \\
               --chat openai:moonshotai/Kimi-K2.5@http://127.0.0.1:8000/v1 \\
               --generator diffusers:z-image-turbo --engine ray
    """
    from gems.apps.cli.eval_commands import run_eval

    return run_eval(runner, task, harness, out, models, sampling, engine_options)


@command({0: "compared", 2: "bad usage, no output folder, or no scores"})
def compare(
    runner: Runner,
    folders: Annotated[
        list[str], argument("DIR...", "Output folders; those of one harness with different seeds are merged.")
    ],
    out: Annotated[
        Path | None,
        path_option(
            "FOLDER",
            "Write Markdown, CSV, plots and a page with the images side by side to this folder.",
            "--out",
            "-o",
        ),
    ] = None,
    judge: Annotated[str | None, option("NAME", "Only scores of this judge, named as in the tables.")] = None,
    pictures: Annotated[int, option("N", "Number of prompts shown on the page.", min=0, max=200)] = 12,
) -> None:
    """Compare harnesses prompt by prompt.

    Reports means with bootstrap intervals, pairwise tests, results per category and per atomicity, and the
    cost of a sample: images, calls, tokens, seconds. Each judge, and the official scorer, has its own
    tables.

    \b
    Examples:
      gems eval compare out/single out/paper out/balanced
      gems eval compare out/*-seed? --out out/comparison
    """
    from gems.apps.cli.eval_commands import compare_folders
    from gems.apps.cli.schemas import EvalComparison
    from gems.apps.cli.tables import show_comparison

    found = runner.run(compare_folders(folders, judge, out, pictures))
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    runner.show(EvalComparison.model_validate(found), lambda _: show_comparison(found))


@command(
    {0: "all data are in place", 3: "some files are missing, partial, damaged or of another edition; see their lines"}
)
def data(
    runner: Runner,
    task: Annotated[str | None, argument("[TASK]", "A benchmark; all by default.")] = None,
    folder: Annotated[
        Path | None, path_option("DIR", "Folder of the benchmark's data. Default: GEMS_HOME/benchmarks/TASK.", "--data")
    ] = None,
) -> int:
    """Show the source and licence of the benchmarks' data, and check the local copies.

    Nothing is downloaded: clone the repository into the folder, or put the files there. Files are checked by
    count and size, and parsed as the task does. You can run a partial benchmark; its results are marked as
    partial.

    \b
    Examples:
      gems eval data
      gems eval data geneval2 --data ~/GenEval2
    """
    from gems.apps.cli.eval_commands import check_benchmarks

    report = check_benchmarks(task, folder)
    texts = ("\n".join(_format_check(check)) for check in report.benchmarks)
    runner.show(report, lambda _: typer.echo("\n\n".join(texts)))
    return MET if report.ok else BEST_EFFORT


def _format_check(check: DataCheck) -> Iterator[str]:
    yield f"{check.task}: {check.title}, {'in place' if check.ok else 'not in place'}"
    if check.url:
        yield f"  from: {check.url}"
    yield f"  licence: {check.licence}"
    if check.note:
        yield f"  note: {check.note}"
    if check.files:
        yield clean_text(f"  folder: {check.folder}")
    for file in check.files:
        yield clean_text(f"  {file.status:<8}  {file.path}{_format_counts(file)}")
    for each in check.prompts:
        error = f"; {one_line(each.error)}" if each.error else ""
        yield f"  prompts   {each.language}: {each.prompts:,} of {each.expected:,}{error}"


def _format_counts(file: FileCheck) -> str:
    """Format record and byte counts against the expected ones."""
    exists = file.size is not None
    parts = []
    for found, expected, unit in (
        (file.records, file.records_expected, "records"),
        (file.size, file.size_expected, "bytes"),
    ):
        count = found if exists else expected
        if count is not None:
            whole = f" of {expected:,}" if exists and expected not in (None, found) else ""
            parts.append(f"{count:,}{whole} {unit}")
    return f": {', '.join(parts)}" if parts else ""


Folder = Annotated[str, argument("DIR", "Output folder: a path or an fsspec URL.")]
Data = Annotated[
    Path | None, path_option("DIR", "Folder of the benchmark's data, if it has moved since the samples were generated.")
]


@command(
    {
        0: "every sample has a score",
        3: "some have no score: no image, or no readable answer",
        2: "bad usage or configuration, or no output folder",
        130: "interrupted; run the same command again to resume",
    }
)
def score(
    runner: Runner,
    folder: Folder,
    judge: Annotated[str | None, option("SPEC", "Chat model that scores. Default: GEMS_EVAL_JUDGE__MODEL.")] = None,
    data: Data = None,
    concurrency: Annotated[
        int, option("N", "Maximum number of prompts scored in parallel.", "--concurrency", "-j", min=1, max=256)
    ] = 4,
) -> int:
    """Score a folder's samples with a chat model.

    Results carry the model's name with -inhouse, since they are not those of the official scorer. Use a model
    other than the loop's own judge. blocks-bench has ground truth and needs no judge. Existing scores are
    kept, so an interrupted command can be run again. Unreadable answers are listed, never counted as 0, and
    asked again next time.

    \b
    Examples:
      gems eval score out/paper
      gems eval score out/geneval2 --judge openai:Qwen/Qwen3-VL-8B-Instruct@http://127.0.0.1:8002/v1
    """
    from gems.apps.cli.eval_commands import score_samples
    from gems.apps.cli.tables import show_scores

    found = runner.run(score_samples(folder, judge, data, concurrency, runner.progress("prompt")))
    runner.show(found, show_scores)
    return BEST_EFFORT if found.unscored or found.missing else MET


@command(
    {
        0: "written, and the benchmark is complete",
        3: "written, but samples are missing",
        2: "bad usage or configuration, no output folder, or no official scorer",
    }
)
def export(
    runner: Runner,
    folder: Folder,
    official: Annotated[Path, path_option("OUT", "New folder for the official scorer's input files.")],
    data: Data = None,
) -> int:
    """Export a folder's samples in the format of the official scorer.

    Prints the commands that run the scorer. Samples without an image are listed; a score without them is
    partial and not the benchmark's.

    \b
    Examples:
      gems eval export out/geneval2 --official out/geneval2-official
    """
    from gems.apps.cli.eval_commands import export_samples
    from gems.apps.cli.tables import show_export

    found = runner.run(export_samples(folder, official, data))
    runner.show(found, show_export)
    return BEST_EFFORT if found.is_partial else MET


@command({0: "imported", 2: "bad usage, no output folder, or not a file of the official scorer"})
def import_scores(
    runner: Runner,
    folder: Folder,
    file: Annotated[Path, argument("FILE", "Output file of the official scorer.", parser=options.path)],
    language: Annotated[str | None, option("CODE", "en or zh; required if the folder has both.")] = None,
    data: Data = None,
) -> None:
    """Import the scores that the official scorer wrote.

    \b
    Examples:
      gems eval import-scores out/geneval2 out/geneval2-scores.json
    """
    from gems.apps.cli.eval_commands import import_official_scores
    from gems.apps.cli.tables import show_figures

    found = runner.run(import_official_scores(folder, file, language, data))
    runner.show(found, lambda imported: show_figures(imported.figures))


@command({0: "printed", 2: "bad usage, or no output folder"})
def table(
    runner: Runner,
    folders: Annotated[list[str] | None, argument("[DIR...]", "Output folders of any benchmark.")] = None,
    out: Annotated[Path | None, path_option("FILE", "Write Markdown to this file.", "--out", "-o")] = None,
) -> None:
    """Print the paper's Tables 1 and 2 with your own results.

    Only official scores (`gems eval import-scores`) are shown next to the paper's; in-house scores follow in
    separate tables. Cells without a run are empty.

    \b
    Examples:
      gems eval table
      gems eval table out/geneval2 out/wise --out tables.md
    """
    from gems.apps.cli.eval_commands import build_tables
    from gems.apps.cli.schemas import EvalTables
    from gems.apps.cli.tables import show_tables

    found = runner.run(build_tables(folders or [], out))
    runner.show(EvalTables.model_validate({"tables": found}), lambda _: show_tables(found, out))


evals = command_group(
    "eval",
    "Benchmarks: generate samples with a harness, score them, and compare harnesses.",
    {
        "data": data,
        "run": run,
        "score": score,
        "export": export,
        "import-scores": import_scores,
        "compare": compare,
        "table": table,
    },
)
