"""`gems batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gems.apps.cli import options
from gems.apps.cli.command import command
from gems.apps.cli.options import argument, flag, option
from gems.generation import SEEDS

if TYPE_CHECKING:
    from gems.apps.cli.runner import Runner


@command(
    {
        0: "every prompt has an image",
        3: "some prompts failed, or the budget is spent",
        2: "bad usage or configuration, or invalid lines",
        130: "interrupted; run the same command again to resume",
    },
    quiet="Hide progress; print only the output folder.",
)
def batch(
    runner: Runner,
    *,
    file: Annotated[
        Path, argument("FILE", "Prompts as JSON Lines, or as CSV if the name ends in .csv.", parser=options.path)
    ],
    out: options.EvalOut,
    models: options.Models,
    seed: Annotated[
        int, option("N", "Base seed; rows without a seed derive theirs from it.", min=0, max=SEEDS - 1)
    ] = 0,
    learn: Annotated[bool, flag("--learn", "Share memory between these runs and earlier ones.")] = False,
    engine_options: options.EngineOptions,
) -> int:
    """Generate an image for each prompt in a file, as `gems run` does.

    A line looks like {"id": "cover", "prompt": "two green stars", "seed": 7}. Only the prompt is required; a
    line may also set size, profile, max_rounds, candidates, negative_prompt, skills, max_images, plateau,
    budget_usd and deadline_s. The image is named ID.png; the default id is the line number. All invalid lines
    are reported before anything is generated.

    You can interrupt the command at any time; run it again to resume. Results are recorded in manifest.jsonl.

    \b
    Examples:
      gems batch prompts.jsonl --out pictures
      gems batch prompts.csv --out s3://bucket/pictures --engine ray --generator diffusers:z-image-turbo
    """
    from gems.apps.cli.eval_commands import run_batch

    return run_batch(runner, file, out, models, engine_options, seed=seed, learn=learn)
