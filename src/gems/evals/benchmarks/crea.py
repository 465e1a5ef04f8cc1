"""CREA."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field, RootModel

from gems.evals.data import StrictModel, find_file, read_json, read_prompt_lines, validate_record
from gems.evals.export import ExportWriter
from gems.evals.judge import EvalJudge
from gems.evals.judging import ImageScore, ask_text, parse_ratings
from gems.evals.metrics import number_facts, valued_scores
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts
from gems.observability.redaction import shorten

logger = logging.getLogger(__name__)

CRITERIA = ("originality", "expressiveness", "aesthetic", "technical", "unexpected", "interpretability")
MIN_RATING, MAX_RATING = 1, 5
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
SUBJECTS = (
    *("couch", "chair", "car", "monster", "mug", "table"),
    *("bowl", "bike", "guitar", "helmet", "teapot", "umbrella"),
)
_FILE = "eval/CREA/data.jsonl"
_PROMPT_PREFIX = "a creative "


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


class _Record(StrictModel):
    prompt: str = Field(pattern=rf"^{_PROMPT_PREFIX}\w[\w -]*$")


class _OfficialRow(BaseModel):
    image_path: str
    scores: list[float] = Field(min_length=len(CRITERIA), max_length=len(CRITERIA))


class _OfficialResult(RootModel[list[_OfficialRow]]):
    """The official result."""


class CREA(ImageTask):
    """CREA."""

    name = "crea"
    title = "CREA"
    samples_per_prompt = 25
    size: Mapping[str, int] = {"en": len(SUBJECTS)}
    metric = "crea"
    source = DataSource(
        url="https://github.com/lcqysl/GEMS",
        licence="none stated",
        files=[DataFile(path=_FILE, records=len(SUBJECTS), size=373, optional=True)],
        note="The twelve prompts are built in; a data.jsonl replaces them.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are the objects' names. Needs no file."""
        texts = [f"{_PROMPT_PREFIX}{subject}" for subject in SUBJECTS]
        if find_file(data, _FILE) is not None:
            entries = read_prompt_lines(data, _FILE, _Record, len(SUBJECTS), lambda record: record.prompt)
            texts = [entry.record.prompt for entry in entries]
        subjects = [text.removeprefix(_PROMPT_PREFIX) for text in texts]
        return [
            self.make_prompt(language, subject.replace(" ", "-"), text, subject)
            for subject, text in zip(subjects, texts, strict=True)
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write the images, and the file that maps prompts to images."""
        paths: dict[str, list[str]] = {}
        number = 0
        async for prompt, images in export.each():
            for sample, image in enumerate(images):
                if image is not None:
                    path = await export.write(f"img_idx_{number:05d}_sub_{sample:02d}.png", image)
                    paths.setdefault(prompt.text, []).append(str(path))
            number += 1
        mapping = await export.write_json("image_paths.json", paths)
        return [("python", "eval/CREA/eval.py", "--mapping_file", mapping)]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Return the sum of six ratings, in [6, 30]; they are kept as facts."""
        target = f"Target prompt: {prompt.text}"
        reply = await ask_text(judge, target, image, system=_CREA_SYSTEM, temperature=None)
        found = parse_ratings(reply, len(CRITERIA), MIN_RATING, MAX_RATING)
        return ImageScore(value=sum(found), facts=dict(zip(CRITERIA, found, strict=True)), explanation=reply)

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the sum of six criterion means, in [6, 30], then each of them, in [1, 5]."""
        return _make_figures(figure, [number_facts(score, CRITERIA) for score in valued_scores(scores, self.metric)])

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the scores that `eval/CREA/eval.py` writes."""
        rows = validate_record(str(file), read_json(file), _OfficialResult).root
        unscored = [row for row in rows if not all(MIN_RATING <= score <= MAX_RATING for score in row.scores)]
        if unscored:
            logger.warning(
                "%s: %d of %d images are unscored, since a score is not in [%d, %d]: %s",
                *(file, len(unscored), len(rows), MIN_RATING, MAX_RATING),
                shorten(", ".join(row.image_path for row in unscored)),
            )
        return _make_figures(figure, [row.scores for row in rows if row not in unscored])


def _make_figures(figure: Figures, rated: Sequence[Sequence[float]]) -> list[Figure]:
    criteria = criterion_means(rated)
    return [
        figure("", crea_score(criteria), len(rated)),
        *(figure(f"/{name}", criteria.get(name), len(rated)) for name in CRITERIA),
    ]


TASK = CREA()
