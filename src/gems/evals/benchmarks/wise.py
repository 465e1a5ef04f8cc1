"""WISE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from gems.errors import DataError, UnreadableReplyError
from gems.evals.data import (
    DataRecord,
    StrictModel,
    check_unique,
    find_file,
    read_json_array,
    read_json_lines,
    require_file,
)
from gems.evals.export import ExportWriter
from gems.evals.judge import EvalJudge
from gems.evals.judging import ImageScore, ask_text
from gems.evals.metrics import valued_scores, values_by
from gems.evals.records import BenchmarkPrompt, Figure, Score
from gems.evals.task import Commands, DataFile, DataSource, Figures, ImageTask, Prompts

FIELDS: Mapping[str, range] = {
    "culture": range(1, 401),
    "time": range(401, 568),
    "space": range(568, 701),
    "biology": range(701, 801),
    "physics": range(801, 901),
    "chemistry": range(901, 1001),
}
"""Prompt ids of each field."""
_WEIGHTS = {"culture": 0.4, "time": 0.167, "space": 0.133, "biology": 0.1, "physics": 0.1, "chemistry": 0.1}
RATINGS = ("consistency", "realism", "aesthetic")
_RATING_SYSTEM = "You rate drawn images, strictly and by the given scales alone."
_RATING_PROMPT = """\
Rate the image on three scales of 0, 1 and 2. Give 2 only where nothing is left to wish for; \
where you doubt, give the lower one.

Consistency, with the prompt as the explanation makes it clear:
0: an essential part is missing or contradicted. 1: a part is shown, but not all or not exactly. 2: \
everything is shown, exactly and beyond doubt.
Realism, of what is shown:
0: it could not be so, and is plainly made up. 1: believable, with visible faults. 2: it could be a \
photograph; matter, light and space are right.
Aesthetic quality:
0: badly composed and unpleasant. 1: pleasant, and ordinary. 2: composed, coloured and made as a master \
would.

Prompt: {prompt}
Explanation: {explanation}

Reply with these three lines only, each with its number:
Consistency: N
Realism: N
Aesthetic: N"""
_RATING_NAME = re.compile(r"\b(consistency|realism|aesthetic)\w*(?: quality)?[\s*]*:[\s*]*", re.IGNORECASE)
_RATED = re.compile(r"[-+\u2212]?[.,]?[\d\u00bc-\u00be]")
_RATING = re.compile(
    r"([0-2])(?:\.0+)?(?![\w.,]*[\d\u00bc-\u00be])(?!\s*(?:/|-\s*\d|(?:or|to|and|out|of|point|comma|half)\b))"
)
"""A whole number on the scale, and not the beginning of a fraction, a range or another scale."""
FILES: Mapping[str, range] = {
    "cultural_common_sense.json": range(1, 401),
    "spatio-temporal_reasoning.json": range(401, 701),
    "natural_science.json": range(701, 1001),
}
"""The files and the ids in each."""
_SIZES = dict(zip(FILES, (125_062, 100_831, 117_085), strict=True))
_FOLDER = "WISE_legacy/data/"
_UNREADABLE_RATING = 999
"""The official script's value for an unreadable rating."""
_EDITION_HINT = "Use the files of 2025, in WISE_legacy/data of the repository. WISE_Verified is another benchmark."


def wiscore(consistency: float, realism: float, aesthetic: float) -> float:
    """Return the score of an image in [0, 1] from its ratings in [0, 2]."""
    return (0.7 * consistency + 0.2 * realism + 0.1 * aesthetic) / 2


def get_field(prompt_id: int) -> str:
    """Return the field of a prompt id; raises `ValueError` for an unknown id."""
    for name, ids in FIELDS.items():
        if prompt_id in ids:
            return name
    raise ValueError(f"No prompt has the id {prompt_id}.")


def wise_score(fields: Mapping[str, float]) -> float | None:
    """Return the score in [0, 1] from the means of all six fields; None if one is missing."""
    if not all(name in fields for name in _WEIGHTS):
        return None
    return sum(weight * fields[name] for name, weight in _WEIGHTS.items())


def _parse_wise_ratings(reply: str) -> dict[str, float]:
    """Return the last rating of each name: thoughts come before them."""
    found: dict[str, float | None] = {}
    for name in _RATING_NAME.finditer(reply):
        if _RATED.match(reply, name.end()):
            rating = _RATING.match(reply, name.end())
            found[name[1].lower()] = float(rating[1]) if rating else None
    ratings = {name: rating for name, rating in found.items() if rating is not None}
    if set(ratings) != set(RATINGS):
        raise UnreadableReplyError(f"The reply does not contain three ratings of 0, 1 or 2: {reply[:120]!r}.")
    return ratings


class _Record(StrictModel):
    prompt: str = Field(alias="Prompt", min_length=1)
    explanation: str = Field(alias="Explanation", min_length=1)
    category: str = Field(alias="Category")
    subcategory: str = Field(alias="Subcategory")
    prompt_id: int


class _OfficialRow(BaseModel):
    prompt_id: int = Field(ge=1, le=1000)
    consistency: float
    realism: float
    aesthetic_quality: float


class WISE(ImageTask):
    """WISE."""

    name = "wise"
    title = "WISE"
    size: Mapping[str, int] = {"en": 1000}
    metric = "wiscore"
    source = DataSource(
        url="https://github.com/PKU-YuanGroup/WISE",
        licence="none stated; the same files are in PKU-YuanGroup/UniWorld under MIT",
        files=[DataFile(path=f"{_FOLDER}{name}", records=len(ids), size=_SIZES[name]) for name, ids in FILES.items()],
        note="The edition of 2025 (legacy). WISE_Verified of 2026 has other prompts and another protocol.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return the prompts; ids are those of the benchmark, from 1."""
        entries = [entry for name, ids in FILES.items() for entry in _read_records(data, name, ids)]
        return [
            self.make_prompt(language, str(row.prompt_id), row.prompt, get_field(row.prompt_id), entry.raw)
            for entry in entries
            for row in [entry.record]
        ]

    async def write_export(self, export: ExportWriter) -> Commands:
        """Write the images into one folder, named by prompt id."""
        await export.write_first_images()
        rating = ("python", "gpt_eval.py", "--image_dir", export.folder, "--output_dir", "results")
        model = ("--api_key", "KEY", "--model", "gpt-4o-2024-05-13")
        parts = [name.removesuffix(".json") for name in FILES]
        commands: list[tuple[object, ...]] = []
        for part in parts:
            results = ("--result_full", f"{part}_full.json", "--result_scores", f"{part}_scores.jsonl")
            commands.append((*rating, *model, "--json_path", f"data/{part}.json", *results))
        files = [f"results/{part}_scores.jsonl" for part in parts]
        return [*commands, ("python", "Calculate.py", *files, "--category", "all")]

    async def score_image(self, prompt: BenchmarkPrompt, image: bytes, judge: EvalJudge) -> ImageScore:
        """Return the WiScore, in [0, 1]; its three ratings are kept as facts."""
        asked = _RATING_PROMPT.format(prompt=prompt.text, explanation=prompt.facts["Explanation"])
        reply = await ask_text(judge, asked, image, system=_RATING_SYSTEM)
        rated = _parse_wise_ratings(reply)
        return ImageScore(value=wiscore(*(rated[name] for name in RATINGS)), facts={**rated}, explanation=reply)

    def compute_figures(self, figure: Figures, scores: Sequence[Score], prompts: Prompts) -> list[Figure]:
        """Compute the weighted mean over fields, in [0, 1], which needs all fields, then each field."""
        valued = valued_scores(scores, self.metric)
        return _make_figures(figure, values_by(valued, lambda score: get_field(int(score.prompt_id))))

    def read_figures(self, figure: Figures, file: Path, prompts: Prompts) -> list[Figure]:
        """Read the score files of `gpt_eval.py`, or a folder with all three.

        Ratings of 999 mark unreadable replies. `Calculate.py` counts them as ratings; here they are left out.
        """
        files = sorted(file.glob("*_scores.jsonl")) if file.is_dir() else [file]
        if not files:
            raise DataError(f"{file} contains no *_scores.jsonl.")
        entries = [entry for each in files for entry in read_json_lines(each, _OfficialRow)]
        check_unique(entries, lambda row: row.prompt_id)
        values: dict[str, list[float]] = {}
        for entry in entries:
            row = entry.record
            rated = (row.consistency, row.realism, row.aesthetic_quality)
            if _UNREADABLE_RATING in rated:
                continue
            if not all(0 <= rating <= 2 for rating in rated):
                raise DataError(f"{entry.where}: a rating is not in [0, 2].", hint=_EDITION_HINT)
            values.setdefault(get_field(row.prompt_id), []).append(wiscore(*rated))
        return _make_figures(figure, values)


def _make_figures(figure: Figures, values: Mapping[str, Sequence[float]]) -> list[Figure]:
    means = {name: sum(found) / len(found) for name, found in values.items()}
    parts = figure.parts(values, {name: len(ids) for name, ids in FIELDS.items()})
    return [figure("", wise_score(means), sum(map(len, values.values()))), *parts]


def _read_records(data: Path, name: str, ids: range) -> list[DataRecord[_Record]]:
    is_verified = any(data.glob("*_verified.json")) or any(data.glob("*/*_verified.json"))
    if is_verified and find_file(data, f"{_FOLDER}{name}") is None:
        raise DataError(f"{data} contains WISE_Verified, but no {name}.", hint=_EDITION_HINT)
    path = require_file(data, f"{_FOLDER}{name}")
    entries = read_json_array(path, _Record)
    for entry in entries:
        if entry.record.prompt_id not in ids:
            raise DataError(
                f"{entry.where}: prompt_id {entry.record.prompt_id} is not in {ids.start} to "
                f"{ids.stop - 1}: it is another edition.",
                hint=_EDITION_HINT,
            )
    check_unique(entries, lambda row: row.prompt_id)
    # An edition may reword all prompts under the same ids.
    if len(entries) == len(ids) and len(path.read_bytes().replace(b"\r\n", b"\n")) != _SIZES[name]:
        raise DataError(f"{path} differs in size from the file of 2025: it is another edition.", hint=_EDITION_HINT)
    return entries


TASK = WISE()
