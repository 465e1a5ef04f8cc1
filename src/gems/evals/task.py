"""What a benchmark is to the rest: prompts, an export, scorers, and the figures its scores come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from gems.evals.judge import EvalJudge
from gems.evals.records import Figure, SampleRow, Score
from gems.evals.samples import BenchmarkPrompt, SampleKey


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file that users bring.

    Attributes:
        path: As in the official repository. It is looked for there below the benchmark's data folder, and
            with fewer of the folders above it; a name that ends in a slash is that of a folder.
        records: How many records the whole file holds; None where that is not known.
        size: Bytes of the edition that this task was written for; None where editions differ harmlessly.
        language: The only language that needs it; empty for all.
        optional: Whether the task can do without it.
    """

    path: str
    records: int | None
    size: int | None = None
    language: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Where a benchmark's data come from.

    Attributes:
        url: The page to get them from.
        licence: Its name, or that there is none.
        files: What must lie in the data folder.
        note: What else one should know, for instance about editions.
    """

    url: str
    licence: str
    files: Sequence[DataFile]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Files in the layout of an official scorer.

    Attributes:
        folder: Where they lie.
        commands: What to run for the official score, in order.
        missing: Samples without an image.
        expected: Samples the whole benchmark has.
    """

    folder: Path
    commands: Sequence[str]
    missing: Sequence[SampleKey]
    expected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Samples that are drawn and will not change any more.

    Attributes:
        prompts: All that were to be drawn for, in the benchmark's order.
        rows: The newest row of each sample.
        image: Reads a row's PNG bytes.
        samples: Images that were to be drawn for each prompt; None for the benchmark's own number.
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
    """Images for each prompt where the official protocol is followed."""
    source: DataSource
    size: Mapping[str, int]
    """Prompts of the whole benchmark, by language."""
    metric: str
    """The score that stands for a sample where samples are compared; higher is better."""

    def prompts(self, data: Path, language: str) -> list[BenchmarkPrompt]:
        """All prompts, in the benchmark's order.

        Raises:
            DataError: a file is missing, is of another edition, or does not hold what it should.
        """
        ...

    async def export(self, frozen: SampleSet, folder: Path) -> Export:
        """Write what the official scorer reads; what is missing is told and not made up."""
        ...

    async def score(
        self, prompt: BenchmarkPrompt, images: Mapping[int, bytes], judge: EvalJudge
    ) -> list[Score]:
        """Score the images of one prompt, PNG bytes by sample.

        A judge's nonsense ends in a `Score` without value.

        Raises:
            ProviderError: the judge cannot be reached.
        """
        ...

    def figures(
        self, prompts: Sequence[BenchmarkPrompt], scores: Sequence[Score], language: str, judge: str
    ) -> list[Figure]:
        """What the scores come to; the first is the benchmark's headline."""
        ...

    def read_official(self, file: Path, prompts: Sequence[BenchmarkPrompt], language: str) -> list[Figure]:
        """Figures from what the official scorer wrote.

        Raises:
            DataError: the file is not what the official scorer writes.
        """
        ...


@runtime_checkable
class KnowsTruth(Protocol):
    """A benchmark that knows what was drawn; it asks no judge, and no judge's name stands in its numbers."""

    truth: str
    """Stands in its numbers instead."""
