"""The protocol of a benchmark: prompts, export, scorer and figures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from gems.evals.judge import EvalJudge
from gems.evals.records import BenchmarkPrompt, Figure, SampleKey, SampleRow, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A data file that users provide.

    Attributes:
        path: As in the official repository; also found below the data folder with fewer parent folders. A
            path that ends in a slash is a folder.
        records: Records of the complete file; None if unknown.
        size: Bytes of the supported edition; None if editions may differ.
        language: The only language that needs it; empty for all.
        optional: Whether the task works without it.
    """

    path: str
    records: int | None
    size: int | None = None
    language: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Where to get the data of a benchmark.

    Attributes:
        url: The download page.
        licence: Its name, or a statement that there is none.
        files: The files needed in the data folder.
        note: Remarks, for instance about editions.
    """

    url: str
    licence: str
    files: Sequence[DataFile]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Files in the layout of an official scorer.

    Attributes:
        folder: The folder of the files.
        commands: The commands for the official score, in order.
        missing: Samples without an image.
        expected: Samples of the complete benchmark.
    """

    folder: Path
    commands: Sequence[str]
    missing: Sequence[SampleKey]
    expected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Generated samples, which no longer change.

    Attributes:
        prompts: All prompts, in the benchmark's order.
        rows: The newest row of each sample.
        image: Reads a row's PNG bytes.
        samples: Samples per prompt; None for the benchmark's own number.
    """

    prompts: Sequence[BenchmarkPrompt]
    rows: Mapping[SampleKey, SampleRow]
    image: Callable[[SampleRow], Awaitable[bytes]]
    samples: int | None = None


class Task(Protocol):
    """A benchmark."""

    name: str
    """As in `gems eval run NAME`."""
    title: str
    languages: Sequence[str]
    samples_per_prompt: int
    """Samples per prompt in the official protocol."""
    source: DataSource
    size: Mapping[str, int]
    """Prompts of the complete benchmark, by language."""
    metric: str
    """The score used to compare samples; higher is better."""

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """Return all prompts, in the benchmark's order.

        Raises:
            DataError: a file is missing, invalid, or of another edition.
        """
        ...

    async def export(self, sample_set: SampleSet, folder: Path) -> Export:
        """Write the files for the official scorer; missing samples are reported."""
        ...

    async def score(
        self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
    ) -> list[Score]:
        """Score the images of one prompt, given as PNG bytes by sample.

        An unreadable reply of the judge results in a `Score` without value.

        Raises:
            ProviderError: the judge cannot be reached.
        """
        ...

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """Compute the figures from the scores; the first is the benchmark's main result."""
        ...

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Read the figures from a result of the official scorer.

        Raises:
            DataError: the file is not a result of the official scorer.
        """
        ...


@runtime_checkable
class KnowsTruth(Protocol):
    """A benchmark that knows the true content of its images and needs no judge."""

    truth: str
    """The judge name in its scores."""
