"""CREA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, RootModel

from gems.evals.benchmarks.export import ExportWriter
from gems.evals.benchmarks.judging import ImageScore, parse_ratings, score_samples
from gems.evals.benchmarks.metrics import Figures, valued_scores
from gems.evals.data import check_count, check_unique, find_file, read_json, read_json_lines, validate_record
from gems.evals.judge import OFFICIAL, EvalJudge, JudgeQuestion
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import DataFile, DataSource, Export, SampleSet

CRITERIA = (
    "originality",
    "expressiveness",
    "aesthetic",
    "technical",
    "unexpected",
    "interpretability",
)
MIN_RATING, MAX_RATING = 1, 5


def criterion_means(images: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the mean of each criterion over images, in [1, 5]; empty for no images."""
    if not images:
        return {}
    columns = list(zip(*images, strict=True))
    return {name: sum(column) / len(column) for name, column in zip(CRITERIA, columns, strict=True)}


def crea_score(criteria: Mapping[str, float]) -> float | None:
    """Return the score in [6, 30]: the sum of the six means; None if one is missing."""
    if not all(name in criteria for name in CRITERIA):
        return None
    return sum(criteria[name] for name in CRITERIA)


CREA_METRIC = "crea"
_CREA_SYSTEM = """\
You are a hard critic of creative work. Look at the thing that the prompt names and at \
nothing else: background and staging earn nothing. Most images deserve 1 or 2 on most scales, a 5 is \
rare, and where you doubt the lower number is right.

Rate six things from 1 to 5:
1. originality: 1 is what everybody would have drawn, 5 is an idea that was not there before.
2. expressiveness: 1 leaves one cold, 5 has a mood or meaning that cannot be missed.
3. aesthetic: 1 is ugly or careless, 5 is composed and coloured with a sure hand.
4. technical: 1 is broken or blurred, 5 has no flaw in form, material or detail.
5. unexpected: 1 brings together nothing that does not belong together, 5 joins distant things into one.
6. interpretability: 1 cannot be recognised as the thing, or says nothing, 5 is the thing at once and \
gives one to think.

Reply with a JSON array of these six numbers in this order and nothing else, for example [2, 1, 3, 3, 1, \
2]."""


async def score_crea(prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge) -> list[Score]:
    """Return the sum of six ratings of each image, in [6, 30]; they are kept as facts."""

    async def score_image(image: bytes) -> ImageScore:
        question = JudgeQuestion(
            text=f"Target prompt: {prompt.text}", pictures=[image], system=_CREA_SYSTEM, temperature=None
        )
        reply = await judge.ask(question)
        found = parse_ratings(reply.text, len(CRITERIA), MIN_RATING, MAX_RATING)
        return ImageScore(
            value=sum(found), facts=dict(zip(CRITERIA, found, strict=True)), explanation=reply.text
        )

    return await score_samples(prompt, images, CREA_METRIC, score_image)


def get_ratings(score: Score) -> list[float]:
    """Return the six ratings of a score; raises `ValueError` if some are missing."""
    found = [score.facts.get(name) for name in CRITERIA]
    numbers = [value for value in found if isinstance(value, float)]
    if len(numbers) != len(CRITERIA):
        raise ValueError(f"{score.key} does not have six ratings.")
    return numbers


SUBJECTS = (
    *("couch", "chair", "car", "monster", "mug", "table"),
    *("bowl", "bike", "guitar", "helmet", "teapot", "umbrella"),
)
_FILE = "eval/CREA/data.jsonl"
_PROMPT_PREFIX = "a creative "


class _Record(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(strict=True)

    prompt: str = Field(pattern=rf"^{_PROMPT_PREFIX}\w[\w -]*$")


class _OfficialRow(BaseModel):
    """One image in the official result, which leaves out unreadable replies."""

    image_path: str
    scores: list[float] = Field(min_length=len(CRITERIA), max_length=len(CRITERIA))


class _OfficialResult(RootModel[list[_OfficialRow]]):
    """The official result."""


class CREA:
    """CREA as a `Task`."""

    name = "crea"
    title = "CREA"
    languages: Sequence[str] = ("en",)
    samples_per_prompt = 25
    size: Mapping[str, int] = {"en": len(SUBJECTS)}
    metric = CREA_METRIC
    score = staticmethod(score_crea)
    source = DataSource(
        url="https://github.com/lcqysl/GEMS",
        licence="none stated",
        files=[DataFile(path=_FILE, records=len(SUBJECTS), size=373, optional=True)],
        note="The twelve prompts are built in; a data.jsonl replaces them.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are the objects' names. Needs no file."""
        path = find_file(data, _FILE)
        texts = (
            [f"{_PROMPT_PREFIX}{subject}" for subject in SUBJECTS] if path is None else _read_prompts(path)
        )
        return [
            BenchmarkPrompt(
                benchmark=self.name,
                language=language,
                id=text.removeprefix(_PROMPT_PREFIX).replace(" ", "-"),
                text=text,
                category=text.removeprefix(_PROMPT_PREFIX),
            )
            for text in texts
        ]

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write the images, and the file that maps prompts to images."""
        export = ExportWriter(self, sample_set, folder)
        folder = await export.begin()
        paths: dict[str, list[str]] = {}
        number = 0
        async for prompt, images in export.each():
            for sample, image in enumerate(images):
                if image is not None:
                    path = await export.write(f"img_idx_{number:05d}_sub_{sample:02d}.png", image)
                    paths.setdefault(prompt.text, []).append(str(path.absolute()))
            number += 1
        mapping = await export.write_json("image_paths.json", paths)
        return export.done(("python", "eval/CREA/eval.py", "--mapping_file", mapping))

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute the sum of six criterion means, in [6, 30], then each of them, in [1, 5]."""
        found = [get_ratings(score) for score in valued_scores(scores, self.metric, language)]
        return self._figures(found, language, judge)

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Read the scores that `eval/CREA/eval.py` writes."""
        rows = validate_record(str(file), read_json(file), _OfficialResult).root
        rated = [row.scores for row in rows if all(MIN_RATING <= score <= MAX_RATING for score in row.scores)]
        return self._figures(rated, language, OFFICIAL)

    def _figures(self, rated: Sequence[Sequence[float]], language: str, judge: str) -> list[Figure]:
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        criteria = criterion_means(rated)
        count, expected = len(rated), self.size[language] * self.samples_per_prompt
        return [
            figure(self.name, crea_score(criteria), count, expected),
            *(figure(f"{self.name}/{name}", criteria.get(name), count, expected) for name in CRITERIA),
        ]


def _read_prompts(path: Path) -> list[str]:
    entries = read_json_lines(path, _Record)
    texts = [entry.record.prompt for entry in entries]
    check_count(path, len(texts), len(SUBJECTS))
    check_unique(path, entries, texts)
    return texts


TASK = CREA()
