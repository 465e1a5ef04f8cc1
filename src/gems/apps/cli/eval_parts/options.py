"""The options that `gems eval run` and `gems batch` share."""

from __future__ import annotations

from typing import Annotated

import typer

Out = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="The output folder: a path, or a URL that fsspec knows, such as s3://bucket/folder.",
    ),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", "-j", metavar="N", min=1, max=1024, help="Runs at a time.")
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="USD", min=0, help="Begin nothing new once so much is spent, earlier calls included."
    ),
]
Retries = Annotated[
    int, typer.Option(metavar="N", min=0, max=20, help="How often what failed is tried again in the end.")
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="local: in this process. ray: on the cluster of RAY_ADDRESS, else on this machine.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="With ray, processes that carry out runs; one for each processor by default."
    ),
]
GeneratorActors = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="With ray, processes that draw, a GPU each where there are any; 0 draws where runs are carried "
        "out. One for each GPU by default with Diffusers, else 0.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; print only the output folder.")]
