"""DPG-Bench: dense prompts, four images each, and a graph of questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gems.errors import DataError, RequestError
from gems.evals.benchmarks.export import ExportWriter, all_or_none, check_square, make_grid
from gems.evals.benchmarks.metrics import Figures, get_value, group_by, valued_scores
from gems.evals.data import read_text
from gems.evals.formulas.dpg import dpg_score, mean_by_category, official_tile_score
from gems.evals.judge import OFFICIAL
from gems.evals.records import Figure, Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers.dpg import DPG_METRIC, score_dpg
from gems.evals.scorers.questions import get_answers, get_parents
from gems.evals.task import DataFile, DataSource, Export, SampleSet
from gems.evals.tasks.dpg_data import PROMPTS_FOLDER, QUESTIONS_FILE, read_prompts

CATEGORIES = ("global", "entity", "attribute", "relation", "other")
_SCORE_LINE = re.compile(r"^DPG-Bench score: ([\d.]+)\s*$", re.MULTILINE)
_CATEGORY_LINE = re.compile(r"^\t(\w+): ([\d.]+)\s*$", re.MULTILINE)
_IMAGE_LINE = re.compile(r"^\S.*\.png((?:, [\d.]+)+)\s*$", re.MULTILINE)


class DPGBench:
    """DPG-Bench as a `Task`."""

    name = "dpg"
    title = "DPG-Bench"
    languages: Sequence[str] = ("en",)
    samples_per_prompt = 4
    size: Mapping[str, int] = {"en": 1065}
    metric = DPG_METRIC
    score = staticmethod(score_dpg)
    source = DataSource(
        url="https://github.com/TencentQQGYLab/ELLA",
        licence="Apache-2.0",
        files=[
            DataFile(path=PROMPTS_FOLDER, records=1065, size=434_471),
            DataFile(path=QUESTIONS_FILE, records=None),
        ],
        note="The official reader drops the first question of the table; figures are given for both.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids and order are those of the files."""
        return read_prompts(data, self.name, self.size[language])

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write one sheet of four tiles for each prompt with all four images.

        Raises `RequestError` if images are not square or differ in size.
        """
        export = ExportWriter(self, sample_set, folder)
        folder = await export.begin()
        sides: set[int] = set()
        async for prompt, images in export.each():
            tiles = all_or_none(images)
            if tiles is not None:
                sides.add(await check_square(tiles, prompt.id))
                sheet, _ = await make_grid(tiles, "PNG")
                await export.write(f"images/{prompt.id}.png", sheet)
        if len(sides) > 1:
            shown = ", ".join(map(str, sorted(sides)))
            raise RequestError(
                f"The images have different sizes ({shown} pixels); the official scorer needs a single size.",
                hint="Generate all of them in one size.",
            )
        side = next(iter(sides), 1024)
        scoring = ("accelerate", "launch", "dpg_bench/compute_dpg_bench.py")
        images_are = (
            "--image-root-path",
            folder / "images",
            "--resolution",
            side,
            "--pic-num",
            export.samples,
        )
        return export.done((*scoring, *images_are, "--res-path", folder / "results.txt"))

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute the score in [0, 100], the score with the official reader's quirks, and each category."""
        known = {prompt.id: prompt for prompt in prompts}
        found = [each for each in valued_scores(scores, self.metric, language) if each.prompt_id in known]
        groups = group_by(found, lambda score: score.prompt_id)
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        count, expected = len(found), self.size[language] * self.samples_per_prompt
        last = {name: max(group, key=lambda score: score.sample) for name, group in groups.items()}
        categories = mean_by_category(
            [get_answers(score, known[name].facts) for name, score in last.items()],
            [known[name].facts["tuples"] for name in last],
        )
        plain = dpg_score([get_value(score) for score in group] for group in groups.values())
        quirky = dpg_score(_official_tiles(known[name], group) for name, group in groups.items())
        return [
            figure(self.name, plain, count, expected),
            figure(f"{self.name}/official_quirks", quirky, count, expected),
            *(figure(f"{self.name}/{name}", categories.get(name), count, expected) for name in CATEGORIES),
        ]

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Read the `--res-path` of `compute_dpg_bench.py`."""
        text = read_text(file)
        totals = _SCORE_LINE.findall(text)
        images = _IMAGE_LINE.findall(text)
        if len(totals) != 1 or not images:
            raise DataError(f"{file} is not a result of compute_dpg_bench.py.")
        # The path is followed by the tiles and their mean.
        count = sum(line.count(",") - 1 for line in images)
        expected = self.size[language] * self.samples_per_prompt
        figure = Figures(benchmark=self.name, language=language, judge=OFFICIAL)
        first_level = text.partition("L1 category scores:")[2].partition("L2 category scores:")[0]
        categories = {name: float(value) for name, value in _CATEGORY_LINE.findall(first_level)}
        return [
            figure(self.name, float(totals[0]), count, expected),
            *(figure(f"{self.name}/{name}", value, count, expected) for name, value in categories.items()),
        ]


def _official_tiles(prompt: BenchmarkPrompt, scores: Sequence[Score]) -> list[float]:
    """Return the tile scores of the official script; empty if it leaves the prompt out."""
    facts = prompt.facts
    tiles = [
        official_tile_score(get_answers(score, facts), get_parents(facts), facts["dropped"])
        for score in scores
    ]
    return [value for value in tiles if value is not None]


TASK = DPGBench()
