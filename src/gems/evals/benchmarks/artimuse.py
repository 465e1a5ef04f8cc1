"""ArtiMuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gems.errors import DataError
from gems.evals.benchmarks.geneval import AESTHETIC, GenEvalRecord
from gems.evals.data import read_json_object, read_prompt_lines
from gems.evals.export import ExportWriter
from gems.evals.judge import EvalJudge, JudgeQuestion
from gems.evals.judging import ImageScore, collect_replies, parse_ratings
from gems.evals.metrics import mean, values_of
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts

ATTRIBUTE_COUNT = 8
REPLY_COUNT = 3
_MAX_REPLIES = 9
_MAX_SCORE = 100
_FILE = "eval/ArtiMuse/evaluation_metadata.jsonl"
_MEAN_KEY = "average_score_all"
_ATTRIBUTES_PROMPT = """\
Rate this image as a work of art, each of eight things from 0 to 100. 0 is worthless, 50 \
ordinary, 90 and above only for masters.

1. composition and design
2. visual elements and structure
3. technical execution
4. originality and creativity
5. theme and what it communicates
6. emotion and how it touches the viewer
7. the whole as one picture
8. overall impression

Reply with a JSON array of these eight numbers in this order and nothing else."""


def artimuse_score(replies: Sequence[Sequence[float]]) -> float:
    """Return the score in [0, 100]: the mean over replies of the mean over attributes.

    Raises `ValueError` unless there are three replies of eight ratings.
    """
    if len(replies) != REPLY_COUNT or any(len(reply) != ATTRIBUTE_COUNT for reply in replies):
        raise ValueError(f"It takes {REPLY_COUNT} replies of {ATTRIBUTE_COUNT} ratings.")
    return sum(sum(reply) / ATTRIBUTE_COUNT for reply in replies) / REPLY_COUNT


class ArtiMuse(ImageTask):
    """ArtiMuse, scored by a judge; not comparable with the official model trained for this."""

    name = "artimuse"
    title = "ArtiMuse"
    size: Mapping[str, int] = {"en": 553}
    metric = "artimuse"
    source = DataSource(
        url="https://github.com/lcqysl/GEMS",
        licence="prompts derived from GenEval's, which are MIT",
        files=[DataFile(path=_FILE, records=553, size=95_716)],
        note=f"GenEval's file with the prefix {AESTHETIC!r}. The scoring model from "
        "https://github.com/thunderbolt215/ArtiMuse states no licence.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are line numbers from 00000."""
        entries = read_prompt_lines(data, _FILE, GenEvalRecord, self.size[language])
        for entry in entries:
            if not entry.record.prompt.startswith(AESTHETIC):
                raise DataError(f"{entry.where}: the prompt does not start with {AESTHETIC!r}.")
        return [
            self.make_prompt(language, f"{index:05d}", entry.record.prompt, entry.record.tag, entry.raw)
            for index, entry in enumerate(entries)
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write the images into one folder, named by id."""
        await export.write_first_images()
        scoring = ("python", "eval/ArtiMuse/eval_artimuse.py", "--model_path", "MODEL")
        return [(*scoring, "--input_dir", export.folder, "--output_file", "artimuse.json")]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Rate the image, in [0, 100]."""
        question = JudgeQuestion(text=_ATTRIBUTES_PROMPT, pictures=[image], temperature=1.0)
        found = await collect_replies(
            judge,
            question,
            lambda reply: parse_ratings(reply, ATTRIBUTE_COUNT, 0, _MAX_SCORE),
            REPLY_COUNT,
            _MAX_REPLIES,
        )
        means = [sum(reply) / len(reply) for reply in found]
        return ImageScore(
            value=artimuse_score(found),
            facts={"replies": means},
            explanation=", ".join(f"{each:.1f}" for each in means),
        )

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the mean over images, in [0, 100]."""
        values = values_of(scores, self.metric)
        return [figure("", mean(values), len(values))]

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the `--output_file` of `eval_artimuse.py`."""
        found = read_json_object(file)
        if _MEAN_KEY not in found:
            raise DataError(f"{file} has no {_MEAN_KEY}: it is not a result of eval_artimuse.py.")
        values = []
        for name, value in found.items():
            if name == _MEAN_KEY or value is None:
                continue
            if not isinstance(value, int | float) or not 0 <= value <= _MAX_SCORE:
                raise DataError(f"{file}: the score of {name} is not in [0, {_MAX_SCORE}].")
            values.append(float(value))
        return [figure("", mean(values), len(values))]


TASK = ArtiMuse()
