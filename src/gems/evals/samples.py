"""What is drawn: prompts of a benchmark, and the samples of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class SampleKey(NamedTuple):
    """Names a sample for good; prompts' texts may repeat and never do."""

    benchmark: str
    language: str
    """`en` or `zh`."""
    prompt_id: str
    """As the benchmark writes it, for instance `00012` or `museum_3`."""
    sample: int
    """From 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPrompt:
    """One prompt of a benchmark.

    Attributes:
        benchmark: The task's name.
        language: `en` or `zh`.
        id: Unique within benchmark and language; usable as a file name.
        text: What a harness is shown, and nothing else of this.
        category: What the benchmark sorts it under; empty where it does not.
        facts: What scorers need, as the data file has it: questions, answers, explanations.
    """

    benchmark: str
    language: str
    id: str
    text: str
    category: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def key(self, sample: int) -> SampleKey:
        """Names the sample `sample`, from 0, of this prompt."""
        return SampleKey(self.benchmark, self.language, self.id, sample)
