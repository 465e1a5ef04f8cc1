"""What `gems eval run` and `gems batch` tell in the end."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gems.evals.working import JobProgress


class FailedJob(BaseModel):
    """A sample or row without an image."""

    model_config = ConfigDict(frozen=True)

    name: str
    error: str


class WorkReport(BaseModel):
    """How far the samples of a benchmark, or the rows of a batch, have come."""

    model_config = ConfigDict(frozen=True)

    out: str = Field(description="The output folder.")
    total: int
    done: int = Field(description="Those that have their image, earlier calls' included.")
    images: int = Field(description="Images drawn for those that are done.")
    usd: float | None = Field(description="US dollars spent so far; None where prices are not known.")
    out_of_money: bool = Field(description="Whether the budget ended it before all was begun.")
    failed: list[FailedJob] = Field(description="Tried and failed; tried again by the next call.")
    warnings: list[str] = Field(description="What was found wrong and could be lived with.")

    @classmethod
    def of(cls, tally: JobProgress, out: str, warnings: list[str]) -> WorkReport:
        """The report of what was counted."""
        failed = [FailedJob(name=name, error=ending.error) for name, ending in tally.failed.items()]
        return cls(
            out=out,
            total=tally.total,
            done=tally.done,
            images=tally.images,
            usd=tally.usd,
            out_of_money=tally.out_of_money,
            failed=failed,
            warnings=warnings,
        )
