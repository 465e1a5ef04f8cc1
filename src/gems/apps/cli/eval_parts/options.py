"""Options shared by `gems eval run` and `gems batch`."""

from __future__ import annotations

from typing import Annotated

import typer

Out = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Output folder: a path or an fsspec URL, e.g. s3://bucket/folder.",
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(
        "--concurrency", "-j", metavar="N", min=1, max=1024, help="Maximum number of runs in parallel."
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="USD",
        min=0,
        help="Stop starting new work after spending this many US dollars, earlier calls included.",
    ),
]
Retries = Annotated[
    int, typer.Option(metavar="N", min=0, max=20, help="Retries for failed samples after the first pass.")
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="local runs in this process; ray on the cluster at RAY_ADDRESS, or on this machine if unset.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="With ray: number of processes that execute runs. Default: one per CPU."
    ),
]
GeneratorActors = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="With ray: number of generator processes, one GPU each if available; 0 generates in the "
        "workers. Default: one per GPU with Diffusers, else 0.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress; print only the output folder.")]
