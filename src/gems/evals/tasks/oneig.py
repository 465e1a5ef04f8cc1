"""OneIG-Bench: five dimensions, English and Chinese, four images per prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gems.evals.benchmarks.export import ExportWriter, make_grid, model_folder_name
from gems.evals.benchmarks.metrics import Figures, mean, prompt_means, valued_scores
from gems.evals.benchmarks.oneig import SIZE, STYLE_PROMPTS, kinds_in, list_data_files, read_prompts
from gems.evals.benchmarks.oneig_scoring import (
    ALIGNMENT,
    DIMENSIONS,
    DIVERSITY,
    get_comparison,
    oneig_score,
    score_alignment,
    score_diversity,
    score_reasoning,
    score_style,
    score_text,
    text_score,
)
from gems.evals.judge import EvalJudge
from gems.evals.records import BenchmarkPrompt, Figure, Score, gather_or_cancel
from gems.evals.task import DataSource, Export, SampleSet
from gems.evals.tasks.oneig_official import read_official_figures


class OneIG:
    """OneIG-Bench as a `Task`."""

    name = "oneig"
    title = "OneIG-Bench"
    languages: Sequence[str] = ("en", "zh")
    samples_per_prompt = 4
    size: Mapping[str, int] = SIZE
    metric = ALIGNMENT
    source = DataSource(
        url="https://github.com/OneIG-Bench/OneIG-Benchmark",
        licence="CC BY-NC 4.0 by the data's card; none in the repository",
        files=list_data_files(),
        note="Not for commercial purposes.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are the official name of the kind and the benchmark's id."""
        return read_prompts(data, self.name, language)

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write one sheet of four tiles per prompt, by language, kind and model.

        Missing tiles are black, which the official scorers leave out, and are reported as missing. Prompts
        without any image have no sheet.
        """
        export = ExportWriter(self, sample_set, folder)
        folder = await export.begin()
        model = model_folder_name(sample_set)
        async for prompt, images in export.each():
            if any(image is not None for image in images):
                sheet, _ = await make_grid(images, "WEBP")
                name = f"{prompt.language}/{prompt.facts['folder']}/{model}/{prompt.facts['id']}.webp"
                await export.write(name, sheet)
        columns = "2,2" if export.samples > 1 else "1,1"
        languages = dict.fromkeys(prompt.language for prompt in sample_set.prompts)
        return export.done(
            *(each for language in languages for each in _scoring_commands(folder, language, model, columns))
        )

    async def score(
        self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
    ) -> list[Score]:
        """Score the dimensions that the prompt has scoring data for."""
        scorers = [score_diversity(prompt, images)]
        if "questions" in prompt.facts:
            scorers.append(score_alignment(prompt, images, judge))
        if "text_content" in prompt.facts:
            scorers.append(score_text(prompt, images, judge))
        if "gt_answer" in prompt.facts:
            scorers.append(score_reasoning(prompt, images, judge))
        if "style" in prompt.facts:
            scorers.append(score_style(prompt, images, judge))
        return [score for scores in await gather_or_cancel(scorers) for score in scores]

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute the mean of the five dimensions, in [0, 1], which needs all of them, then each."""
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        expected = count_expected_images(language)
        values, parts = {}, []
        for dimension in DIMENSIONS:
            found = valued_scores(scores, dimension, language)
            if dimension == "text":
                value = text_score([get_comparison(score) for score in found], language)
            else:
                value = mean(prompt_means(found).values())
            if value is not None:
                values[dimension] = value
            count = len(found)
            if dimension == "diversity":
                count = sum(_count_compared_images(score) for score in found)
            parts.append(figure(f"{self.name}/{dimension}", value, count, expected[dimension]))
        whole = self.size[language] * self.samples_per_prompt
        return [figure(self.name, oneig_score(values), _count_fully_scored(scores, language), whole), *parts]

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Read the `results` folder of the official scorers.

        It must be of one model; the newest run of each scorer counts.
        """
        return read_official_figures(file, language, count_expected_images(language))


def count_expected_images(language: str) -> dict[str, int]:
    """Return the images of the complete benchmark for each dimension."""
    counts = dict.fromkeys(DIMENSIONS, 0)
    for kind in kinds_in(language).values():
        counts[kind.dimension] += kind.count
        counts["diversity"] += kind.count
    counts["style"] = STYLE_PROMPTS
    return {name: count * OneIG.samples_per_prompt for name, count in counts.items()}


def _count_fully_scored(scores: Sequence[Score], language: str) -> int:
    """Count the images all of whose scores have a value."""
    own = [score for score in scores if score.language == language and score.metric in DIMENSIONS]
    judged = {score.key for score in own if score.metric != DIVERSITY}
    return len(judged - {score.key for score in own if score.value is None})


def _count_compared_images(score: Score) -> int:
    """Count the images behind a diversity score: n images have n (n - 1) / 2 pairs."""
    distances = score.facts.get("distances")
    pairs = len(distances) if isinstance(distances, list) else 0
    return next(n for n in range(pairs + 2) if n * (n - 1) // 2 >= pairs)


def _scoring_commands(folder: Path, language: str, model: str, columns: str) -> list[Sequence[object]]:
    images, mode = folder / language, language.upper()
    aligned = [kind.folder for kind in kinds_in(language).values() if kind.dimension == "alignment"]
    everything = [kind.folder for kind in kinds_in(language).values()]
    common = ("--mode", mode, "--model_names", model, "--image_grid", columns, "--image_dirname")

    def scoring(name: str) -> tuple[str, ...]:
        return "python", "-m", f"scripts.{name}.{name}_score", *common

    return [
        (*scoring("alignment"), images, "--class_items", *aligned),
        (*scoring("text"), images / "text"),
        (*scoring("reasoning"), images / "reasoning"),
        (*scoring("style"), images / "anime"),
        (*scoring("diversity"), images, "--class_items", *everything),
    ]


TASK = OneIG()
