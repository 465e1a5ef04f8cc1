"""ArtiMuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gems.errors import DataError
from gems.evals.benchmarks.export import ExportWriter
from gems.evals.benchmarks.geneval import AESTHETIC, GenEvalRecord, make_prompts
from gems.evals.benchmarks.judging import ImageScore, collect_replies, parse_ratings, score_samples
from gems.evals.benchmarks.metrics import Figures, get_value, mean, valued_scores
from gems.evals.data import check_count, read_json_lines, read_json_object, require_file
from gems.evals.judge import OFFICIAL, EvalJudge, JudgeQuestion
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import DataFile, DataSource, Export, SampleSet

ATTRIBUTE_COUNT = 8
REPLY_COUNT = 3


def artimuse_score(replies: Sequence[Sequence[float]]) -> float:
    """Return the score in [0, 100]: the mean over replies of the mean over attributes.

    Raises `ValueError` unless there are three replies of eight ratings.
    """
    if len(replies) != REPLY_COUNT or any(len(reply) != ATTRIBUTE_COUNT for reply in replies):
        raise ValueError(f"It takes {REPLY_COUNT} replies of {ATTRIBUTE_COUNT} ratings.")
    return sum(sum(reply) / ATTRIBUTE_COUNT for reply in replies) / REPLY_COUNT


ARTIMUSE_METRIC = "artimuse"
_MAX_REPLIES = 9
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


async def score_artimuse(
    prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
) -> list[Score]:
    """Rate each image, in [0, 100]; not comparable with the official model trained for this."""

    async def score_image(image: bytes) -> ImageScore:
        question = JudgeQuestion(text=_ATTRIBUTES_PROMPT, pictures=[image], temperature=1.0)
        found = await collect_replies(
            judge,
            question,
            lambda reply: parse_ratings(reply, ATTRIBUTE_COUNT, 0, 100),
            REPLY_COUNT,
            _MAX_REPLIES,
        )
        return ImageScore(
            value=artimuse_score(found),
            facts={"replies": [sum(reply) / len(reply) for reply in found]},
            explanation=", ".join(f"{sum(reply) / len(reply):.1f}" for reply in found),
        )

    return await score_samples(prompt, images, ARTIMUSE_METRIC, score_image)


_FILE = "eval/ArtiMuse/evaluation_metadata.jsonl"
_MEAN_KEY = "average_score_all"
_MAX_SCORE = 100


class ArtiMuse:
    """ArtiMuse as a `Task`."""

    name = "artimuse"
    title = "ArtiMuse"
    languages: Sequence[str] = ("en",)
    samples_per_prompt = 1
    size: Mapping[str, int] = {"en": 553}
    metric = ARTIMUSE_METRIC
    score = staticmethod(score_artimuse)
    source = DataSource(
        url="https://github.com/lcqysl/GEMS",
        licence="prompts derived from GenEval's, which are MIT",
        files=[DataFile(path=_FILE, records=553, size=95_716)],
        note=f"GenEval's file with the prefix {AESTHETIC!r}. The scoring model from "
        "https://github.com/thunderbolt215/ArtiMuse states no licence.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are line numbers from 00000."""
        path = require_file(data, _FILE)
        entries = read_json_lines(path, GenEvalRecord)
        check_count(path, len(entries), self.size[language])
        for entry in entries:
            if not entry.record.prompt.startswith(AESTHETIC):
                raise DataError(f"{path} {entry.location}: the prompt does not start with {AESTHETIC!r}.")
        return make_prompts(self.name, language, entries)

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write the images into one folder, named by id."""
        export = ExportWriter(self, sample_set, folder)
        folder = await export.begin()
        async for prompt, images in export.each():
            if images[0] is not None:
                await export.write(f"{prompt.id}.png", images[0])
        scoring = ("python", "eval/ArtiMuse/eval_artimuse.py", "--model_path", "MODEL")
        return export.done((*scoring, "--input_dir", folder, "--output_file", "artimuse.json"))

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute the mean over images, in [0, 100]."""
        values = [get_value(score) for score in valued_scores(scores, self.metric, language)]
        return self._figures(values, language, judge)

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
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
        return self._figures(values, language, OFFICIAL)

    def _figures(self, values: Sequence[float], language: str, judge: str) -> list[Figure]:
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        return [figure(self.name, mean(values), len(values), self.size[language])]


TASK = ArtiMuse()
