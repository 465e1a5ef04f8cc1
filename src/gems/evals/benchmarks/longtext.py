"""LongText-Bench."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import DataError
from gems.evals.benchmarks.export import ExportWriter
from gems.evals.benchmarks.judging import ImageScore, read_image_text, score_samples
from gems.evals.benchmarks.metrics import (
    Figures,
    TextMatch,
    group_by,
    match_units,
    normalize_text,
    precision,
    recall,
    valued_scores,
)
from gems.evals.data import check_count, check_unique, read_json_lines, require_file
from gems.evals.judge import OFFICIAL, EvalJudge
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import DataFile, DataSource, Export, SampleSet


def split_units(text: str, language: str) -> Sequence[str]:
    """Return the units of a text: lower-case words, or characters in Chinese."""
    if language == "zh":
        return normalize_text(text).replace(" ", "")
    return normalize_text(text).lower().split()


def compare_words(found: str, expected: Sequence[str], language: str) -> TextMatch:
    """Compare the text read in an image with all expected texts."""
    return match_units(split_units(found, language), split_units(" ".join(expected), language))


LONGTEXT_METRIC = "recall"


async def score_longtext(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Return the share of expected units read in each image, in [0, 1]; counts are kept as facts."""

    async def score_image(image: bytes) -> ImageScore:
        read = await read_image_text(judge, image)
        match = await asyncio.to_thread(compare_words, read, prompt.facts["text"], prompt.language)
        return score_match(match, read)

    return await score_samples(prompt, images, LONGTEXT_METRIC, score_image)


def score_match(match: TextMatch, read: str) -> ImageScore:
    """Return the score of a comparison."""
    facts = {"matched": float(match.matched), "wanted": float(match.wanted), "found": float(match.found)}
    return ImageScore(
        value=match.matched / match.wanted if match.wanted else None, facts={**facts}, explanation=read
    )


def get_match(score: Score) -> TextMatch:
    """Return the counts of a score; raises `ValueError` if it has none."""
    found = [score.facts.get(name) for name in ("matched", "wanted", "found")]
    if not all(isinstance(value, float) for value in found):
        raise ValueError(f"{score.key} has no counts of words.")
    return TextMatch(*(int(value) for value in found if isinstance(value, float)))


_FILES = {"en": "textbench/text_prompts.jsonl", "zh": "textbench/text_prompts_zh.jsonl"}
_PROMPTS_PER_CATEGORY = 20
"""Prompts in each of the eight categories."""


class _Record(BaseModel):
    """One line of a file."""

    model_config = ConfigDict(strict=True)

    category: str = Field(min_length=1)
    length: str
    prompt: str = Field(min_length=1)
    text: list[str] = Field(min_length=1)
    prompt_id: int = Field(ge=0, le=9999)


class _OfficialRow(BaseModel):
    """One image in `results.jsonl` after the summary script added the counts."""

    image: str
    match_word_count: int = Field(ge=0)
    gt_word_count: int = Field(ge=1)


class LongText:
    """LongText-Bench as a `Task`."""

    name = "longtext"
    title = "LongText-Bench"
    languages: Sequence[str] = ("en", "zh")
    samples_per_prompt = 4
    size: Mapping[str, int] = {"en": 160, "zh": 160}
    metric = LONGTEXT_METRIC
    score = staticmethod(score_longtext)
    source = DataSource(
        url="https://github.com/X-Omni-Team/X-Omni",
        licence="Apache-2.0",
        files=[
            DataFile(path=_FILES["en"], records=160, size=203_974, language="en"),
            DataFile(path=_FILES["zh"], records=160, size=169_494, language="zh"),
        ],
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are those of the benchmark, which have gaps."""
        path = require_file(data, _FILES[language])
        entries = read_json_lines(path, _Record)
        check_count(path, len(entries), self.size[language])
        check_unique(path, entries, [entry.record.prompt_id for entry in entries])
        return [
            BenchmarkPrompt(
                benchmark=self.name,
                language=language,
                id=f"{entry.record.prompt_id:04d}",
                text=entry.record.prompt,
                category=entry.record.category,
                facts=entry.raw,
            )
            for entry in entries
        ]

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write a folder per language; samples are numbered from 1."""
        export = ExportWriter(self, sample_set, folder)
        folder = await export.begin()
        async for prompt, images in export.each():
            for sample, image in enumerate(images, 1):
                if image is not None:
                    await export.write(f"{prompt.language}/{prompt.id}_{sample}.png", image)
        languages = dict.fromkeys(prompt.language for prompt in sample_set.prompts)
        return export.done(
            *(command for language in languages for command in _scoring_commands(folder, language))
        )

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute pooled recall in [0, 1], precision (not in the benchmark), and each category."""
        found = valued_scores(scores, self.metric, language)
        matches = [get_match(score) for score in found]
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        count, expected = len(matches), self.size[language] * self.samples_per_prompt
        made = [
            figure(self.name, recall(matches), count, expected),
            figure(f"{self.name}/precision", precision(matches), count, expected),
        ]
        for category, group in group_by(found, lambda score: score.category).items():
            value = recall([get_match(score) for score in group])
            expected = _PROMPTS_PER_CATEGORY * self.samples_per_prompt
            made.append(figure(f"{self.name}/{category}", value, len(group), expected))
        return made

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Read the `results.jsonl` that `summary_scores.py` has processed."""
        entries = read_json_lines(file, _OfficialRow)
        check_unique(file, entries, [Path(entry.record.image).name for entry in entries])
        matches = []
        for entry in entries:
            row = entry.record
            if row.match_word_count > row.gt_word_count:
                raise DataError(f"{file} {entry.location}: more words match than expected words exist.")
            matches.append(TextMatch(row.match_word_count, row.gt_word_count, row.match_word_count))
        figure = Figures(benchmark=self.name, language=language, judge=OFFICIAL)
        expected = self.size[language] * self.samples_per_prompt
        return [figure(self.name, recall(matches), len(matches), expected)]


def _scoring_commands(folder: Path, language: str) -> list[Sequence[object] | str]:
    results = f"results_{language}"
    mode = ("--mode", language)
    reading = ("torchrun", "--nnodes=1", "--node-rank=0", "--nproc_per_node=GPUS", "evaluate_text_reward.py")
    return [
        (*reading, "--sample_dir", folder / language, "--output_dir", results, *mode),
        f"cat {results}/results_chunk*.jsonl > {results}/results.jsonl",
        ("python", "summary_scores.py", f"{results}/results.jsonl", *mode),
    ]


TASK = LongText()
