"""Output folders with rows and scores, without a harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gems.evals.output_folder import EvalFolder, EvalSettings
from gems.evals.records import Figure, SampleKey, Score
from tests.support.benchmark_samples import png, row, write_image

INHOUSE = "openai:eyes-inhouse"


def settings(**more: Any) -> EvalSettings:
    given = {
        "task": "blocks-bench",
        "languages": ("en",),
        "harness": "single",
        "generator": "blocks",
        "images": 5,
        "samples": 1,
        "seed": 1,
    }
    return EvalSettings.model_validate(given | more)


async def folder_of(
    url: str | Path,
    values: Mapping[str, float | None],
    *,
    judge: str = "truth",
    metric: str = "met",
    prompts: Mapping[str, str] | None = None,
    facts: Mapping[str, dict[str, Any]] | None = None,
    row_more: Mapping[str, Any] | None = None,
    figures: Sequence[Figure] = (),
    **more: Any,
) -> str:
    """A folder whose prompts have these values; returns its URL."""
    folder = await EvalFolder.create(str(url), settings(**more))
    given = folder.settings
    scores = []
    for name, value in values.items():
        key = SampleKey(given.task, given.languages[0], name, 0)
        file, sha = await write_image(folder, key, png())
        told = (prompts or {}).get(name, f"prompt {name}")
        kept = {"harness": given.harness, "file": file, "sha256": sha, "images": 1, **(row_more or {})}
        await folder.append(row(key, told, **kept))
        scores.append(
            Score(
                **key._asdict(),
                metric=metric,
                value=value,
                category="even" if int(name) % 2 == 0 else "odd",
                facts=(facts or {}).get(name, {"atomicity": 3.0 if int(name) < 2 else 10.0}),
            )
        )
    await folder.write_scores(judge, scores)
    if figures:
        await folder.write_figures(figures[0].judge, figures)
    return str(url)


def figure(value: float | None, **more: Any) -> Figure:
    given = {
        "benchmark": "blocks-bench",
        "language": "en",
        "name": "blocks-bench",
        "value": value,
        "scored": 200,
        "expected": 200,
        "judge": "truth",
    }
    return Figure.model_validate(given | more)
