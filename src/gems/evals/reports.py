"""The final report of `gems eval run` and `gems batch`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gems.evals.working import JobProgress


class FailedJob(BaseModel):
    """A sample or row without an image."""

    model_config = ConfigDict(frozen=True)

    name: str
    error: str


class WorkReport(BaseModel):
    """Progress of a benchmark or a batch."""

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
    def of(cls, progress: JobProgress, out: str, warnings: list[str]) -> WorkReport:
        """Create the report."""
        failed = [FailedJob(name=name, error=result.error) for name, result in progress.failed.items()]
        return cls(
            out=out,
            total=progress.total,
            done=progress.done,
            images=progress.images,
            usd=progress.usd,
            out_of_money=progress.out_of_money,
            failed=failed,
            warnings=warnings,
        )
