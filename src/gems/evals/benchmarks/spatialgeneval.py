"""SpatialGenEval."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from gems.errors import UnreadableReplyError
from gems.evals.data import StrictModel, check_unique, read_json_lines, read_prompt_lines
from gems.evals.export import ExportWriter
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.judging import ImageScore, collect_replies
from gems.evals.metrics import mean, valued_scores
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts

REPLY_COUNT = 5
"""Valid replies per image."""
MAX_REPLIES = 25
"""Replies before an image is given up."""
MIN_AGREEING = 4
"""Replies that must give the correct letter."""
QUESTION_COUNT = 10
_BASIC_TYPES = 2
CORRECT_FACT = "right"
"""Fact of a score: 1 for each correctly answered question, else 0."""
_QUESTIONS_SYSTEM = "You look at images closely and answer questions about them."
_QUESTIONS_PROMPT = """\
Answer these {count} questions from the image alone, not from what you know or expect. Where \
the image does not tell, choose E.

{questions}

Reply with {count} lines, one for each question and in their order, and nothing else. Begin each line \
with the letter of the option, then a colon and your reason, for example:
B: The lamp stands to the right of the chair."""
_LETTER = re.compile(r"[\s*(]*([A-E])(?![A-Za-z]|[\s*)]*(?:[/,&|-]|or|and)[\s*(]*[A-E]\b)")
"""The first letter of a line, unless another one is offered with it."""
_FILE = "eval/SpatialGenEval_T2I_Prompts.jsonl"


def vote(replies: Sequence[Sequence[str]], answers: Sequence[str], least: int = MIN_AGREEING) -> list[bool]:
    """Return for each question whether at least `least` replies give the correct letter."""
    return [sum(reply[index] == answer for reply in replies) >= least for index, answer in enumerate(answers)]


def accuracy_by_type(images: Sequence[Sequence[bool]]) -> list[float]:
    """Return the share of images in [0, 1] with the correct answer, for each of the ten questions."""
    return [sum(column) / len(column) for column in zip(*images, strict=True)]


def basic_accuracy(types: Sequence[float]) -> float | None:
    """Return the mean over the first two types, objects and attributes."""
    return mean(types[:_BASIC_TYPES])


def spatial_accuracy(types: Sequence[float]) -> float | None:
    """Return the mean over all other types."""
    return mean(types[_BASIC_TYPES:])


def _parse_letters(reply: str) -> list[str]:
    lines = [line for line in reply.splitlines() if line.strip()]
    found = [match.group(1) for line in lines if (match := _LETTER.match(line))]
    if len(lines) != QUESTION_COUNT or len(found) != QUESTION_COUNT:
        raise UnreadableReplyError(f"The reply does not contain {QUESTION_COUNT} answers: {reply[:120]!r}.")
    return found


_Letter = Annotated[str, Field(pattern=r"^[A-E]$")]


class _Record(StrictModel):
    id: str = Field(pattern=r"^\d{6}$")
    scene: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    question_type: list[str] = Field(min_length=QUESTION_COUNT, max_length=QUESTION_COUNT)
    questions: list[str] = Field(min_length=QUESTION_COUNT, max_length=QUESTION_COUNT)
    answers: list[_Letter] = Field(min_length=QUESTION_COUNT, max_length=QUESTION_COUNT)


class _OfficialRow(BaseModel):
    id: str
    right: list[bool] = Field(alias="true-or-false", min_length=QUESTION_COUNT, max_length=QUESTION_COUNT)


class SpatialGenEval(ImageTask):
    """SpatialGenEval."""

    name = "spatial"
    title = "SpatialGenEval"
    size: Mapping[str, int] = {"en": 1230}
    metric = "accuracy"
    source = DataSource(
        url="https://github.com/AMAP-ML/SpatialGenEval",
        licence="none found",
        files=[DataFile(path=_FILE, records=1230, size=3_337_982)],
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are those of the benchmark, from 000001."""
        entries = read_prompt_lines(data, _FILE, _Record, self.size[language], lambda record: record.id)
        return [
            self.make_prompt(language, entry.record.id, entry.record.prompt, entry.record.scene, entry.raw)
            for entry in entries
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write a folder with the images only, and the data of prompts with an image.

        The official scorer pairs sorted images with lines, so a missing image would shift all later ones.
        """
        written = await export.write_first_images("images/")
        lines = [json.dumps(written[name][0].facts, ensure_ascii=False) + "\n" for name in sorted(written)]
        data = await export.write("prompts.jsonl", "".join(lines))
        result = export.folder / "result.jsonl"
        first = ("python", "scripts/spatialgeneval_stage1_eval.py", "--input_json", data)
        paths = ("--image_pth", export.folder / "images", "--output_json", result)
        model = ("--api_name", "Qwen2.5-VL-72B-Instruct", "--base_url", "URL")
        return [
            # The script appends to an existing file.
            ("rm", "-f", result),
            (*first, *paths, *model, "--rollout", 5, "--count", 4),
            ("python", "scripts/spatialgeneval_stage2_acc.py", result),
        ]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Return the share of correct answers, in [0, 1]."""
        asked = _QUESTIONS_PROMPT.format(
            count=QUESTION_COUNT, questions="\n".join(map(str.strip, prompt.facts["questions"]))
        )
        question = JudgeQuestion(text=asked, pictures=[image], system=_QUESTIONS_SYSTEM, temperature=1.0)
        replies = await collect_replies(judge, question, _parse_letters, REPLY_COUNT, MAX_REPLIES)
        right = vote(replies, prompt.facts["answers"])
        return ImageScore(
            value=sum(right) / len(right),
            facts={CORRECT_FACT: [float(each) for each in right]},
            explanation=" ".join("".join(reply) for reply in replies),
        )

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the mean over ten question types in percent, basic, spatial, and each type."""
        right = []
        for score in valued_scores(scores, self.metric):
            answers = score.facts.get(CORRECT_FACT)
            right.append([bool(answer) for answer in answers] if isinstance(answers, list) else [])
        return _make_figures(figure, right, prompts)

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the `--output_json` of the first stage.

        The official second stage rounds each type to three digits before averaging; this does not.
        """
        entries = read_json_lines(file, _OfficialRow)
        check_unique(entries, lambda row: row.id)
        return _make_figures(figure, [entry.record.right for entry in entries], prompts)


def _make_figures(figure: Figures, right: Sequence[Sequence[bool]], prompts: Prompts) -> list[Figure]:
    types = [100 * share for share in accuracy_by_type(right)]
    names: list[str] = prompts[0].facts["question_type"] if prompts else []
    values = {
        "": mean(types),
        "/basic": basic_accuracy(types),
        "/spatial": spatial_accuracy(types),
        **{f"/{name}": share for name, share in zip(names, types, strict=False)},
    }
    return [figure(part, value, len(right)) for part, value in values.items()]


TASK = SpatialGenEval()
