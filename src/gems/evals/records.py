"""Prompts, samples, manifest rows, scores and figures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

T = TypeVar("T")


class SampleKey(NamedTuple):
    """Stable key of a sample; prompt texts may repeat, keys do not."""

    benchmark: str
    language: str
    """`en` or `zh`."""
    prompt_id: str
    """As in the benchmark, for instance `00012` or `museum_3`."""
    sample: int
    """From 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPrompt:
    """One prompt of a benchmark; harnesses see only its text."""

    benchmark: str
    language: str
    id: str
    """Unique within benchmark and language; usable as a file name."""
    text: str
    category: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Scoring data as in the data file: questions, answers, explanations."""

    def key(self, sample: int) -> SampleKey:
        """Return the key of a sample of this prompt, from 0."""
        return SampleKey(self.benchmark, self.language, self.id, sample)


class JobOutcome(BaseModel):
    """What a run consumed and resulted in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str = Field("", description="The run in the checkpointer; empty if none was started.")
    rounds: int = Field(0, ge=0)
    images: int = Field(0, ge=0, description="Generated images.")
    calls: int = Field(0, ge=0, description="Chat calls.")
    input_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0)
    usd: float | None = Field(None, description="US dollars; None if prices are unknown.")
    seconds: float = Field(0.0, ge=0)
    skills: list[str] = Field(default_factory=list, description="Chosen skills.")
    requirements: int = Field(0, ge=0, description="Requirements of the run.")
    met: int = Field(0, ge=0, description="Requirements that the result meets according to the run's own judge.")
    stop_reason: str = ""
    file: str = Field("", description="The PNG, relative to the output folder; empty if there is none.")
    sha256: str = Field("", description="Of the file's bytes.")
    error: str = Field("", description="Why there is no image; empty if there is one.")


class _Sample(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    language: str
    prompt_id: str
    sample: int = Field(ge=0, description="From 0; 0 for a score of all samples of a prompt.")

    @property
    def key(self) -> SampleKey:
        """The key of the sample."""
        return SampleKey(self.benchmark, self.language, self.prompt_id, self.sample)


class _SampleSource(_Sample):
    prompt: str
    seed: int = Field(description="The run's seed.")
    harness: str
    generator: str = Field(description="Spec of the image generator.")
    generator_profile: str = Field("", description="Named settings of the generator, for instance `recommended`.")
    chat: str = Field(description="Spec of the loop's chat model; empty if the harness uses none.")


# Fields are written in this order: those of the last base first.
class SampleRow(JobOutcome, _SampleSource):
    """One finished sample."""


class Score(_Sample):
    """One value of one sample, or the reason why there is none."""

    metric: str = Field(description="Name of the metric, for instance `soft_tifa_gm`.")
    value: float | None = Field(description="None if it could not be scored; never counted as 0.")
    category: str = Field("", description="Category for averages, if the benchmark has any.")
    facts: dict[str, float | str | list[float]] = Field(default_factory=dict, description="The data behind the value.")
    explanation: str = Field("", description="The judge's reply, or why there is no value.")
    images: str = Field("", description="Digest of the scored images, to detect changes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Generated samples, which no longer change."""

    prompts: Sequence[BenchmarkPrompt]
    rows: Mapping[SampleKey, SampleRow]
    image: Callable[[SampleRow], Awaitable[bytes]]
    """Reads a row's PNG bytes."""
    samples: int | None = None
    """Samples per prompt; None for the benchmark's own number."""


class Figure(BaseModel):
    """A benchmark result over all samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    language: str
    name: str = Field(description="For instance `geneval`, or `geneval/counting` for a part.")
    value: float | None = Field(description="On the benchmark's scale; None without scores.")
    scored: int = Field(description="Scored samples.")
    expected: int = Field(description="Samples of the complete benchmark.")
    judge: str = Field(description="The judge: a chat spec with `-inhouse`, or `official`.")

    @property
    def is_partial(self) -> bool:
        """Whether samples are missing, so that it is not the benchmark's score."""
        return self.scored < self.expected


async def gather_or_cancel(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """Return all results in order; on the first error cancel the rest and raise it.

    Answers that nobody reads cost money, and their connections are about to be closed.
    """
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def first_error(error: ValidationError) -> str:
    """Return field and message of the first error."""
    fault = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(map(str, fault["loc"]))
    return f"{name}: {fault['msg']}" if name else str(fault["msg"])
