"""OneIG-Bench: five dimensions, English and Chinese, four images for each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gems.evals.benchmarks.export import Exporting, drawn_by, grid
from gems.evals.benchmarks.metrics import Figures, mean, prompt_means, scored
from gems.evals.benchmarks.oneig import SIZE, STYLED, data_files, kinds_of, prompts_of
from gems.evals.benchmarks.oneig_scoring import DIMENSIONS, overall, text
from gems.evals.gathering import together
from gems.evals.judge import EvalJudge
from gems.evals.records import Figure, Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers import oneig_alignment, oneig_diversity, oneig_reasoning, oneig_style, oneig_text
from gems.evals.task import DataSource, Export, Frozen
from gems.evals.tasks.oneig_official import official_figures


class OneIG:
    """See `gems.evals.task.Task`."""

    name = "oneig"
    title = "OneIG-Bench"
    languages: Sequence[str] = ("en", "zh")
    samples_per_prompt = 4
    size: Mapping[str, int] = SIZE
    metric = oneig_alignment.METRIC
    source = DataSource(
        url="https://github.com/OneIG-Bench/OneIG-Benchmark",
        licence="CC BY-NC 4.0 by the data's card; none in the repository",
        files=data_files(),
        note="Not for commercial purposes.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """See `Task.prompts`; ids are the official names of kinds with those of the benchmark."""
        return prompts_of(data, self.name, language)

    async def export(self, frozen: Frozen, folder: Path) -> Export:
        """One picture of four tiles for each prompt, below its language, kind and model.

        A tile that is missing is black, which the official scorers leave out; it is told as missing all the
        same. A prompt without any image has no picture.
        """
        export = Exporting(self, frozen, folder)
        folder = await export.begin()
        model = drawn_by(frozen)
        async for prompt, images in export.each():
            if any(image is not None for image in images):
                sheet, _ = await grid(images, "WEBP")
                name = f"{prompt.language}/{prompt.facts['folder']}/{model}/{prompt.facts['id']}.webp"
                await export.write(name, sheet)
        columns = "2,2" if export.samples > 1 else "1,1"
        languages = dict.fromkeys(prompt.language for prompt in frozen.prompts)
        return export.done(
            *(each for language in languages for each in _commands(folder, language, model, columns))
        )

    async def score(
        self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
    ) -> list[Score]:
        """See `Task.score`; a prompt's facts say which dimensions it is for."""
        looks = [oneig_diversity.score(prompt, images)]
        if "questions" in prompt.facts:
            looks.append(oneig_alignment.score(prompt, images, judge))
        if "text_content" in prompt.facts:
            looks.append(oneig_text.score(prompt, images, judge))
        if "gt_answer" in prompt.facts:
            looks.append(oneig_reasoning.score(prompt, images, judge))
        if "style" in prompt.facts:
            looks.append(oneig_style.score(prompt, images, judge))
        return [score for scores in await together(looks) for score in scores]

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """The mean of the five dimensions, in [0, 1], which needs all of them, then each."""
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        expected = expected_images(language)
        values, parts = {}, []
        for dimension in DIMENSIONS:
            found = scored(scores, dimension, language)
            if dimension == "text":
                value = text([oneig_text.comparison_of(score) for score in found], language)
            else:
                value = mean(prompt_means(found).values())
            if value is not None:
                values[dimension] = value
            count = len(found)
            if dimension == "diversity":
                count = sum(_images_of(score) for score in found)
            parts.append(figure(f"{self.name}/{dimension}", value, count, expected[dimension]))
        whole = self.size[language] * self.samples_per_prompt
        return [figure(self.name, overall(values), _whole(scores, language), whole), *parts]

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """See `Task.read_official`; takes the `results` folder of the official scorers.

        It must be of one model; of several runs of one scorer the newest counts.
        """
        return official_figures(file, language, expected_images(language))


def expected_images(language: str) -> dict[str, int]:
    """Images that the whole benchmark has for each dimension."""
    counts = dict.fromkeys(DIMENSIONS, 0)
    for kind in kinds_of(language).values():
        counts[kind.dimension] += kind.count
        counts["diversity"] += kind.count
    counts["style"] = STYLED
    return {name: count * OneIG.samples_per_prompt for name, count in counts.items()}


def _whole(scores: Sequence[Score], language: str) -> int:
    """Images all of whose scores have a value."""
    mine = [score for score in scores if score.language == language and score.metric in DIMENSIONS]
    looked_at = {score.key for score in mine if score.metric != oneig_diversity.METRIC}
    return len(looked_at - {score.key for score in mine if score.value is None})


def _images_of(score: Score) -> int:
    """Images that a score of diversity is about: n images have n (n - 1) / 2 pairs."""
    distances = score.facts.get("distances")
    pairs = len(distances) if isinstance(distances, list) else 0
    return next(n for n in range(pairs + 2) if n * (n - 1) // 2 >= pairs)


def _commands(folder: Path, language: str, model: str, columns: str) -> list[Sequence[object]]:
    images, mode = folder / language, language.upper()
    aligned = [kind.folder for kind in kinds_of(language).values() if kind.dimension == "alignment"]
    everything = [kind.folder for kind in kinds_of(language).values()]
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
