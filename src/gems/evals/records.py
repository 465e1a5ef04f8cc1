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
    chat: str = Field(description="Spec of the loop's chat model; empty where the harness asks none.")
    run_id: str = Field("", description="The run in the checkpointer; empty where none was begun.")
    rounds: int = Field(0, ge=0)
    images: int = Field(0, ge=0, description="Images drawn.")
    calls: int = Field(0, ge=0, description="Chat calls.")
    input_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0)
    usd: float | None = Field(None, description="US dollars; None where prices are not known.")
    seconds: float = Field(0.0, ge=0)
    skills: list[str] = Field(default_factory=list, description="Skills that were chosen.")
    requirements: int = Field(0, ge=0, description="Requirements in the run's own checklist.")
    met: int = Field(
        0, ge=0, description="Of these, met by the image that was handed back, by the run's own judge."
    )
    stop_reason: str = ""
    file: str = Field("", description="The PNG, relative to the output folder; empty where there is none.")
    sha256: str = Field("", description="Of the file's bytes.")
    error: str = Field("", description="Why there is no image; empty where there is one.")

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
    sample: int = Field(
        ge=0, description="The sample, from 0; the first where a number is about all of a prompt's."
    )
    metric: str = Field(description="Name of the number, for instance `soft_tifa_gm`.")
    value: float | None = Field(description="None where it could not be scored; that is never counted as 0.")
    category: str = Field("", description="What it is averaged under, where the benchmark does so.")
    facts: dict[str, float | str | list[float]] = Field(
        default_factory=dict, description="What the value was computed from."
    )
    explanation: str = Field("", description="For people: what the judge said, or why there is no value.")
    images: str = Field(
        "",
        description="Digest of the prompt's images that were scored; tells whether they are the same still.",
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
    name: str = Field(description="For instance `geneval`, or `geneval/counting` for a part of it.")
    value: float | None = Field(
        description="On the scale the benchmark publishes; None where nothing was scored."
    )
    scored: int = Field(description="Samples it rests on.")
    expected: int = Field(description="Samples the whole benchmark has.")
    judge: str = Field(description="Who judged: a chat spec with `-inhouse`, or `official`.")

    @property
    def is_partial(self) -> bool:
        """Whether samples are missing, so that it is not the benchmark's score."""
        return self.scored < self.expected
