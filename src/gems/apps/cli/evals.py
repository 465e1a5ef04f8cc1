"""`gems eval run`."""

from __future__ import annotations

from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli import options as shared
from gems.apps.cli.errors import handle_errors


def run(  # noqa: PLR0913, PLR0917 - the command's options
    task: Annotated[str, typer.Argument(metavar="TASK", help="Benchmark; `gems eval data` lists them.")],
    out: options.EvalOut,
    harness: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="single, rewrite, best-of-n, paper, paper-no-memory, paper-no-skill, paper-loop balanced.",
        ),
    ] = "balanced",
    chat: shared.Chat = None,
    judge: shared.Judge = None,
    generator: shared.Generator = None,
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
    json: shared.Json = False,
    quiet: options.EvalQuiet = False,
    debug: shared.Debug = False,
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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.eval_parts.drawing import EvalRequest, run_eval  # noqa: PLC0415 - heavy
        from gems.apps.cli.eval_parts.working import EngineOptions  # noqa: PLC0415
        from gems.apps.cli.options import Models, View  # noqa: PLC0415
        from gems.apps.cli.output import print_report  # noqa: PLC0415

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
