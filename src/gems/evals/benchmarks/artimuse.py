"""ArtiMuse: the prompts of GenEval, drawn to be beautiful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gems.errors import DataError
from gems.evals.benchmarks.export import Exporting
from gems.evals.benchmarks.geneval import AESTHETIC, GenEvalRecord, numbered
from gems.evals.benchmarks.metrics import Figures, mean, scored, value_of
from gems.evals.data import at_most, lines_of, needed, object_of
from gems.evals.judge import OFFICIAL
from gems.evals.records import Figure, Score
from gems.evals.samples import BenchmarkPrompt
from gems.evals.scorers import artimuse as scorer
from gems.evals.task import DataFile, DataSource, Export, Frozen

_FILE = "eval/ArtiMuse/evaluation_metadata.jsonl"
_MEAN = "average_score_all"
_MOST = 100


class ArtiMuse:
    """See `gems.evals.task.Task`."""

    name = "artimuse"
    title = "ArtiMuse"
    languages: Sequence[str] = ("en",)
    samples_per_prompt = 1
    size: Mapping[str, int] = {"en": 553}
    metric = scorer.METRIC
    score = staticmethod(scorer.score)
    source = DataSource(
        url="https://github.com/lcqysl/GEMS",
        licence="prompts made from GenEval's, which are MIT",
        files=[DataFile(path=_FILE, records=553, size=95_716)],
        note=f"GenEval's file with {AESTHETIC!r} before every prompt. The scoring model, from "
        "https://github.com/thunderbolt215/ArtiMuse, states no licence.",
    )

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """See `Task.prompts`; ids are the lines' numbers from 00000."""
        path = needed(data, _FILE)
        entries = lines_of(path, GenEvalRecord)
        at_most(path, len(entries), self.size[language])
        for entry in entries:
            if not entry.record.prompt.startswith(AESTHETIC):
                raise DataError(f"{path} {entry.place}: the prompt does not begin with {AESTHETIC!r}.")
        return numbered(self.name, language, entries)

    async def export(self, frozen: Frozen, folder: Path) -> Export:
        """The images side by side, by number."""
        export = Exporting(self, frozen, folder)
        folder = await export.begin()
        async for prompt, images in export.each():
            if images[0] is not None:
                await export.write(f"{prompt.id}.png", images[0])
        scoring = ("python", "eval/ArtiMuse/eval_artimuse.py", "--model_path", "MODEL")
        return export.done((*scoring, "--input_dir", folder, "--output_file", "artimuse.json"))

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """The mean over images, in [0, 100]."""
        values = [value_of(score) for score in scored(scores, self.metric, language)]
        return self._figures(values, language, judge)

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """See `Task.read_official`; takes the `--output_file` of `eval_artimuse.py`."""
        found = object_of(file)
        if _MEAN not in found:
            raise DataError(f"{file} has no {_MEAN}: it is no result of eval_artimuse.py.")
        values = []
        for name, value in found.items():
            if name == _MEAN or value is None:
                continue
            if not isinstance(value, int | float) or not 0 <= value <= _MOST:
                raise DataError(f"{file}: the score of {name} is not from 0 to {_MOST}.")
            values.append(float(value))
        return self._figures(values, language, OFFICIAL)

    def _figures(self, values: Sequence[float], language: str, judge: str) -> list[Figure]:
        figure = Figures(benchmark=self.name, language=language, judge=judge)
        return [figure(self.name, mean(values), len(values), self.size[language])]


TASK = ArtiMuse()
