"""LongText-Bench."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from gems.errors import DataError
from gems.evals.data import StrictModel, check_unique, read_json_lines, read_prompt_lines
from gems.evals.export import ExportWriter
from gems.evals.judge import EvalJudge
from gems.evals.judging import ImageScore, read_image_text
from gems.evals.metrics import (
    TextMatch,
    group_by,
    match_units,
    normalize_text,
    number_facts,
    precision,
    recall,
    valued_scores,
)
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts

_MATCH_FACTS = ("matched", "wanted", "found")
_FILES = {"en": "textbench/text_prompts.jsonl", "zh": "textbench/text_prompts_zh.jsonl"}
_PROMPTS_PER_CATEGORY = 20
"""Prompts in each of the eight categories."""


def split_units(text: str, language: str) -> Sequence[str]:
    """Return the units of a text: lower-case words, or characters in Chinese."""
    if language == "zh":
        return normalize_text(text).replace(" ", "")
    return normalize_text(text).lower().split()


def compare_words(found: str, expected: Sequence[str], language: str) -> TextMatch:
    """Compare the text read in an image with all expected texts."""
    return match_units(split_units(found, language), split_units(" ".join(expected), language))


def _get_match(score: Score) -> TextMatch:
    """Return the counts of a score; raises `ValueError` if it has none."""
    return TextMatch(*map(int, number_facts(score, _MATCH_FACTS)))


class _Record(StrictModel):
    category: str = Field(min_length=1)
    length: str
    prompt: str = Field(min_length=1)
    text: list[str] = Field(min_length=1)
    prompt_id: int = Field(ge=0, le=9999)


class _OfficialRow(BaseModel):
    image: str
    match_word_count: int = Field(ge=0)
    gt_word_count: int = Field(ge=1)


class LongText(ImageTask):
    """LongText-Bench."""

    name = "longtext"
    title = "LongText-Bench"
    languages = ("en", "zh")
    samples_per_prompt = 4
    size: Mapping[str, int] = {"en": 160, "zh": 160}
    metric = "recall"
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
        most = self.size[language]
        entries = read_prompt_lines(data, _FILES[language], _Record, most, lambda row: row.prompt_id)
        return [
            self.make_prompt(language, f"{row.prompt_id:04d}", row.prompt, row.category, entry.raw)
            for entry in entries
            for row in [entry.record]
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write a folder per language; samples are numbered from 1."""
        async for prompt, sample, image in export.each_image():
            await export.write(f"{prompt.language}/{prompt.id}_{sample + 1}.png", image)
        return [each for language in export.languages for each in _scoring_commands(export.folder, language)]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Return the share of expected units that were read, in [0, 1]; counts are kept as facts."""
        read = await read_image_text(judge, image)
        match = await asyncio.to_thread(compare_words, read, prompt.facts["text"], prompt.language)
        counts = (float(match.matched), float(match.wanted), float(match.found))
        return ImageScore(value=recall([match]), facts=dict(zip(_MATCH_FACTS, counts, strict=True)), explanation=read)

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute pooled recall in [0, 1], precision (not in the benchmark), and each category."""
        found = valued_scores(scores, self.metric)
        matches = [_get_match(score) for score in found]
        made = [figure("", recall(matches), len(matches)), figure("/precision", precision(matches), len(matches))]
        expected = _PROMPTS_PER_CATEGORY * self.samples_per_prompt
        for category, group in group_by(found, lambda score: score.category).items():
            value = recall([_get_match(score) for score in group])
            made.append(figure(f"/{category}", value, len(group), expected))
        return made

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the `results.jsonl` that `summary_scores.py` has processed."""
        entries = read_json_lines(file, _OfficialRow)
        check_unique(entries, lambda row: Path(row.image).name)
        matches = []
        for entry in entries:
            row = entry.record
            if row.match_word_count > row.gt_word_count:
                raise DataError(f"{entry.where}: more words match than expected words exist.")
            matches.append(TextMatch(row.match_word_count, row.gt_word_count, row.match_word_count))
        return [figure("", recall(matches), len(matches))]


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
