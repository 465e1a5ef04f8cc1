"""Prompts of a benchmark and their samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


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
    """One prompt of a benchmark.

    Attributes:
        benchmark: The task's name.
        language: `en` or `zh`.
        id: Unique within benchmark and language; usable as a file name.
        text: The prompt; harnesses see nothing else of this.
        category: The category in the benchmark; empty if it has none.
        facts: Scoring data as in the data file: questions, answers, explanations.
    """

    benchmark: str
    language: str
    id: str
    text: str
    category: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def key(self, sample: int) -> SampleKey:
        """Return the key of a sample of this prompt, from 0."""
        return SampleKey(self.benchmark, self.language, self.id, sample)
