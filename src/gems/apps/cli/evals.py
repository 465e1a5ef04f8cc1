"""Gems eval run, data, score, export, import-scores, compare, table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import BEST_EFFORT, MET, handle_errors
from gems.apps.text import clean_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gems.evals.data import DataCheck, DataReport, FileCheck


def run(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Benchmark; `gems eval data` lists them.")],
    out: options.EvalOut,
    harness: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="single, rewrite, best-of-n, paper, paper-no-memory, paper-no-skill, paper-loop balanced.",
        ),
    ] = "balanced",
    chat: options.Chat = None,
    judge: options.Judge = None,
    generator: options.Generator = None,
    generator_profile: Annotated[
        str, typer.Option(metavar="NAME", help="Named generator settings: paper or recommended.")
    ] = "",
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Width and height in pixels. Default: the generator's own.")
    ] = "",
    images: Annotated[
        int, typer.Option(metavar="N", min=1, max=50, help="Maximum number of images per sample.")
    ] = 5,
    languages: Annotated[
        str, typer.Option(metavar="CODES", help="en, zh or en,zh. Default: all of the benchmark's.")
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", metavar="N", min=1, help="Use only the first N prompts of each language."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=100, help="Samples per prompt. Default: the benchmark's own number."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=2**31 - 1, help="Base seed; the seeds of samples are derived from it."
        ),
    ] = 0,
    data: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="Folder of the benchmark's data. Default: GEMS_HOME/benchmarks/TASK."
        ),
    ] = "",
    learn: Annotated[
        bool,
        typer.Option("--learn", help="Share memory between runs; samples then depend on their order."),
    ] = False,
    concurrency: options.Concurrency = 4,
    budget_usd: options.Budget = None,
    retries: options.Retries = 1,
    engine: options.Engine = "local",
    workers: options.Workers = None,
    generator_actors: options.GeneratorActors = None,
    json: options.Json = False,
    quiet: options.EvalQuiet = False,
    debug: options.Debug = False,
) -> None:
    """Generate the samples of a benchmark with a harness.

    You can interrupt the command at any time; run it again to resume. Finished images and answers are not
    paid for again, and failed samples are retried. Every harness gets the same seeds.

    \b
    Examples:
      gems eval run blocks-bench --harness paper --limit 10 --out out/paper
      gems eval run geneval2 --harness balanced --images 5 --out s3://bucket/geneval2 \\
               --chat openai:moonshotai/Kimi-K2.5@http://127.0.0.1:8000/v1 \\
               --generator diffusers:z-image-turbo --engine ray

    \b
    Exit codes:
      0    every sample has an image
      3    some samples failed, or the budget is spent
      2    bad usage or configuration, or the folder holds another benchmark run
      1    failure
      130  interrupted; run the same command again to resume
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import EvalRequest, run_eval
        from gems.apps.cli.options import Models, View
        from gems.apps.cli.output import print_report
        from gems.apps.cli.runner import EngineOptions

        view = View(json=json, quiet=quiet, debug=debug)
        request = EvalRequest(
            task=task,
            harness=harness,
            generator_profile=generator_profile,
            size=size,
            images=images,
            languages=languages,
            limit=limit,
            samples=samples,
            seed=seed,
            data=data,
            learn=learn,
        )
        engine_options = EngineOptions(
            out=out,
            engine=engine,
            concurrency=concurrency,
            workers=workers,
            generator_actors=generator_actors,
            budget_usd=budget_usd,
            retries=retries,
        )
        report = run_eval(request, Models(chat=chat, judge=judge, generator=generator), engine_options, view)
        raise typer.Exit(print_report(report, "sample", view))


def compare(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...", help="Output folders; those of one harness with different seeds are merged."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=options.path,
            metavar="FOLDER",
            help="Write Markdown, CSV, plots and a page with the images side by side to this folder.",
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only scores of this judge, named as in the tables.")
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=200, help="Number of prompts shown on the page."),
    ] = 12,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Compare harnesses prompt by prompt.

    Reports means with bootstrap intervals, pairwise tests, results per category and per atomicity, and the
    cost of a sample: images, calls, tokens, seconds. Each judge, and the official scorer, has its own
    tables.

    \b
    Examples:
      gems eval compare out/single out/paper out/balanced
      gems eval compare out/*-seed? --out out/comparison

    \b
    Exit codes:
      0  compared
      2  bad usage, no output folder, or no scores
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import compare_folders
        from gems.apps.cli.output import print_json
        from gems.apps.cli.schemas import comparison_report
        from gems.apps.cli.tables import show_section

        found = compare_folders(folders, judge, out, pictures)
        for warning in found.warnings:
            typer.echo(f"warning: {warning}", err=True)
        if json:
            print_json(comparison_report(found))
            return
        for section in found.sections:
            show_section(section)
        for path in found.paths:
            typer.echo(path)


def data(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="A benchmark; all by default.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data",
            parser=options.path,
            metavar="DIR",
            help="Folder of the benchmark's data. Default: GEMS_HOME/benchmarks/TASK.",
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show the source and licence of the benchmarks' data, and check the local copies.

    Nothing is downloaded: clone the repository into the folder, or put the files there. Files are checked by
    count and size, and parsed as the task does. You can run a partial benchmark; its results are marked as
    partial.

    \b
    Examples:
      gems eval data
      gems eval data geneval2 --data ~/GenEval2

    \b
    Exit codes:
      0  all data are in place
      3  some files are missing, partial, damaged or of another edition; see their lines
      2  bad usage or configuration
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json

        report = _check_data(task, folder)
        if json:
            print_json(report)
        else:
            typer.echo("\n\n".join("\n".join(_format_check(check)) for check in report.benchmarks))
        raise typer.Exit(MET if report.ok else BEST_EFFORT)


def _check_data(name: str | None, folder: Path | None) -> DataReport:
    from gems.errors import OptionError
    from gems.evals.data import DataReport, check_data
    from gems.evals.registry import TASKS, data_folder, load_task
    from gems.settings import load_settings

    if name is None and folder is not None:
        raise OptionError("--data needs a benchmark.", hint="Pass the benchmark, e.g. geneval2.")
    settings = load_settings()
    tasks = [load_task(each) for each in ([name] if name is not None else TASKS)]
    checks = [check_data(each, folder or data_folder(settings, each.name)) for each in tasks]
    return DataReport(ok=all(check.ok for check in checks), benchmarks=checks)


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


Folder = Annotated[
    str,
    typer.Argument(metavar="DIR", help="Output folder: a path or an fsspec URL."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        parser=options.path,
        metavar="DIR",
        help="Folder of the benchmark's data, if it has moved since the samples were generated.",
    ),
]


def score(
    folder: Folder,
    judge: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Chat model that scores. Default: GEMS_EVAL_JUDGE__MODEL."),
    ] = None,
    data: Data = None,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency",
            "-j",
            metavar="N",
            min=1,
            max=256,
            help="Maximum number of prompts scored in parallel.",
        ),
    ] = 4,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Score a folder's samples with a chat model.

    Results carry the model's name with -inhouse, since they are not those of the official scorer. Use a model
    other than the loop's own judge. blocks-bench has ground truth and needs no judge. Existing scores are
    kept, so an interrupted command can be run again. Unreadable answers are listed, never counted as 0, and
    asked again next time.

    \b
    Examples:
      gems eval score out/paper
      gems eval score out/geneval2 --judge openai:Qwen/Qwen3-VL-8B-Instruct@http://127.0.0.1:8002/v1

    \b
    Exit codes:
      0    every sample has a score
      3    some have no score: no image, or no readable answer
      2    bad usage or configuration, or no output folder
      1    failure
      130  interrupted; run the same command again to resume
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.errors import BEST_EFFORT, MET
        from gems.apps.cli.eval_commands import score_samples
        from gems.apps.cli.output import print_json
        from gems.apps.cli.tables import show_scores

        found = score_samples(folder, judge, data, concurrency)
        if json:
            print_json(found)
        else:
            show_scores(found)
        raise typer.Exit(BEST_EFFORT if found.unscored or found.missing else MET)


def export(
    folder: Folder,
    official: Annotated[
        Path,
        typer.Option(
            parser=options.path, metavar="OUT", help="New folder for the official scorer's input files."
        ),
    ],
    data: Data = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Export a folder's samples in the format of the official scorer.

    Prints the commands that run the scorer. Samples without an image are listed; a score without them is
    partial and not the benchmark's.

    \b
    Examples:
      gems eval export out/geneval2 --official out/geneval2-official

    \b
    Exit codes:
      0  written, and the benchmark is complete
      3  written, but samples are missing
      2  bad usage or configuration, no output folder, or no official scorer
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.errors import BEST_EFFORT, MET
        from gems.apps.cli.eval_commands import export_samples
        from gems.apps.cli.output import print_json
        from gems.apps.cli.tables import show_export

        found = export_samples(folder, official, data)
        if json:
            print_json(found)
        else:
            show_export(found)
        raise typer.Exit(BEST_EFFORT if found.is_partial else MET)


def import_scores(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(parser=options.path, metavar="FILE", help="Output file of the official scorer.")
    ],
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="en or zh; required if the folder has both."),
    ] = None,
    data: Data = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Import the scores that the official scorer wrote.

    \b
    Examples:
      gems eval import-scores out/geneval2 out/geneval2-scores.json

    \b
    Exit codes:
      0  imported
      2  bad usage, no output folder, or not a file of the official scorer
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import import_official_scores
        from gems.apps.cli.output import print_json
        from gems.apps.cli.tables import show_figures

        found = import_official_scores(folder, file, language, data)
        if json:
            print_json(found)
        else:
            show_figures(found.figures)


def table(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="[DIR...]", help="Output folders of any benchmark.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=options.path, metavar="FILE", help="Write Markdown to this file."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Print the paper's Tables 1 and 2 with your own results.

    Only official scores (`gems eval import-scores`) are shown next to the paper's; in-house scores follow in
    separate tables. Cells without a run are empty.

    \b
    Examples:
      gems eval table
      gems eval table out/geneval2 out/wise --out tables.md

    \b
    Exit codes:
      0  printed
      2  bad usage, or no output folder
      1  failure
    """
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_commands import build_tables
        from gems.apps.cli.output import print_json
        from gems.apps.cli.schemas import tables_report
        from gems.apps.cli.tables import show_table

        found = build_tables(folders or [], out)
        if json:
            print_json(tables_report(found))
            return
        for each in found:
            show_table(each)
        if out is not None:
            typer.echo(out)


evals = typer.Typer(
    name="eval",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@evals.callback()
def _evals(context: typer.Context) -> None:
    """Benchmarks: generate samples with a harness, score them, and compare harnesses."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


evals.command()(data)
evals.command()(run)
evals.command()(score)
evals.command()(export)
evals.command()(import_scores)
evals.command()(compare)
evals.command()(table)
