"""Manifest rows, scores and figures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gems.evals.samples import SampleKey


class SampleRow(BaseModel):
    """One finished sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    language: str
    prompt_id: str
    sample: int = Field(ge=0, description="Sample of this prompt, from 0.")
    prompt: str
    seed: int = Field(description="The run's seed.")
    harness: str
    generator: str = Field(description="Spec of the image generator.")
    generator_profile: str = Field(
        "", description="Named settings of the generator, for instance `recommended`."
    )
    chat: str = Field(description="Spec of the loop's chat model; empty if the harness uses none.")
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
    met: int = Field(
        0, ge=0, description="Requirements that the result meets according to the run's own judge."
    )
    stop_reason: str = ""
    file: str = Field("", description="The PNG, relative to the output folder; empty if there is none.")
    sha256: str = Field("", description="Of the file's bytes.")
    error: str = Field("", description="Why there is no image; empty if there is one.")

    @property
    def key(self) -> SampleKey:
        """The key of the sample."""
        return SampleKey(self.benchmark, self.language, self.prompt_id, self.sample)


class Score(BaseModel):
    """One value of one sample, or the reason why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    language: str
    prompt_id: str
    sample: int = Field(ge=0, description="The sample, from 0; 0 for a score of all samples of a prompt.")
    metric: str = Field(description="Name of the metric, for instance `soft_tifa_gm`.")
    value: float | None = Field(description="None if it could not be scored; never counted as 0.")
    category: str = Field("", description="Category for averages, if the benchmark has any.")
    facts: dict[str, float | str | list[float]] = Field(
        default_factory=dict, description="The data behind the value."
    )
    explanation: str = Field("", description="The judge's reply, or why there is no value.")
    images: str = Field(
        "",
        description="Digest of the scored images, to detect changes.",
    )

    @property
    def key(self) -> SampleKey:
        """The key of the sample."""
        return SampleKey(self.benchmark, self.language, self.prompt_id, self.sample)


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
