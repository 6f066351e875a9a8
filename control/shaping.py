"""From rows to what clients see of them. PURE over rows; the queries are in `views`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control import shapes
from control.costs import machine_seconds, machine_usd
from control.domain import OutputState
from control.tables import Attempt, Batch, Job, Output


def problem(code: str | None, message: str | None) -> shapes.Problem | None:
    """Return a code with its sentence, or None without a code."""
    return shapes.Problem(code=code, message=message or "") if code else None


@dataclass(frozen=True)
class Tally:
    """How far some outputs are: counts, and the sum of their percents."""

    ready: int = 0
    failed: int = 0
    total: int = 0
    percents: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.ready + other.ready,
            self.failed + other.failed,
            self.total + other.total,
            self.percents + other.percents,
        )

    @property
    def percent(self) -> float:
        """The mean; an output that failed is done too."""
        return round(self.percents / self.total, 1) if self.total else 0.0


def tally(state: str, percents: float, count: int = 1) -> Tally:
    """Return the tally of `count` outputs in one state."""
    match state:
        case OutputState.READY:
            return Tally(ready=count, total=count, percents=100.0 * count)
        case OutputState.FAILED:
            return Tally(failed=count, total=count, percents=100.0 * count)
        case _:
            return Tally(total=count, percents=percents)


def progress(subject: Job | Batch, tally: Tally, now: datetime) -> shapes.Progress:
    """Return the progress of a job or batch whose outputs are tallied."""
    return shapes.Progress(
        percent=tally.percent,
        ready=tally.ready,
        failed=tally.failed,
        total=tally.total,
        eta_s=_eta_s(subject, tally.percent, now),
    )


def _eta_s(subject: Job | Batch, percent: float, now: datetime) -> int | None:
    """Return the seconds left if the work goes on as it went since it started; 0 at the end."""
    if subject.ended_at is not None:
        return 0
    if subject.started_at is None or percent < 1:
        return None
    elapsed_s = (now - subject.started_at).total_seconds()
    return round(elapsed_s * (100 - percent) / percent)


def in_batch(jobs: Sequence[Job], tallies: Mapping[str, Tally]) -> list[shapes.JobInBatch]:
    """Return jobs as their batch shows them."""
    return [
        shapes.JobInBatch(job_id=job.id, status=job.status, percent=tallies[job.id].percent) for job in jobs
    ]


def output(output: Output) -> shapes.OutputView:
    """Return an output as clients see it."""
    return shapes.OutputView(
        output_id=output.id,
        name=output.name,
        variation=output.variation,
        status=output.state,
        percent=output.percent,
        size_bytes=output.size_bytes,
        duration_s=output.duration_s,
        sha256=output.sha256,
        effects=output.effects,
        error=problem(output.error_code, output.error_message),
    )


def spent(attempt: Attempt, now: datetime) -> tuple[float, float]:
    """Return the machine seconds and USD of an attempt, so far or for good."""
    if attempt.ended_at is not None:
        return attempt.machine_seconds, attempt.cost_usd
    seconds = machine_seconds(attempt.boot_from, now)
    return seconds, machine_usd(size=attempt.size, region=attempt.region, seconds=seconds)


def attempt(attempt: Attempt, now: datetime) -> shapes.AttemptView:
    """Return an attempt as clients see it; its seconds and cost rise while it lives."""
    seconds, usd = spent(attempt, now)
    return shapes.AttemptView(
        attempt_id=attempt.id,
        number=attempt.number,
        state=attempt.state,
        reason=attempt.reason,
        machine_id=attempt.machine_id,
        app=attempt.app,
        region=attempt.region,
        size=attempt.size,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        machine_seconds=round(seconds, 3),
        cost_usd=round(usd, 6),
    )
