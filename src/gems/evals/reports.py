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
    done: int = Field(description="Those with an image, including those of earlier calls.")
    images: int = Field(description="Images generated for those that are done.")
    usd: float | None = Field(description="US dollars spent so far; None if prices are unknown.")
    out_of_money: bool = Field(description="Whether the budget ran out before all were started.")
    failed: list[FailedJob] = Field(description="Failed; the next call retries them.")
    warnings: list[str] = Field(description="Problems that were tolerated.")

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
