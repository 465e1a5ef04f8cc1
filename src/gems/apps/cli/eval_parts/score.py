"""`gems eval score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import handle_errors

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
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.errors import BEST_EFFORT, MET  # noqa: PLC0415
        from gems.apps.cli.eval_commands import score_samples  # noqa: PLC0415
        from gems.apps.cli.eval_parts.figures import show_scores  # noqa: PLC0415 - heavy
        from gems.apps.cli.output import print_json  # noqa: PLC0415

        found = score_samples(folder, judge, data, concurrency)
        if json:
            print_json(found)
        else:
            show_scores(found)
        raise typer.Exit(BEST_EFFORT if found.unscored or found.missing else MET)
